"""What one preparation works on: the data root, the archives of the dataset and the sources; and what is there."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.base.files import is_file
from benchmark.data.archives import Archive
from benchmark.data.preparing.copies import Source
from benchmark.ui.progress import Reporter

# Folder below the data root in which archives are fetched. One that the user puts there is used, and stays.
FETCHED = "archives"


def spelled_alike(name: str, other: str) -> bool:
    """Whether two names of folders differ in case and separators alone."""
    return _letters(name) == _letters(other)


def _letters(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.lower())


@dataclass(frozen=True)
class Place:
    """archives: of the dataset, in its order. sources: that the user named."""

    root: Path
    archives: Sequence[Archive]
    sources: Sequence[Source]
    reporter: Reporter

    def absent(self, listed: frozenset[str]) -> dict[str, list[str]]:
        """Folder below the data root -> names of the images that it lacks. listed: images, below the data root."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted(listed):
            if not is_file(self.root / path):
                folder, _, name = path.rpartition("/")
                found[folder].append(name)
        return found

    def lacks_labels(self, archive: Archive) -> bool:
        """Whether any of an archive's labels is absent; of one that may not be fetched, whether its folder is: who
        reads it knows what belongs there."""
        if not archive.urls:
            return not self.given(archive)
        return not all((self.root / path).exists() for path in archive.labels)

    def given(self, archive: Archive) -> list[Path]:
        """The folders below the data root that are an archive's, in any spelling of its name: NUS-WIDE, nus_wide."""
        return [folder for folder in self.root.glob("*") if spelled_alike(folder.name, archive.into)]

    def needs(self, archive: Archive, absent: dict[str, list[str]]) -> bool:
        """Whether an archive holds images that are absent; one of labels alone is needed where it is absent itself."""
        if archive.images:
            return bool(archive.urls) and any(folder in absent for folder in archive.images)
        return self.lacks_labels(archive)

    def target(self, archive: Archive) -> Path:
        """Where an archive is fetched."""
        return self.root / FETCHED / archive.file_name

    def local(self, archive: Archive) -> Path | None:
        """The archive on this machine; None where it is to be fetched."""
        if not archive.urls:
            return None
        if is_file(self.target(archive)):
            return self.target(archive)
        return next((found for source in self.sources if (found := source.file(archive.file_name))), None)

    def into(self, archive: Archive) -> Path:
        """The folder in which an archive is unpacked."""
        return self.root / archive.into
