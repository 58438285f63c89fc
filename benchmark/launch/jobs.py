"""The requested runs of a launch, and the decision of the re-run rule on each."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmark.running.images import cached_sizes, known_pixels
from benchmark.running.plan import Plan
from benchmark.running.rerun import Decision, decide
from benchmark.running.rules import Rerun
from benchmark.spec import RunSpec
from benchmark.store.folder import RunFolder


@dataclass(frozen=True)
class Job:
    """A requested run, and the decision of the re-run rule on it."""

    plan: Plan
    decision: Decision

    @property
    def spec(self) -> RunSpec:
        """The run's specification."""
        return self.plan.spec

    @property
    def run(self) -> str:
        """The name of the run's folder."""
        return self.plan.folder_name


def decide_jobs(plans: Iterable[Plan], results: Path, rerun: Rerun, queued: Container[str] = ()) -> list[Job]:
    """Decide which plans to launch.

    queued: names of the runs that wait or run on a cluster; these are not launched. Raises StoreError for a folder with
    a damaged file.
    """
    jobs = []
    known: dict[tuple, dict[str, str | None]] = {}

    def pixels(plan: Plan) -> dict[str, str | None]:
        # The files of a dataset are examined once for all its runs.
        key = (id(plan.dataset), plan.spec.weights.interpolation, *cached_sizes(plan).values())
        if key not in known:
            known[key] = known_pixels(plan)
        return known[key]

    for plan in plans:
        folder = RunFolder(results / "runs" / plan.folder_name)
        decision = decide(plan, folder, rerun, pixels)
        if decision.launch and plan.folder_name in queued:
            decision = Decision("queued", launch=False, took_s=decision.took_s)
        jobs.append(Job(plan, decision))
    return jobs
