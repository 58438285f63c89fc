"""What Ctrl-C and SIGTERM do for a while."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def handled(handler: Callable[[int, object], None]) -> Iterator[None]:
    """`handler` gets both signals in the block; what handled them before does so again after it. Main thread only."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextlib.contextmanager
def acknowledged(words: Callable[[int], str]) -> Iterator[None]:
    """The first signal that is handled in the block is answered with `words` on standard error, at once: Python's own
    handler waits for the operation that is going on, which may take seconds. Main thread only."""
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
    # Past Python's own streams, whose locks the main thread may hold.
    with contextlib.suppress(OSError):
        begin = "\n" if os.isatty(2) else ""
        os.write(2, f"{begin}{words(number[0])}\n".encode())
