"""Archives fetched, checked and unpacked below the data root."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmark.data.archives import Archive
from benchmark.data.preparing.fetching import Patience, check_archive, fetch, origin_file, part_file, size_of
from benchmark.data.preparing.members import make_folders, missing, opened, refuse_link, write_member
from benchmark.data.preparing.place import FETCHED, Place
from benchmark.data.preparing.remote import RemoteMembers
from benchmark.data.preparing.space import check_space
from benchmark.errors import InputError
from benchmark.ui.progress import plural


def bring(
    place: Place, archives: Sequence[Archive], listed: frozenset[str], only_needed: bool, patience: Patience
) -> None:
    """Unpack archives below the data root, fetched where they are not on this machine.

    listed: images that the lists name, below the data root; none where the lists are yet to be made. only_needed: those
    and the labels alone are unpacked. An archive that was fetched is removed when all of it is unpacked, or all that
    the lists name. Raises InputError; before anything is fetched where a disk is too small.
    """
    for archive in archives:
        if not archive.urls:
            raise InputError(
                f"{' and '.join(archive.labels)} are not in {place.root}, and no archive of them may be fetched: get "
                "them from their authors and name their folder by --source DIR"
            )
    absent = place.absent(listed)
    for folder in (folder for archive in archives for folder in archive.images if folder in absent):
        refuse_link(place.root / folder)
    with contextlib.ExitStack() as stack:
        single = {
            archive.name: stack.enter_context(
                RemoteMembers(archive, place.into(archive), _wanted(archive, listed), place.reporter, patience)
            )
            for archive in archives
            if only_needed and archive.file_name.endswith(".zip") and not place.local(archive)
        }
        keeps = only_needed and not listed  # the lists that are yet to be made will name images in it
        _check_space(place, archives, single, keeps)
        for archive in archives:
            if archive.name in single:
                single[archive.name].fetch()
            # An archive before it may have held all that is absent.
            elif not listed or place.needs(archive, place.absent(listed)):
                wanted = _wanted(archive, listed) if only_needed else lambda member: True
                _bring_whole(place, archive, wanted, patience)
                if not (keeps and archive.images):
                    remove_fetched(place, archive)


def _wanted(archive: Archive, listed: frozenset[str]) -> Callable[[str], bool]:
    """Whether a member is a listed image or a label."""

    def wanted(member: str) -> bool:
        path = archive.path_below_root(member)
        return path in listed or any(path == label or path.startswith(f"{label}/") for label in archive.labels)

    return wanted


def _bring_whole(place: Place, archive: Archive, wanted: Callable[[str], bool], patience: Patience) -> None:
    path = place.local(archive)
    if path is None:
        path = place.target(archive)
        path.parent.mkdir(exist_ok=True)
        fetch(archive, path, place.reporter, patience)
    elif not origin_file(path).exists():
        check_archive(path, archive, place.reporter)
    _unpack(place, archive, path, wanted)


def _unpack(place: Place, archive: Archive, path: Path, wanted: Callable[[str], bool]) -> None:
    into = place.into(archive)
    with opened(path) as packed:
        chosen = [member for member in packed.members if wanted(member.path)]
        lacking = missing(chosen, into)
        make_folders(lacking, into)
        done, total = 0, sum(member.size for member in lacking)
        with place.reporter.task(f"unpacking {archive.file_name}", total, of_bytes=True) as task:

            def advance(count: int) -> None:
                nonlocal done
                done += count
                task.update(done)

            for member in lacking:
                with packed.open(member) as content:
                    write_member(content, member, into, advance)
    place.reporter.line(f"{path}: {plural(len(chosen), 'file')} unpacked in {into}")


def remove_fetched(place: Place, archive: Archive) -> None:
    """Remove an archive that was fetched here; one that the user put there stays."""
    path = place.target(archive)
    if not origin_file(path).exists():
        return
    path.unlink()
    origin_file(path).unlink()
    with contextlib.suppress(OSError):  # it holds something else
        path.parent.rmdir()
    place.reporter.line(f"{path}: removed, since its content is unpacked")


def _check_space(place: Place, archives: Sequence[Archive], single: dict[str, RemoteMembers], keeps: bool) -> None:
    """keeps: whether archives stay; otherwise each is removed before the next one is fetched."""
    needs = [(place.into(archive), single[archive.name].num_bytes) for archive in archives if archive.name in single]
    whole = [archive for archive in archives if archive.name not in single]
    needs += [(place.into(archive), max(0, archive.unpacked_size - _unpacked(place, archive))) for archive in whole]
    to_fetch = [archive for archive in whole if not place.local(archive)]
    rests = [archive.size - size_of(part_file(place.target(archive))) for archive in to_fetch]
    check_space([*needs, (place.root / FETCHED, sum(rests) if keeps else max(rests, default=0))])


def _unpacked(place: Place, archive: Archive) -> int:
    """Bytes in an archive's folders that are there."""
    folders = [place.root / path for path in (*archive.images, *archive.labels)]
    return sum(size_of(file) for folder in folders if folder.is_dir() for file in folder.iterdir())
