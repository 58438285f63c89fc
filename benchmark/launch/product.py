"""The product of a sweep's axes: methods, datasets, protocols, backbones, settings and seeds."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from benchmark.base.yamlio import load_yaml, parse_value
from benchmark.errors import InputError, Unfit
from benchmark.method import METHODS
from benchmark.running.plan import Plan, make_plans
from benchmark.spec import Strict, parse

MOST_SEEDS = 1000


def parse_seeds(text: str, where: str = "--seeds") -> list[int]:
    """`0,1,2` or `0-4`; `where` begins the message. Raises InputError."""
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
    """The axes of a sweep; a list of one value may be given as that value.

    methods: names, `all` for those that fit, or in a file names with axes of their own: {asl: {gamma_neg: [2, 4]}}.
    protocols, backbones: empty for the dataset's own and the protocol's. settings: of every method, or of the recipe
    (`recipe.optimizer.lr`). oracle: keep the test logits of every epoch. allow_duplicates: of
    `make_plans`. seeds: numbers, or text such as 0-4.
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
    allow_duplicates: bool = False
    seeds: Annotated[list[int], BeforeValidator(_seed_list), Field(min_length=1)] = [0]


def load_sweep(path: Path) -> dict[str, Any]:
    """The axes in a YAML file, before options of a command line replace some. Raises InputError."""
    axes = load_yaml(path)
    parse(Sweep, {"methods": "all"} | axes, str(path))
    return axes


def expand(sweep: Sweep, data_root: Path | None = None) -> tuple[list[Plan], list[Unfit]]:
    """Every run of a sweep, each once, and, with methods `all`, the combinations that do not fit.

    Raises InputError for an unknown name, a method that does not fit, or a product that is empty.
    """
    chosen = dict.fromkeys(METHODS) if sweep.methods == "all" else sweep.methods
    protocols: list[str | None] = [*sweep.protocols] or [None]
    backbones: list[str | None] = [*sweep.backbones] or [None]
    runs: dict[str, Plan] = {}
    unfit: dict[str, Unfit] = {}
    for dataset, (method, own), protocol, backbone in itertools.product(
        sweep.datasets, chosen.items(), protocols, backbones
    ):
        axes = sweep.settings | (own or {})
        for values in itertools.product(*axes.values()):
            try:
                plans = make_plans(
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
                    allow_duplicates=sweep.allow_duplicates,
                )
            except Unfit as error:
                if sweep.methods != "all":
                    raise
                unfit[str(error)] = error
                continue
            for plan in plans:
                runs.setdefault(plan.run_id, plan)
    if not runs:
        raise next(iter(unfit.values()), InputError("the sweep is empty: an axis has no value"))
    return list(runs.values()), list(unfit.values())
