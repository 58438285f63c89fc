"""Runs for tests: what of a record says what came out, and runs that are stopped on the way."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmark.distributed import ALONE, Peers
from benchmark.errors import RunInterrupted
from benchmark.running.execute import execute
from benchmark.running.plan import Plan
from benchmark.running.rerun import Rerun, decide
from benchmark.store.records import Record
from benchmark.store.runs import Store
from benchmark.ui.progress import Reporter
from kit.trainers import stopping

# What says when and how fast, not what came out.
TIMES = {"timings", "peak_memory_mb", "finished", "attempts"}


def outcome(record: Record) -> dict:
    """The record without what differs between two runs that give the same."""
    return {key: value for key, value in record.model_dump(mode="json").items() if key not in TIMES}


def execute_plan(
    plan: Plan,
    results: Path,
    rerun: Rerun = "missing",
    device: str = "auto",
    reporter: Reporter | None = None,
    peers: Peers = ALONE,
) -> Record | None:
    """Decide what is to be done of a plan, and do it."""
    folder = Store(results).folder(plan.spec)
    return execute(plan, decide(plan, folder, rerun), folder, device, reporter, peers)


def execute_with_stops(plan: Plan, results: Path, stops: set[int], total: int) -> Record:
    """Stopped after each of these steps of `total`, in processes whose generators are in any state."""
    stopped = []
    with stopping(lambda trainer: trainer.progress.step in stops):
        while True:
            torch.manual_seed(1000 + len(stopped))
            try:
                record = execute_plan(plan, results)
                break
            except RunInterrupted as interruption:
                stopped.append(str(interruption))
                assert len(stopped) <= len(stops), "a run that does not go on would stop for ever"
    assert [message.split(";")[0] for message in stopped] == [f"stopped at step {i} of {total}" for i in sorted(stops)]
    return record


@contextlib.contextmanager
def started(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen]:
    """A process, which is killed in the end if it has not ended: a failed test waits for nothing."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """What the condition gives, once it is true. Fails, naming what was waited for, when it is not in time."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.05)
    return found
