"""What is in the image files of a folder, as digests that are remembered: a file is read again only when it changed."""

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

# A file that was changed so lately may change once more within what its times tell apart: it is not remembered.
_SETTLED_NS = 2_000_000_000

Facts = list[int]


def file_digests(root: Path, paths: Sequence[str], cache: Path) -> list[str]:
    """sha256 of each file below `root`, 64 hexadecimal digits, in order.

    A digest is remembered with the file's size, times of change (of content and of inode) and inode number, in a file
    of the folder `cache`; where that cannot be written, files are read every time. Raises InputError for a file that
    cannot be read.
    """
    book = cache / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()}.json"
    known = _read(book)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        facts = list(pool.map(lambda path: _facts(root / path), paths))
        changed = [i for i, path in enumerate(paths) if known.get(path, [None])[0] != facts[i]]
        read = dict(zip(changed, pool.map(lambda i: file_digest(root / paths[i]), changed), strict=True))
    digests = [read[i] if i in read else known[path][1] for i, path in enumerate(paths)]
    latest = time.time_ns() - _SETTLED_NS
    learnt = {paths[i]: [facts[i], digests[i]] for i in changed if max(facts[i][1:3]) < latest}
    if learnt:
        with contextlib.suppress(OSError, StoreError):
            cache.mkdir(parents=True, exist_ok=True)
            write_atomically(book, json.dumps(known | learnt).encode())
    return digests


def file_digest(path: Path) -> str:
    """sha256 of a file as it is now. Raises InputError when it cannot be read."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def named(path: Path | str) -> str:
    """A path in a message: in one line."""
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
    """Path -> (facts, digest); nothing of a file that is not there or not whole."""
    try:
        found = json.loads(read_regular(book))
        return {
            path: entry
            for path, entry in found.items()
            if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str) and len(entry[1]) == 64
        }
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
