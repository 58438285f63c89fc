"""Checks that a method, a protocol, a recipe, a dataset and pretrained weights fit each other."""

from __future__ import annotations

from typing import Any

import torch

from benchmark.data.dataset import Dataset, DatasetFolder
from benchmark.errors import InputError, Unfit
from benchmark.method import METHODS, MethodConfig, Task
from benchmark.models.backbones import BACKBONES
from benchmark.models.clip import clip_backbones
from benchmark.models.weights import NONE as NO_WEIGHTS
from benchmark.models.weights import PretrainedWeights, resolve_weights
from benchmark.registry import did_you_mean
from benchmark.spec import PROTOCOLS, Protocol, Recipe
from benchmark.training.stages import epochs_per_stage


def default_protocol(folder: DatasetFolder, method: str, weights: str | None) -> Protocol:
    """The dataset's protocol, or its protocol for CLIP where the first lacks what the method requires.

    weights: those that the user names, if any. A backbone that the user names does not count: a method that needs CLIP
    takes the recipe for CLIP with any CLIP backbone.
    """
    for name in (folder.card.protocol, folder.card.clip_protocol):
        if name not in PROTOCOLS:
            known = did_you_mean(name, PROTOCOLS)
            raise InputError(f"{folder.path / 'dataset.yaml'}: unknown protocol {name!r}{known}")
    default = PROTOCOLS.get(folder.card.protocol)
    recipe = default.recipe.model_copy(update={"weights": weights or default.recipe.weights})
    if _lacks(method, recipe) is None:
        return default
    return PROTOCOLS.get(folder.card.clip_protocol)


def check_recipe(recipe: Recipe, protocol: Protocol, method: str, dataset: Dataset) -> None:
    """Raise InputError, or Unfit where the method lacks something, unless the recipe fits the others."""
    if recipe.selection == "best-val" and "val" not in dataset.splits:
        raise InputError(f"recipe.selection is best-val, but dataset {dataset.name!r} has no val.txt; use last")
    if recipe.selection == "best-val" and not dataset.splits["val"].targets.any():
        raise InputError(
            f"recipe.selection is best-val, but no image of val.txt of dataset {dataset.name!r} has a label; use last"
        )
    BACKBONES.get(recipe.backbone)  # first: for an unknown one no other message would help
    lacking = _lacks(method, recipe)
    if lacking is not None:
        raise Unfit(f"method {method!r} needs {lacking}")
    if protocol.pretrained_only and recipe.weights == NO_WEIGHTS:
        raise InputError(
            f"protocol {protocol.name!r} is for pretrained weights: random ones would give a result that no paper "
            "reports; use another protocol"
        )
    if recipe.neck_width is not None:
        raise InputError(
            "recipe.neck_width was a linear layer and ReLU, which no published recipe has; use recipe.neck, a linear "
            "layer and batch norm"
        )


def resolve_recipe_weights(recipe: Recipe, protocol: Protocol, given: dict[str, Any]) -> PretrainedWeights:
    """The recipe's pretrained weights. given: the user's choices. Raises InputError for unknown ones."""
    try:
        return resolve_weights(recipe.backbone, recipe.weights, recipe.image_size)
    except InputError as error:
        if given["backbone"] and not given["weights"]:
            raise InputError(f"{error} (these are protocol {protocol.name!r}'s: give --weights too)") from None
        raise


def fit_to_weights(recipe: Recipe, weights: PretrainedWeights, asked: dict[str, Any]) -> Recipe:
    """The recipe with the weights' full name, and with frozen batch norm where it is folded into the convolutions.

    Folded batch norm has no statistics to train. asked: the user's changes of the recipe. Raises InputError where these
    ask for trained batch norm.
    """
    changes: dict[str, Any] = {"weights": weights.ref.name}
    if weights.ref.batch_norm == "folded":
        if asked.get("batch_norm") == "train":
            raise InputError(f"weights {weights.ref.name}: batch norm is folded; recipe.batch_norm must be frozen")
        changes["batch_norm"] = "frozen"
    return recipe.model_copy(update=changes)


_checked: set[tuple] = set()


def check_method(name: str, config: MethodConfig, task: Task) -> None:
    """Raise Unfit unless the method can be built for the task and each of its stages has an epoch.

    The method is built on the meta device, which computes nothing.
    """
    method = METHODS.get(name)
    # A method that fits is not built again for another learning rate, the most frequent axis of sweeps.
    recipe = task.recipe.model_dump_json(exclude={"optimizer": {"lr"}})
    key = (method, repr(config), recipe, task.class_names, task.class_counts, task.num_images)
    if key in _checked:
        return
    try:
        epochs_per_stage(method.stages(config), task.recipe.epochs)
        with torch.device("meta"):
            method(task, config)
    except InputError as error:
        raise Unfit(f"method {name!r}: {error}") from None
    _checked.add(key)


def _lacks(method: str, recipe: Recipe) -> str | None:
    """The requirement of a method that a recipe lacks, with the remedy; None where it lacks none."""
    requires = METHODS.get(method).requires
    if requires.endswith("clip") and recipe.backbone not in clip_backbones():
        return (
            f"a CLIP backbone, and {recipe.backbone} is none; use --protocol demo-clip or controlled-clip, or "
            f"--backbone {'|'.join(clip_backbones())}"
        )
    if requires.startswith("pretrained") and recipe.weights == NO_WEIGHTS:
        return "pretrained weights: it takes their features as they are; name some with --weights"
    return None
