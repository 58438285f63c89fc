"""The report of a launch: how each run ended, or its present state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmark.errors import Unfit
from benchmark.launch.sweeps import LaunchedSweep
from benchmark.store.folder import RunFolder
from benchmark.store.records import Record

RunState = Literal["done", "failed", "held", "submitted", "pending"]


@dataclass(frozen=True)
class RunReport:
    """One run of a launch.

    state: done: it has a record. failed: an error stopped it, now or before. held: another process holds it, or it is
    in a cluster's queue. submitted: it was submitted to a cluster. pending: it was not launched.
    path: its folder. message: its scores in a line, or why it failed. job: the cluster's id of its job.
    """

    path: Path
    state: RunState
    message: str = ""
    job: str = ""

    @property
    def run(self) -> str:
        """The name of its folder."""
        return self.path.name


@dataclass(frozen=True)
class Report:
    """All runs of a launch, in the order in which they ended; runs that were not launched come last.

    results: the results folder. sweep: the launched sweep, by which it is followed and cancelled; None where nothing
    was launched. left_out: why a method of `methods="all"` has no run.
    """

    results: Path
    runs: list[RunReport]
    sweep: LaunchedSweep | None = None
    left_out: list[Unfit] = field(default_factory=list)

    def of_state(self, *states: RunState) -> list[RunReport]:
        """The runs in some states."""
        return [run for run in self.runs if run.state in states]

    @property
    def totals(self) -> dict[RunState, int]:
        """State -> number of runs, for the states that occur."""
        return dict(Counter(run.state for run in self.runs))

    def records(self) -> Iterator[Record]:
        """The records of the runs that are done. Raises StoreError for one that cannot be read."""
        for run in self.of_state("done"):
            record = RunFolder(run.path).record()
            assert record is not None  # that is the meaning of done
            yield record

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.totals.items())
        return f"{len(self.runs)} runs{': ' if counts else ''}{counts}"
