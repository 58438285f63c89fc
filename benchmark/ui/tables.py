"""Tables for people, on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from benchmark.ui.text import plain


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """What the rows say, escaped: it may come from a record."""
    drawn = Table()
    for name in header:
        # What is copied into the next command must not be cut.
        drawn.add_column(name, no_wrap=name in ("run", "method"), overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(plain(str(cell))) for cell in row))
    return drawn


def plain_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table without lines and colours, for one that would take longer to draw than to make."""
    cells = [header, *([plain(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def compact_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Numbers for a terminal of 80 columns: the first column is broken over lines where it must be, no other."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    words = [word for row in rows for word in plain(str(row[0])).split()]
    drawn.add_column(header[0], overflow="fold", min_width=min(max(map(len, words), default=6), 16))
    for name in header[1:]:
        drawn.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        drawn.add_row(*(escape(plain(str(cell))) for cell in row))
    return drawn
