"""The tables of a board as one tidy CSV file."""

from __future__ import annotations

from typing import Any

from benchmark.leaderboard.board import Board
from benchmark.leaderboard.frame import table_fields, table_rows

EXTENSION = "csv"
# A cell that begins so is a formula, or starts a new cell, in Excel, LibreOffice or Google's spreadsheets.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


def write(board: Board, raw: bool = False) -> str:
    """One line for each row of each table, as `frame.table_rows` has it.

    Missing values are empty; a board without a table is the header alone. Text is on one line. Where a spreadsheet
    would read it as a formula, an apostrophe precedes it (OWASP, CSV injection), which spreadsheets do not show; raw
    leaves the apostrophe out, for programs that compare names. Numbers are never text. A name may be `NA` or `null`:
    call `pandas.read_csv` with keep_default_na=False and na_values by numeric column where that matters.
    """
    frame = table_rows(board.tables)
    if not raw:
        for column in frame.select_dtypes(exclude="number"):
            frame[column] = [_escaped(value) for value in frame[column]]
    digits = {field.name: field.digits for field in table_fields() if frame[field.name].dtype == "float64"}
    return frame.round(digits).to_csv(index=False, lineterminator="\n")


def _escaped(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
