"""The leaderboard as a Markdown page: the same bytes for the same records, in any order."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from benchmark.leaderboard.board import Board
from benchmark.leaderboard.cells import IMAGES_MARK, MISSING, SEEDS_MARK, cell_text, part_texts
from benchmark.leaderboard.columns import METHOD, Column, Part, columns_of
from benchmark.leaderboard.kinds import SEEDS
from benchmark.leaderboard.pages.markdown import escape, pipe_table
from benchmark.leaderboard.pages.published_markdown import published_section
from benchmark.leaderboard.rows import Row
from benchmark.leaderboard.stats.comparison import Comparison
from benchmark.leaderboard.summary import Summary
from benchmark.leaderboard.tables import Table
from benchmark.leaderboard.verdicts import unmeasured
from benchmark.ui.progress import plural

_HEADER = f"""\
# Leaderboard

Scores are mean average precision (mAP) in percent: scikit-learn's average precision of each class, computed on
float32 logits, averaged over classes.

- **Overall** is the mean over all classes with a test positive. **Head**, **Medium** and **Tail** are means over those
  with at least 100, with 20 to 99 and with fewer than 20 training images, unless a dataset defines its groups
  otherwise; the line above each table gives their sizes.
- A cell is the mean over seeds **±** half of its 95 % interval, and the number of seeds in brackets. The interval
  covers both noises: what other seeds would give, and what other test images of the same kind would, by a bootstrap
  over the test images with the trained networks as they are. Its two parts stand below each table. Where one of
  them is not known, ± is the other alone, with a mark: {IMAGES_MARK} the test images (of a single run), {SEEDS_MARK}
  the seeds (of what has no bootstrap, as CF1 and OF1).
- The AP of a class with few test positives is biased upwards, the more the fewer there are, and with the test set's
  size: rows compare within one test list, not with those of another.
- **Rank** is a group: the best mean leads group 1, and whoever is not told apart from it at 95 % is in it, tied with
  the best. The best of the others leads group 2, and so on. The test pairs the methods over the same test images and
  takes in both noises, with each method's variance over seeds helped by the other rows'; p-values are corrected for
  the number of comparisons with the leader (Holm). So the truly best method is in group 1 in at least 95 of 100
  tables, while of many equal methods some may fall out of it by chance.
  A method with one seed has no rank, for what another seed would give is not known; nor has one with none to compare.
- **vs ERM** is the difference to the row `erm` in points ± half of its own 95 % interval. A star marks what is told
  apart from it at 95 %, corrected (Holm) for all comparisons with `erm`.
- **W / T / L** are wins, ties and losses against each other method of the table, Holm-corrected for all pairs: a win
  where there is no difference stands in at most 6 of 100 tables, as far as was simulated (docs/leaderboard.md). The
  sentence below a table tells what it can find.
- **CF1** and **OF1** are F1 scores in percent: of the mean class precision and recall, and over all decisions together.
  **Top-3**: the three highest scores of each image are its labels. **Val**: the labels are what scores at least a
  threshold, the same for all classes and seeds of the row, which has the highest mean OF1 on the validation list.
- **Weights** are the ones scored: raw, or their exponential moving average (EMA). The **selection rule** chose the
  epoch: *last* is the last one, *best-val* the best on the validation list. The test set was scored once, after
  training, and chose nothing.
- **Oracle**, where it was asked for, is the epoch and weight set with the highest overall mAP on the test set, which
  papers often print. For this column alone the test set was scored after every epoch too. It ranks nothing.
- **Test-time** is what a test image was scored on: the image itself (*none*), averaged over it and its mirror image
  (*flip*), or over the corners and the centre of one that is larger by a margin in pixels (*five-crop*).
- **–** is a missing value: a class group without a test positive, or a value missing for one of the seeds. No average
  is taken over it.
- The best mean of an mAP column is **bold**, with all that equal it to the digits shown; whether it is better than the
  next is for rank and intervals to say. Tables never mix tracks: each has one dataset, protocol, backbone, pretraining,
  image size and set of changes to the protocol.
"""
# A matrix of more rows is wider than any page.
MATRIX_ROWS = 40
_SYMBOLS = {1: "+", 0: "=", -1: "−", None: MISSING}


def markdown_page(board: Board, pictures: Mapping[str, Mapping[str, str]]) -> str:
    """The page of a board.

    pictures: slug of a track -> caption -> path relative to the page, without the ending: each is a PNG and an SVG.
    """
    sections = [_section(table, pictures.get(table.track.slug, {}), board.runs) for table in board.tables]
    if not sections:
        sections = ["There are no records yet: no run has finished.\n"]
    sections += [_summary(summary) for summary in board.summaries]
    if board.tables:
        sections.append(published_section(board.published, unmeasured(board.tables)))
    return "\n".join([_HEADER, *sections, _footer(board)])


def _section(table: Table, pictures: Mapping[str, str], runs: str) -> str:
    parts = [f"## {escape(table.title)}\n", f"{table.facts}\n", _table(table, runs)]
    if table.missing_classes:
        names = ", ".join(escape(name) for name in table.missing_classes)
        parts.append(f"Classes without a test positive, in no mean: {names}.\n")
    if any(row.n == 1 for row in table.rows) and any(row.n > 1 for row in table.rows):
        parts.append("Rows of one seed are not compared with the others.\n")
    if table.detectable is not None:
        parts.append(f"{table.detectable.text}\n")
    if any(row.scores["Overall"] is not None for row in table.rows):
        parts.append(_interval_parts(table))
    parts += [f"[![{escape(caption)}]({stem}.png)]({stem}.svg)\n" for caption, stem in pictures.items()]
    if table.comparison is not None and 1 < len(table.rows) <= MATRIX_ROWS:
        parts.append(_matrix(table, table.comparison))
    return "\n".join(parts)


def _table(table: Table, runs: str) -> str:
    shown = columns_of(table)
    rules = ["--:" if column.kind.numeric and not column.kind.left else ":--" for column in shown]
    rows = [[_cell(table, row, column, runs) for column in shown] for row in table.rows]
    return pipe_table([column.title for column in shown], rules, rows)


def _cell(table: Table, row: Row, column: Column, runs: str) -> str:
    if column.kind is SEEDS:
        return _run_links(row, runs)
    text = column.text(table, row)
    if column.part is Part.METRIC and table.is_best(row, column.title):
        mean, rest = map(escape, column.kind.parts(text))
        return f"**{mean}** {rest}"
    return escape(text)


def _run_links(row: Row, runs: str) -> str:
    links = [f"[{record.spec.seed}]({quote(f'{runs}/{record.folder_name}/record.json')})" for record in row.records]
    note = f" (made with {row.code_versions} versions of the code)" if row.code_versions > 1 else ""
    return ", ".join(links) + note


def _interval_parts(table: Table) -> str:
    """The two parts of each ±, folded away."""
    columns = [column.title for column in columns_of(table, (Part.METRIC,))]
    rows = [
        [escape(row.label), *(" / ".join(part_texts(row.scores[column])) for column in columns)] for row in table.rows
    ]
    return (
        "<details><summary>The two parts of each ±: seeds / test images</summary>\n\n"
        + pipe_table([METHOD.title, *columns], [":--", *["--:"] * len(columns)], rows)
        + "\n</details>\n"
    )


def _matrix(table: Table, comparison: Comparison) -> str:
    """Every method against every other, folded away, as it has a column for each row."""
    numbers = [str(number) for number in range(1, len(table.rows) + 1)]
    rows = [
        [number, escape(row.label), *(_SYMBOLS[v] if i != j else "" for j, v in enumerate(verdicts))]
        for i, (number, row, verdicts) in enumerate(zip(numbers, table.rows, comparison.verdicts, strict=True))
    ]
    return (
        "<details><summary>Wins, ties and losses of each method against each other</summary>\n\n"
        "The row's method is better (+) or worse (−) than the column's, or not told apart from it (=), at 95 % (Holm,\n"
        "all pairs).\n\n"
        + pipe_table(["", METHOD.title, *numbers], ["--:", ":--", *[":-:"] * len(numbers)], rows)
        + "\n</details>\n"
    )


def _summary(summary: Summary) -> str:
    rows = [[escape(label), *map(cell_text, scores)] for label, scores in summary.rows.items()]
    titles = [METHOD.title, *map(escape, summary.datasets)]
    return "\n".join(
        [
            f"## Over datasets: {escape(summary.title)}\n",
            "Overall mAP on each dataset. No mean is taken over them.\n",
            pipe_table(titles, [":--", *["--:"] * len(summary.datasets)], rows),
        ]
    )


def _footer(board: Board) -> str:
    lines = ["---\n", f"{plural(board.num_records, 'record')}.\n"]
    if board.excluded:
        lines += [
            f"{len(board.excluded):,} excluded:\n",
            "".join(f"- {escape(line)}\n" for line in board.excluded),
        ]
    return "\n".join(lines)
