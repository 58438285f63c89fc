"""The leaderboard as one HTML file that needs nothing else: tables, pictures, and a page for every run.

The tables are in the HTML, so that they are there without JavaScript too. The runs are embedded once as JSON, from
which `assets/page.js` builds a run's page when it is opened. What records share is there once, named by its number.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from benchmark.audit.reproduce import command
from benchmark.leaderboard.board import Board
from benchmark.leaderboard.published import PROTOCOL, PublishedRow, PublishedTable, unmeasured
from benchmark.leaderboard.samples import Sample
from benchmark.leaderboard.stats.statistics import Estimate
from benchmark.leaderboard.summary import Summary
from benchmark.leaderboard.tables import (
    IMAGES_MARK,
    MISSING,
    SEEDS_MARK,
    Row,
    Table,
    against_text,
    cell_text,
    counts_text,
    part_texts,
    rank_text,
)
from benchmark.store.records import EpochLog, Metrics, Record
from benchmark.ui.text import plain

HTML_FILE = "leaderboard.html"
_ASSETS = Path(__file__).with_name("assets")
# A matrix has the square of this many cells.
_MATRIX_ROWS = 120
_LEADERS_NAMED = 6
_VERDICTS = {1: ("win", "+"), 0: ("tie", "="), -1: ("loss", "−")}
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
# In a script element: so that no text ends it.
_JSON_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


@dataclass(frozen=True)
class Column:
    """A column of a sortable table. best_high: the first click sorts its highest number to the top."""

    name: str
    numeric: bool = True
    best_high: bool = False
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell: `lead` stands out from `rest`; value: what a numeric column is sorted by, None where it is missing; note:
    what is shown when one points at it."""

    lead: str
    rest: str = ""
    value: float | None = None
    best: bool = False
    note: str = ""


@dataclass(frozen=True)
class Link:
    """A link to a run: the page's script leads it to the run's page; without script it leads to the record."""

    run: str
    text: str
    href: str


def html_page(board: Board, pictures: Mapping[str, Mapping[str, bytes]]) -> str:
    """The page of a board; pictures: slug of a track -> what a picture shows -> SVG. Same board, same bytes."""
    css, script = _asset("page.css"), _asset("page.js")
    return _template().render(
        policy=_policy(css, script),
        css=Markup(css),
        script=Markup(script),
        board=board,
        tables=[_TableView(table, board.runs, pictures.get(table.track.slug, {})) for table in board.tables],
        overview=[_overview_row(table) for table in board.tables],
        overview_columns=_OVERVIEW,
        summaries=[_SummaryView(summary) for summary in board.summaries],
        published=[_PublishedView(table) for table in board.published],
        published_protocol=PROTOCOL,
        images_mark=IMAGES_MARK,
        seeds_mark=SEEDS_MARK,
        unmeasured=unmeasured(board.tables) if board.tables else {},
        data=Markup(_script_json(run_data(board))),
    )


def run_data(board: Board) -> str:
    """JSON of all runs: `records` by the first 12 digits of their ids; numbers in them name places in `shared`,
    `rows` and `tracks`."""
    pool = _Pool()
    rows, records = [], []
    for number, table in enumerate(board.tables):
        for row in table.rows:
            ids = [_short(record) for record in row.records]
            scores = [_interval_data(score) for score in row.scores.values()]
            rows.append({"track": number, "label": row.label, "runs": ids, "scores": scores})
            records += [
                f'"{id_}":{_record_json(record, sample, len(rows) - 1, pool)}'
                for id_, record, sample in zip(ids, row.records, row.samples, strict=True)
            ]
    tracks = [_track_data(table) for table in board.tables]
    parts = {
        "runs": json.dumps(quote(board.runs)),
        "tracks": _dumps(tracks),
        "rows": _dumps(rows),
        "records": "{" + ",\n".join(records) + "}",
        "shared": "[" + ",\n".join(pool.fragments) + "]",
    }
    return "{" + ",\n".join(f'"{key}":{part}' for key, part in parts.items()) + "}"


class _Pool:
    """Pieces of JSON, each kept once and named by its number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._columns: dict[tuple, int] = {}

    @property
    def fragments(self) -> list[str]:
        """The pieces in the order of their numbers."""
        return list(self._numbers)

    def add(self, fragment: str) -> int:
        """The number of a piece of JSON."""
        return self._numbers.setdefault(fragment, len(self._numbers))

    def add_column(self, values: tuple) -> int:
        """The number of a list of numbers or texts; one that is there already is not written again."""
        if values not in self._columns:
            self._columns[values] = self.add(_dumps(values))
        return self._columns[values]


def _record_json(record: Record, sample: Sample | None, row: int, pool: _Pool) -> str:
    spec, environment, timings = record.spec, record.environment, record.timings
    data: dict[str, Any] = {
        "row": row,
        "id": record.run_id,
        "folder": record.folder_name,
        "title": pool.add(_dumps(record.method_title)),
        "seed": spec.seed,
        "spec": pool.add(spec.model_dump_json(exclude={"seed", "recipe", "weights"})),
        "recipe": pool.add(spec.recipe.model_dump_json()),
        "weights": pool.add(spec.weights.model_dump_json()),
        "environment": pool.add(environment.model_dump_json(exclude={"scheduler"})),
        "scheduler": pool.add(_dumps(environment.scheduler)),
        "declared": record.declared,
        "scores": {name: _scores(metrics) for name, metrics in record.results.items()},
        "validation": record.validation and _scores(record.validation),
        "classes": _percents(record.metrics.per_class.values()),
        "selection": [record.selection.rule, record.selection.epoch],
        "history": _history(record.history, pool),
        "timings": [_short_number(t) for t in (timings.prepare_s, timings.train_s, timings.evaluate_s)],
        "speed": _short_number(timings.images_per_second),
        "memory": round(record.peak_memory_mb),
        "parameters": [record.parameters.trained, record.parameters.all],
        "attempts": record.attempts,
        "data": pool.add(_dumps(record.data_digests)),
        "model": record.model_digest,
        "logits": record.logits.sha256,
        "finished": record.finished,
        "command": command(record),
    }
    if sample is not None and sample.secondary is not None:
        data["beside"] = _percents(_beside(record, sample))
    if sample is not None and sample.oracle is not None:
        best = sample.oracle
        data["oracle"] = [_percents(best.scores), best.epoch, best.weight_set]
    return _dumps(data)


def _beside(record: Record, sample: Sample) -> Iterator[float | None]:
    """What stands beside the metric, as `BESIDE` of the page's script names it."""
    yield from (sample.beside(key) for key in Table.F1_COLUMNS.values())
    for column, key in Table.DETAILS.items():
        yield sample.beside(key) if record.history or column != Table.ECE else None
    yield sample.beside("threshold")


def _history(history: Sequence[EpochLog], pool: _Pool) -> dict[str, Any]:
    """Columns instead of rows; seeds share all but loss and validation."""
    columns: dict[str, Any] = {
        "epoch": pool.add_column(tuple(log.epoch for log in history)),
        "stage": pool.add_column(tuple(log.stage for log in history)),
        "lr": pool.add_column(tuple(_short_number(log.lr) for log in history)),
        "loss": [_short_number(log.loss) for log in history],
    }
    if any(log.val_overall is not None for log in history):
        columns["val"] = _percents(log.val_overall for log in history)
    return columns


def _track_data(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "anchor": _anchor(table),
        "images": [table.num_train_images, table.num_test_images],
        "classes": [[plain(name), group, count] for name, (group, count) in table.classes.items()],
    }


def _scores(metrics: Metrics) -> list[float | None]:
    return _percents(getattr(metrics, key) for key in Table.MAP_COLUMNS.values())


def _interval_data(score: Estimate | None) -> list[float | None]:
    """Mean, half width and its parts over seeds and test images."""
    return _percents((score.mean, score.half_width, score.seeds, score.images) if score else [None] * 4)


def _percents(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 2) for value in values]


def _short_number(value: float) -> float:
    return float(f"{value:.4g}")


def _short(record: Record) -> str:
    return record.run_id[:12]


def _dumps(data: Any) -> str:
    return _ENCODER.encode(data)


def _script_json(text: str) -> str:
    for char, escaped in _JSON_ESCAPES.items():
        text = text.replace(char, escaped)
    return text


class _TableView:
    """What the template shows of a track."""

    def __init__(self, table: Table, runs: str, pictures: Mapping[str, bytes]):
        self.title = table.title
        self.anchor = _anchor(table)
        self.facts = table.facts
        self.detectable = table.detectable and table.detectable.text
        self.missing_classes = [plain(name) for name in table.missing_classes]
        self.columns = _columns(table)
        self.names = {name: number for number, name in enumerate(table.columns)}
        self.rows = [_RowView(table, row, runs) for row in table.rows]
        self.filters = {
            name: sorted({fact(row) for row in table.rows})
            for name, fact in table.FACTS.items()
            if name in (table.WEIGHTS, table.SELECTION, table.TEST_TIME)
        }
        self.details_columns = _DETAILS
        self.details = [(row.label, _details(row)) for row in table.rows]
        self.matrix = _matrix(table)
        self.one_seed_beside_several = len({row.n == 1 for row in table.rows}) > 1
        self.matrix_left_out = table.comparison is not None and len(table.rows) > _MATRIX_ROWS
        self.pictures = [
            (f"{caption}: {table.title}", caption, base64.b64encode(content).decode("ascii"))
            for caption, content in pictures.items()
        ]


class _RowView:
    """What the template shows of a row: the name's link, the cells between rank and seeds, links to the runs."""

    def __init__(self, table: Table, row: Row, runs: str):
        rank = table.ranks[row.label]
        self.label, self.title = row.label, row.title
        self.rank = Cell(rank_text(rank), value=rank)
        cells = _cells(table, row)
        self.cells = [cells[name] for name in table.columns[2:-1]]
        self.links = [_link(record, runs) for record in row.records]
        self.code_versions = row.code_versions


def _link(record: Record, runs: str) -> Link:
    href = quote(f"{runs}/{record.folder_name}/record.json")
    return Link(_short(record), str(record.spec.seed), href)


def _columns(table: Table) -> list[Column]:
    """Those of the table, with what tells how to sort them."""
    texts = {table.METHOD, table.WEIGHTS, table.SELECTION, table.TEST_TIME}
    high = {*table.SCORES, table.BASELINE, table.WINS, table.ORACLE}
    notes = {
        table.RANK: "rank group: not told apart from the best of its group",
        table.BASELINE: "overall mAP minus that of erm, in points; *: told apart at 95 %, all comparisons with erm",
        table.WINS: "against the others: better / not told apart / worse; sorted by wins minus losses",
        table.ORACLE: "overall mAP of the epoch that is best on the test set",
    }
    return [Column(name, name not in texts, name in high, notes.get(name, "")) for name in table.columns]


def _cells(table: Table, row: Row) -> dict[str, Cell]:
    cells = {name: _score_cell(score, table.is_best(row, name)) for name, score in row.scores.items()}
    wins = table.wins[row.label]
    cells[table.BASELINE] = _baseline_cell(table, row)
    cells[table.WINS] = Cell(counts_text(wins), value=wins and wins[0] - wins[2])
    cells[table.ORACLE] = _score_cell(row.oracle)
    counts = row.parameter_counts
    values = {
        table.PARAMETERS: counts and counts.trained,
        table.EPOCHS: row.epochs,
        table.TRAIN_TIME: row.train_s,
    }
    for name, fact in table.FACTS.items():
        cells[name] = Cell(fact(row), value=values.get(name))
    return cells


_DETAIL_NOTES = {
    "ap_std": "standard deviation of average precision over the classes, in points",
    "micro_ap": "average precision of all decisions together",
    "lrap": "label ranking average precision",
    "ece": "expected calibration error of the sigmoid over all decisions, in points",
}
_DETAILS = [
    Column(Table.METHOD, numeric=False),
    *(Column(name, note=_DETAIL_NOTES[key]) for name, key in Table.DETAILS.items()),
    Column(Table.THRESHOLD, note="from which on CF1 val and OF1 val choose a label"),
]


def _details(row: Row) -> list[Cell]:
    """The cells of `_DETAILS` after the first."""
    threshold = row.threshold
    text = MISSING if threshold is None else f"{threshold:.2f}"
    return [*map(_score_cell, row.details.values()), Cell(text, value=threshold)]


def _score_cell(score: Estimate | None, best: bool = False) -> Cell:
    lead, _, rest = cell_text(score).partition(" ")
    note = "seeds {}, test images {}".format(*part_texts(score)) if score and score.half_width is not None else ""
    return Cell(lead, rest, score and score.mean, best, note)


def _baseline_cell(table: Table, row: Row) -> Cell:
    if row is table.baseline:
        return Cell("baseline", value=0.0)
    against = table.against_baseline[row.label]
    lead, _, rest = against_text(against).partition(" ")
    return Cell(lead, rest, against and against.difference, note=f"p {against.p_holm:.2g} (Holm)" if against else "")


def _matrix(table: Table) -> list[tuple[str, Markup]] | None:
    """Label and cells of each row of the comparison; None where there is nothing to compare, or too much.

    The cells are HTML already: with a hundred rows they are most of what a table holds.
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


def _anchor(table: Table) -> str:
    return f"track-{table.track.slug}"


_OVERVIEW = [
    Column("Dataset", numeric=False),
    Column("Protocol", numeric=False),
    Column("Backbone", numeric=False),
    Column("Weights", numeric=False),
    Column("Image size"),
    Column("Changes to the protocol", numeric=False),
    Column("Methods", best_high=True),
    Column("Runs", best_high=True),
    Column("Rank group 1", numeric=False),
]


def _overview_row(table: Table) -> tuple[str, str, list[Cell]]:
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
    return _anchor(table), plain(track.dataset_title), cells


def _names(labels: Sequence[str]) -> str:
    """The first labels and the number of the others; a dash for none."""
    if len(labels) > _LEADERS_NAMED:
        return f"{', '.join(labels[: _LEADERS_NAMED - 1])} and {len(labels) - _LEADERS_NAMED + 1} more"
    return ", ".join(labels) or MISSING


class _SummaryView:
    """What the template shows of a summary."""

    def __init__(self, summary: Summary):
        self.title = summary.title
        self.columns = [
            Column(Table.METHOD, numeric=False),
            *(Column(name, best_high=True) for name in summary.datasets),
        ]
        self.rows = [(label, [_score_cell(score) for score in scores]) for label, scores in summary.rows.items()]


class _PublishedView:
    """What the template shows of the published results of a dataset."""

    def __init__(self, table: PublishedTable):
        self.title, self.anchor, self.footnotes = table.title, f"published-{table.dataset}", table.footnotes
        self.columns = tuple(Table.MAP_COLUMNS)
        self.rows = [_published_row(row) for row in table.rows]


def _published_row(row: PublishedRow) -> dict[str, Any]:
    reported, verdict, scores = row.reported, row.verdict, row.scores.values()
    return {
        "method": reported.method,
        "variant": row.variant,
        "setting": reported.setting,
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


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _policy(css: str, script: str) -> str:
    """The Content-Security-Policy: nothing but our own style and script, and pictures that are in the page."""
    parts = {
        "default-src": "'none'",
        "style-src": _source(css),
        "script-src": _source(script),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in parts.items())


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["value"] = _value_text
    return environment.get_template("page.html.j2")


def _value_text(value: float | None) -> str:
    """A `data-value`: empty where it is missing."""
    return "" if value is None else f"{value:.4f}".rstrip("0").rstrip(".")
