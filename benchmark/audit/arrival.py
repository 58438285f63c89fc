"""Writing an imported run to a results folder: its files first, its record last, or nothing at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from benchmark.audit.files import RECORD, files_of
from benchmark.base.atomic import write_atomically
from benchmark.base.files import file_digest, read_regular
from benchmark.errors import InputError, StoreError
from benchmark.store.claim import claimed
from benchmark.store.folder import RunFolder
from benchmark.store.records import Record

# restored: the run was there but lacked files.
Outcome = Literal["imported", "restored", "already there"]


class _Undone(InputError):
    """An arrival failed. As an InputError it makes the claim withdraw its attempt."""

    def __init__(self, error: BaseException):
        super().__init__("not imported")
        self.error = error


def arrive(folder: RunFolder, record: Record, content: bytes, read: Callable[[str], bytes]) -> Outcome:
    """Write the files that a run's folder lacks. content: of the record's file. read: gives another file by its name.

    Raises StoreError, after which the folder is as before: another or a damaged record of the run is there, a process
    is running it, or the folder is a link or cannot be written.
    """
    if is_there(folder, content) and not _lost(folder, record):
        return "already there"
    if folder.path.is_symlink():
        raise StoreError(f"{folder.path}: is a link, and an import writes to no other place; remove the link")
    try:
        with claimed(folder) as claim:
            try:
                outcome = _fill(folder, record, content, read)
            except BaseException as error:
                raise _Undone(error) from error
            claim.withdraw()
    except _Undone as undone:
        raise undone.error from None
    return outcome


def is_there(folder: RunFolder, content: bytes) -> bool:
    """Whether the same record is in the folder. Raises StoreError for another one, or a damaged one."""
    found, given = folder.record_digest(), hashlib.sha256(content).hexdigest()
    if found is None and not folder.record_path.is_symlink():
        return False
    if found == given:
        return True
    damage = _damage(folder.record_path)
    if found is None or damage:
        raise StoreError(
            f"{folder.record_path}: the record there is damaged ({damage or 'a broken link'}); restore it, or remove "
            "the folder and import again"
        )
    raise StoreError(
        f"{folder.record_path}: is another record of this run (sha256 {found[:12]}) than the bundle's "
        f"({given[:12]}); keep it, or remove the folder and import again"
    )


def _damage(path: Path) -> str:
    """Why a record's file cannot be read or is not JSON; empty where it is."""
    try:
        json.loads(read_regular(path))
    except OSError as error:
        return str(error.strerror or error)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return ""


def _lost(folder: RunFolder, record: Record) -> list[str]:
    """The files of a record that are missing or have another digest."""
    return [name for name, sha256 in files_of(record).items() if not _is_file(folder.path / name, sha256)]


def _is_file(path: Path, sha256: str) -> bool:
    try:
        return file_digest(path) == sha256
    except OSError:
        return False


def _fill(folder: RunFolder, record: Record, content: bytes, read: Callable[[str], bytes]) -> Outcome:
    """`arrive` under the claim. Checks again: another process may have been faster."""
    there, lost = is_there(folder, content), _lost(folder, record)
    if there and not lost:
        return "already there"
    _write(folder, lost, None if there else content, read)
    return "restored" if there else "imported"


def _write(folder: RunFolder, names: list[str], content: bytes | None, read: Callable[[str], bytes]) -> None:
    """Write the files of these names first, by way of a folder beside the run's, then the record, if it is given.

    Removes the added files when it fails.
    """
    added = [path for path in (folder.path / name for name in (*names, RECORD)) if not os.path.lexists(path)]
    # The claim keeps other processes out, so an existing draft was left by an import that was killed.
    draft = folder.path.with_name(f".{folder.path.name}.import")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir()
        for name in names:
            write_atomically(draft / name, read(name))
        for name in names:
            (draft / name).rename(folder.path / name)
        if content is not None:
            write_atomically(folder.record_path, content)
            folder.checkpoint_path.unlink(missing_ok=True)
    except BaseException as error:
        for path in added:
            with contextlib.suppress(OSError):
                path.unlink()
        if not isinstance(error, OSError):
            raise
        raise StoreError(
            f"{error.filename2 or error.filename or folder.path}: cannot be written: {error.strerror or error}; "
            "nothing was imported"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
