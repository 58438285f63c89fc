"""Digests of the contents of image files. They are remembered: a file is read again only when it changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmark.base.atomic import write_atomically
from benchmark.base.files import open_regular, read_regular
from benchmark.base.lock import lock
from benchmark.errors import InputError, StoreError, shown

# Two changes within this time may leave a file with the same times: its digest is not remembered until it is older.
_TIME_RESOLUTION_NS = 2_000_000_000
# What was read is remembered after so long, so that a killed process loses little.
_SAVE_EVERY_S = 30.0
# Files that a thread examines at a time, and threads: a network file system answers many at once.
_TOGETHER, _THREADS = 512, 16
# So many files of one folder are looked for in its listing.
_WORTH_LISTING = 64

# One remembered file. path: a digest of its path below the root. Two paths with the same one do no harm: their inodes
# differ. A table of numbers, as 269,648 files in JSON take 45 MB and a second to read.
_ENTRY = np.dtype([("path", "<u8"), ("facts", "<i8", 4), ("digest", "u1", 32)])
_BYTES_OF_SUM = 32


def file_digests(
    root: Path, paths: Sequence[str], cache: Path, advance: Callable[[int], None] = lambda done: None
) -> list[str]:
    """sha256 of each file below `root`, 64 hexadecimal digits, in order.

    A file in the folder `cache` holds each digest with the file's size, times of change (of content and of inode) and
    inode number. Where it cannot be written, all files are read every time. `advance(done)` is called while files are
    read. Raises InputError for a file that cannot be read.
    """
    book = _Book(root, cache)
    keys, facts = _keys(paths), _facts(root, paths)
    digests, known = book.look_up(keys, facts)
    unknown = np.flatnonzero(~known)
    latest = time.time_ns() - _TIME_RESOLUTION_NS
    with _saved(book) as added:
        for done, (i, digest) in enumerate(_read(root, paths, unknown), len(paths) - len(unknown) + 1):
            digests[i] = np.frombuffer(bytes.fromhex(digest), np.uint8)
            if facts[i, 1:3].max() < latest:
                added(keys[i], facts[i], digests[i])
            advance(done)
    return _texts(digests)


def changed_contents(
    root: Path, paths: Sequence[str], cache: Path, advance: Callable[[int], None] = lambda done: None
) -> list[str]:
    """The paths whose content is not the remembered one, although size, times and inode are: as after a failing disk.

    Every file is read, and what it holds now is remembered instead. `advance(done)` is called after each. Raises
    InputError for a file that cannot be read.
    """
    book = _Book(root, cache)
    keys, facts = _keys(paths), _facts(root, paths)
    digests, known = book.look_up(keys, facts)
    changed = []
    with _saved(book) as added:
        for i, digest in _read(root, paths, np.arange(len(paths))):
            if known[i] and digests[i].tobytes().hex() != digest:
                changed.append(paths[i])
                added(keys[i], facts[i], np.frombuffer(bytes.fromhex(digest), np.uint8))
            advance(i + 1)
    return changed


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


def missing_files(root: Path, paths: Sequence[str], exists: Callable[[Path], bool]) -> list[str]:
    """The paths below `root` that do not exist, in order. exists: decides where a folder's listing does not.

    A folder of which many are wanted is listed once: that takes a third of the time of asking for each, and less over a
    network.
    """
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, []).append(name)
    listed = {folder: _listed(root / folder) for folder, names in folders.items() if len(names) >= _WORTH_LISTING}

    def is_missing(path: str) -> bool:
        folder, _, name = path.rpartition("/")
        return name not in listed.get(folder, ()) and not exists(root / path)

    return [path for path in paths if is_missing(path)]


def _listed(folder: Path) -> set[str]:
    """Names of the regular files in a folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
    except (OSError, ValueError):
        return set()


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{named(path)}: cannot be read: {error.strerror or error}")


def _keys(paths: Sequence[str]) -> np.ndarray:
    """A digest of each path, uint64 [N]."""
    digests = [hashlib.blake2b(os.fsencode(path), digest_size=8).digest() for path in paths]
    return np.frombuffer(b"".join(digests), "<u8")


def _facts(root: Path, paths: Sequence[str]) -> np.ndarray:
    """Size, times of change of content and of inode, and inode of each file, int64 [N, 4]. Raises InputError."""

    def facts(start: int) -> np.ndarray:
        # Of plain numbers alone: a tuple a file would let the garbage collector search all of them repeatedly.
        found: list[int] = []
        for path in paths[start : start + _TOGETHER]:
            try:
                state = os.stat(f"{root}/{path}")  # noqa: PTH116 - a Path for each takes as long as the rest
            except OSError as error:
                raise _unreadable(root / path, error) from None
            # An inode may have 64 bits, and the table's numbers have a sign.
            inode = state.st_ino - 2**64 if state.st_ino >= 2**63 else state.st_ino
            found += (state.st_size, state.st_mtime_ns, state.st_ctime_ns, inode)
        return np.array(found, np.int64).reshape(-1, 4)

    with ThreadPoolExecutor(_THREADS) as pool:
        return np.concatenate([np.empty((0, 4), np.int64), *pool.map(facts, range(0, len(paths), _TOGETHER))])


def _read(root: Path, paths: Sequence[str], chosen: np.ndarray) -> Iterator[tuple[int, str]]:
    """(index, sha256) of each chosen file, in order. Raises InputError."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(chosen), _TOGETHER):
            indices = chosen[start : start + _TOGETHER].tolist()
            yield from zip(indices, pool.map(lambda i: file_digest(root / paths[i]), indices), strict=True)


def _texts(digests: np.ndarray) -> list[str]:
    """uint8 [N, 32] -> 64 hexadecimal digits each."""
    text = digests.tobytes().hex()
    return [text[start : start + 64] for start in range(0, len(text), 64)]


class _Book:
    """The remembered digests of the files below a root: a table in the order of its keys, and a sha256 of it."""

    def __init__(self, root: Path, cache: Path):
        self._path = cache / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()}.digests"

    def _entries(self) -> np.ndarray:
        """[M] of _ENTRY; empty where the file is missing or damaged."""
        with contextlib.suppress(OSError, ValueError):
            content = read_regular(self._path)
            body, found = content[:-_BYTES_OF_SUM], content[-_BYTES_OF_SUM:]
            if hashlib.sha256(body).digest() == found:
                return np.frombuffer(body, _ENTRY)
        return np.empty(0, _ENTRY)

    def look_up(self, keys: np.ndarray, facts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Digests uint8 [N, 32], and whether each is remembered of a file with these facts, bool [N]."""
        entries = self._entries()
        if not len(entries):
            return np.zeros((len(keys), 32), np.uint8), np.zeros(len(keys), bool)
        at = np.minimum(np.searchsorted(entries["path"], keys), len(entries) - 1)
        known = (entries["path"][at] == keys) & (entries["facts"][at] == facts).all(axis=1)
        return entries["digest"][at], known

    def add(self, entries: np.ndarray) -> None:
        """Remember more. What other processes added meanwhile is kept, where the file system has locks."""
        with contextlib.suppress(OSError, StoreError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as held:
                with contextlib.suppress(OSError):
                    held.enter_context(lock(self._path.with_suffix(".lock")))
                # The first of each key is kept: the new one.
                both = np.concatenate([entries, self._entries()])
                _, first = np.unique(both["path"], return_index=True)
                body = both[first].tobytes()
                write_atomically(self._path, body + hashlib.sha256(body).digest())


@contextlib.contextmanager
def _saved(book: _Book) -> Iterator[Callable[[np.ndarray, np.ndarray, np.ndarray], None]]:
    """A function that notes an entry. They are added to the book now and then, and when an error or Ctrl-C ends the
    block."""
    added: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    last = time.monotonic()

    def save() -> None:
        nonlocal last
        if added:
            book.add(np.array(added, _ENTRY))
            added.clear()
        last = time.monotonic()

    def note(key: np.ndarray, facts: np.ndarray, digest: np.ndarray) -> None:
        added.append((key, facts, digest))
        if time.monotonic() - last > _SAVE_EVERY_S:
            save()

    try:
        yield note
    finally:
        save()
