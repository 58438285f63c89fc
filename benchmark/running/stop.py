"""How Ctrl-C and SIGTERM end a run."""

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
        """Here the run looks at `asked` itself, at every step, and saves itself; elsewhere it stops at once."""
        self._can_wait = True
        try:
            yield
        finally:
            self._can_wait = False

    def note(self, number: int, frame: object) -> None:
        """The signal's handler. A second Ctrl-C is at once anywhere."""
        again, self.asked = self.asked, True
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not again and not self._can_wait:
            raise RunInterrupted("stopped; run again to go on")

    def words(self, number: int) -> str:
        """What is said of the first signal, at once."""
        if not self._can_wait:
            return "stopping"
        again = "; Ctrl-C again ends it at once" if number == signal.SIGINT else ""
        return f"stopping: the run saves itself at the next step{again}"


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Stop]:
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    with acknowledged(stop.words), handled(stop.note):
        yield stop
