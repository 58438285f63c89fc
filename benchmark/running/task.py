"""The task that a method is built for."""

from __future__ import annotations

import functools

import torch

from benchmark.data.dataset import Dataset
from benchmark.method import Task
from benchmark.models.backbones import Backbone, make_backbone
from benchmark.models.clip import Clip, make_clip, make_text_tower
from benchmark.models.weights import SILENT, resolve_weights
from benchmark.running.own_network import of_recipe
from benchmark.spec import Recipe, WeightsRef
from benchmark.ui.progress import Reporter


def make_task(
    recipe: Recipe,
    dataset: Dataset,
    weights: WeightsRef,
    state: dict[str, torch.Tensor] | None,
    load: bool = True,
    reporter: Reporter = SILENT,
) -> Task:
    """The task that a method is built for.

    state: of the recipe's weights, None for random ones. load: False leaves other networks random too, and nothing is
    read or fetched. reporter: of other networks' weights; see `PretrainedWeights.load`.
    """

    def backbone() -> Backbone:
        built = make_backbone(recipe.backbone, recipe.image_size, state, weights.quick_gelu)
        built.freeze(recipe.frozen_stages, batch_norm=recipe.batch_norm == "frozen")
        return of_recipe(built)

    def clip() -> Clip:
        built = make_clip(recipe.backbone, recipe.image_size, state, weights.quick_gelu)
        of_recipe(built.image)
        return built

    def other_backbone(name: str, other_weights: str) -> Backbone:
        other = resolve_weights(name, other_weights, recipe.image_size)
        return make_backbone(name, recipe.image_size, other.load(reporter) if load else None, other.ref.quick_gelu)

    return Task(
        class_names=dataset.classes,
        class_counts=tuple(dataset.class_counts.tolist()),
        num_images=len(dataset.splits["train"]),
        recipe=recipe,
        make_backbone=backbone,
        make_clip=clip,
        make_text_tower=functools.partial(make_text_tower, load=load, reporter=reporter),
        make_other_backbone=other_backbone,
    )
