"""A table for a terminal of 80 columns."""

from __future__ import annotations

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from benchmark.leaderboard.cells import MARKS, score_text
from benchmark.leaderboard.columns import TERMINAL, Column, Part, columns_of
from benchmark.leaderboard.rows import Row
from benchmark.leaderboard.tables import Table


def terminal_table(table: Table) -> RichTable:
    """A table of the essential columns; a score is never broken over two lines."""
    # Text, not str: rich would read square brackets in a name as markup.
    over = "episodes" if table.is_few_shot else "seeds"
    shown = RichTable(
        title=Text(table.title, style="bold"),
        caption=Text(f"mAP in percent, mean ± 95 % interval over {over} and test images\n{MARKS}"),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    essential = columns_of(table, TERMINAL)
    for column in essential:
        if column.kind.numeric:
            shown.add_column(column.title, justify="right", no_wrap=column.part is Part.METRIC)
        else:
            shown.add_column(column.title, overflow="fold", min_width=8)
    for row in table.rows:
        shown.add_row(*(_cell(table, row, column) for column in essential))
    return shown


def _cell(table: Table, row: Row, column: Column) -> Text:
    if column.part is not Part.METRIC:
        return Text(column.text(table, row))
    # The number of seeds has a column of its own.
    return Text(score_text(column.value(table, row)), style="bold" if table.is_best(row, column.title) else "")
