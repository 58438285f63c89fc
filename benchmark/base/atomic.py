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
    """Write a file so that readers see all of it or the old one, also after a power failure; see `replacing`.

    Raises StoreError, naming the path and the remedy, when the disk is full or the folder cannot be written; what was
    there before is untouched.
    """
    try:
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        problem = f"{path}: cannot be written: {error.strerror or error}; what was there stays"
        raise StoreError(f"{problem}; {_remedy(error, path.parent)}") from None


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """An open draft beside `path`, which takes its name when the block ends, and is removed when an error ends it.

    durable: write through to the disk before and after the renaming, so that the new name never holds less than the
    content. A cache whose readers check what they read does without, which is faster. Raises OSError.
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
    """The drafts of a file of that name, or of all files of a folder, that are being written or were left by a process
    that was killed."""
    return list(folder.glob(f".{name}.*.tmp"))


def _remedy(error: OSError, folder: Path) -> str:
    """What to do about a file that could not be written to a folder."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space there and repeat the command"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"make the folder {folder}, or choose another one"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"make the folder {folder} writable, or choose another one"
    return "choose another place"
