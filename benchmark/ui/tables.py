"""Tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from benchmark.ui.text import plain


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose cells are escaped: their text may come from a record."""
    drawn = Table()
    for name in header:
        # People copy these into the next command, so they are never cut.
        drawn.add_column(name, no_wrap=name in ("run", "method"), overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(plain(str(cell))) for cell in row))
    return drawn


def plain_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table without lines and colours, for many rows: rich takes longer to draw a table than to compute this one."""
    cells = [header, *([plain(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def compact_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table of numbers for a terminal of 80 columns: only the first column is wrapped."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    words = [word for row in rows for word in plain(str(row[0])).split()]
    drawn.add_column(header[0], overflow="fold", min_width=min(max(map(len, words), default=6), 16))
    for name in header[1:]:
        drawn.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        drawn.add_row(*(escape(plain(str(cell))) for cell in row))
    return drawn
