"""Whether the images of a dataset are on this machine. Folders are listed and no file is read, so that slow disks
answer too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark.base.files import is_file
from benchmark.data.contents import missing_files
from benchmark.data.dataset import Dataset
from benchmark.data.sources import FileImages
from benchmark.errors import InputError

State = Literal["rendered", "here", "missing", "no data root"]


@dataclass(frozen=True)
class Presence:
    """Where images are looked up, and how many are not there.

    root: the folder; None for rendered images, and where none was named. missing: paths below it, in the order of the
    lists. total: of all images.
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
    # An image may be in several episodes.
    paths = list(dict.fromkeys(path for split in dataset.lists.values() for path in split.paths))
    if not isinstance(dataset.source, FileImages):
        return Presence(None, (), len(paths), "rendered")
    try:
        root = dataset.source.root
    except InputError:
        return Presence(None, (), len(paths), "no data root")
    missing = tuple(missing_files(root, paths, is_file))
    return Presence(root, missing, len(paths), "missing" if missing else "here")
