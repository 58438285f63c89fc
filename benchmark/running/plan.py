"""From the names of a run to a plan: everything that defines it, resolved and checked."""

from __future__ import annotations

import functools
import hashlib
import json
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmark.data.dataset import DATA_ROOT_VARIABLE, Dataset, DatasetCard, DatasetFolder, find_dataset
from benchmark.data.lists import list_bytes
from benchmark.data.registered import settings_name
from benchmark.data.sources import OwnImages
from benchmark.errors import InputError, Unfit
from benchmark.method import METHODS, Method, MethodConfig, Task
from benchmark.models.backbones import BACKBONES
from benchmark.models.clip import clip_backbones
from benchmark.models.weights import NONE as NO_WEIGHTS
from benchmark.models.weights import PretrainedWeights, resolve_weights
from benchmark.registry import did_you_mean
from benchmark.running.environment import code_digest
from benchmark.running.task import make_task
from benchmark.spec import (
    FOR_PEOPLE,
    PROTOCOLS,
    DatasetRef,
    Protocol,
    Recipe,
    RunSpec,
    Strict,
    deep_merge,
    flatten,
    nested,
    parse,
    plain_value,
)
from benchmark.training.stages import epochs_per_stage

# Part of a track's name, so not worth repeating as "changed by the user".
_TRACK_KEYS = ("backbone", "weights", "image_size")


@dataclass(frozen=True)
class Plan:
    """A run that can be started: its specification, and what it is made from.

    request: the arguments of `plan`, plain values, so that another process can make the same plan. oracle: whether the
    test logits of every epoch are kept; no part of the specification, since it changes nothing else.
    """

    spec: RunSpec
    method: type[Method]
    config: MethodConfig
    dataset: Dataset
    weights: PretrainedWeights
    request: dict[str, Any]
    oracle: bool = False

    @functools.cached_property
    def run_id(self) -> str:
        """The id of the run; see `RunSpec.run_id`."""
        return self.spec.run_id

    @property
    def folder_name(self) -> str:
        """Name of the run's folder."""
        return self.spec.folder_of(self.run_id)


def plan(method: str, dataset: str = "shapes-lt", *, seed: int = 0, **specification: Any) -> Plan:
    """Resolve and check everything that defines a run, without touching an image.

    The other arguments are those of `plan_seeds`, which tells what is raised.
    """
    [work] = plan_seeds(method, dataset, seeds=[seed], **specification)
    return work


def plan_seeds(
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
) -> list[Plan]:
    """Plans of runs that differ in the seed alone, made for little more than one.

    dataset: a registered name or the path of a dataset folder. protocol: by default the dataset's own.
    settings: the method's configuration by name, and the recipe's by dotted name (`recipe.optimizer.lr`).
    oracle: keep the test logits of every epoch, for the best-on-test number that is shown and never ranked.
    Raises InputError for anything unknown or unfit; Unfit, one of these, where the protocol has no place for the
    method.
    """
    seeds = [_seed(seed) for seed in seeds]
    method_class = METHODS.get(method)
    folder = find_dataset(dataset)
    chosen = PROTOCOLS.get(protocol) if protocol else _default_protocol(folder, method, weights)
    data = _open(folder, data_root)
    ref = DatasetRef(name=data.name, fingerprint=data.fingerprint)
    known_name = settings_name(ref)
    settings = _plain(settings)
    recipe_changes, config_changes = _split_settings(settings or {}, method_class)
    given = _plain({"backbone": backbone, "weights": weights, "image_size": image_size, "epochs": epochs})
    recipe_changes = deep_merge(recipe_changes, {key: value for key, value in given.items() if value is not None})
    base = chosen.recipe_for(method, known_name)
    recipe = parse(Recipe, deep_merge(base.model_dump(mode="json"), recipe_changes), "recipe")
    if recipe.selection == "best-val" and "val" not in data.splits:
        raise InputError(f"recipe.selection is best-val, but dataset {data.name!r} has no val.txt; use last")
    if recipe.selection == "best-val" and not data.splits["val"].targets.any():
        raise InputError(
            f"recipe.selection is best-val, but no image of val.txt of dataset {data.name!r} has a label; use last"
        )
    BACKBONES.get(recipe.backbone)  # first: of an unknown one no other message would help
    _check_recipe(chosen, method, recipe)
    pretrained = _resolve_weights(recipe, chosen, given)
    recipe = _fit_to_weights(recipe, pretrained, recipe_changes)
    config = method_class.configure(known_name, config_changes)
    code_digest(method_class)  # read now: plans are made before anything runs and the code can change
    _check_method(method, config, make_task(recipe, data, pretrained.ref, None, load=False), data.fingerprint)
    spec = RunSpec(
        method=method,
        method_version=method_class.version,
        config=config.model_dump(mode="json"),
        dataset=ref,
        protocol=chosen.name,
        protocol_version=chosen.version,
        recipe=recipe,
        weights=pretrained.ref,
        overrides=_changed(base, recipe, recipe_changes),
        config_overrides=_changed(method_class.configure(known_name, {}), config, config_changes),
        seed=0,
    )
    request = given | {
        "method": method,
        "dataset": dataset,
        "protocol": protocol,
        "settings": settings,
        "data_root": None if data_root is None else str(data_root),
        "oracle": oracle,
    }
    return [
        Plan(
            spec.model_copy(update={"seed": seed}),
            method_class,
            config,
            data,
            pretrained,
            request | {"seed": seed},
            oracle,
        )
        for seed in seeds
    ]


def _seed(value: Any) -> int:
    """A seed as Python's int. Raises InputError for anything but a whole number in range."""
    try:
        seed = operator.index(value)
    except TypeError:
        seed = -1
    if isinstance(value, bool) or not 0 <= seed < 2**31:
        raise InputError(f"seed {value} is out of range; give one from 0 to {2**31 - 1}")
    return seed


def _plain(data: Any) -> Any:
    """Arguments as plain values: another process may be told them. Raises InputError."""
    try:
        return json.loads(json.dumps(data, default=plain_value))
    except (TypeError, ValueError) as error:
        raise InputError(f"settings are not plain data: {error}") from None


def _open(folder: DatasetFolder, data_root: Path | None) -> Dataset:
    """The dataset in a folder, its lists read once as long as they stay as they are. Raises InputError."""
    contents = []
    for name in ("classes.txt", "train.txt", "val.txt", "test.txt"):
        try:
            contents.append(hashlib.sha256(list_bytes(folder.path / name)).hexdigest())
        except OSError:
            contents.append(None)
    dataset = _opened(folder, folder.card, data_root, os.environ.get(DATA_ROOT_VARIABLE), *contents)
    # A copy has its fingerprint taken anew: the images may have changed.
    return replace(dataset) if isinstance(dataset.source, OwnImages) else dataset


@functools.lru_cache(maxsize=16)
def _opened(folder: DatasetFolder, card: DatasetCard, data_root: Path | None, *state: str | None) -> Dataset:
    return folder.open(data_root)


def _default_protocol(folder: DatasetFolder, method: str, weights: str | None) -> Protocol:
    """The dataset's protocol, or its protocol for CLIP where the other does not give the method what it requires.

    weights: those that the user names, if any. A backbone that the user names does not count: with a CLIP of one's own
    a method that needs CLIP takes the recipe that was made for CLIP.
    """
    for name in (folder.card.protocol, folder.card.clip_protocol):
        if name not in PROTOCOLS:
            known = did_you_mean(name, PROTOCOLS)
            raise InputError(f"{folder.path / 'dataset.yaml'}: unknown protocol {name!r}{known}")
    usual = PROTOCOLS.get(folder.card.protocol)
    recipe = usual.recipe.model_copy(update={"weights": weights or usual.recipe.weights})
    if _lacks(method, recipe) is None:
        return usual
    return PROTOCOLS.get(folder.card.clip_protocol)


def _lacks(method: str, recipe: Recipe) -> str | None:
    """What a method requires and a recipe does not give, with the remedy."""
    requires = METHODS.get(method).requires
    if requires.endswith("clip") and recipe.backbone not in clip_backbones():
        return (
            f"a CLIP backbone, and {recipe.backbone} is none; use --protocol demo-clip or controlled-clip, or "
            f"--backbone {'|'.join(clip_backbones())}"
        )
    if requires.startswith("pretrained") and recipe.weights == NO_WEIGHTS:
        return "pretrained weights: it takes their features as they are; name some with --weights"
    return None


def _check_recipe(protocol: Protocol, method: str, recipe: Recipe) -> None:
    lacking = _lacks(method, recipe)
    if lacking is not None:
        raise Unfit(f"method {method!r} needs {lacking}")
    if protocol.pretrained_only and recipe.weights == NO_WEIGHTS:
        raise InputError(
            f"protocol {protocol.name!r} is for pretrained weights: none would be a result that nobody printed; "
            "use another protocol"
        )
    if recipe.neck_width is not None:
        raise InputError(
            "recipe.neck_width was a linear layer and ReLU, which no published recipe has; use recipe.neck, a linear "
            "layer and batch norm"
        )


_checked: set[tuple] = set()


def _check_method(name: str, config: MethodConfig, task: Task, fingerprint: str) -> None:
    """Raise Unfit unless the method can be built for the task, on the meta device, which computes nothing, and has an
    epoch for each of its stages."""
    method = METHODS.get(name)
    # What a method is built from: all but the learning rate, the axis that sweeps have most often.
    recipe = task.recipe.model_dump_json(exclude={"optimizer": {"lr"}})
    key = (method, repr(config), recipe, fingerprint)
    if key in _checked:
        return
    try:
        epochs_per_stage(method.stages(config), task.recipe.epochs)
        with torch.device("meta"):
            method(task, config)
    except InputError as error:
        raise Unfit(f"method {name!r}: {error}") from None
    _checked.add(key)


def _resolve_weights(recipe: Recipe, protocol: Protocol, given: dict[str, Any]) -> PretrainedWeights:
    try:
        return resolve_weights(recipe.backbone, recipe.weights, recipe.image_size)
    except InputError as error:
        if given["backbone"] and not given["weights"]:
            raise InputError(f"{error} (these are protocol {protocol.name!r}'s: give --weights too)") from None
        raise


def _split_settings(settings: dict[str, Any], method: type[Method]) -> tuple[dict[str, Any], dict[str, Any]]:
    recipe: dict[str, Any] = {}
    config: dict[str, Any] = {}
    recipe_keys = [f"recipe.{key}" for key in Recipe.model_fields]
    for key, value in settings.items():
        if key.startswith("recipe."):
            recipe = deep_merge(recipe, nested({key.removeprefix("recipe."): value}))
        elif key in method.Config.model_fields:
            config[key] = value
        else:
            known = [*method.Config.model_fields, *recipe_keys]
            raise InputError(f"unknown setting {key!r} for method {method.title}{did_you_mean(key, known)}")
    return recipe, config


def _fit_to_weights(recipe: Recipe, weights: PretrainedWeights, asked: dict[str, Any]) -> Recipe:
    """Batch norm that is folded into the convolutions has no statistics to train."""
    changes: dict[str, Any] = {"weights": weights.ref.name}
    if weights.ref.batch_norm == "folded":
        if asked.get("batch_norm") == "train":
            raise InputError(f"weights {weights.ref.name}: batch norm is folded; recipe.batch_norm must be frozen")
        changes["batch_norm"] = "frozen"
    return recipe.model_copy(update=changes)


def _changed(before: Strict, after: Strict, asked: dict[str, Any]) -> dict[str, Any]:
    """What the user asked for that differs from the default, by dotted name, as people read it."""
    old, new = (flatten(value.model_dump(mode="json", context=FOR_PEOPLE)) for value in (before, after))
    return {key: new[key] for key in flatten(asked) if key not in _TRACK_KEYS and new[key] != old.get(key)}
