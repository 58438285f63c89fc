"""Whether the images of a dataset are on this machine. Folders are listed and no file is read, so that slow disks
answer too."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark.base.files import is_file
from benchmark.data.dataset import Dataset
from benchmark.data.sources import FileImages
from benchmark.errors import InputError

State = Literal["rendered", "here", "missing", "no data root"]


@dataclass(frozen=True)
class Presence:
    """Where images are looked up, and how many are not there.

    root: the folder; None for rendered images, and where none was named. missing: paths below it, in the order of the
    lists. total: images in the lists.
    """

    root: Path | None
    missing: tuple[str, ...]
    total: int
    state: State

    @property
    def text(self) -> str:
        """In a few words."""
        if self.state == "missing":
            return f"{'all ' if len(self.missing) == self.total else ''}{len(self.missing):,} missing"
        return "yes" if self.state == "here" else self.state


def presence_of(dataset: Dataset) -> Presence:
    """Look the images of all lists up."""
    paths = [path for split in dataset.lists.values() for path in split.paths]
    if not isinstance(dataset.source, FileImages):
        return Presence(None, (), len(paths), "rendered")
    try:
        root = dataset.source.root
    except InputError:
        return Presence(None, (), len(paths), "no data root")
    missing = missing_files(root, paths)
    return Presence(root, missing, len(paths), "missing" if missing else "here")


def missing_files(root: Path, paths: Iterable[str]) -> tuple[str, ...]:
    """The paths below a folder at which there is no file, in order.

    Each folder is listed once: on a disk across a network that is far quicker than asking for thousands of files.
    """
    present: dict[str, set[str] | None] = {}

    def is_there(path: str) -> bool:
        folder, _, name = path.rpartition("/")
        if folder not in present:
            present[folder] = _files_in(root / folder)
        names = present[folder]
        return is_file(root / path) if names is None else name in names

    return tuple(path for path in paths if not is_there(path))


def _files_in(folder: Path) -> set[str] | None:
    """Names of the files in a folder, and of links to files; None where it may not be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if _is_file(entry)}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except (OSError, ValueError):  # ValueError: a name that no folder can have
        return None


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads in a circle
        return False
