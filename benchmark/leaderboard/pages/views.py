"""The data of the HTML page's template: heads, cells and rows of its tables."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from benchmark.leaderboard.cells import MISSING
from benchmark.leaderboard.columns import DETAILS, METHOD, Column, Part, columns, columns_of
from benchmark.leaderboard.kinds import SCORE
from benchmark.leaderboard.pages.run_data import anchor, short_id
from benchmark.leaderboard.rows import METRICS, Row
from benchmark.leaderboard.stats.statistics import Estimate
from benchmark.leaderboard.summary import Summary
from benchmark.leaderboard.tables import Table
from benchmark.leaderboard.verdicts import PublishedRow, PublishedTable
from benchmark.store.records import Record
from benchmark.ui.text import plain

# Largest number of rows with a matrix, which has the square of it as cells.
_MATRIX_ROWS = 120
_LEADERS_NAMED = 6
_VERDICTS = {1: ("win", "+"), 0: ("tie", "="), -1: ("loss", "−")}


@dataclass(frozen=True)
class Head:
    """The head of a column of a sortable table. best_high: the first click sorts its highest number to the top.
    is_sorted: the table comes sorted by it, highest first."""

    name: str
    numeric: bool = True
    best_high: bool = False
    note: str = ""
    is_sorted: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell: `lead` is the value, `rest` its small print. value: the number that a numeric column is sorted by, None
    where it is missing. note: shown when one points at the cell."""

    lead: str
    rest: str = ""
    value: float | None = None
    best: bool = False
    note: str = ""


@dataclass(frozen=True)
class Link:
    """A link to a run: to the run's page with the page's script, to the record without it."""

    run: str
    text: str
    href: str


_METHOD_HEAD = Head(METHOD.title, numeric=False)


class TableView:
    """A track for the template."""

    def __init__(self, table: Table, runs: str, pictures: Mapping[str, bytes]):
        self.title = table.title
        self.anchor = anchor(table)
        self.facts = table.facts
        self.detectable = table.detectable and table.detectable.text
        self.missing_classes = [plain(name) for name in table.missing_classes]
        shown, details = columns_of(table), columns(*DETAILS)
        self.columns = [_head(column) for column in shown]
        self.rows = [_RowView(table, row, shown, runs) for row in table.rows]
        # Title, index among the columns, values.
        self.filters = [
            (column.title, index, sorted({column.text(table, row) for row in table.rows}))
            for index, column in enumerate(shown)
            if column.is_axis
        ]
        self.details_columns = [_METHOD_HEAD, *map(_head, details)]
        self.details = [(row.label, [_cell(table, row, column) for column in details]) for row in table.rows]
        self.matrix = _matrix(table)
        self.one_seed_beside_several = len({row.n == 1 for row in table.rows}) > 1
        self.matrix_left_out = table.comparison is not None and len(table.rows) > _MATRIX_ROWS
        self.pictures = [
            (f"{caption}: {table.title}", caption, base64.b64encode(content).decode("ascii"))
            for caption, content in pictures.items()
        ]


class _RowView:
    """A row for the template: the name's link, the cells between rank and seeds, links to the runs."""

    def __init__(self, table: Table, row: Row, shown: Sequence[Column], runs: str):
        self.label, self.title = row.label, row.title
        # The template shows rank and method before these cells, and the seeds after them.
        self.rank = _cell(table, row, shown[0])
        self.cells = [_cell(table, row, column) for column in shown if column.part not in (Part.NAME, Part.RUNS)]
        self.links = [_link(record, runs) for record in row.records]
        self.code_versions = row.code_versions


def _link(record: Record, runs: str) -> Link:
    href = quote(f"{runs}/{record.folder_name}/record.json")
    return Link(short_id(record), str(record.spec.seed), href)


def _head(column: Column) -> Head:
    is_sorted = column.title == next(iter(METRICS))
    return Head(column.title, column.kind.numeric, column.best_high, column.help, is_sorted)


def _cell(table: Table, row: Row, column: Column) -> Cell:
    value, kind = column.value(table, row), column.kind
    is_best = column.part is Part.METRIC and table.is_best(row, column.title)
    return Cell(*kind.parts(kind.text(value)), kind.order(value), is_best, kind.note(value))


def _score_cell(score: Estimate | None) -> Cell:
    return Cell(*SCORE.parts(SCORE.text(score)), SCORE.order(score), note=SCORE.note(score))


def _matrix(table: Table) -> list[tuple[str, Markup]] | None:
    """Label and cells of each row of the comparison; None where there is nothing to compare, or too much.

    The cells are HTML already: with a hundred rows they are most of the table.
    """
    comparison = table.comparison
    if comparison is None or not 1 < len(table.rows) <= _MATRIX_ROWS:
        return None
    arrays = (comparison.difference.tolist(), comparison.half_width.tolist(), comparison.p_holm.tolist())
    return [
        (row.label, _matrix_cells(number, zip(*cells, strict=True)))
        for number, (row, *cells) in enumerate(zip(table.rows, comparison.verdicts, *arrays, strict=True), 1)
    ]


def _matrix_cells(row: int, cells: Iterable[tuple[int | None, float, float, float]]) -> Markup:
    """cells: verdict, difference, half width and p-value against each row."""
    parts = []
    for column, (verdict, difference, half_width, p) in enumerate(cells, 1):
        if verdict is None:
            parts.append("<td></td>")
        else:
            kind, symbol = _VERDICTS[verdict]
            title = f"{row} against {column}: {difference:+.2f} ± {half_width:.2f}, p {p:.2g}"
            parts.append(f'<td class="{kind}" title="{title}">{symbol}</td>')
    return Markup("".join(parts))


OVERVIEW = [
    Head("Dataset", numeric=False),
    Head("Protocol", numeric=False),
    Head("Backbone", numeric=False),
    Head("Weights", numeric=False),
    Head("Image size"),
    Head("Changes to the protocol", numeric=False),
    Head("Methods", best_high=True),
    Head("Runs", best_high=True),
    Head("Rank group 1", numeric=False),
]


def overview_row(table: Table) -> tuple[str, str, list[Cell]]:
    """Link, text of the link, and the other cells."""
    track, runs = table.track, sum(row.n for row in table.rows)
    leaders = [label for label, rank in table.ranks.items() if rank == 1]
    cells = [
        Cell(f"{track.protocol} v{track.protocol_version}"),
        Cell(plain(track.backbone)),
        Cell("not pretrained" if track.weights == "none" else plain(track.weights)),
        Cell(f"{track.image_size} px", value=track.image_size),
        Cell(track.overrides or "none"),
        Cell(f"{len(table.rows):,}", value=len(table.rows)),
        Cell(f"{runs:,}", value=runs),
        Cell(_names(leaders)),
    ]
    return anchor(table), plain(track.dataset_title), cells


def _names(labels: Sequence[str]) -> str:
    """The first labels and the number of the others; a dash for none."""
    if len(labels) > _LEADERS_NAMED:
        return f"{', '.join(labels[: _LEADERS_NAMED - 1])} and {len(labels) - _LEADERS_NAMED + 1} more"
    return ", ".join(labels) or MISSING


class SummaryView:
    """A summary for the template."""

    def __init__(self, summary: Summary):
        self.title = summary.title
        self.columns = [
            _METHOD_HEAD,
            *(Head(name, best_high=True) for name in summary.datasets),
        ]
        self.rows = [(label, [_score_cell(score) for score in scores]) for label, scores in summary.rows.items()]


class PublishedView:
    """The published results of a dataset for the template."""

    def __init__(self, table: PublishedTable):
        self.title, self.anchor, self.footnotes = table.title, f"published-{table.dataset}", table.footnotes
        self.columns = tuple(METRICS)
        self.rows = [_published_row(row) for row in table.rows]


def _published_row(row: PublishedRow) -> dict[str, Any]:
    result, verdict, scores = row.result, row.verdict, row.scores.values()
    return {
        "method": result.method,
        "variant": row.variant,
        "setting": result.setting,
        "ours": row.our_label,
        "printed": [(score.printed_text, score.last_text, score.gap_text) for score in scores],
        "has_last": row.last is not None,
        "measured": [_score_cell(score.measured) for score in scores],
        "difference": [score.difference_text for score in scores],
        "verdict": verdict.kind,
        "reasons": "; ".join(verdict.reasons),
        "source": row.source,
        "notes": row.notes,
    }
