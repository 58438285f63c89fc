"""Tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from benchmark.ui.text import plain

_NARROWEST = 10  # characters of a column that is wrapped
_BETWEEN = 2  # characters between two columns of a fitted table


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


class FittedTable:
    """A table for a terminal of any width, whose words are never broken.

    Cells are wrapped between words. Where even that needs more room, each row is a block of lines. numbers: names of
    the columns that are aligned on the right. header: without names for lines of facts, whose first column names them.
    """

    def __init__(self, header: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[str] = ()):
        self._header = header
        self._rows = [[plain(str(cell)) for cell in row] for row in rows]
        self._numbers = numbers

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths(options.max_width)
        if widths is None:
            yield from self._blocks()
            return
        named = any(self._header)
        drawn = Table(
            box=box.SIMPLE_HEAD if named else None,
            padding=(0, 1 if named else _BETWEEN, 0, 0),  # a box has a line between columns, of blanks
            pad_edge=False,
            show_edge=False,
            show_header=named,
        )
        for name, width in zip(self._header, widths, strict=True):
            drawn.add_column(escape(name), width=width, justify="right" if name in self._numbers else "left")
        for row in self._rows:
            drawn.add_row(*map(escape, row))
        yield drawn

    def _widths(self, room: int) -> list[int] | None:
        """Characters of each column; None where the words do not fit. Narrow columns are not wrapped before wide ones
        are."""
        columns = [[name, *(row[number] for row in self._rows)] for number, name in enumerate(self._header)]
        whole = [max(map(cell_len, cells)) for cells in columns]
        words = [max((cell_len(word) for cell in cells for word in cell.split()), default=0) for cells in columns]
        least = [min(full, max(word, _NARROWEST)) for full, word in zip(whole, words, strict=True)]
        room -= _BETWEEN * (len(columns) - 1)
        if sum(least) > room:
            return None
        widths = dict(enumerate(least))
        for number in sorted(widths, key=lambda number: whole[number]):
            widths[number] += min(whole[number] - widths[number], room - sum(widths.values()))
        return list(widths.values())

    def _blocks(self) -> Iterator[RenderableType]:
        for row in self._rows:
            if row[0]:
                yield Text(row[0])
            for name, cell in zip(self._header[1:], row[1:], strict=True):
                if cell:
                    yield Padding(Text(f"{name}: {cell}" if name else cell), (0, 0, 0, 2))
