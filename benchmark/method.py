"""The contract between a method and the harness.

A method is a torch module with `forward`, `training_loss` and a few declarations. The harness owns data, device,
precision, schedule, EMA, checkpoints and the metric, and shows a method a `Task`: never an image of the
validation or test list.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from benchmark.errors import InputError
from benchmark.models.backbones import Backbone
from benchmark.models.classifier import LinearClassifier
from benchmark.registry import Registry
from benchmark.spec import Recipe, Strict, deep_merge, parse


@dataclass(frozen=True)
class Task:
    """What a method may know of the problem.

    class_counts: training positives of every class, in class order.
    num_images: number of training images.
    make_backbone: builds the backbone of the recipe, pretrained and frozen as the recipe says.
    """

    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    num_images: int
    recipe: Recipe
    make_backbone: Callable[[], Backbone]


@dataclass(frozen=True)
class Batch:
    """images: normalised float32 [B, 3, S, S]; targets: float32 {0, 1} [B, C]."""

    images: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate: the recipe's `lr`, times `head_lr_scale` for "head".

    weight_decay: None for the recipe's.
    """

    parameters: list[nn.Parameter]
    learning_rate: Literal["backbone", "head"]
    weight_decay: float | None = None


class MethodConfig(Strict):
    """Base of a method's configuration: fields with defaults and descriptions, set by `--set name=value`."""


class Method(nn.Module, ABC):
    """Base of every method; registered with `METHODS.register(name)`.

    title: the row's name. version: hashed into the run id; raise it when results change.
    dataset_defaults: configuration that the paper gives for one dataset: dataset name -> fields.
    """

    title: ClassVar[str]
    version: ClassVar[int] = 1
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    dataset_defaults: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, task: Task, config: MethodConfig):
        super().__init__()

    @classmethod
    def samplers(cls, config: MethodConfig) -> tuple[str, ...]:
        """Names of the samplers to draw from: `training_loss` gets one batch from each, in this order."""
        return ("uniform",)

    @abstractmethod
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B, 3, S, S] -> logits [B, C]: the scores that are evaluated."""

    @abstractmethod
    def training_loss(self, *batches: Batch) -> torch.Tensor:
        """One batch a sampler -> scalar loss."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """What is trained: by default everything that requires a gradient, backbones apart from the rest."""
        inside = {id(p) for m in self.modules() if isinstance(m, Backbone) for p in m.parameters()}
        trained = [p for p in self.parameters() if p.requires_grad]
        return [
            ParameterGroup([p for p in trained if id(p) in inside], "backbone"),
            ParameterGroup([p for p in trained if id(p) not in inside], "head"),
        ]

    @classmethod
    def configure(cls, dataset: str, settings: dict[str, Any]) -> MethodConfig:
        """Defaults, then the dataset's, then the user's settings. Raises InputError with the near names."""
        merged = deep_merge(cls.dataset_defaults.get(dataset, {}), settings)
        return parse(cls.Config, merged, f"{cls.title}: setting")


class LossMethod(Method):
    """A method that is a loss (and a sampler) on the shared network."""

    def __init__(self, task: Task, config: MethodConfig):
        super().__init__(task, config)
        recipe = task.recipe
        self.network = LinearClassifier(task.make_backbone(), len(task.class_names), recipe.neck_width, recipe.dropout)
        self.loss = self.make_loss(task, config)

    @abstractmethod
    def make_loss(self, task: Task, config: Any) -> nn.Module:
        """A module called with (logits, targets), both [B, C], that gives a scalar."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)

    def training_loss(self, batch: Batch) -> torch.Tensor:
        # Losses in float32: bfloat16 has three digits.
        return self.loss(self(batch.images).float(), batch.targets)


def _load_methods() -> None:
    import methods

    for module in pkgutil.iter_modules(methods.__path__):
        try:
            importlib.import_module(f"methods.{module.name}")
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise InputError(f"methods/{module.name}.py: cannot be imported: {reason}; mend the file") from error
    for name, method in METHODS.items():
        if not hasattr(method, "title"):
            raise InputError(f"method {name!r}: {method.__module__}.{method.__qualname__} has no title; give it one")


METHODS: Registry[type[Method]] = Registry("method", Method, _load_methods)
