"""Links below the data root to the images and labels that the sources hold."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from benchmark.data.archives import Archive
from benchmark.data.contents import named
from benchmark.data.preparing.copies import copies, link
from benchmark.data.preparing.place import Place, spelled_alike
from benchmark.errors import InputError
from benchmark.ui.progress import plural


def link_for_lists(place: Place) -> None:
    """Link the labels that lists are made from, and the folders of images where no list can say yet what they must
    hold."""
    for archive in place.archives:
        if archive.urls:
            for path in archive.labels:
                _link_by_name(place, path)
        else:
            _link_given(place, archive)


def _link_given(place: Place, archive: Archive) -> None:
    """Link an archive that may not be fetched: its folder as a whole where all that a source holds of it lies there, in
    whatever layout; otherwise each folder in it. One that the data root has as a link, or in another spelling, stays as
    it is."""
    target = place.root / archive.into
    if target.is_symlink() and target.exists() or any(folder != target for folder in place.given(archive)):
        return
    paths = [*archive.labels, *archive.images]
    found = [found for path in paths if (found := _by_name(place, path))]
    folders = [folder for source in place.sources for folder in source.folders]
    whole = next((folder for folder in folders if spelled_alike(folder.name, archive.into)), None) or next(
        (folder for folder in folders if all((folder / Path(path).name).is_dir() for path in archive.labels)), None
    )
    if whole and not target.exists() and all(whole in path.parents for path in found):
        _link(place, archive.into, whole)
    else:
        for path in paths:
            _link_by_name(place, path)


def link_images(place: Place, absent: dict[str, list[str]]) -> None:
    """Link the images that are absent, and the labels beside them, as far as the sources hold them.

    absent: of `Place.absent`. Raises InputError where they hold a part of a folder, or nothing at all; what they hold
    otherwise is linked nevertheless.
    """
    used, partial = False, []
    for folder, names in absent.items():
        found = copies(folder, names, place.sources)
        where = {name: copy.folder / name for copy in reversed(found) for name in copy.present}
        if len(where) == len(names):
            _link_folder(place, folder, where, found[0].folder, len(found[0].present) == len(names))
            used = True
        elif found and not any(folder in archive.images and place.local(archive) for archive in place.archives):
            partial.append(
                f"{found[0].folder}: {len(names) - len(where)} of the {len(names)} images of {folder} are missing "
                f"there, for example {min(set(names) - where.keys())}"
            )
    for archive in place.archives:
        for path in () if archive.images else archive.labels:
            _link_by_name(place, path)
    if partial:
        raise InputError(f"{'; '.join(partial)}; complete it, or leave it out of --source to have them fetched")
    if place.sources and not used and not any(place.local(archive) for archive in place.archives):
        raise _nothing_found(place, absent)


def _nothing_found(place: Place, absent: dict[str, list[str]]) -> InputError:
    folder, names = next(iter(absent.items()))
    archives = "".join(f", nor is {archive.file_name} there" for archive in place.archives if archive.urls)
    return InputError(
        f"--source {', '.join(named(source.given) for source in place.sources)}: no folder "
        f"{PurePosixPath(folder).name} there holds {names[0]}{archives}; name the folder of your copy, or leave "
        "--source out to have the images fetched"
    )


def _link(place: Place, path: str, found: Path) -> None:
    if link(place.root / path, found):
        place.reporter.line(f"{path}: linked to {found}")


def _link_by_name(place: Place, path: str) -> None:
    found = _by_name(place, path)
    if found is not None:
        _link(place, path, found)


def _by_name(place: Place, path: str) -> Path | None:
    return next((found for source in place.sources if (found := source.named(path))), None)


def _link_folder(place: Place, folder: str, where: dict[str, Path], found: Path, whole: bool) -> None:
    """Link a folder of images; single images where the target has some already, or where several folders hold them.

    where: name of an image -> its file. found: the folder that holds most of them, `whole`: all.
    """
    target = place.root / folder
    if whole and not target.exists():
        place.reporter.line(f"{folder}: {plural(len(where), 'listed image')} found in {found}")
        _link(place, folder, found)
    elif target.is_symlink():
        raise InputError(
            f"{target}: it is a link to {target.readlink()}, which lacks {plural(len(where), 'listed image')}; "
            "remove the link and repeat the command"
        )
    else:
        for name, file in where.items():
            link(target / name, file)
        folders = sorted({str(file.parent) for file in where.values()})
        place.reporter.line(f"{folder}: {plural(len(where), 'image')} linked, from {' and '.join(folders)}")
    for archive in place.archives:
        if folder in archive.images:
            _link_labels_beside(place, archive, folder, found)


def _link_labels_beside(place: Place, archive: Archive, folder: str, found: Path) -> None:
    for path in archive.labels:
        beside = Path(os.path.normpath(found / os.path.relpath(path, folder)))
        if beside.exists():
            _link(place, path, beside)
