"""Images and weights that a run needs and this machine lacks."""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmark.errors import InputError
from benchmark.models.backbones import Backbone
from benchmark.models.clip import TextTower, clip_architectures, clip_backbone_of
from benchmark.models.weights import PretrainedWeights, resolve_weights
from benchmark.running.plan import Plan
from benchmark.running.task import make_task


def absences(plan: Plan) -> list[str]:
    """The images and weights that a run needs and this machine lacks, a line each.

    Weights of the other networks that its method builds are included.
    """
    missing = []
    try:
        plan.dataset.source.check(plan.dataset.splits.values())
    except InputError as error:
        missing.append(str(error))
    for network, weights in networks(plan).items():
        if weights.file is not None and not weights.is_here():
            missing.append(f"weights {weights.ref.name} ({network}) are not here: {weights.file.remedy(weights.name)}")
    return missing


def networks(plan: Plan) -> dict[str, PretrainedWeights]:
    """Description of each network of a run -> its weights, those of other networks that its method builds included."""
    recipe = plan.spec.recipe
    found = {recipe.backbone: plan.weights}
    task = make_task(recipe, plan.dataset, plan.spec.weights, None, load=False)

    def text_tower(weights: str) -> TextTower:
        backbone = clip_backbone_of(weights)
        size = clip_architectures()[backbone].pretrained_size
        found[f"text tower for {plan.spec.method}"] = resolve_weights(backbone, weights, size)
        return task.make_text_tower(weights)

    def other_backbone(name: str, weights: str) -> Backbone:
        found[name] = resolve_weights(name, weights, recipe.image_size)
        return task.make_other_backbone(name, weights)

    with torch.device("meta"):
        plan.method(replace(task, make_text_tower=text_tower, make_other_backbone=other_backbone), plan.config)
    return found
