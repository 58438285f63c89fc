"""From nothing to every listed image below the data root: looked up, linked from copies, or fetched and unpacked."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from benchmark.base.lock import folder_lock
from benchmark.data.archives import ARCHIVES, Archive
from benchmark.data.contents import named
from benchmark.data.dataset import DATA_ROOT_VARIABLE, MADE_LISTS, Dataset, DatasetFolder, given_root
from benchmark.data.preparing.bringing import bring, remove_fetched
from benchmark.data.preparing.copies import Source
from benchmark.data.preparing.fetching import Patience
from benchmark.data.preparing.linking import link_for_lists, link_images
from benchmark.data.preparing.place import Place
from benchmark.data.sources import FileImages
from benchmark.errors import InputError
from benchmark.ui.progress import Reporter, plural

PATIENCE = Patience()


@dataclass(frozen=True)
class Wishes:
    """What the user asks for. sources: folders, and archives, that are here already. only_needed: unpack, and where
    possible fetch, the listed images and the labels alone. allow_missing: make lists although images are missing."""

    sources: Sequence[Path] = ()
    only_needed: bool = False
    allow_missing: bool = False


def obtain(
    folder: DatasetFolder, data_root: Path | None, wishes: Wishes, reporter: Reporter, patience: Patience = PATIENCE
) -> Dataset:
    """Open a dataset, with its images below the data root as far as they can be had.

    data_root: as of `DatasetFolder.open`. A second call finds everything there and writes nothing. The caller
    checks that all images are there. Raises InputError; what was fetched until then stays.
    """
    if wishes.allow_missing and folder.card.lists != "data-root":
        raise InputError(
            f"dataset {folder.name!r} has fixed lists, and every image on them is needed: --allow-missing is for lists "
            "that are made from official files"
        )
    if folder.card.images != "data-root":
        if wishes.sources or wishes.only_needed:
            raise InputError(
                f"dataset {folder.name!r} has its images in its own folder, or renders them: --source and "
                "--only-needed are for datasets whose images lie below a data root"
            )
        return folder.open(data_root)
    root = given_root(data_root)
    if root is None:
        raise InputError(
            f"dataset {folder.name!r} needs a folder for its images: --data-root DIR or {DATA_ROOT_VARIABLE}=DIR"
        )
    with _writing(root):
        sources = [Source.look_through(source) for source in wishes.sources]
        root.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # some network file systems have no locks
                waiting = f"another process prepares images in {root}: waiting for it"
                stack.enter_context(folder_lock(root, lambda: reporter.line(waiting)))
            archives = [ARCHIVES.get(name) for name in folder.card.archives]
            place = Place(root, archives, sources, reporter)
            if folder.card.lists == "data-root":
                _make_lists(folder, place, wishes, patience)
            dataset = folder.open(data_root)
            _bring_images(dataset, place, wishes.only_needed, patience)
            return dataset


@contextlib.contextmanager
def _writing(root: Path) -> Iterator[None]:
    """Raises errors of the file system as InputError."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space and repeat the command" if full else "or choose another data root, with --data-root"
        raise InputError(
            f"{named(error.filename or root)}: cannot be written or read: {error.strerror or error}; what is there "
            f"stays; {remedy}"
        ) from None


def _make_lists(folder: DatasetFolder, place: Place, wishes: Wishes, patience: Patience) -> None:
    """Bring the official labels that the lists are made from, and make them."""
    from benchmark.data.makers import make_lists

    link_for_lists(place)
    is_made = (place.root / MADE_LISTS / folder.name).exists()

    def is_lacking(archive: Archive) -> bool:
        # An interrupted unpacking leaves a part of the labels, and the archive.
        unpacked = bool(archive.labels) and not any((place.root / path).is_symlink() for path in archive.labels)
        unfinished = unpacked and not is_made and place.local(archive) is not None
        return unfinished or place.lacks_labels(archive)

    bring(place, list(filter(is_lacking, place.archives)), frozenset(), wishes.only_needed, patience)
    make_lists(folder, place.root, wishes.allow_missing, place.reporter.line)


def _bring_images(dataset: Dataset, place: Place, only_needed: bool, patience: Patience) -> None:
    """Bring the listed images, as far as there are archives of them."""
    below = PurePosixPath(dataset.card.folder)
    listed = frozenset(str(below / path) for split in dataset.lists.values() for path in split.paths)
    absent = place.absent(listed)
    if absent:
        assert isinstance(dataset.source, FileImages)
        dataset.source.check_base(next(iter(dataset.splits["train"].paths)))
        link_images(place, absent)
        absent = place.absent(listed)
    else:
        place.reporter.line(f"all {plural(len(listed), 'image')} are in {place.root}")
    if absent:
        needed = [archive for archive in place.archives if place.needs(archive, absent)]
        bring(place, needed, listed, only_needed, patience)
    fetched = [archive for archive in place.archives if archive.urls]
    if not place.absent(listed):
        with contextlib.suppress(OSError):  # a data root that is full and read-only is used
            for archive in fetched:
                if not place.lacks_labels(archive):
                    remove_fetched(place, archive)
    lacking = [path for archive in fetched for path in archive.labels if not (place.root / path).exists()]
    if lacking:
        place.reporter.line(f"not in {place.root}: {', '.join(lacking)}; only `ltbench data verify` reads them")
