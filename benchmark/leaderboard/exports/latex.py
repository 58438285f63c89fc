"""The tables of a board for a paper, as pandas' Styler sets them: LaTeX that needs booktabs alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from benchmark.leaderboard.board import Board
from benchmark.leaderboard.cells import IMAGES_MARK, MISSING, SEEDS_MARK, are_best, cell_text
from benchmark.leaderboard.columns import METHOD, Column, Part, axes_of, columns_of
from benchmark.leaderboard.rows import Row
from benchmark.leaderboard.stats.statistics import Estimate
from benchmark.leaderboard.summary import Summary
from benchmark.leaderboard.tables import BASELINE_LABEL, Table
from benchmark.leaderboard.tex import TEXT_WIDTH, Bold, floats
from benchmark.leaderboard.verdicts import PROTOCOL, PublishedRow, PublishedTable
from benchmark.store.records import GROUPS
from benchmark.ui.progress import plural

EXTENSION = "tex"

# LaTeX holds floats that have no page yet, and fails when there are too many; every version can hold 18.
_FLOATS_AT_ONCE = 16
# Datasets side by side that fit on a page.
_DATASETS = 5

_INTERVAL = (
    "±: half of the 95 % interval over seeds, whose number is in parentheses, and test images "
    f"({IMAGES_MARK}: over test images alone; {SEEDS_MARK}: over seeds alone)."
)
_SHOWN = f"Bold: best mean of a column; {MISSING}: missing."
_HEADER = r"""% Leaderboard of ltbench, {}; made by a program.
% Needs in the preamble: \usepackage{{booktabs}}
% Made for a two-column class: a table takes the width of both columns. In a narrower text, as in a single
% column of article, a wide table is centred and reaches beyond it on both sides. To shrink it to the text's width,
% put \usepackage{{graphicx}} in the preamble and, in the table, \resizebox{{\linewidth}}{{!}}{{% instead of
% \makebox[\linewidth][c]{{%
% ASCII only: any input encoding will do, UTF-8, LaTeX's default, among them."""


def write(board: Board, raw: bool = False) -> str:
    r"""Tables to \input in a paper, in ASCII: one for each track, for each summary, and for published results.

    A table is a `table*`, over both columns of a two-column paper, where longtable does not work; one that is longer
    than a page becomes several. A letter that plain pdflatex cannot set is shown as `[U+4E2D]`. The text of a caption
    is meant to be edited.
    """
    blocks = [_HEADER.format(plural(board.num_records, "record"))]
    if not board.tables:
        blocks[0] += "\n% There are no records yet: no run has finished."
    for table in board.tables:
        blocks += _track(table)
    for summary in board.summaries:
        blocks += _summary(summary)
    for published in board.published:
        blocks += _published(published)
    for at in range(_FLOATS_AT_ONCE + 1, len(blocks), _FLOATS_AT_ONCE):
        blocks[at] = f"\\clearpage % LaTeX holds a limited number of floats\n{blocks[at]}"
    return "\n\n".join(blocks) + "\n"


def _track(table: Table) -> list[str]:
    common = _most_common(table.rows)
    shown = [column for column in columns_of(table) if column.paper]
    cells = [[_cell(table, row, column, common) for column in shown] for row in table.rows]
    groups: list[str] = [group for group, _ in table.classes.values()]
    baseline = BASELINE_LABEL.upper()
    caption = [
        table.facts
        if table.is_few_shot
        else f"mAP in percent over all {len(groups)} classes and over "
        f"{', '.join(f'{groups.count(group)} {group}' for group in GROUPS)} classes; {table.num_train_images:,} "
        f"training and {table.num_test_images:,} test images.",
        _INTERVAL,
        "Rank: a method is not told apart from the best one of its rank at 95 % (test images and seeds, Holm's "
        "correction).",
        _sentence(common),
        f"vs. {baseline}: overall mAP minus that of {baseline} with its own 95 % interval; *: told apart at 95 % "
        "(Holm's correction for all comparisons with it)."
        if table.baseline
        else "",
        "Param.: trained / all.",
        table.detectable.text if table.detectable else "",
        _SHOWN,
    ]
    heads = [(column.paper, "r" if column.kind.numeric else "l") for column in shown]
    return floats(table.title, caption, table.track.slug, heads, cells)


def _cell(table: Table, row: Row, column: Column, common: Mapping[str, str]) -> str:
    text = column.text(table, row)
    if column is METHOD:
        text += _differing([row], common)
    elif column.kind.numeric:
        text = text.replace("-", "−")
    return Bold(text) if column.part is Part.METRIC and table.is_best(row, column.title) else text


def _summary(summary: Summary) -> list[str]:
    by_label = {name: [row for row in rows if row is not None] for name, rows in summary.measured.items()}
    used = [row for rows in by_label.values() for row in rows]
    common = _most_common(used)
    caption = ["Overall mAP in percent on several datasets.", _INTERVAL, _sentence(common), _SHOWN]
    names = [name + _differing(rows, common) for name, rows in by_label.items()]
    columns = [_marked(scores) for scores in zip(*summary.rows.values(), strict=True)]
    made = []
    for start in range(0, len(columns), _DATASETS):
        shown = slice(start, start + _DATASETS)
        heads = [(METHOD.title, "l"), *((dataset, "r") for dataset in summary.datasets[shown])]
        cells = [[name, *row] for name, row in zip(names, zip(*columns[shown], strict=True), strict=True)]
        made += floats(f"Summary: {summary.title}", caption, f"summary-{summary.slug}-from{start + 1}", heads, cells)
    return made


def _marked(scores: Sequence[Estimate | None]) -> list[str]:
    """The cells of a column of scores."""
    return [(Bold if best else str)(cell_text(one)) for one, best in zip(scores, are_best(scores), strict=True)]


def _published(table: PublishedTable) -> list[str]:
    measured = [row.measured.row for row in table.rows if row.measured is not None]
    common = _most_common(measured)
    # Caveats first, then the reasons against comparisons.
    notes = dict.fromkeys([*table.footnotes, *(reason for row in table.rows for reason in row.verdict.reasons)])
    numbers = {note: number for number, note in enumerate(notes, 1)}
    caption = [
        f"Overall mAP in percent as printed and as measured here with protocol {PROTOCOL}.",
        _INTERVAL,
        "Setting: backbone, pretraining, image size.",
        "In brackets: the last epoch, where printed is the one that is best on the test set and both are published; "
        "difference and verdict are then against the last.",
        "Diff.: measured minus printed. Verdict: within where the printed value, taken for one run, lies in the 95 % "
        "prediction interval of our seeds and test images, above and below where it does not and the measured mean is "
        "above or below it; in brackets the numbers of the notes.",
        _sentence(common),
        f"{MISSING}: missing.",
    ]
    # Numbers come last, as ragged text must not end a line of a table.
    heads = [(title, "l") for title in ("Method", "Setting", "Source", "Our row", "Verdict")]
    heads += [(title, "r") for title in ("Printed", "Measured", "Diff.")]
    cells = [_published_cells(row, common, numbers) for row in table.rows]
    below = " ".join(f"({number}) {note}." for note, number in numbers.items())
    title, label = f"Published beside measured: {table.title}", f"published-{table.dataset}"
    return floats(title, caption, label, heads, cells, TEXT_WIDTH, below)


def _published_cells(row: PublishedRow, common: Mapping[str, str], numbers: Mapping[str, int]) -> list[str]:
    """numbers: text of a note -> its number."""
    result, score = row.result, row.scores["Overall"]
    notes = sorted({*row.notes, *(numbers[reason] for reason in row.verdict.reasons)})
    return [
        result.method if row.variant == "printed" else f"{result.method} ({row.variant})",
        result.setting,
        row.source,
        row.our_label + _differing([] if row.measured is None else [row.measured.row], common),
        row.verdict.kind + (f" ({', '.join(map(str, notes))})" if notes else ""),
        score.printed_text if row.last is None else f"{score.printed_text} ({score.last_text})",
        cell_text(score.measured),
        score.difference_text.replace("-", "−"),
    ]


def _most_common(rows: Iterable[Row]) -> dict[str, str]:
    """Title -> the most common value of each column with `is_axis`."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for title, text in axes_of(row).items():
            counts[title][text] += 1
    return {title: found.most_common(1)[0][0] for title, found in counts.items()}


def _sentence(common: Mapping[str, str]) -> str:
    """The most common values in a sentence."""
    settings = ", ".join(f"{title.lower()} {text}" for title, text in common.items())
    return f"Unless other is in square brackets: {settings}." if common else ""


def _differing(rows: Sequence[Row], common: Mapping[str, str]) -> str:
    """The other values of these rows, as a suffix of their label."""
    found = dict.fromkeys(text for row in rows for title, text in axes_of(row).items() if text != common[title])
    return f" [{', '.join(found)}]" if found else ""
