"""Local files that a user names: how a value names one, and what is in it."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

_REFERENCE = re.compile(r"(?P<path>.*\.npz):(?P<key>[^/]+)")
_SUFFIXES = (".npz", ".safetensors", ".pt", ".pth", ".bin")


def split_file(reference: str) -> tuple[Path, str] | None:
    """(path, key) of a value that names a file: `FILE`, or `FILE.npz:KEY`; None for any other name.

    A path contains a slash or ends as a file does, so that `demo:shapes` is none. key: "" where none is given.
    """
    match = _REFERENCE.fullmatch(reference)
    if match:
        return Path(match["path"]), match["key"]
    if "/" in reference or reference.endswith(_SUFFIXES):
        return Path(reference), ""
    return None


def open_regular(path: Path) -> BinaryIO:
    """A regular file, open for reading. Raises OSError, also for a pipe or a device, of which none is opened or waited
    for."""
    _check_regular(path, path.stat().st_mode)
    # A pipe that takes its place meanwhile does not wait for a writer either.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    try:
        _check_regular(path, os.fstat(file.fileno()).st_mode)
    except OSError:
        file.close()
        raise
    return file


def _check_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "no regular file but a pipe or a device", str(path))


def file_digest(path: Path) -> str:
    """sha256 of a file, 64 hexadecimal digits; read once as long as the file's time and size stay. Raises OSError."""
    facts = path.stat()
    return _digest(path, facts.st_mtime_ns, facts.st_size)


@functools.cache
def _digest(path: Path, modified: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
