"""The columns of the leaderboard. Every page, export and frame reads this list: a further column is an entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from benchmark.leaderboard.kinds import (
    BASELINE,
    COUNTS,
    DECIMAL,
    DIFFERENCE,
    METRIC,
    SCORE,
    SEEDS,
    SIZES,
    TEXT,
    TIME,
    WHOLE,
    Field,
    Kind,
)
from benchmark.leaderboard.rows import (
    METRICS,
    Row,
    beside_metric,
    device_of,
    epochs_of,
    views_of,
    weights_of,
)
from benchmark.leaderboard.samples import Sample
from benchmark.leaderboard.stats.secondary import STATISTICS
from benchmark.leaderboard.tables import Against, Table
from benchmark.store.records import GROUPS, Record
from benchmark.ui.text import plain


class Part(Enum):
    """Where a column is shown. `TABLE`, `DETAILS` and `TERMINAL` consist of parts; EXPORT is in exports alone."""

    NAME, COUNT, METRIC, COMPARISON, SECONDARY, FACT, RUNS, DETAIL, EXPORT = (auto() for _ in range(9))


# The parts of each, in the order in which they are shown.
TABLE = (Part.NAME, Part.METRIC, Part.COMPARISON, Part.SECONDARY, Part.FACT, Part.RUNS)
DETAILS = (Part.DETAIL,)
TERMINAL = (Part.NAME, Part.COUNT, Part.METRIC)


def _always(table: Table) -> bool:
    return True


def _has_groups(table: Table) -> bool:
    return table.has_groups


@dataclass(frozen=True)
class Column:
    """A column, defined once for every page and export.

    title: on pages. kind: how a value is written. value: of a row, None where it is missing. of_run: name in
    `benchmark.results` -> value of one run; empty for a column of rows alone. json: its path in a row of the JSON, with
    dots; empty where the JSON has it elsewhere. exported: its name in frames, where that is not the title. paper: its
    title in LaTeX; empty where papers do not show it. help: shown when one points at the title. best_high: the first
    click sorts its highest value to the top. is_axis: whether it is a setting of how methods are run: pages filter by
    it, and papers name its most common value. in_table: whether a table has it.
    """

    title: str
    part: Part
    kind: Kind
    value: Callable[[Table, Row], Any]
    of_run: Mapping[str, Callable[[Record, Sample | None], Any]] = field(default_factory=dict)
    json: str = ""
    exported: str = ""
    paper: str = ""
    help: str = ""
    best_high: bool = False
    is_axis: bool = False
    in_table: Callable[[Table], bool] = _always

    def text(self, table: Table, row: Row) -> str:
        """A row's value as a page shows it."""
        return self.kind.text(self.value(table, row))

    @property
    def fields(self) -> tuple[Field, ...]:
        """The columns of a frame that hold it."""
        return self.kind.fields(self.exported or self.title)


def columns(*parts: Part) -> list[Column]:
    """The columns of these parts, part by part; without parts all of them, in the order of exports."""
    known = (*_NAMES, *_METRIC, *_statistics(), *_AT_THRESHOLD, *_details(), *_COMPARISON, *_FACTS)
    return [column for part in parts for column in known if column.part is part] if parts else list(known)


def columns_of(table: Table, parts: Sequence[Part] = TABLE) -> list[Column]:
    """The columns that a table has on a page, in order."""
    return [column for column in columns(*parts) if column.in_table(table)]


def axes_of(row: Row) -> dict[str, str]:
    """Title -> a row's value of each column with `is_axis`."""
    first, sample = row.records[0], row.samples[0]
    axes = (column for column in columns(Part.FACT) if column.is_axis)
    return {column.title: of_run(first, sample) for column in axes for of_run in column.of_run.values()}


def _score(title: str, part: Part, kind: Kind, key: str, of: Callable[[Row], Any], of_run: Any, **facts: Any) -> Column:
    """A score of a row and of a run, under the same name. facts: fields of a Column."""
    parent = "details" if part is Part.DETAIL else "scores"
    high = part is not Part.DETAIL
    return Column(
        title, part, kind, lambda table, row: of(row), {key: of_run}, json=f"{parent}.{key}", best_high=high, **facts
    )


def _metric(title: str, key: str) -> Column:
    def of_run(record: Record, sample: Sample | None) -> float | None:
        return getattr(record.metrics, key)

    in_table = _has_groups if key in GROUPS else _always
    return _score(
        title, Part.METRIC, METRIC, key, lambda row: row.scores[title], of_run, paper=title, in_table=in_table
    )


def _beside(key: str, title: str, part: Part, **facts: Any) -> Column:
    """A score beside the metric."""

    def of_run(record: Record, sample: Sample | None) -> float | None:
        return beside_metric(record, sample, key)

    return _score(title, part, SCORE, key, lambda row: row.beside(key), of_run, **facts)


def _statistics() -> list[Column]:
    return [_beside(key, one.title, Part.SECONDARY, help=one.help) for key, one in STATISTICS.items() if one.in_table]


def _details() -> list[Column]:
    scores = [(key, one) for key, one in STATISTICS.items() if not one.in_table]
    return [*(_beside(key, one.title, Part.DETAIL, help=one.help) for key, one in scores), _THRESHOLD]


def _setting(key: str, title: str, of: Callable[[Record], Any], **facts: Any) -> Column:
    """A setting that all seeds of a row share. facts: fields of a Column."""
    of_run = {key: lambda record, sample: of(record)}
    return Column(title, Part.FACT, value=lambda table, row: of(row.records[0]), of_run=of_run, json=key, **facts)


def _has_threshold(table: Table) -> bool:
    return any(row.threshold is not None for row in table.rows)


def _against(table: Table, row: Row) -> Against | str | None:
    return BASELINE if row is table.baseline else table.against_baseline[row.label]


METHOD = Column("Method", Part.NAME, TEXT, lambda table, row: row.label, json="label", paper="Method")
_NAMES = (
    Column(
        "Rank",
        Part.NAME,
        WHOLE,
        lambda table, row: table.ranks[row.label],
        json="rank_group",
        paper="Rank",
        help="rank group: not told apart from the best of its group",
    ),
    METHOD,
    Column(
        "Title",
        Part.EXPORT,
        TEXT,
        lambda table, row: row.title,
        {"title": lambda record, sample: plain(record.method_title)},
        json="title",
    ),
)
_METRIC = tuple(_metric(title, key) for title, key in METRICS.items())
_AT_THRESHOLD = (
    _beside("cf1_val", "CF1 val", Part.SECONDARY, in_table=_has_threshold),
    _beside("of1_val", "OF1 val", Part.SECONDARY, in_table=_has_threshold),
)
_THRESHOLD = Column(
    "Threshold (logit)",
    Part.DETAIL,
    DECIMAL,
    lambda table, row: row.threshold,
    {"threshold": lambda record, sample: beside_metric(record, sample, "threshold")},
    json="threshold",
    help="from which on CF1 val and OF1 val choose a label",
)
_COMPARISON = (
    Column("n", Part.COUNT, WHOLE, lambda table, row: row.n, json="n"),
    Column(
        "vs ERM",
        Part.COMPARISON,
        DIFFERENCE,
        _against,
        json="against_baseline",
        paper="vs. ERM",
        help="overall mAP minus that of erm, in points; *: told apart at 95 %, all comparisons with erm",
        best_high=True,
        in_table=lambda table: table.baseline is not None,
    ),
    Column(
        "W / T / L",
        Part.COMPARISON,
        COUNTS,
        lambda table, row: table.wins[row.label],
        json="wins_ties_losses",
        help="against the others: better / not told apart / worse; sorted by wins minus losses",
        best_high=True,
    ),
    Column(
        "Oracle (not ranked)",
        Part.COMPARISON,
        SCORE,
        lambda table, row: row.oracle,
        {"oracle": lambda record, sample: sample and sample.oracle and sample.oracle.scores[0]},
        json="oracle",
        exported="Oracle",
        help="overall mAP of the epoch that is best on the test set",
        best_high=True,
        in_table=lambda table: table.has_oracle,
    ),
)
_FACTS = (
    Column("Seeds", Part.RUNS, SEEDS, lambda table, row: row.seeds),
    Column(
        "Parameters trained / all (M)",
        Part.FACT,
        SIZES,
        lambda table, row: row.parameters,
        {
            "parameters_trained": lambda record, sample: record.parameters.trained,
            "parameters_all": lambda record, sample: record.parameters.all,
        },
        json="parameters",
        exported="Parameters",
        paper="Param. (M)",
    ),
    _setting("epochs", "Epochs", epochs_of, kind=WHOLE, paper="Epochs"),
    _setting("weights", "Weights", weights_of, kind=TEXT, is_axis=True),
    _setting("selection", "Selection rule", lambda record: record.selection.rule, kind=TEXT, is_axis=True),
    _setting("test_time", "Test-time", views_of, kind=TEXT, is_axis=True),
    Column(
        "Train time",
        Part.FACT,
        TIME,
        lambda table, row: (row.train_s, row.device),
        {
            "train_s": lambda record, sample: record.timings.train_s,
            "device": lambda record, sample: device_of(record),
        },
    ),
)
