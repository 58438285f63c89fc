"""The log of one run, or of its job before the run has begun, also as it grows."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

from benchmark.base.files import open_regular
from benchmark.errors import InputError, StoreError
from benchmark.launch.queues import job_log, queued, queued_of
from benchmark.launch.sweeps import Sweeps
from benchmark.store.folder import RunFolder
from benchmark.store.listing import listed
from benchmark.store.runs import matching, run_names

POLL_S = 1.0


def log_of(run: str, results: Path) -> tuple[Path, RunFolder]:
    """The log of a run by its folder name, its id or the beginning of either; without one, the log of its job.

    Raises RunNotFound, InputError where there is no log yet, StoreError where the folders cannot be read.
    """
    jobs = Sweeps(results).jobs()
    began = set(run_names(results))
    folder = RunFolder(results / "runs" / matching(run, began | set(jobs), results / "runs"))
    name = folder.path.name
    if folder.log_path.name in listed(folder.path):
        return folder.log_path, folder
    log = job_log(jobs[name]) if name in jobs else None
    if log is None:
        waiting = queued({name: jobs[name]}).get(name) if name in jobs else None
        state = f"its job {waiting.job} is {waiting.text}" if waiting else "it has not begun"
        raise InputError(f"{name}: no log yet; {state}")
    return log, folder


def follow_log(log: Path, folder: RunFolder, results: Path, follow: bool) -> Iterator[str]:
    """The text of a log, in pieces. follow: go on until the run is neither running nor in a cluster's queue.

    Raises StoreError.
    """
    try:
        opened = io.TextIOWrapper(open_regular(log), encoding="utf-8", errors="replace")
    except OSError as error:
        raise StoreError(f"{log}: cannot be read: {error.strerror or error}; ask its owner for access") from None
    with opened as file:
        while True:
            # Checked before reading, so that the last lines are read too.
            going_on = follow and (folder.state() == "running" or queued_of(results, {folder.path.name}))
            yield file.read()
            if not going_on:
                return
            time.sleep(POLL_S)
