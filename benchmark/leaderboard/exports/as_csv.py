"""The tables of a board as one tidy CSV file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmark.leaderboard.board import Board
from benchmark.leaderboard.exports.rounding import DIGITS, REPLICATE_DIGITS
from benchmark.leaderboard.tables import Table, value_columns
from benchmark.ui.text import plain

RUN_IDS = "Run ids"
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
# Whole numbers, some of which may be missing.
_WHOLE = (Table.RANK, Table.N, "Wins", "Ties", "Losses", "Parameters trained", "Parameters all")


# A cell that begins so is a formula, or makes the next one begin a cell of its own, in Excel, LibreOffice or Google's.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


def to_csv(board: Board, raw: bool = False) -> str:
    """One line for each row of each table: its track, then the columns of `Table.to_pandas`, then its run ids.

    Missing values are empty, a board without a table is the header alone. Text is on one line; where a spreadsheet
    would take it for a formula, an apostrophe stands in front of it (OWASP, CSV injection), which spreadsheets do not
    show. raw: it does not, for programs that compare names. Numbers are never text. Names may read `NA` or `null`: give
    `pandas.read_csv` keep_default_na=False and na_values by numeric column where that matters.
    """
    import pandas as pd

    rows = [row for table in board.tables for row in _rows(table)]
    frame = pd.DataFrame(rows, columns=[*_TRACK, *value_columns(), RUN_IDS])
    frame = frame.astype(dict.fromkeys(_WHOLE, "Int64"))
    if not raw:
        for column in frame.select_dtypes(exclude="number"):
            frame[column] = [_escaped(value) for value in frame[column]]
    digits = {
        column: REPLICATE_DIGITS if _has_replicates(column) else DIGITS for column in frame.select_dtypes("float")
    }
    return frame.round(digits).to_csv(index=False, lineterminator="\n")


def _rows(table: Table) -> Iterator[dict[str, Any]]:
    track = {column: value(table) for column, value in _TRACK.items()}
    for row, values in zip(table.rows, table.to_pandas().to_dict("records"), strict=True):
        yield track | values | {RUN_IDS: " ".join(record.run_id for record in row.records)}


def _escaped(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _has_replicates(column: str) -> bool:
    """Whether the test images' noise is in a column's numbers."""
    return column.endswith((" ±", " ± images", " p (Holm)"))
