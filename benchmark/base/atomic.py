"""Files that readers see whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from pathlib import Path

from benchmark.errors import StoreError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers see all of it or the old one: temporary file, fsync, rename, fsync.

    Raises StoreError, naming the path and the remedy, when the disk is full or the folder cannot be written; what was
    there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        problem = f"{path}: cannot be written: {error.strerror or error}; what was there stays"
        raise StoreError(f"{problem}; {_remedy(error, path.parent)}") from None


def _remedy(error: OSError, folder: Path) -> str:
    """What to do about a file that could not be written to a folder."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space there and repeat the command"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"make the folder {folder}, or choose another one"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"make the folder {folder} writable, or choose another one"
    return "choose another place"
