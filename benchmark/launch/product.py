"""Sweeps: a product of methods, datasets, protocols, backbones, settings and seeds, and what of it is left to do."""

from __future__ import annotations

import itertools
import re
import statistics
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from benchmark.base.yamlio import load_yaml, parse_value
from benchmark.errors import InputError, Unfit
from benchmark.method import METHODS
from benchmark.running.images import cached_sizes, known_pixels
from benchmark.running.plan import Plan, make_plans
from benchmark.running.rerun import Decision, Rerun, decide, lacks_oracle
from benchmark.spec import RunSpec, Strict, canonical_json, parse
from benchmark.store.records import Record
from benchmark.store.runs import RunFolder

MOST_SEEDS = 1000


def parse_seeds(text: str, where: str = "--seeds") -> list[int]:
    """`0,1,2` or `0-4`; `where` it stands is for the message. Raises InputError."""
    seeds: list[int] = []
    for part in text.split(","):
        if not re.fullmatch(r"\s*\d{1,10}(-\d{1,10})?\s*", part, re.ASCII):
            raise InputError(f"{where} {text!r}: write seeds as 0,1,2 or 0-4")
        first, _, last = part.strip().partition("-")
        span = range(int(first), int(last or first) + 1)
        if len(seeds) + len(span) > MOST_SEEDS:
            raise InputError(f"{where} {text!r}: more than {MOST_SEEDS} seeds; give fewer")
        seeds += span
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"{where} {text!r}: names {'a seed twice' if seeds else 'no seed'}; write 0,1,2 or 0-4")
    return seeds


def parse_axis(text: str) -> list[Any]:
    """The values of `key=v1,v2` on a command line, read as YAML: `1e-4,3e-4`, `[5, 7],[9]`. Raises InputError."""
    return parse_value(f"[{text}]")


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _seed_list(value: Any) -> Any:
    return parse_seeds(value, "seeds") if isinstance(value, str) else _listed(value)


def _method_axes(value: Any) -> Any:
    if value == "all" or isinstance(value, dict):
        return value
    return dict.fromkeys(_listed(value))


Names = Annotated[list[str], BeforeValidator(_listed)]
Axes = dict[str, Annotated[list[Any], BeforeValidator(_listed), Field(min_length=1)]]


class Sweep(Strict):
    """The axes; wherever a list may stand, one value may too.

    methods: names, `all` for those that fit, or in a file names with axes of their own: {asl: {gamma_neg: [2, 4]}}.
    protocols, backbones: none for the dataset's own and the protocol's. settings: of every method, or of the recipe
    (`recipe.optimizer.lr`). oracle: keep the test logits of every epoch. seeds: numbers, or text such as 0-4.
    """

    methods: Annotated[dict[str, Axes | None] | Literal["all"], BeforeValidator(_method_axes)]
    datasets: Annotated[Names, Field(min_length=1)] = ["shapes-lt"]
    protocols: Names = []
    backbones: Names = []
    weights: str | None = None
    image_size: int | None = None
    epochs: int | None = None
    settings: Axes = {}
    oracle: bool = False
    seeds: Annotated[list[int], BeforeValidator(_seed_list), Field(min_length=1)] = [0]


def load_sweep(path: Path) -> dict[str, Any]:
    """The axes in a YAML file, not yet checked: those of a command line may replace some. Raises InputError."""
    axes = load_yaml(path)
    parse(Sweep, {"methods": "all"} | axes, str(path))
    return axes


@dataclass(frozen=True)
class Job:
    """A run that a sweep wants, and what the re-run rule says of it."""

    work: Plan
    decision: Decision

    @property
    def spec(self) -> RunSpec:
        """The run's specification."""
        return self.work.spec


def expand(sweep: Sweep, data_root: Path | None = None) -> tuple[list[Plan], list[Unfit]]:
    """Every run of a sweep, each once though two ways may lead to it, and, with methods `all`, what did not fit.

    Raises InputError for an unknown name, a method that does not fit, or a product that is empty.
    """
    chosen = dict.fromkeys(METHODS) if sweep.methods == "all" else sweep.methods
    runs: dict[str, Plan] = {}
    unfit: dict[str, Unfit] = {}
    for dataset, (method, own), protocol, backbone in itertools.product(
        sweep.datasets, chosen.items(), sweep.protocols or [None], sweep.backbones or [None]
    ):
        axes = sweep.settings | (own or {})
        for values in itertools.product(*axes.values()):
            try:
                works = make_plans(
                    method,
                    dataset,
                    seeds=sweep.seeds,
                    protocol=protocol,
                    backbone=backbone,
                    weights=sweep.weights,
                    image_size=sweep.image_size,
                    epochs=sweep.epochs,
                    settings=dict(zip(axes, values, strict=True)),
                    data_root=data_root,
                    oracle=sweep.oracle,
                )
            except Unfit as error:
                if sweep.methods != "all":
                    raise
                unfit[str(error)] = error
                continue
            for work in works:
                runs.setdefault(work.run_id, work)
    if not runs:
        raise next(iter(unfit.values()), InputError("the sweep is empty: an axis has no value"))
    return list(runs.values()), list(unfit.values())


def stand(plans: Iterable[Plan], results: Path, rerun: Rerun, queued: Container[str] = ()) -> list[Job]:
    """Where each run stands. queued: names of the runs that wait for a cluster, or are running there: these are not
    launched. Raises StoreError for a folder that holds something that is not whole."""
    jobs = []
    known: dict[tuple, dict[str, str | None]] = {}

    def pixels(work: Plan) -> dict[str, str | None]:
        # Of many runs on one dataset the files are looked at once.
        key = (id(work.dataset), work.spec.weights.interpolation, *cached_sizes(work).values())
        if key not in known:
            known[key] = known_pixels(work)
        return known[key]

    for work in plans:
        folder = RunFolder(results / "runs" / work.folder_name)
        decision = decide(work, folder, rerun, pixels)
        if decision.launch and work.folder_name in queued:
            decision = Decision("queued", launch=False, took_s=decision.took_s)
        jobs.append(Job(work, decision))
    return jobs


def without_oracle(jobs: Iterable[Job], results: Path) -> int:
    """Of how many runs that are not launched the sweep wants the logits of every epoch, and the record has none."""
    asked = [job for job in jobs if job.work.oracle and not job.decision.launch]
    records = [(job.work, RunFolder(results / "runs" / job.work.folder_name).record()) for job in asked]
    return sum(record is not None and lacks_oracle(work, record) for work, record in records)


def estimate(jobs: Sequence[Job], records: Iterable[Record]) -> tuple[float, int]:
    """(seconds of device time that the runs to launch will take, how many of them no record says anything of).

    records: those that are not of the jobs themselves.

    A run takes what runs of its method took (median) with its dataset, backbone, image size and epochs, else what
    runs of other methods did.
    """
    same: dict[str, list[float]] = defaultdict(list)
    alike: dict[str, list[float]] = defaultdict(list)
    known = itertools.chain(
        ((record.spec, record.timings.total_s) for record in records),
        ((job.spec, job.decision.took_s) for job in jobs if job.decision.took_s is not None),
    )
    for spec, seconds in known:
        work = _amount_of_work(spec)
        alike[work].append(seconds)
        same[spec.method + work].append(seconds)
    total, unknown = 0.0, 0
    for job in jobs:
        if job.decision.launch:
            work = _amount_of_work(job.spec)
            times = same.get(job.spec.method + work) or alike.get(work)
            total += statistics.median(times) if times else 0.0
            unknown += not times
    return total, unknown


def _amount_of_work(spec: RunSpec) -> str:
    recipe = spec.recipe
    return canonical_json([spec.dataset.fingerprint, recipe.backbone, recipe.image_size, recipe.epochs])
