"""What commands print."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from benchmark.errors import LtbenchError
from benchmark.ui.text import harmless, unwritten

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.ui.progress import Reporter


# A table of more rows is plain text: to draw it would take longer than to make it.
LONG_TABLE = 200


def console(stderr: bool = False) -> Console:
    """The terminal, or the pipe or file in its place."""
    from rich.console import Console

    return Console(stderr=stderr)


def stderr_reporter() -> Reporter:
    """Shows progress on standard error."""
    from benchmark.ui.progress import Reporter

    return Reporter(console(stderr=True))


def number(value: float | None) -> str:
    """A score with two digits, a dash for none."""
    return "-" if value is None else f"{value:.2f}"


def print_lines(rows: Iterable[tuple[str, str]]) -> None:
    """Names and what is said of each."""
    rows = [(harmless(name), harmless(text)) for name, text in rows]
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        print(f"{name:<{width}}  {text}")


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table, escaped; a long one as plain text."""
    from benchmark.ui.tables import plain_table, table

    if len(rows) <= LONG_TABLE:
        console().print(table(header, rows))
    else:
        print(plain_table(header, rows))


def print_error(text: str) -> None:
    """Lines for stderr. They may quote a record or a file: what would steer the terminal is taken out."""
    from benchmark.ui.text import plain

    print("\n".join(map(plain, text.split("\n"))), file=sys.stderr)


def report_unwritten(done: str) -> None:
    """Say where standard output has not taken all, and what is done all the same: the command has not failed."""
    if why := unwritten():
        print_error(f"standard output cannot be written: {why}; {done}")


def show_problems(problems: Sequence[LtbenchError]) -> None:
    """What was left out, with the reasons, a line each."""
    for problem in problems:
        print_error(f"left out: {' '.join(str(problem).splitlines())}")
