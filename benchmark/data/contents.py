"""Digests of the contents of image files. They are remembered: a file is read again only when it changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmark.base.atomic import write_atomically
from benchmark.base.files import open_regular, read_regular
from benchmark.errors import InputError, StoreError, shown

# Two changes within this time may leave a file with the same times: its digest is not remembered until it is older.
_TIME_RESOLUTION_NS = 2_000_000_000

Facts = list[int]


def file_digests(root: Path, paths: Sequence[str], cache: Path) -> list[str]:
    """sha256 of each file below `root`, 64 hexadecimal digits, in order.

    A file in the folder `cache` holds each digest with the file's size, times of change (of content and of inode) and
    inode number. Where it cannot be written, all files are read every time. Raises InputError for a file that cannot be
    read.
    """
    book = cache / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()}.json"
    known = _read(book)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        facts = list(pool.map(lambda path: _facts(root / path), paths))
        changed = [i for i, path in enumerate(paths) if path not in known or known[path][0] != facts[i]]
        read = dict(zip(changed, pool.map(lambda i: file_digest(root / paths[i]), changed), strict=True))
    digests = [read[i] if i in read else known[path][1] for i, path in enumerate(paths)]
    latest = time.time_ns() - _TIME_RESOLUTION_NS
    added = {paths[i]: (facts[i], digests[i]) for i in changed if max(facts[i][1:3]) < latest}
    if added:
        with contextlib.suppress(OSError, StoreError):
            cache.mkdir(parents=True, exist_ok=True)
            write_atomically(book, json.dumps(known | added).encode())
    return digests


def file_digest(path: Path) -> str:
    """sha256 of a file's present content. Raises InputError when it cannot be read."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def named(path: Path | str) -> str:
    """A path as a message shows it, on one line."""
    text = shown(str(path))
    return text if text.isprintable() else repr(text)


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{named(path)}: cannot be read: {error.strerror or error}")


def _facts(path: Path) -> Facts:
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _read(book: Path) -> dict[str, tuple[Facts, str]]:
    """Path -> (facts, digest); empty where the file is missing or damaged."""
    try:
        found = json.loads(read_regular(book))
        return {
            path: (entry[0], entry[1])
            for path, entry in found.items()
            if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str) and len(entry[1]) == 64
        }
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
