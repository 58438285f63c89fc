"""Handlers of Ctrl-C and SIGTERM for the duration of a block."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def handled(handler: Callable[[int, object], None]) -> Iterator[None]:
    """`handler` receives both signals in the block; the former handlers return after it. Main thread only."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextlib.contextmanager
def acknowledged(words: Callable[[int], str]) -> Iterator[None]:
    """Print `words(signal)` to standard error at once when the first signal arrives in the block.

    Python's own handler runs only after the current operation, which may take seconds. Main thread only.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    answer = threading.Thread(target=_answer, args=(reading, words), daemon=True, name="acknowledge")
    answer.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)  # which ends the thread
        answer.join()
        os.close(reading)


def _answer(reading: int, words: Callable[[int], str]) -> None:
    while number := os.read(reading, 1):
        if number[0] in (signal.SIGINT, signal.SIGTERM):
            break
    else:
        return
    # Not through Python's streams: the main thread may hold their locks.
    with contextlib.suppress(OSError):
        begin = "\n" if os.isatty(2) else ""
        os.write(2, f"{begin}{words(number[0])}\n".encode())
