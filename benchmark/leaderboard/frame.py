"""The leaderboard as pandas frames: one row for each run (`results`), or for each row of a table (`table_rows`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import StoreError
from benchmark.leaderboard.board import load_board
from benchmark.leaderboard.columns import columns
from benchmark.leaderboard.kinds import Field
from benchmark.leaderboard.rows import Row
from benchmark.leaderboard.tables import Table
from benchmark.store.records import Record
from benchmark.ui.text import plain

if TYPE_CHECKING:
    import pandas as pd

RUN_IDS = "Run ids"
_RUN = ("label", "method", "method_version", "seed")
_TRACK: dict[str, Callable[[Table], Any]] = {
    "Track": lambda table: table.title,
    "Dataset": lambda table: plain(table.track.dataset),
    "Fingerprint": lambda table: table.track.fingerprint,
    "Protocol": lambda table: plain(table.track.protocol),
    "Protocol version": lambda table: table.track.protocol_version,
    "Backbone": lambda table: plain(table.track.backbone),
    "Pretrained weights": lambda table: plain(table.track.weights),
    "Weights digest": lambda table: plain(table.track.weights_digest or ""),
    "Image size": lambda table: table.track.image_size,
    "Overrides": lambda table: table.track.overrides,
}


def results(folder: str | Path, problems: list[StoreError] | None = None) -> pd.DataFrame:
    """One row for each run of a results folder that the leaderboard shows, in the order of its tables and seeds.

    The columns are `run_id`; the track (`track` its title, `dataset`, `fingerprint`, `protocol`, `protocol_version`,
    `backbone`, `pretrained_weights`, `weights_digest`, `image_size`, `overrides`); `label`, that of the table's row,
    the same for all its seeds; `method`, `method_version`, `seed`; then the run's values of the leaderboard's columns:
    `overall`, `head`, `medium`, `tail` mAP and the secondary scores in percent, `epochs`, `train_s` and so on. NaN for
    a missing value.

    Raises StoreError when there is no such folder, and for the first record that a leaderboard excludes; with a list
    `problems` the faults of excluded records are appended to it instead.
    """
    import pandas as pd

    found: list[StoreError] = []
    board = load_board(Path(folder), Path(folder), found)
    if problems is not None:
        problems += found
    elif found:
        raise found[0]
    by_run = [(name, of_run) for column in columns() for name, of_run in column.of_run.items()]
    runs = [
        _facts(table, row, record) | {name: _or_nan(of_run(record, sample)) for name, of_run in by_run}
        for table in board.tables
        for row in table.rows
        for record, sample in zip(row.records, row.samples, strict=True)
    ]
    return pd.DataFrame(runs, columns=["run_id", *map(_snake, _TRACK), *_RUN, *(name for name, _ in by_run)])


def table_rows(tables: Iterable[Table]) -> pd.DataFrame:
    """One row for each row of each table: its track, all columns of the leaderboard, its run ids.

    Means and half-widths are in percent, times in seconds; NaN (NA for whole numbers) for a missing value.
    """
    import pandas as pd

    fields = table_fields()
    rows = [
        {name: value(table) for name, value in _TRACK.items()}
        | _values(table, row)
        | {RUN_IDS: " ".join(record.run_id for record in row.records)}
        for table in tables
        for row in table.rows
    ]
    frame = pd.DataFrame(rows, columns=[*_TRACK, *(field.name for field in fields), RUN_IDS])
    return frame.astype({field.name: field.dtype for field in fields})


def table_fields() -> list[Field]:
    """The columns of `table_rows` that come from columns of the leaderboard."""
    return [field for column in columns() for field in column.fields]


def _values(table: Table, row: Row) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for column in columns():
        value = column.value(table, row)
        values |= {field.name: None if value is None else field.of(value) for field in column.fields}
    return values


def _facts(table: Table, row: Row, record: Record) -> dict[str, Any]:
    """The id, track, label, method and seed of a run."""
    spec = record.spec
    of_run = (row.label, plain(spec.method), spec.method_version, spec.seed)
    track = {_snake(name): value(table) for name, value in _TRACK.items()}
    return {"run_id": record.run_id} | track | dict(zip(_RUN, of_run, strict=True))


def _snake(name: str) -> str:
    return name.lower().replace(" ", "_")


def _or_nan(value: Any) -> Any:
    return float("nan") if value is None else value
