"""The contract between a backbone's network and the harness.

An `Architecture` describes one network: how it is built and divided into stages, its image sizes, the names of its
published weights, and how state dicts are fitted to it. The modules of `benchmark.models.networks` define them and are
found there: a new network is one file.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from benchmark.base.modules import import_package
from benchmark.errors import InputError
from benchmark.models.weight_files import WeightsFile
from benchmark.registry import Registry
from benchmark.spec import WeightsRef


class Backbone(nn.Module):
    """A feature extractor: a sequence of named stages without the class head.

    stages: named, in order; the first is the stem. Their output is a feature map [B, M, h, w], or tokens
        [B, 1 + h * w, M] with the class token first. A network with another output overrides `pool` and `feature_map`:
        what is common to all is the output of these.
    map_dim: M. feature_dim: D, of the pooled features.
    """

    def __init__(self, stages: OrderedDict[str, nn.Module], map_dim: int, feature_dim: int | None = None):
        super().__init__()
        self.stages = nn.Sequential(stages)
        self.map_dim = map_dim
        self.feature_dim = feature_dim or map_dim
        self._frozen: list[nn.Module] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B, 3, H, W] -> pooled features [B, D]."""
        return self.pool(self.stages(images))

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """Output of the last stage -> [B, D]: global average, or the class token."""
        return features[:, 0] if features.ndim == 3 else features.mean(dim=(2, 3))

    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B, 3, H, W] -> the last feature map, before pooling, [B, M, h, w]."""
        features = self.stages(images)
        if features.ndim == 3:
            side = math.isqrt(features.shape[1] - 1)
            features = features[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        return features

    def branch(self) -> Backbone:
        """A copy of the last stage and of the pooling, as a separate backbone: output of the stage before -> [B, D].
        Frozen parts stay frozen in the copy."""
        copied = copy.deepcopy(self)
        fixed = {module for frozen in copied._frozen for module in frozen.modules()}
        copied.stages = copied.stages[-1:]
        copied._frozen = [module for module in copied.modules() if module in fixed]
        return copied

    def freeze(self, num_stages: int, batch_norm: bool) -> None:
        """Keep the first `num_stages` stages fixed and, with `batch_norm`, every batch norm's statistics.

        Frozen parts stay in evaluation mode whatever `train()` says. Raises InputError for too many stages.
        """
        if num_stages > len(self.stages):
            names = ", ".join(name for name, _ in self.stages.named_children())
            raise InputError(f"frozen_stages is {num_stages}, but the backbone has {len(self.stages)} ({names})")
        self._frozen = list(self.stages[:num_stages])
        for stage in self._frozen:
            stage.requires_grad_(False)
        if batch_norm:
            self._frozen += [m for m in self.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.train(self.training)

    def freeze_all(self) -> None:
        """Keep everything fixed, pooling included, and in evaluation mode."""
        self.requires_grad_(False)
        self._frozen = [self.stages, *(module for name, module in self.named_children() if name != "stages")]
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


@dataclass(frozen=True)
class WeightsSource:
    """The source of weights.

    ref: their entry in a run's specification. file: where they are published and looked for; None for random
    initialisation.
    """

    ref: WeightsRef
    file: WeightsFile | None = None


class Architecture(ABC):
    """One network: a class that is registered by name and never instantiated.

    head: prefixes of the class head's keys, which weight files may hold and the backbone does not.
    size_step: the side of an image in pixels is a multiple of it.
    has_quick_gelu: whether the network can have QuickGELU, the activation of OpenAI's CLIP.
    shipped: weights that come with this package, name -> file with a card.
    """

    head: ClassVar[tuple[str, ...]] = ()
    size_step: ClassVar[int] = 1
    has_quick_gelu: ClassVar[bool] = False
    shipped: ClassVar[Mapping[str, Path]] = {}

    @classmethod
    @abstractmethod
    def build(cls, image_size: int, quick_gelu: bool) -> nn.Module:
        """The whole network, randomly initialised, with the key names that weight files use.

        image_size: a multiple of `size_step`. quick_gelu: only where `has_quick_gelu`.
        """

    @classmethod
    @abstractmethod
    def wrap(cls, network: nn.Module) -> Backbone:
        """A network from `build`, as a backbone.

        A recipe can freeze its first stages; a network that is frozen in another way overrides `Backbone.freeze`.
        """

    @classmethod
    def weight_names(cls) -> list[str]:
        """Names of the published weights, for messages."""
        return []

    @classmethod
    def published(cls, backbone: str, weights: str) -> WeightsSource | None:
        """The weights that are published under a name, None for an unknown name; nothing is fetched yet.

        backbone: the name of this architecture, for messages. May raise InputError instead of returning None, with a
        more helpful message.
        """
        return None

    @classmethod
    def fit(
        cls, state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], image_size: int
    ) -> dict[str, torch.Tensor]:
        """A state dict adapted to the network of `build`, for example with interpolated position embeddings.

        expected: the network's own state dict, on the meta device. Tensors that cannot be adapted stay as they are: the
        caller refuses them.
        """
        return state


def _load_networks() -> None:
    import_package("benchmark.models.networks")


BACKBONES: Registry[type[Architecture]] = Registry("backbone", Architecture, _load_networks)


def build_network(name: str, image_size: int, quick_gelu: bool = False) -> nn.Module:
    """The whole network of a backbone, randomly initialised.

    Raises InputError for an unknown name or an image size that the network does not take.
    """
    architecture = BACKBONES.get(name)
    check_image_size(name, image_size, architecture.size_step)
    return architecture.build(image_size, quick_gelu)


def check_image_size(name: str, image_size: int, step: int) -> None:
    """Raise InputError for an image size that is no multiple of a backbone's step."""
    if image_size % step:
        raise InputError(f"{name} needs an image size that is a multiple of {step}; {image_size} is not")


def make_network(
    name: str, image_size: int, state: dict[str, torch.Tensor] | None, quick_gelu: bool = False
) -> nn.Module:
    """The whole network of a backbone; `state` as `benchmark.models.weights.PretrainedWeights.load` gives it.

    Raises InputError: see `build_network`.
    """
    network = build_network(name, image_size, quick_gelu)
    if state is not None:
        network.load_state_dict(state, strict=False)
    return network


def make_backbone(
    name: str, image_size: int, state: dict[str, torch.Tensor] | None, quick_gelu: bool = False
) -> Backbone:
    """A backbone by name; see `make_network`."""
    return BACKBONES.get(name).wrap(make_network(name, image_size, state, quick_gelu))
