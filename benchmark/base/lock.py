"""The project's one lock between processes: that of an open file, which ends with its process however that ends."""

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

    Where another process holds it, `waiting` is called once and that process is waited for. Raises OSError where the
    file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(file, fcntl.LOCK_EX)


def lock(path: Path) -> BinaryIO:
    """Hold the lock of a file of the project's own, made where there is none, until what is returned is closed.

    Raises OSError where the file cannot be made, is a link, or cannot be locked.
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
    """Hold the lock of a folder, which may be one that can only be read; see `lock_open`. Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock_open(folder, waiting)
        yield
    finally:
        os.close(folder)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file; not so where files cannot be locked or this one cannot be read.

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
