"""Printing, for all commands."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from benchmark.errors import InputError, LtbenchError
from benchmark.ui.text import harmless, unwritten

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.ui.progress import Reporter


# A table of more rows is plain text: drawing it would take longer than computing it.
LONG_TABLE = 200
# More images with a fault than this are only counted.
NAMED_IMAGES = 20


def console(stderr: bool = False) -> Console:
    """A console on standard output or error."""
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
    """Print names and their descriptions in two columns."""
    rows = [(harmless(name), harmless(text)) for name, text in rows]
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        print(f"{name:<{width}}  {text}")


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table, escaped; a long one as plain text."""
    from benchmark.ui.tables import plain_table, table

    if len(rows) <= LONG_TABLE:
        console().print(table(header, rows))
    else:
        print(plain_table(header, rows))


def print_error(text: str) -> None:
    """Print lines to stderr. They may quote a file, so control characters are removed."""
    from benchmark.ui.text import plain

    print("\n".join(map(plain, text.split("\n"))), file=sys.stderr)


def images_refused(faults: Sequence[str], total: int, remedy: str) -> InputError:
    """The error for images that cannot be used, of `total`, after the faults of the first were printed."""
    for fault in faults[:NAMED_IMAGES]:
        print_error(fault)
    more = f" (the first {NAMED_IMAGES} are named)" if len(faults) > NAMED_IMAGES else ""
    return InputError(f"{len(faults)} of {total} images cannot be used{more}; {remedy}")


def report_unwritten(done: str) -> None:
    """Print a line where output was lost. done: what the command has done nevertheless, since it has not failed."""
    if why := unwritten():
        print_error(f"standard output cannot be written: {why}; {done}")


def show_problems(problems: Sequence[LtbenchError]) -> None:
    """Print the reasons why records or methods were left out, a line each."""
    for problem in problems:
        print_error(f"left out: {' '.join(str(problem).splitlines())}")
