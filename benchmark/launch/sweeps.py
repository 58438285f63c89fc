"""The sweeps that were launched on a results folder: `<results>/sweeps/<name>/sweep.json`, with the logs of their jobs.

The file names runs and jobs only: the state of a run is in its own folder.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from benchmark.base.atomic import write_atomically
from benchmark.base.files import MOST_TEXT, read_regular
from benchmark.base.lock import lock
from benchmark.errors import InputError, StoreError
from benchmark.registry import NAME_PATTERN
from benchmark.spec import Strict
from benchmark.store.lease import Lease
from benchmark.store.listing import listed


class LaunchedSweep(Strict):
    """A sweep that was launched.

    cluster: the backend's name. launcher: the process that launched it; a local sweep ends with that process. jobs:
    name of a run's folder -> id of the cluster's job that it is in, "" in a local sweep.
    """

    name: str
    started: str
    cluster: Annotated[str, Field(pattern=NAME_PATTERN)]
    launcher: dict[str, str | int]
    jobs: dict[Annotated[str, Field(pattern=NAME_PATTERN)], Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")]]

    @model_validator(mode="after")
    def _launcher_is_lease(self) -> LaunchedSweep:
        Lease.checked(self.launcher)
        return self

    @property
    def lease(self) -> Lease:
        """The process that launched it."""
        return Lease.checked(self.launcher)


@dataclass(frozen=True)
class SubmittedJob:
    """A job of a cluster's scheduler. folder: its sweep's, with its log."""

    cluster: str
    job: str
    folder: Path


class Sweeps:
    """The sweeps of a results folder."""

    def __init__(self, results: Path):
        self.root = results / "sweeps"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the sweeps: one process at a time decides and submits. Raises StoreError."""
        with self._written():
            self.root.mkdir(parents=True, exist_ok=True)
            held = lock(self.root / "lock")
        with held:
            yield

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self.root}: cannot be written: {error.strerror or error}; choose another folder with --results"
            ) from None

    def new_folder(self) -> Path:
        """Create the folder of a new sweep; its name is the sweep's."""
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"
        folder = self.root / name
        with self._written():
            folder.mkdir(parents=True)
        return folder

    def write(self, folder: Path, cluster: str, jobs: dict[str, str]) -> LaunchedSweep:
        """Write the file of a launched sweep. Raises StoreError."""
        sweep = LaunchedSweep(
            name=folder.name,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            cluster=cluster,
            launcher=vars(Lease.mine()),
            jobs=jobs,
        )
        write_atomically(folder / "sweep.json", (sweep.model_dump_json(indent=1) + "\n").encode())
        return sweep

    def all(self) -> list[LaunchedSweep]:
        """Every sweep, the oldest first. Raises StoreError for a damaged file."""
        return [self._read(self.root / name / "sweep.json") for name in self._names()]

    def find(self, name: str) -> LaunchedSweep:
        """A sweep by its name or the beginning of it. Raises InputError, or StoreError where they cannot be read."""
        names = self._names()
        hits = [found for found in names if found == name] or [found for found in names if found.startswith(name)]
        if len(hits) != 1 or not name:
            known = f"; there are: {', '.join(names[-5:])}" if names else "; there are none"
            raise InputError(f"{self.root}: {len(hits)} sweeps begin with {name!r}{known}")
        return self._read(self.root / hits[0] / "sweep.json")

    def jobs(self) -> dict[str, SubmittedJob]:
        """Name of a run's folder -> the last cluster job that it was submitted in."""
        return {
            run: SubmittedJob(sweep.cluster, job, self.root / sweep.name)
            for sweep in self.all()
            for run, job in sweep.jobs.items()
            if job
        }

    def _names(self) -> list[str]:
        """The names of the sweeps, the oldest first. A sweep that is still being submitted has no file yet."""
        return [name for name in listed(self.root) if os.path.lexists(self.root / name / "sweep.json")]

    def _read(self, path: Path) -> LaunchedSweep:
        try:
            return LaunchedSweep.model_validate_json(read_regular(path, MOST_TEXT))
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from None
        except (ValidationError, TypeError):
            raise StoreError(f"{path}: not a sweep's file; remove its folder if its jobs have ended") from None
