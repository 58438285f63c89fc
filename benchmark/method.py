"""The contract between a method and the harness.

A method is a torch module with `forward`, `training_loss` and a few declarations. The harness owns data, device,
precision, schedule, EMA, checkpoints and the metric. A method gets a `Task`, and never an image of the validation or
test list.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from benchmark.base.method_files import FOLDER, load_files
from benchmark.base.modules import file_of, import_entry_points
from benchmark.errors import InputError
from benchmark.models.backbones import Backbone
from benchmark.models.classifier import LinearClassifier
from benchmark.models.clip import Clip, TextTower
from benchmark.registry import Registry
from benchmark.spec import Recipe, Strict, deep_merge, parse

LearningRate = Literal["backbone", "head"]
# The group in which installed packages offer methods: `[project.entry-points."ltbench.methods"]`.
ENTRY_POINTS = "ltbench.methods"


@dataclass(frozen=True)
class Task:
    """The facts about the problem that a method may use.

    class_counts: training positives of every class, in class order.
    num_images: number of training images.
    make_backbone: builds the backbone of the recipe, pretrained and frozen as the recipe says. A method that scores
        images by another network has a table of its own.
    make_clip: builds both towers of the CLIP that the recipe names, all frozen: the method unfreezes the parts that it
        trains. Raises InputError when the recipe's backbone is no CLIP image tower.
    make_text_tower: builds the text tower of another CLIP, frozen, from `architecture:tag`
        (`ViT-B-16:openai`) or a file.
    make_other_backbone: builds another backbone from its name and its weights' name.

    Before a run starts, the harness builds the method once on PyTorch's meta device, without loading weights: a method
    checks its needs in its constructor, and raises InputError.
    """

    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    num_images: int
    recipe: Recipe
    make_backbone: Callable[[], Backbone]
    make_clip: Callable[[], Clip]
    make_text_tower: Callable[[str], TextTower]
    make_other_backbone: Callable[[str, str], Backbone]


@dataclass(frozen=True)
class Batch:
    """A batch of training examples.

    images: normalised float32 [B, 3, S, S], or the output of `Method.features`. targets: float32 {0, 1} [B, C].
    """

    images: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate: the recipe's `lr`, times `head_lr_scale` for "head", times `lr_scale`.

    weight_decay: None for the recipe's.
    """

    parameters: list[nn.Parameter]
    learning_rate: LearningRate
    weight_decay: float | None = None
    lr_scale: float = 1.0


@dataclass(frozen=True)
class Stage:
    """A part of training, with its own optimiser, schedule and EMA.

    share: of the recipe's epochs, relative to the other stages' shares, above 0; every stage gets at least one epoch.
    lr_scale: multiplies the recipe's learning rate.
    """

    name: str = "training"
    share: float = 1.0
    lr_scale: float = 1.0


class MethodConfig(Strict):
    """Base of a method's configuration: fields with defaults and descriptions, set by `--set name=value`."""

    def without_effect(self) -> dict[str, str]:
        """Setting without effect -> the setting that switches it off: {"consistency_weight": "consistency=false"}."""
        return {}


class Method(nn.Module, ABC):
    """Base of every method; registered with `METHODS.register(name)`.

    title: the row's name. version: hashed into the run id; raise it when results change.
    dataset_defaults: the paper's configuration for one dataset: dataset name -> fields.
    requires: the backbone that the recipe must give: any, a pretrained one, a CLIP image tower, or a pretrained one.
    trains_on: "images", or "features": the output of `features` on the training images, computed once, without
        augmentation.
    """

    title: ClassVar[str]
    version: ClassVar[int] = 1
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    dataset_defaults: ClassVar[dict[str, dict[str, Any]]] = {}
    requires: ClassVar[Literal["any", "pretrained", "clip", "pretrained-clip"]] = "any"
    trains_on: ClassVar[Literal["images", "features"]] = "images"

    def __init__(self, task: Task, config: MethodConfig):
        super().__init__()

    @classmethod
    def row_title(cls, config: MethodConfig) -> str:
        """The row's title: `title`, unless a configuration changes it."""
        return cls.title

    @classmethod
    def samplers(cls, config: MethodConfig) -> tuple[str, ...]:
        """Names of the samplers to draw from: `training_loss` gets one batch from each, in this order."""
        return ("uniform",)

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """The stages of training, in order; none for a method that is not trained."""
        return (Stage(),)

    def begin_stage(self, stage: Stage) -> None:
        """Called before each stage, to choose what it trains; `parameter_groups` is called afterwards.

        When a later stage begins, the method holds the weights of the stage before that the recipe reports (raw or
        EMA). A run that resumes in a later stage first begins the earlier ones on the initial weights, then loads the
        checkpoint: the modules must be the same either way.
        """

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B, 3, S, S] -> `Batch.images` of `training_loss`, [B, ...], where `trains_on` is
        "features". Called in evaluation mode, without gradient."""
        raise NotImplementedError

    @abstractmethod
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B, 3, S, S] -> logits [B, C], the scores that are evaluated."""

    @abstractmethod
    def training_loss(self, *batches: Batch) -> torch.Tensor:
        """One batch of each sampler -> scalar loss, a mean over images.

        Each of several processes gets a part of the batches: a term that is no mean over images needs
        `benchmark.distributed.batch_mean` or `batch_sum`.
        """

    def parameter_groups(self) -> list[ParameterGroup]:
        """The parameters that are trained: by default all that require a gradient, in a group for backbones and one for
        the rest."""
        inside = {id(p) for m in self.modules() if isinstance(m, Backbone) for p in m.parameters()}
        trained = [p for p in self.parameters() if p.requires_grad]
        return [
            ParameterGroup([p for p in trained if id(p) in inside], "backbone"),
            ParameterGroup([p for p in trained if id(p) not in inside], "head"),
        ]

    @classmethod
    def configure(cls, dataset: str, settings: dict[str, Any]) -> MethodConfig:
        """The configuration: the defaults, then the dataset's, then the user's settings.

        Raises InputError with the near names, and for a setting that another one switches off: two rows would look
        different and be the same.
        """
        where = f"{cls.title}: setting"
        config = parse(cls.Config, deep_merge(cls.dataset_defaults.get(dataset, {}), settings), where)
        for name, switch in config.without_effect().items():
            if name in settings:
                raise InputError(f"{where} {name} has no effect with {switch}; leave one of them out")
        return config


class LossMethod(Method):
    """A method that is a loss (and a sampler) on the shared network."""

    def __init__(self, task: Task, config: MethodConfig):
        super().__init__(task, config)
        recipe = task.recipe
        self.network = LinearClassifier(task.make_backbone(), len(task.class_names), recipe.neck, recipe.dropout)
        self.loss = self.make_loss(task, config)

    @abstractmethod
    def make_loss(self, task: Task, config: Any) -> nn.Module:
        """A module called with (logits, targets), both [B, C], that gives a scalar."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)

    def training_loss(self, batch: Batch) -> torch.Tensor:
        # The loss is computed in float32: bfloat16 has three digits.
        return self.loss(self(batch.images).float(), batch.targets)


def _load_methods() -> None:
    load_files()
    for point, offered in import_entry_points(ENTRY_POINTS):
        if isinstance(offered, type) and issubclass(offered, Method):
            if all(method is not offered for _, method in METHODS.items()):
                METHODS.register(point.name)(offered)
        elif not isinstance(offered, ModuleType):
            raise InputError(
                f"entry point {point.name!r} ({point.value}) of group {ENTRY_POINTS} is neither a module nor a class "
                "of methods; correct its package, or uninstall it"
            )
    for name, method in METHODS.items():
        if not hasattr(method, "title"):
            raise InputError(f"{source_of(method)}: method {name!r}, {method.__qualname__}, has no title; give it one")


METHODS: Registry[type[Method]] = Registry("method", Method, _load_methods)


def source_of(method: type[Method]) -> str:
    """The source of a method: `methods/erm.py` for one of the project's, another file's path, or a module's name."""
    file = file_of(method.__module__)
    if file is None:
        return method.__module__
    return str(file.relative_to(FOLDER.parent)) if file.is_relative_to(FOLDER) else str(file)
