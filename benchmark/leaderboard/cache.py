"""Numbers computed from stored logits, kept in the cache under a digest of everything that they depend on.

A file holds a digest of its name and content, so a damaged or renamed file counts as missing. A user who may write to
the cache can still forge one: the readers compare its numbers with the logits.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.base.atomic import replacing
from benchmark.base.cache import cache_folder
from benchmark.base.files import read_regular
from benchmark.errors import InputError
from benchmark.spec import canonical_json

# Raise it when the same logits give other numbers.
VERSION = 4
_DIGEST_BYTES = hashlib.sha256().digest_size


def kept_in(name: str) -> Path:
    """The folder of that name in the cache; a folder that cannot exist where the cache's folder is unknown."""
    try:
        return cache_folder() / name
    except InputError:
        return Path(os.devnull) / name


def cache_file(cache: Path, *facts: Any) -> Path:
    """The file for numbers that are decided by these facts."""
    return cache / hashlib.sha256(canonical_json([VERSION, *facts]).encode()).hexdigest()


def read_cached(path: Path, *arrays: tuple[type, tuple[int, ...]]) -> list[np.ndarray] | None:
    """The arrays of these types and shapes; None for a missing or damaged file."""
    with contextlib.suppress(OSError, ValueError):
        content = read_regular(path)
        if _digest(path, content[_DIGEST_BYTES:]) == content[:_DIGEST_BYTES]:
            found: list[np.ndarray] = []
            offset = _DIGEST_BYTES
            for dtype, shape in arrays:
                found.append(np.frombuffer(content, dtype, int(np.prod(shape)), offset).reshape(shape))
                offset += found[-1].nbytes
            return found
    return None


def write_cached(path: Path, *arrays: np.ndarray) -> None:
    """Keep arrays. A cache that cannot be written costs time and changes no number."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = b"".join(array.tobytes() for array in arrays)
        with replacing(path, durable=False) as file:
            file.write(_digest(path, content) + content)


def _digest(path: Path, content: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + b"\0" + content).digest()
