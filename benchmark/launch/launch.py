"""Launches: the runs that are left to do are carried out; a report says how each ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from benchmark.errors import InputError
from benchmark.launch.backend import DEFAULT_BACKEND, Backend, Launch, make_backend
from benchmark.launch.jobs import Job, decide_jobs
from benchmark.launch.product import Sweep, expand
from benchmark.launch.queues import queued_of
from benchmark.launch.report import Report
from benchmark.registry import did_you_mean
from benchmark.running.plan import Plan
from benchmark.running.rules import Rerun
from benchmark.spec import parse
from benchmark.store import LOCAL
from benchmark.ui.progress import Reporter


def launch(
    plans: Sequence[Plan],
    results: Path | str = LOCAL,
    *,
    backend: Backend,
    rerun: Rerun = "missing",
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Report:
    """Carry out the plans that are left to do; a run that fails stops no other.

    Raises InputError (nothing was started), StoreError, or RunInterrupted (call again to resume). A run that fails is
    in the report, but a run that is launched alone, in this process, raises its error.
    """
    results = Path(results)
    backend.check(plans, device, results)

    def decide() -> list[Job]:
        return left_to_do(plans, results, rerun)

    return backend.launch(Launch(plans, results, rerun, device, reporter or Reporter(), decide))


def left_to_do(plans: Sequence[Plan], results: Path, rerun: Rerun) -> list[Job]:
    """The decision of the re-run rule on every plan; a run in a cluster's queue is not launched again.

    Raises InputError where a scheduler does not answer, StoreError for a folder with a damaged file.
    """
    if rerun not in get_args(Rerun):
        raise InputError(f"unknown re-run rule {rerun!r}{did_you_mean(str(rerun), get_args(Rerun))}")
    names = {plan.folder_name for plan in plans}
    return decide_jobs(plans, results, rerun, queued_of(results, names))


def sweep(
    methods: str | Sequence[str] | Mapping[str, Mapping[str, Any] | None],
    datasets: str | Sequence[str] = "shapes-lt",
    *,
    seeds: int | str | Sequence[int] = 0,
    protocols: str | Sequence[str] = (),
    backbones: str | Sequence[str] = (),
    weights: str | None = None,
    image_size: int | None = None,
    epochs: int | None = None,
    settings: Mapping[str, Any] | None = None,
    oracle: bool = False,
    allow_duplicates: bool = False,
    data_root: Path | str | None = None,
    results: Path | str = LOCAL,
    rerun: Rerun = "missing",
    backend: str = DEFAULT_BACKEND,
    device: str = "auto",
    reporter: Reporter | None = None,
    **options: Any,
) -> Report:
    """Train every combination of methods, datasets, protocols, backbones, settings and seeds; only missing runs are
    made. As `ltbench sweep`, but without the leaderboard.

    methods: names, `"all"` for those that fit, or names with settings of their own: `{"asl": {"gamma_neg": [2, 4]}}`.
    settings: of every method, or of the recipe (`recipe.optimizer.lr`); a list holds several values. seeds: numbers, or
    text such as `"0-4"`. backend: `local` (this machine's devices), `slurm` (returns when the runs are in the queue) or
    `inline` (this process). options: the backend's, as `ltbench sweep --help` lists them: `workers=2`,
    `slurm={"partition": "gpu"}`.

    Raises InputError (nothing was started), StoreError, or RunInterrupted (call again to resume).
    """
    axes = {
        "methods": methods,
        "datasets": datasets,
        "protocols": protocols,
        "backbones": backbones,
        "weights": weights,
        "image_size": image_size,
        "epochs": epochs,
        "settings": settings or {},
        "oracle": oracle,
        "allow_duplicates": allow_duplicates,
        "seeds": seeds,
    }
    chosen = make_backend(backend, options)
    plans, unfit = expand(parse(Sweep, axes, "sweep"), None if data_root is None else Path(data_root))
    report = launch(plans, results, backend=chosen, rerun=rerun, device=device, reporter=reporter)
    return replace(report, left_out=unfit)
