"""A pool of worker processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from benchmark.base.memory import KEEP_MEMORY
from benchmark.errors import StoreError

# Otherwise a new process searches the working directory first, and would run a file there with the name of a module of
# Python's own.
_SAFE_PATH = {"PYTHONSAFEPATH": "1"}


def cores() -> int:
    """Processor cores that this process may use; a scheduler may grant fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def spawned(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes. An error or Ctrl-C ends them at once. Raises StoreError when one of them is killed."""
    before = dict(os.environ)
    others = set(multiprocessing.active_children())
    wanted = KEEP_MEMORY | _SAFE_PATH
    os.environ.update({name: value for name, value in wanted.items() if name not in before})
    try:
        # Spawned, not forked: PyTorch's threads may be running here.
        pool = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            # Ctrl-C reaches every process of a terminal; this process alone reacts to it.
            initializer=signal.signal,
            initargs=(signal.SIGINT, signal.SIG_IGN),
        )
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            raise
        pool.shutdown()
    except BrokenProcessPool:
        raise StoreError(
            "a worker process ended before its work was done, most likely for want of memory; free some and try again"
        ) from None
    finally:
        for name in wanted.keys() - before.keys():
            del os.environ[name]
