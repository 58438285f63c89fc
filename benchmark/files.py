"""Local files that a user names: how a value names one, and what is in it."""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path

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


def is_file(path: Path) -> bool:
    """Whether a file is there; not so for a path that no file can have: too long, or with a null byte."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def file_digest(path: Path) -> str:
    """sha256 of a file, 64 hexadecimal digits; read once as long as the file's time and size stay. Raises OSError."""
    facts = path.stat()
    return _digest(path, facts.st_mtime_ns, facts.st_size)


@functools.cache
def _digest(path: Path, modified: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
