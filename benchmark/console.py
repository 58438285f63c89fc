"""Tables for people, on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table

from benchmark.leaderboard.tracks import plain


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """What the rows say, escaped: it may come from a record."""
    drawn = Table()
    for name in header:
        # What is copied into the next command must not be cut.
        drawn.add_column(name, no_wrap=name in ("run", "method"), overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(plain(str(cell))) for cell in row))
    return drawn
