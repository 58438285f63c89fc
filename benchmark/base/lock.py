"""The project's one lock between processes: that of an open file. It ends with its process, even a killed one."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from benchmark.base.files import open_own


def lock_open(file: BinaryIO | int, waiting: Callable[[], None] = lambda: None) -> None:
    """Hold the lock of an open file, or folder, until it is closed.

    While another process holds it, this one waits; `waiting` is called once before. Raises OSError where the file
    system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(file, fcntl.LOCK_EX)


def lock(path: Path) -> BinaryIO:
    """Lock a file that the project writes, created if missing. The lock is held until the returned file is closed.

    Raises OSError where the file cannot be created, is a link, or cannot be locked.
    """
    file = open_own(path)
    try:
        lock_open(file)
    except BaseException:
        file.close()
        raise
    return file


@contextlib.contextmanager
def folder_lock(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a folder, which may be read-only; see `lock_open`. Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock_open(folder, waiting)
        yield
    finally:
        os.close(folder)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file. False where the file system has no locks, or the file is unreadable.

    Raises FileNotFoundError.
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return False
