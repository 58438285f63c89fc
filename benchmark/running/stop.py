"""Stopping a run by Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from benchmark.base.signals import acknowledged, handled
from benchmark.errors import RunInterrupted


class Stop:
    """Whether Ctrl-C or SIGTERM has asked the run to stop."""

    def __init__(self) -> None:
        self.asked = False
        self._can_wait = False

    @contextlib.contextmanager
    def at_a_step(self) -> Iterator[None]:
        """In this block the run checks `asked` at every step and saves itself; elsewhere a signal stops it at once."""
        self._can_wait = True
        try:
            yield
        finally:
            self._can_wait = False

    def note(self, number: int, frame: object) -> None:
        """The signal's handler. A second Ctrl-C ends the run at once anywhere."""
        again, self.asked = self.asked, True
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not again and not self._can_wait:
            raise RunInterrupted("stopped; run again to go on")

    def words(self, number: int) -> str:
        """The line that is printed at once on the first signal."""
        if not self._can_wait:
            return "stopping"
        again = "; Ctrl-C again ends it at once" if number == signal.SIGINT else ""
        return f"stopping: the run saves itself at the next step{again}"


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Handle Ctrl-C and SIGTERM for the duration of the block, in the main thread only."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    with acknowledged(stop.words), handled(stop.note):
        yield stop
