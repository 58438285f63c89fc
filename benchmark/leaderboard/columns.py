"""The columns of the leaderboard. Every page, export and frame reads this list: a further column is an entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from benchmark.leaderboard.kinds import (
    BASELINE,
    Counts,
    Decimal,
    Difference,
    Field,
    Kind,
    Score,
    Seeds,
    Sizes,
    Time,
    Whole,
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
from benchmark.store.records import Record
from benchmark.ui.text import plain


class Part(Enum):
    """Where a column is shown."""

    NAME = auto()
    COUNT = auto()
    METRIC = auto()
    COMPARISON = auto()
    SECONDARY = auto()
    FACT = auto()
    RUNS = auto()
    DETAIL = auto()
    EXPORT = auto()


# In the order in which each shows its columns.
TABLE = (Part.NAME, Part.METRIC, Part.COMPARISON, Part.SECONDARY, Part.FACT, Part.RUNS)
DETAILS = (Part.DETAIL,)
TERMINAL = (Part.NAME, Part.COUNT, Part.METRIC)


def _always(table: Table) -> bool:
    return True


@dataclass(frozen=True)
class Column:
    """A column, defined once for all that show or export it.

    title: on pages. kind: how a value is written. value: that of a row, None where it is missing. of_run: name in
    `benchmark.results` -> that of one run; empty for a column of rows alone. json: its place in a row of the JSON,
    dots lead into an object; empty where the JSON says it elsewhere. exported: its name in
    frames, where that is not the title. paper: its title in LaTeX; empty where papers do not show it. help: shown when
    one points at the title. best_high: the first click sorts its highest value to the top. is_axis: a way of running
    methods that rows may share: pages filter by it, papers say in the caption what all rows share. in_table: whether a
    table has it.
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


def columns_of(table: Table) -> list[Column]:
    """The columns that a table has on a page, in order."""
    return [column for column in columns(*TABLE) if column.in_table(table)]


def axes_of(row: Row) -> dict[str, str]:
    """Title -> what a row has of each way of running methods."""
    first, sample = row.records[0], row.samples[0]
    axes = (column for column in columns(Part.FACT) if column.is_axis)
    return {column.title: of_run(first, sample) for column in axes for of_run in column.of_run.values()}


def _metric(title: str, key: str) -> Column:
    return Column(
        title,
        Part.METRIC,
        Score(images=True),
        lambda table, row: row.scores[title],
        {key: lambda record, sample: getattr(record.metrics, key)},
        json=f"scores.{key}",
        paper=title,
        best_high=True,
    )


def _beside(key: str, title: str, part: Part, help: str = "", in_table: Callable[[Table], bool] = _always) -> Column:
    """A score beside the metric."""
    return Column(
        title,
        part,
        Score(),
        lambda table, row: row.beside(key),
        {key: lambda record, sample: beside_metric(record, sample, key)},
        json=f"{'details' if part is Part.DETAIL else 'scores'}.{key}",
        help=help,
        best_high=part is Part.SECONDARY,
        in_table=in_table,
    )


def _statistics() -> list[Column]:
    return [_beside(key, one.title, Part.SECONDARY, one.help) for key, one in STATISTICS.items() if one.in_table]


def _details() -> list[Column]:
    found = [_beside(key, one.title, Part.DETAIL, one.help) for key, one in STATISTICS.items() if not one.in_table]
    return [*found, _THRESHOLD]


def _axis(key: str, title: str, of: Callable[[Record], str]) -> Column:
    """A way of running methods, the same for all seeds of a row."""
    return Column(
        title,
        Part.FACT,
        Kind(),
        lambda table, row: of(row.records[0]),
        {key: lambda record, sample: of(record)},
        json=key,
        is_axis=True,
    )


def _has_threshold(table: Table) -> bool:
    return any(row.threshold is not None for row in table.rows)


def _against(table: Table, row: Row) -> Against | str | None:
    return BASELINE if row is table.baseline else table.against_baseline[row.label]


METHOD = Column("Method", Part.NAME, Kind(), lambda table, row: row.label, json="label", paper="Method")
_NAMES = (
    Column(
        "Rank",
        Part.NAME,
        Whole(),
        lambda table, row: table.ranks[row.label],
        json="rank_group",
        paper="Rank",
        help="rank group: not told apart from the best of its group",
    ),
    METHOD,
    Column(
        "Title",
        Part.EXPORT,
        Kind(),
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
    Decimal(),
    lambda table, row: row.threshold,
    {"threshold": lambda record, sample: beside_metric(record, sample, "threshold")},
    json="threshold",
    help="from which on CF1 val and OF1 val choose a label",
)
_COMPARISON = (
    Column("n", Part.COUNT, Whole(), lambda table, row: row.n, json="n"),
    Column(
        "vs ERM",
        Part.COMPARISON,
        Difference(),
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
        Counts(),
        lambda table, row: table.wins[row.label],
        json="wins_ties_losses",
        help="against the others: better / not told apart / worse; sorted by wins minus losses",
        best_high=True,
    ),
    Column(
        "Oracle (not ranked)",
        Part.COMPARISON,
        Score(),
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
    Column("Seeds", Part.RUNS, Seeds(), lambda table, row: row.seeds),
    Column(
        "Parameters trained / all (M)",
        Part.FACT,
        Sizes(),
        lambda table, row: row.parameters,
        {
            "parameters_trained": lambda record, sample: record.parameters.trained,
            "parameters_all": lambda record, sample: record.parameters.all,
        },
        json="parameters",
        exported="Parameters",
        paper="Param. (M)",
    ),
    Column(
        "Epochs",
        Part.FACT,
        Whole(),
        lambda table, row: row.epochs,
        {"epochs": lambda record, sample: epochs_of(record)},
        json="epochs",
        paper="Epochs",
    ),
    _axis("weights", "Weights", weights_of),
    _axis("selection", "Selection rule", lambda record: record.selection.rule),
    _axis("test_time", "Test-time", views_of),
    Column(
        "Train time",
        Part.FACT,
        Time(),
        lambda table, row: (row.train_s, row.device),
        {
            "train_s": lambda record, sample: record.timings.train_s,
            "device": lambda record, sample: device_of(record),
        },
    ),
)
