"""The log of one run, whether it has begun or not, and as it grows."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

from benchmark.base.files import open_regular
from benchmark.base.scheduler import queue
from benchmark.errors import InputError, StoreError
from benchmark.launch.sweeps import Sweeps
from benchmark.store.folder import RunFolder
from benchmark.store.listing import listed
from benchmark.store.runs import matching, run_names

POLL_S = 1.0


def log_of(run: str, results: Path) -> tuple[Path, RunFolder]:
    """The log of a run by its folder name, its id or the beginning of either: its own, or that of its job where it has
    none.

    Raises RunNotFound, InputError where there is no log yet, StoreError where the folders cannot be read.
    """
    sweeps = Sweeps(results)
    began = set(run_names(results))
    folder = RunFolder(results / "runs" / matching(run, began | set(sweeps.job_ids()), results / "runs"))
    if folder.log_path.name in listed(folder.path):
        return folder.log_path, folder
    log = sweeps.log_of(folder.path.name)
    if log is None:
        job = sweeps.job_ids().get(folder.path.name, "")
        place = queue([job]).get(job)
        waits = f"its job {job} is {place.text}" if place else "it has not begun"
        raise InputError(f"{folder.path.name}: no log yet; {waits}")
    return log, folder


def follow_log(log: Path, folder: RunFolder, results: Path, follow: bool) -> Iterator[str]:
    """The text of a log, in pieces; follow: until the run is neither running nor in SLURM's queue.

    Raises StoreError.
    """
    try:
        opened = io.TextIOWrapper(open_regular(log), encoding="utf-8", errors="replace")
    except OSError as error:
        raise StoreError(f"{log}: cannot be read: {error.strerror or error}; ask its owner for access") from None
    with opened as file:
        while True:
            # Asked before reading: what is written until then is read.
            going_on = follow and (folder.state() == "running" or _is_queued(folder.path.name, results))
            yield file.read()
            if not going_on:
                return
            time.sleep(POLL_S)


def _is_queued(run: str, results: Path) -> bool:
    job = Sweeps(results).job_ids().get(run)
    return job is not None and job in queue([job])
