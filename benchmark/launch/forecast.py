"""The forecast of a launch: the number of runs, their duration, and what they lack."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmark.launch.jobs import Job
from benchmark.running.absent import absences
from benchmark.running.images import label_warnings
from benchmark.running.rerun import lacks_oracle
from benchmark.spec import RunSpec, canonical_json
from benchmark.store import PUBLISHED
from benchmark.store.folder import RunFolder
from benchmark.store.records import Record
from benchmark.store.runs import load_records
from benchmark.ui.progress import duration


def warnings(jobs: Iterable[Job]) -> list[str]:
    """Warnings about the datasets, each line once."""
    return list(dict.fromkeys(line for job in jobs for line in label_warnings(job.plan.dataset)))


def forecast(jobs: Sequence[Job], results: Path) -> list[str]:
    """Lines for people: how many runs are launched, in which state all are, and how long it will take."""
    launched = sum(job.decision.launch for job in jobs)
    states = Counter(job.decision.state for job in jobs)
    counts = ", ".join(f"{n} {state}" for state, n in states.items())
    lines = [f"{launched} of {len(jobs)} runs to launch ({counts})"]
    if bare := without_oracle(jobs, results):
        lines.append(f"{bare} done runs have no logits of every epoch: --rerun always makes them anew with --oracle")
    seconds, unknown = estimate(jobs, _other_records(jobs, results) if launched else [])
    if launched > unknown:
        more = f"; of {unknown} no record says anything" if unknown else ""
        lines.append(f"about {duration(seconds)} on one device, as long as such runs took before{more}")
    return lines


def missing(jobs: Iterable[Job]) -> list[str]:
    """The images and weights that the runs to launch need and this machine lacks, each line once."""
    # Runs that differ in the seed or in the rest of the recipe need the same.
    first: dict[tuple, Job] = {}
    for job in jobs:
        spec = job.spec
        needs = (spec.method, repr(spec.config), spec.dataset.fingerprint, spec.recipe.backbone, spec.weights.name)
        if job.decision.launch:
            first.setdefault(needs, job)
    return list(dict.fromkeys(line for job in first.values() for line in absences(job.plan)))


def without_oracle(jobs: Iterable[Job], results: Path) -> int:
    """Number of runs that are not launched although their record lacks the logits of every epoch that their plan asks
    for."""
    wanting = [job for job in jobs if job.plan.oracle and not job.decision.launch]
    records = [(job.plan, RunFolder(results / "runs" / job.run).record()) for job in wanting]
    return sum(record is not None and lacks_oracle(plan, record) for plan, record in records)


def estimate(jobs: Sequence[Job], records: Iterable[Record]) -> tuple[float, int]:
    """(seconds of device time that the runs to launch will take, number of runs without an estimate).

    records: of other runs than the jobs.

    The estimate of a run is the median time of runs of its method with its dataset, backbone, image size and epochs,
    or else that of other methods' runs.
    """
    same: dict[str, list[float]] = defaultdict(list)
    alike: dict[str, list[float]] = defaultdict(list)
    known = itertools.chain(
        ((record.spec, record.timings.total_s) for record in records),
        ((job.spec, job.decision.took_s) for job in jobs if job.decision.took_s is not None),
    )
    for spec, seconds in known:
        size = _size_of(spec)
        alike[size].append(seconds)
        same[spec.method + size].append(seconds)
    total, unknown = 0.0, 0
    for job in jobs:
        if job.decision.launch:
            size = _size_of(job.spec)
            times = same.get(job.spec.method + size) or alike.get(size)
            total += statistics.median(times) if times else 0.0
            unknown += not times
    return total, unknown


def _size_of(spec: RunSpec) -> str:
    """A key that runs of similar duration share, whatever their method."""
    recipe = spec.recipe
    return canonical_json([spec.dataset.fingerprint, recipe.backbone, recipe.image_size, recipe.epochs])


def _other_records(jobs: Iterable[Job], results: Path) -> Iterator[Record]:
    names = {job.run for job in jobs}
    for root in dict.fromkeys((results, PUBLISHED)):
        if root.is_dir():
            yield from load_records(root, problems=[], leave_out=names if root == results else ())
