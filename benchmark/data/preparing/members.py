"""What an archive holds, and its members written below a folder.

An archive is untrusted. It may hold plain files and folders alone, each below the folder it is unpacked in: one member
that is something else, and nothing is unpacked. Every file is written under another name beside its place and renamed,
so that each is whole or not there, and an interrupted unpacking goes on where it ended.
"""

from __future__ import annotations

import contextlib
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from benchmark.base.atomic import drafts, replacing
from benchmark.base.files import ZIP_DAMAGE, open_regular
from benchmark.data.contents import named
from benchmark.data.lists import leaves_root
from benchmark.errors import InputError, shown

_BLOCK = 2**20
# Errors of reading a damaged or hostile archive, beside OSError.
DAMAGE = (tarfile.TarError, *ZIP_DAMAGE)


@dataclass(frozen=True)
class Member:
    """A file in an archive. path: POSIX, below the folder it is unpacked in. crc: CRC-32; None where it is unknown.
    entry: as the library of the archive knows it."""

    path: str
    size: int
    crc: int | None
    entry: Any


class Packed(ABC):
    """An open archive. where: its path or address, for messages. members: its files, checked."""

    def __init__(self, where: str):
        self.where = where
        self.members = self._checked(self._entries())

    @abstractmethod
    def _entries(self) -> Iterator[tuple[str, str, Member]]:
        """(name as stored, "" for a file or folder and what it is else, member); folders are left out."""

    @abstractmethod
    def open(self, member: Member) -> IO[bytes]:
        """A member, open for reading."""

    def _checked(self, entries: Iterable[tuple[str, str, Member]]) -> list[Member]:
        found: dict[str, Member] = {}
        for name, odd, member in entries:
            problem = odd or ("leads out of the folder it is unpacked in" if leaves_root(name) else "")
            if not problem and member.path in found:
                problem = "is there twice"
            if problem:
                raise InputError(
                    f"{self.where}: member {shown(name)!r} {problem}, which no official archive has; nothing of it was "
                    "unpacked; get the official archive"
                )
            found[member.path] = member
        return list(found.values())


class PackedTar(Packed):
    """A tar file."""

    def __init__(self, where: str, archive: tarfile.TarFile):
        self._archive = archive
        super().__init__(where)

    def _entries(self) -> Iterator[tuple[str, str, Member]]:
        for info in self._archive:
            if info.isdir() and not leaves_root(info.name):
                continue
            kind = "link" if info.issym() or info.islnk() else "device or pipe" if info.isdev() else "special file"
            odd = "" if info.isreg() or info.isdir() else f"is a {kind}"
            yield info.name, odd, Member(_normal(info.name), info.size, None, info)

    def open(self, member: Member) -> IO[bytes]:
        file = self._archive.extractfile(member.entry)
        assert file is not None  # a regular file
        return file


class PackedZip(Packed):
    """A zip file, local or on a server."""

    def __init__(self, where: str, archive: zipfile.ZipFile):
        self._archive = archive
        super().__init__(where)

    def _entries(self) -> Iterator[tuple[str, str, Member]]:
        for info in self._archive.infolist():
            # Not `filename`, which zipfile has already cleaned.
            name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir() and not leaves_root(name):
                continue
            odd = "is a link" if kind == stat.S_IFLNK else "is a device or pipe"
            plain = kind in (0, stat.S_IFREG) or info.is_dir()
            yield name, "" if plain else odd, Member(_normal(name), info.file_size, info.CRC, info)

    def open(self, member: Member) -> IO[bytes]:
        return self._archive.open(member.entry)


def _normal(name: str) -> str:
    return str(PurePosixPath(name))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Packed]:
    """A local archive, open for reading. Raises InputError where it is damaged or has a member that may not be."""
    with reading(str(path)), open_regular(path) as file:
        if path.suffix == ".zip":
            with zipfile.ZipFile(file) as archive:
                yield PackedZip(str(path), archive)
        else:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                yield PackedTar(str(path), tar)


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
    """Raises errors of a damaged archive as InputError."""
    try:
        yield
    except DAMAGE as error:
        raise InputError(f"{where}: damaged or no archive ({error}); replace it") from None


def missing(members: Iterable[Member], into: Path) -> list[Member]:
    """The members that are not below a folder yet.

    Raises InputError, naming the file, where another file has the place of one: it may be the user's.
    """
    return [member for member in members if not _is_there(member, into / member.path)]


def _is_there(member: Member, file: Path) -> bool:
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        return False
    if size == 0 < member.size:  # what a power failure leaves
        return False
    if size != member.size:
        raise InputError(
            f"{named(file)}: it has {size:,} bytes, and the official file {member.size:,}; it is left as it is: move "
            "it away and repeat the command"
        )
    if member.crc is not None and _crc(file) != member.crc:
        raise InputError(
            f"{named(file)}: not the official file: its content differs (CRC-32); it is left as it is: move it away "
            "and repeat the command"
        )
    return True


def _crc(file: Path) -> int:
    crc = 0
    with open_regular(file) as content:
        while block := content.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc


def make_folders(members: Iterable[Member], into: Path) -> None:
    """Make the folders of members, and remove from them what a killed process left half written.

    Raises InputError where such a folder is a link: what it leads to may belong to others.
    """
    for folder in sorted({(into / member.path).parent for member in members}):
        refuse_link(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for draft in drafts(folder):
            draft.unlink(missing_ok=True)


def refuse_link(folder: Path) -> None:
    """Raise InputError where a folder that lacks files is a link."""
    if folder.is_symlink():
        raise InputError(
            f"{folder}: it is a link to {folder.readlink()}, which lacks files, and nothing is written through links; "
            "complete that folder, or remove the link and repeat the command"
        )


def write_member(content: IO[bytes], member: Member, into: Path, advance: Callable[[int], None]) -> None:
    """Write a member to its place. advance: called with the bytes of each block. Raises EOFError where it is short."""
    written = 0
    with replacing(into / member.path, durable=False) as file:
        while block := content.read(_BLOCK):
            file.write(block)
            written += len(block)
            advance(len(block))
        if written != member.size:
            raise EOFError(f"{member.path} has {written:,} of {member.size:,} bytes")
