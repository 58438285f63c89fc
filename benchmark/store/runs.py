"""A results folder: its runs, found by name or id, and their records."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from benchmark.errors import StoreError
from benchmark.spec import RunSpec
from benchmark.store.folder import RunFolder
from benchmark.store.listing import is_taken, listed
from benchmark.store.records import Record

# Digits of a run's id at the end of its folder's name.
_ID_DIGITS = 12
_HOW_TO_NAME = "give a run's folder name, its id, or the start of either"


class RunNotFound(StoreError):
    """A results folder holds no run, or several, of a name."""


class NoSuchRun(RunNotFound):
    """A results folder holds no run of a name."""

    def __init__(self, run: str, where: Path, what: str = "run"):
        super().__init__(f"{where}: no {what} matches {run!r}; {_HOW_TO_NAME}")


class Store:
    """A results folder."""

    def __init__(self, root: Path | str):
        self.root = Path(root)

    def folder(self, spec: RunSpec) -> RunFolder:
        """The folder of a run, whether it exists or not."""
        return RunFolder(self.root / "runs" / spec.folder_name)

    def find(self, run: str) -> RunFolder:
        """The folder of a finished run by its folder name, its id, or the beginning of either.

        Raises RunNotFound, or StoreError where its record is damaged.
        """
        runs, what = self.root / "runs", "finished run"
        folder = RunFolder(runs / matching(run, [path.parent.name for path in record_paths(self.root)], runs, what))
        if not folder.path.name.startswith(run) and len(run) > _ID_DIGITS:
            # The folder's name has too few digits to decide.
            record = folder.record()
            if record is None or not record.run_id.startswith(run.lower()):
                raise NoSuchRun(run, runs, what)
        return folder


def matching(run: str, names: Iterable[str], where: Path, what: str = "run") -> str:
    """The one folder name among `names` that `run` means: the name, its beginning, or the beginning of the id in it.

    Raises RunNotFound.
    """
    names = sorted(names)
    hits = [name for name in names if name == run]
    if not hits and run:
        digits = run[:_ID_DIGITS].lower() if re.fullmatch("[0-9a-f]{1,64}", run.lower()) else " "
        hits = [name for name in names if name.startswith(run) or name.rpartition("-")[2].startswith(digits)]
    if not hits:
        raise NoSuchRun(run, where, what)
    if len(hits) > 1:
        raise RunNotFound(f"{where}: {len(hits)} runs match {run!r} ({', '.join(hits[:5])}); {_HOW_TO_NAME}")
    return hits[0]


def record_paths(root: Path | str) -> list[Path]:
    """The paths of the records of a results folder, sorted. Raises StoreError when its runs cannot be listed.

    Links without content (git-annex, DVC) are included: the reader of the record reports them.
    """
    runs = Path(root) / "runs"
    return [path for path in (runs / name / "record.json" for name in listed(runs)) if is_taken(path)]


def run_names(root: Path | str) -> list[str]:
    """The names of the run folders in a results folder, sorted. Raises StoreError when they cannot be listed."""
    runs = Path(root) / "runs"
    return [name for name in listed(runs) if (runs / name).is_dir()]


def load_records(
    root: Path | str, problems: list[StoreError] | None = None, leave_out: Container[str] = ()
) -> Iterator[Record]:
    """Every validated record of a results folder, sorted by folder name.

    problems: where given, the StoreError of a damaged record is appended to it and the record is left out; otherwise
    the first such error is raised. leave_out: names of folders that are not read. Raises StoreError as well when there
    is no such folder.
    """
    if not Path(root).is_dir():
        raise StoreError(f"{root}: no such results folder; give another with --results")
    for path in record_paths(root):
        if path.parent.name in leave_out:
            continue
        try:
            record = RunFolder(path.parent).record()
        except StoreError as error:
            if problems is None:
                raise
            problems.append(error)
        else:
            if record is not None:
                yield record
