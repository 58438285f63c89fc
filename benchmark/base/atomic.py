"""Files that readers see whole or not at all: the project's one write-then-rename."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from benchmark.errors import StoreError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers see either all of it or the old one, even after a power failure; see `replacing`.

    Raises StoreError, naming the path and the remedy, when the disk is full or the folder cannot be written. The old
    file is then untouched.
    """
    try:
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        problem = f"{path}: cannot be written: {error.strerror or error}; what was there stays"
        raise StoreError(f"{problem}; {_remedy(error, path.parent)}") from None


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """An open draft beside `path`. It is renamed to `path` when the block ends, and removed when an error ends it.

    durable: write through to the disk before and after the renaming, so that `path` never has partial content. A cache
    whose readers check its content needs no such guarantee, and is faster without. Raises OSError.
    """
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with draft.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        draft.rename(path)
        if durable:
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def drafts(folder: Path, name: str = "*") -> list[Path]:
    """The drafts of the file `name`, or of all files, in a folder: being written, or left by a killed process."""
    return list(folder.glob(f".{name}.*.tmp"))


def _remedy(error: OSError, folder: Path) -> str:
    """The remedy for an error of writing a file to a folder."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space there and repeat the command"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"make the folder {folder}, or choose another one"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"make the folder {folder} writable, or choose another one"
    return "choose another place"
