"""Progress of a run: a live display on a terminal, plain lines elsewhere, and always a log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from benchmark.base.files import open_own
from benchmark.errors import StoreError
from benchmark.ui.text import harmless, in_bytes

PLAIN_INTERVAL_S = 10.0


def duration(seconds: float) -> str:
    """`90 s`, `12.5 min`, `3.2 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def plural(count: int, noun: str) -> str:
    """`1 record`, `1,234 records`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class Reporter:
    """Status of one run.

    console: where to show it; None for silence. See `logging_to` for the log file.
    """

    def __init__(self, console: Console | None = None):
        self._console = console
        self._log: BinaryIO | None = None

    @contextmanager
    def logging_to(self, path: Path) -> Iterator[None]:
        """Append every line to a file as well, for the duration of the block. Raises StoreError."""
        try:
            log = open_own(path, append=True)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from None
        with log as self._log:
            try:
                yield
            finally:
                self._log = None

    def line(self, text: str) -> None:
        """One line of status."""
        text = harmless(text)
        if self._console is not None:
            self._console.print(escape(text), highlight=False, soft_wrap=True)
        if self._log is not None:
            try:
                self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n".encode(errors="replace"))
            except OSError as error:
                # A log that cannot be written does not end the run, as a checkpoint or a record would.
                self._log = None
                self.line(f"the log is not written any more: {error.strerror or error}")

    @contextmanager
    def picture(self, draw: Callable[[], RenderableType]) -> Iterator[bool]:
        """Show what `draw` returns for the duration of the block, drawn again a few times a second.

        Yields whether there is a terminal to show it on.
        """
        if self._console is None or not self._console.is_terminal:
            yield False
            return
        with Live(console=self._console, get_renderable=draw, transient=True):
            yield True

    @contextmanager
    def task(self, title: str, total: int, of_bytes: bool = False) -> Iterator[Task]:
        """Show the progress of a task with `total` steps; of_bytes: each is a byte, and the speed is shown too."""
        if self._console is None or not self._console.is_terminal:
            yield Task(self, title, total, None, of_bytes)
            return
        counts: tuple[ProgressColumn, ...] = (
            (DownloadColumn(), TransferSpeedColumn()) if of_bytes else (MofNCompleteColumn(),)
        )
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            *counts,
            TextColumn("{task.fields[facts]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            bar = progress.add_task(escape(harmless(title)), total=total, facts="")
            yield Task(self, title, total, (progress, bar), of_bytes)


class Task:
    """One progress display: a bar on a terminal, a plain line every ten seconds elsewhere.

    bar: a display with the bar in it; None for lines.
    """

    def __init__(
        self, reporter: Reporter, title: str, total: int, bar: tuple[Progress, TaskID] | None, of_bytes: bool = False
    ):
        self._reporter, self._title, self._total, self._bar, self._of_bytes = reporter, title, total, bar, of_bytes
        self._started = self._last = time.monotonic()
        self._first: int | None = None

    def update(self, done: int, facts: str = "") -> None:
        """`done` steps are done; `facts` are short words beside the bar."""
        if self._bar is not None:
            display, number = self._bar
            display.update(number, completed=done, facts=escape(harmless(facts)))
            return
        now = time.monotonic()
        if self._first is None:
            self._first = done
        if now - self._last >= PLAIN_INTERVAL_S:
            self._last = now
            speed = (done - self._first) / (now - self._started)
            left = f", {(self._total - done) / speed:.0f} s left" if speed > 0 else ""
            if self._of_bytes:
                counts = f"{in_bytes(done)} of {in_bytes(self._total)}, {in_bytes(speed)}/s"
            else:
                counts = f"{done}/{self._total}"
            self._reporter.line(f"{self._title} {counts}{', ' if facts else ''}{facts}{left}")
