"""The folders that runs write to: whether they can be written, and what their file systems can do."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmark.base.atomic import write_atomically
from benchmark.base.cache import CACHE_VARIABLE, cache_folder
from benchmark.base.lock import is_locked, lock
from benchmark.errors import InputError, StoreError
from benchmark.running.doctor.finding import Finding, Place, Verdict

PLACE = 4
_LITTLE_SPACE = 2 * 2**30  # bytes: the decoded images of one small dataset and a few runs


def check(place: Place) -> Iterator[Finding]:
    yield from _folder("results", place.results, "choose another with --results or LTBENCH_RESULTS", "bad")
    try:
        cache = cache_folder()
    except InputError as error:
        yield Finding("cache", "bad", str(error))
        return
    # A cache without links or locks works: each process then decodes for itself.
    yield from _folder("cache", cache, f"set {CACHE_VARIABLE} to another folder", "warn")


def _folder(name: str, path: Path, remedy: str, lacking: Verdict) -> Iterator[Finding]:
    """One finding where all is well, else one for each fault. lacking: the verdict on a file system that cannot do
    what is needed."""
    path = path.absolute()
    there = _nearest(path)
    if not there.is_dir():
        yield Finding(name, "bad", f"{path}: {there} is not a folder", remedy)
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".ltbench-doctor-", dir=there) as probe:
            write_atomically(Path(probe) / "probe", bytes(4096))
            cannot = [what for what, test in _ABILITIES.items() if not _works(test, Path(probe))]
        free = shutil.disk_usage(there).free
    except (OSError, StoreError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        yield Finding(name, "bad", f"{there}: cannot be written: {reason or _reason(error)}", remedy)
        return
    for what in cannot:
        yield Finding(name, lacking, f"{there}: the file system has no {what}", remedy)
    text = f"{path}{'' if there == path else ' (made when it is needed)'}, {free / 2**30:.1f} GiB free"
    if free < _LITTLE_SPACE:
        yield Finding(name, "warn", text, f"free some space, or {remedy}")
    elif not cannot:
        yield Finding(name, "ok", f"{text}; renames, exclusive files, links and locks work")


def _nearest(path: Path) -> Path:
    """The path, or the nearest one above it that exists."""
    for one in (path, *path.parents):
        try:
            if os.path.lexists(one):
                return one
        except ValueError:  # a null byte
            continue
    return Path("/")


def _reason(error: Exception) -> str:
    """The system's reason in the message of a StoreError."""
    return str(error).partition("cannot be written: ")[2].partition(";")[0] or str(error)


def _works(test: Callable[[Path], bool], folder: Path) -> bool:
    try:
        return test(folder)
    except OSError:
        return False


def _renames(folder: Path) -> bool:
    """A rename replaces a file that is there."""
    write_atomically(folder / "renamed", b"old")
    write_atomically(folder / "renamed", b"new")
    return (folder / "renamed").read_bytes() == b"new"


def _is_exclusive(folder: Path) -> bool:
    """Of two that create a file, one fails."""
    (folder / "exclusive").touch(exist_ok=False)
    try:
        (folder / "exclusive").touch(exist_ok=False)
    except FileExistsError:
        return True
    return False


def _links(folder: Path) -> bool:
    """A hard link, by which a run is claimed, fails where the name is taken."""
    for name in ("first", "second"):
        (folder / name).touch()
    os.link(folder / "first", folder / "link")
    try:
        os.link(folder / "second", folder / "link")
    except FileExistsError:
        return True
    return False


def _locks(folder: Path) -> bool:
    """A lock shows to another opener of the file."""
    with lock(folder / "lock"):
        return is_locked(folder / "lock") and not is_locked(folder / "probe")


_ABILITIES: dict[str, Callable[[Path], bool]] = {
    "rename that replaces a file": _renames,
    "exclusive creation of files": _is_exclusive,
    "hard links": _links,
    "locks": _locks,
}
