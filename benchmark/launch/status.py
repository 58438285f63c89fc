"""The state of the runs of a results folder: that of their folders, and that in a cluster's queue."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live

from benchmark.base.files import open_regular
from benchmark.errors import StoreError
from benchmark.launch.queues import WAITING, NoAnswer, QueuedRun, queued
from benchmark.launch.sweeps import Sweeps
from benchmark.store.folder import RunFolder
from benchmark.store.runs import run_names
from benchmark.ui.progress import plural
from benchmark.ui.tables import table
from benchmark.ui.text import plain

WATCH_S = 2.0
HEADER = ("run", "state", "job", "note")
_LOG_TAIL = 4096


@dataclass(frozen=True)
class Row:
    """One run of the table.

    state: of its folder, or "damaged". job: in a cluster's queue, "" without one. note: why it failed or was cut off,
    or the last line of its log while it runs.
    """

    run: str
    state: str
    job: str
    note: str


def rows(results: Path) -> tuple[list[Row], str]:
    """Every run that has begun or is queued, and a line where a scheduler does not answer ("" where all do).

    Raises StoreError when the runs or sweeps cannot be read.
    """
    jobs = Sweeps(results).jobs()
    folders = set(run_names(results))
    waiting, unknown = {}, ""
    try:
        waiting = queued(jobs)
    except NoAnswer as error:
        # The runs' own folders give the rest.
        unbegun = len(set(jobs) - folders)
        more = f"; not begun of those submitted: {plural(unbegun, 'run')}" if unbegun else ""
        unknown = f"{error.title}'s queue is not known: {error}{more}"
    return [_row(results / "runs" / run, waiting.get(run)) for run in sorted(folders | set(waiting))], unknown


def _row(path: Path, queued: QueuedRun | None) -> Row:
    job = f"{queued.job} {queued.text}" if queued else ""
    folder = RunFolder(path)
    try:
        state = folder.state()
        if state == "running" and queued and queued.state == WAITING:
            state = "preempted"  # its node failed, and the job waits for another one
        return Row(path.name, state, job, _note(folder, state))
    except StoreError as error:
        return Row(path.name, "damaged", job, str(error))


def _note(folder: RunFolder, state: str) -> str:
    if state == "running":
        return _last_line(folder.log_path)
    if state in ("failed", "preempted"):
        last = folder.attempts.last() or {}
        facts = [last.get("cause", "killed"), *str(last.get("message", "")).splitlines()[:1]]
        return ": ".join(fact for fact in facts if fact)
    return ""


def _last_line(log: Path) -> str:
    try:
        with open_regular(log) as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    # Each line begins with the date and the time.
    return lines[-1].split(" ", 2)[-1] if lines else ""


def summary(found: Sequence[Row]) -> str:
    """`12 runs: 10 done, 1 running, 1 failed`."""
    states = Counter(row.state for row in found)
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
    queued = sum(row.state != "running" and bool(row.job) for row in found)
    return f"{len(found)} runs{': ' if counts else ''}{counts}{f'; {queued} in the queue' if queued else ''}"


def cells(found: Sequence[Row]) -> list[tuple[str, ...]]:
    """The runs under HEADER."""
    return [(row.run, row.state, row.job, row.note) for row in found]


def watch(results: Path, console: Console, show_done: bool) -> None:
    """Show the runs until none is running or queued, or until Ctrl-C."""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            found, unknown = rows(results)
            shown = found if show_done else [row for row in found if row.state != "done"]
            room = max(1, console.height - 6)
            more = f"{len(shown) - room} more do not fit" if len(shown) > room else ""
            live.update(Group(table(HEADER, cells(shown[:room])), summary(found), more, plain(unknown)), refresh=True)
            if not unknown and not any(row.state == "running" or row.job for row in found):
                return
            time.sleep(WATCH_S)
