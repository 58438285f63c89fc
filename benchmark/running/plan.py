"""The plan of a run: everything that defines it, resolved from names and checked."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.audit.code_digest import code_digest
from benchmark.data.dataset import Dataset, find_dataset
from benchmark.data.registered import settings_name
from benchmark.method import METHODS, Method, MethodConfig
from benchmark.models.weights import PretrainedWeights
from benchmark.running.compatibility import (
    check_method,
    check_recipe,
    default_protocol,
    fit_to_weights,
    resolve_recipe_weights,
)
from benchmark.running.datasets import open_dataset
from benchmark.running.settings import changed, plain, read_seed, split_settings
from benchmark.running.task import make_task
from benchmark.spec import PROTOCOLS, DatasetRef, Protocol, Recipe, RunSpec, deep_merge, parse


@dataclass(frozen=True)
class Plan:
    """A run that can be started: its specification, and the resolved objects.

    request: the arguments of `make_plan` as plain values, from which another process makes the same plan. oracle:
    whether the test logits of every epoch are kept; not part of the specification, since it changes nothing else.
    allow_duplicates: whether images may be in two lists under different names; not part of it either.
    code_digest: of the code of the run, as this process first read it; see `audit.code_digest`.
    """

    spec: RunSpec
    method: type[Method]
    config: MethodConfig
    dataset: Dataset
    weights: PretrainedWeights
    request: dict[str, Any]
    code_digest: str
    oracle: bool = False
    allow_duplicates: bool = False

    @functools.cached_property
    def run_id(self) -> str:
        """The id of the run; see `RunSpec.run_id`."""
        return self.spec.run_id

    @property
    def folder_name(self) -> str:
        """Name of the run's folder."""
        return self.spec.folder_of(self.run_id)


def make_plan(method: str, dataset: str = "shapes-lt", *, seed: int = 0, **specification: Any) -> Plan:
    """Resolve and check everything that defines a run, without reading an image.

    The other arguments and the errors are those of `make_plans`.
    """
    [plan] = make_plans(method, dataset, seeds=[seed], **specification)
    return plan


def make_plans(
    method: str,
    dataset: str,
    *,
    seeds: Sequence[int],
    protocol: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    image_size: int | None = None,
    epochs: int | None = None,
    settings: dict[str, Any] | None = None,
    data_root: Path | None = None,
    oracle: bool = False,
    allow_duplicates: bool = False,
) -> list[Plan]:
    """Plans of runs that differ in the seed alone; everything else is resolved once.

    dataset: a registered name or the path of a dataset folder. protocol: by default the dataset's own.
    settings: the method's configuration by name, and the recipe's by dotted name (`recipe.optimizer.lr`).
    oracle: keep the test logits of every epoch, for the best-on-test number that is shown and never ranked.
    In a few-shot dataset each run has the training list of its seed's episode.
    allow_duplicates: run although images are in two lists under different names; the record says how many.
    Raises InputError for anything unknown or unfit; Unfit, a subclass, where the protocol cannot be used for the
    method.
    """
    seeds = [read_seed(seed) for seed in seeds]
    method_class = METHODS.get(method)
    folder = find_dataset(dataset)
    chosen = PROTOCOLS.get(protocol) if protocol else default_protocol(folder, method, weights)
    data = open_dataset(folder, data_root)
    ref = DatasetRef(name=data.name, fingerprint=data.fingerprint)
    known_name = settings_name(ref)
    settings = plain(settings)
    recipe_changes, config_changes = split_settings(settings or {}, method_class)
    given = plain({"backbone": backbone, "weights": weights, "image_size": image_size, "epochs": epochs})
    recipe_changes = deep_merge(recipe_changes, {key: value for key, value in given.items() if value is not None})
    base = chosen.recipe_for(method, known_name)
    recipe, pretrained = _resolve_recipe(base, chosen, method, data, recipe_changes, given)
    config = method_class.configure(known_name, config_changes)
    datasets = [data.of_seed(seed) for seed in seeds]
    for seen in datasets:
        check_method(method, config, make_task(recipe, seen, pretrained.ref, None, load=False))
    spec = RunSpec(
        method=method,
        method_version=method_class.version,
        config=config.model_dump(mode="json"),
        dataset=ref,
        protocol=chosen.name,
        protocol_version=chosen.version,
        recipe=recipe,
        weights=pretrained.ref,
        overrides=changed(base, recipe, recipe_changes),
        config_overrides=changed(method_class.configure(known_name, {}), config, config_changes),
        seed=0,
    )
    request = given | {
        "method": method,
        "dataset": dataset,
        "protocol": protocol,
        "settings": settings,
        "data_root": None if data_root is None else str(data_root),
        "oracle": oracle,
        "allow_duplicates": allow_duplicates,
    }
    code = code_digest(method_class, recipe, config)
    plan = Plan(spec, method_class, config, data, pretrained, request, code, oracle, allow_duplicates)
    return [
        replace(plan, dataset=seen, spec=spec.model_copy(update={"seed": seed}), request=request | {"seed": seed})
        for seed, seen in zip(seeds, datasets, strict=True)
    ]


def _resolve_recipe(
    base: Recipe, protocol: Protocol, method: str, dataset: Dataset, changes: dict[str, Any], given: dict[str, Any]
) -> tuple[Recipe, PretrainedWeights]:
    """A protocol's recipe with the user's changes, checked, and its weights. given: the changes that are options."""
    recipe = parse(Recipe, deep_merge(base.model_dump(mode="json"), changes), "recipe")
    check_recipe(recipe, protocol, method, dataset)
    weights = resolve_recipe_weights(recipe, protocol, given)
    return fit_to_weights(recipe, weights, changes), weights
