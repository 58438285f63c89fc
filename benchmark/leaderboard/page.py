"""The leaderboard as Markdown and pictures: the same bytes for the same records, in any order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from benchmark.leaderboard.plots import Plot, plots
from benchmark.leaderboard.tables import Row, Table, build_tables, score_text
from benchmark.leaderboard.tracks import plain
from benchmark.records import GROUPS, Record

PAGE_FILE = "leaderboard.md"
PLOT_FOLDER = "plots"

_HEADER = """\
# Leaderboard

Scores are mean average precision (mAP) in percent: scikit-learn's average precision of each class, computed on
float32 logits, averaged over classes.

- **Overall** is the mean over all classes with a test positive. **Head**, **Medium** and **Tail** are means over those
  with at least 100, with 20 to 99 and with fewer than 20 training images, unless a dataset defines its groups
  otherwise; the line above each table gives their sizes.
- **CF1** and **OF1** are F1 scores in percent at a sigmoid of 0.5: of the mean class precision and recall, and over all
  decisions together.
- **±** is half of a 95 % t-interval over n seeds. It covers training noise, not the sampling of test images. A single
  run (n = 1) has none.
- **Weights** are the ones scored: raw, or their exponential moving average (EMA). The **selection rule** chose the
  epoch: *last* is the last one, *best-val* the best on the validation list. The test set was scored once, after
  training, and chose nothing.
- **Test-time** is what a test image was scored on: the image itself (*none*), averaged over it and its mirror image
  (*flip*), or over the corners and the centre of one that is larger by a margin in pixels (*five-crop*).
- **–** is a missing value: a class group without a test positive, or a value missing for one of the seeds. No average
  is taken over it.
- The best mean of an mAP column is **bold**, with all that equal it to the digits shown; whether it is better than the
  next is for the intervals to say. Tables never mix tracks: each
  has one dataset, protocol, backbone, pretraining, image size and set of changes to the protocol.
"""

# Punctuation that Markdown reads; the underscore within a word is text to it.
_MARKDOWN = re.compile(r"[\\`*\[\]#~!]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "$": "&#36;"}


def escape(text: str) -> str:
    """`text` as Markdown and HTML that show it as it is, on one line, also within a table."""
    escaped = _MARKDOWN.sub(lambda match: "\\" + match.group(), plain(text))
    return "".join(_ENTITIES.get(char, char) for char in escaped)


@dataclass(frozen=True)
class Page:
    """The page and its pictures, not drawn yet. plots: file name relative to the page -> picture."""

    text: str
    plots: dict[str, Plot]


def build(records: Iterable[Record], excluded: Sequence[str] = (), runs: str = "runs") -> Page:
    """The page of these records.

    excluded: one line for each file that is not a record, with the reason. runs: the folder of the runs, relative
    to the page, with forward slashes.
    """
    tables = build_tables(records)
    pictures = [{_plot_file(table, kind): plot for kind, plot in plots(table).items()} for table in tables]
    sections = [_section(table, list(files), runs) for table, files in zip(tables, pictures, strict=True)]
    count = sum(row.n for table in tables for row in table.rows)
    if not sections:
        sections = ["There are no records yet: no run has finished.\n"]
    text = "\n".join([_HEADER, *sections, _footer(count, excluded)])
    return Page(text, {name: plot for files in pictures for name, plot in files.items()})


def render(records: Iterable[Record], excluded: Sequence[str] = (), runs: str = "runs") -> dict[str, bytes]:
    """File name relative to the page's folder -> content, for the page and all its pictures; see `build`."""
    page = build(records, excluded, runs)
    return {PAGE_FILE: page.text.encode()} | {name: plot.png() for name, plot in page.plots.items()}


def _plot_file(table: Table, kind: str) -> str:
    return f"{PLOT_FOLDER}/{table.track.slug}-{kind}.png"


def _section(table: Table, files: Sequence[str], runs: str) -> str:
    parts = [f"## {escape(table.title)}\n", _counts(table), _markdown_table(table)]
    if table.missing_classes:
        names = ", ".join(escape(name) for name in table.missing_classes)
        parts.append(f"Classes without a test positive, in no mean: {names}.\n")
    groups, classes = files
    parts += [
        f"![Mean average precision of each method: overall, head, medium, tail]({groups})\n",
        f"![Average precision of each class, most frequent class first]({classes})\n",
        _markdown_runs(table, runs),
    ]
    return "\n".join(parts)


def _counts(table: Table) -> str:
    sizes = ", ".join(_group_size(table, group) for group in GROUPS)
    return (
        f"{table.num_train_images:,} training images, {table.num_test_images:,} test images, "
        f"{len(table.classes)} classes (training images of each): {sizes}.\n"
    )


def _group_size(table: Table, group: str) -> str:
    counts = sorted(count for name, count in table.classes.values() if name == group)
    if not counts:
        return f"0 {group}"
    span = f"{counts[0]:,}" if counts[0] == counts[-1] else f"{counts[0]:,} to {counts[-1]:,}"
    return f"{len(counts)} {group} ({span})"


def _markdown_table(table: Table) -> str:
    texts = {table.METHOD, table.SEEDS, table.WEIGHTS, table.SELECTION, table.TEST_TIME, table.TRAIN_TIME}
    rules = [":--" if column in texts else "--:" for column in table.columns]
    return _markdown(table.columns, rules, [_cells(table, row) for row in table.rows])


def _cells(table: Table, row: Row) -> list[str]:
    scores = [score_text(row.scores[column], _bold if table.is_best(row, column) else str) for column in table.SCORES]
    return [escape(row.label), *scores, *(escape(fact(row)) for fact in table.FACTS.values())]


def _bold(text: str) -> str:
    return f"**{text}**"


def _markdown_runs(table: Table, runs: str) -> str:
    rows = [[escape(row.label), escape(row.title), _run_links(row, runs)] for row in table.rows]
    return _markdown([table.METHOD, "Title", "Runs (seed: run id)"], [":--"] * 3, rows)


def _run_links(row: Row, runs: str) -> str:
    links = [
        f"{record.spec.seed}: [{record.run_id[:12]}]({quote(f'{runs}/{record.folder_name}/record.json')})"
        for record in row.records
    ]
    note = f" (made with {row.code_versions} versions of the code)" if row.code_versions > 1 else ""
    return ", ".join(links) + note


def _markdown(titles: Sequence[str], rules: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [titles, rules, *rows])


def _footer(count: int, excluded: Sequence[str]) -> str:
    lines = ["---\n", f"{count:,} record{'s' if count != 1 else ''}.\n"]
    if excluded:
        lines += ["Excluded:\n", "".join(f"- {escape(line)}\n" for line in sorted(excluded))]
    return "\n".join(lines)
