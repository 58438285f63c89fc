"""Copies of images and archives that are on this machine already, and links to them.

A folder is taken by what it holds: it has the name of the folder that lists mean (or is the one that the user gave) and
holds the images that the lists name. No byte is moved.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from benchmark.base.files import is_file
from benchmark.data.contents import named
from benchmark.data.dataset import MADE_LISTS
from benchmark.errors import InputError

# Folders of a source that are looked into: enough for every layout in use, and few enough for a whole disk.
DEPTH = 5
MOST_FOLDERS = 20_000


@dataclass(frozen=True)
class Source:
    """A place that the user named. folders: it, and those below it; empty where it is a single file."""

    given: Path
    folders: tuple[Path, ...]

    @classmethod
    def look_through(cls, given: Path) -> Source:
        """Find the folders of a source, links to folders too. Raises InputError where it is not there."""
        given = given.absolute()
        if is_file(given):
            return cls(given, ())
        if not given.is_dir():
            raise InputError(f"--source {named(given)}: no such folder or archive")
        folders, level, seen = [given], [given], {given.resolve()}
        for _ in range(DEPTH):
            level = [folder for parent in level for folder in _folders_in(parent, seen)]
            folders += level
            if len(folders) > MOST_FOLDERS:
                raise InputError(
                    f"--source {named(given)}: it has more than {MOST_FOLDERS:,} folders; name the one with the images"
                )
        return cls(given, tuple(folders))

    def file(self, name: str) -> Path | None:
        """The file of this name, the uppermost."""
        if not self.folders:
            return self.given if self.given.name == name else None
        return next((folder / name for folder in self.folders if is_file(folder / name)), None)

    def named(self, path: str) -> Path | None:
        """The file or folder that `path`, below the data root, means here: of those with its name and of no other
        year, the one whose parents agree furthest; the uppermost of equals."""
        parts = PurePosixPath(path).parts
        found = [folder for folder in self.folders if folder.name == parts[-1]]
        found += [folder / parts[-1] for folder in self.folders if is_file(folder / parts[-1])]
        found = [candidate for candidate in found if _year(candidate.parts) in (None, _year(parts))]
        return max(found, key=lambda candidate: _agreement(candidate.parts, parts), default=None)

    def image_folders(self, path: str) -> list[Path]:
        """The folders that may be the folder `path`: those with its name, and the one that the user gave."""
        name = PurePosixPath(path).name
        return [folder for folder in self.folders if folder.name == name or folder == self.given]


def _folders_in(parent: Path, seen: set[Path]) -> list[Path]:
    """The folders in a folder that were not seen before, by name; none where it cannot be read. Lists that were made
    are no copies."""
    try:
        with os.scandir(parent) as entries:
            found = sorted(Path(entry.path) for entry in entries if entry.is_dir() and entry.name != MADE_LISTS)
    except OSError:
        return []
    new = []
    for folder in found:
        real = folder.resolve()
        if real not in seen:
            seen.add(real)
            new.append(folder)
    return new


def _year(parts: Sequence[str]) -> str | None:
    """The year of VOC or COCO, as the last component with one tells: VOC2007, instances_val2014.json."""
    years = (re.search(r"(?<!\d)20(?:0[5-9]|1[0-7])(?!\d)", part) for part in reversed(parts))
    return next((year[0] for year in years if year), None)


def _agreement(candidate: Sequence[str], parts: Sequence[str]) -> int:
    """How many of the last components agree."""
    pairs = zip(reversed(candidate), reversed(parts), strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(candidate), len(parts)))


@dataclass(frozen=True)
class Copy:
    """A folder that holds images of a list. present: their names."""

    folder: Path
    present: frozenset[str]


def copies(path: str, names: Iterable[str], sources: Iterable[Source]) -> list[Copy]:
    """The folders that hold images of the folder `path` below the data root, those with the most first."""
    names = list(names)
    found = [
        Copy(folder, frozenset(name for name in names if is_file(folder / name)))
        for source in sources
        for folder in source.image_folders(path)
    ]
    # Sorted stably: of equals, the one that the user named first.
    return sorted((copy for copy in found if copy.present), key=lambda copy: -len(copy.present))


def link(target: Path, found: Path) -> bool:
    """Make `target` a symbolic link to a file or folder; whether it was made.

    A link that leads nowhere any more is replaced; what is there otherwise stays. Raises InputError where the file
    system takes no links.
    """
    if target.exists():
        return False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.unlink()
        target.symlink_to(found)
    except OSError as error:
        raise InputError(
            f"{target}: no symbolic link to {found} can be made there ({error.strerror}); choose another data root, "
            "or put the images there"
        ) from None
    return True
