"""Local files: values that name one, its content and digest, and safe opening of files of unknown origin."""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import os
import re
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

_REFERENCE = re.compile(r"(?P<path>.*\.npz):(?P<key>[^/]+)")
_SUFFIXES = (".npz", ".safetensors", ".pt", ".pth", ".bin")

# The most bytes that are read of a text file: a record, a lease, a manifest.
MOST_TEXT = 16 * 2**20

# Errors of reading a damaged or hostile zip file, beside OSError.
ZIP_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError, LookupError,
    OverflowError,
)  # fmt: skip


def open_regular(path: Path) -> io.BufferedReader:
    """A regular file, open for reading. Raises OSError, for a pipe or a device too: reading one may never end."""
    # Opened without blocking: to open a pipe waits for a writer. A regular file is read as ever.
    return os.fdopen(_descriptor(path, os.O_RDONLY), "rb")


def open_own(path: Path, append: bool = False) -> BinaryIO:
    """A regular file that the project writes, created if missing.

    append: open for writing at its end; otherwise for reading and writing from its start. Raises OSError, for a link
    too: its target may belong to another user.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | (os.O_APPEND if append else 0)
    try:
        descriptor = _descriptor(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise OSError(errno.ELOOP, "is a link, and what it leads to is left alone; remove it", str(path)) from None
        raise
    return os.fdopen(descriptor, "ab", buffering=0) if append else os.fdopen(descriptor, "rb+")


def _descriptor(path: Path, flags: int) -> int:
    """A file descriptor of a regular file. Raises OSError for any other."""
    number = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        kind = os.fstat(number).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
    except BaseException:
        os.close(number)
        raise
    return number


def read_regular(path: Path, most: int | None = None) -> bytes:
    """The content of a regular file. Raises OSError as `open_regular`, and for more than `most` bytes."""
    with open_regular(path) as file:
        content = file.read(-1 if most is None else most + 1)
    if most is not None and len(content) > most:
        raise OSError(errno.EFBIG, f"has more than the {most} bytes that are read", str(path))
    return content


def split_file(reference: str) -> tuple[Path, str] | None:
    """(path, key) of a value that names a file: `FILE`, or `FILE.npz:KEY`; None for any other name.

    A path contains a slash or has a known suffix; `demo:shapes` is not one. key: "" where none is given.
    """
    match = _REFERENCE.fullmatch(reference)
    if match:
        return Path(match["path"]), match["key"]
    if "/" in reference or reference.endswith(_SUFFIXES):
        return Path(reference), ""
    return None


def is_file(path: Path) -> bool:
    """Whether a file exists; False for a path that no file can have: too long, or with a null byte."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def file_digest(path: Path) -> str:
    """sha256 of a file, 64 hexadecimal digits; the file is read again when its time or size changes. Raises OSError."""
    facts = path.stat()
    return _digest(path, facts.st_mtime_ns, facts.st_size)


@functools.cache
def _digest(path: Path, modified: int, size: int) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
