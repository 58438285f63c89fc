"""Backbones: torchvision's networks and a small CNN, as a sequence of named stages without the class head."""

from __future__ import annotations

import copy
import importlib
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import nn

from benchmark.errors import InputError
from benchmark.registry import Registry


class Backbone(nn.Module):
    """A feature extractor.

    stages: named, in order; the first is the stem. Their output is a feature map [B, M, h, w], or tokens
        [B, 1 + h * w, M] with the class token first.
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
        """A copy of the last stage and of the pooling, as a backbone of its own: output of the stage before ->
        [B, D]. What is frozen here is frozen there."""
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
class BackboneEntry:
    """How to build a backbone.

    build: (image size, QuickGELU) -> the whole network, randomly initialised, with the key names that weight files
        use. Only CLIP's networks come with either activation.
    wrap: the network -> the backbone.
    head: prefixes of the class head's keys, which weight files may carry and the backbone has not.
    torchvision_name: under which torchvision lists its pretrained weights, None when there are none.
    clip_name: open_clip's name of the architecture whose image tower this is, None for other networks.
    """

    build: Callable[[int, bool], nn.Module]
    wrap: Callable[[nn.Module], Backbone]
    head: tuple[str, ...] = ()
    torchvision_name: str | None = None
    clip_name: str | None = None


def _load_clip() -> None:
    importlib.import_module("benchmark.models.clip")


BACKBONES: Registry[BackboneEntry] = Registry("backbone", BackboneEntry, _load_clip)


def make_network(
    name: str, image_size: int, state: dict[str, torch.Tensor] | None, quick_gelu: bool = False
) -> nn.Module:
    """The whole network of a backbone; `state` as `benchmark.models.weights.PretrainedWeights.load` gives it."""
    network = BACKBONES.get(name).build(image_size, quick_gelu)
    if state is not None:
        network.load_state_dict(state, strict=False)
    return network


def make_backbone(
    name: str, image_size: int, state: dict[str, torch.Tensor] | None, quick_gelu: bool = False
) -> Backbone:
    """A backbone by name; see `make_network`."""
    return BACKBONES.get(name).wrap(make_network(name, image_size, state, quick_gelu))


def _resnet_stages(network: nn.Module) -> OrderedDict[str, nn.Module]:
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    layers = {f"layer{i}": getattr(network, f"layer{i}") for i in range(1, 5)}
    return OrderedDict(stem=stem, **layers)


def _mobilenet_stages(network: nn.Module) -> OrderedDict[str, nn.Module]:
    # One stage a resolution: 1/2, 1/4, 1/8, 1/16 and 1/32 of the image.
    borders = [0, 2, 4, 7, 14, 19]
    names = ["stem", "stage1", "stage2", "stage3", "stage4"]
    return OrderedDict(
        (name, network.features[a:b]) for name, a, b in zip(names, borders[:-1], borders[1:], strict=True)
    )


class PatchEmbedding(nn.Module):
    """A vision transformer's stem: images [B, 3, H, W] -> tokens [B, 1 + h * w, M], class token first.

    project: convolution whose stride is its kernel. class_token: M numbers. position: [..., 1 + h * w, M], added.
    last: what the tokens pass then, dropout or norm.
    """

    def __init__(self, project: nn.Conv2d, class_token: nn.Parameter, position: nn.Parameter, last: nn.Module):
        super().__init__()
        self.project = project
        self.class_token = class_token
        self.position = position
        self.last = last

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = self.project(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(patches), 1, -1), patches], dim=1)
        return self.last(tokens + self.position)


def _vit_stages(network: nn.Module) -> OrderedDict[str, nn.Module]:
    encoder = network.encoder
    blocks = list(encoder.layers)
    stem = PatchEmbedding(network.conv_proj, network.class_token, encoder.pos_embedding, encoder.dropout)
    stages: OrderedDict[str, nn.Module] = OrderedDict(stem=stem)
    stages.update((f"block{i}", block) for i, block in enumerate(blocks, 1))
    stages[f"block{len(blocks)}"] = nn.Sequential(blocks[-1], encoder.ln)
    return stages


def _small_cnn(image_size: int) -> nn.Module:
    """Seven 3x3 convolutions for the demo's 64-pixel images: 16 to 128 channels, a map of 1/16 of the side.

    Pooling takes the maximum: the objects are small and an average would lose them.
    """

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    def stage(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(*block(inputs, outputs), *block(outputs, outputs), nn.MaxPool2d(2))

    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(*block(3, 16), nn.MaxPool2d(2)),
            stage1=stage(16, 32),
            stage2=stage(32, 64),
            stage3=stage(64, 128),
        )
    )


def _vit(image_size: int) -> nn.Module:
    if image_size % 16:
        raise InputError(f"vit_b_16 needs an image size that is a multiple of 16; {image_size} is not")
    return torchvision.models.vit_b_16(image_size=image_size)


for _name, _dim, _factory in [
    ("resnet18", 512, torchvision.models.resnet18),
    ("resnet50", 2048, torchvision.models.resnet50),
    ("resnet101", 2048, torchvision.models.resnet101),
]:
    BACKBONES.register(_name)(
        BackboneEntry(
            build=lambda size, quick_gelu, factory=_factory: factory(),
            wrap=lambda network, dim=_dim: Backbone(_resnet_stages(network), dim),
            head=("fc.",),
            torchvision_name=_name,
        )
    )
BACKBONES.register("mobilenet_v2")(
    BackboneEntry(
        build=lambda size, quick_gelu: torchvision.models.mobilenet_v2(),
        wrap=lambda network: Backbone(_mobilenet_stages(network), 1280),
        head=("classifier.",),
        torchvision_name="mobilenet_v2",
    )
)
BACKBONES.register("vit_b_16")(
    BackboneEntry(
        build=lambda size, quick_gelu: _vit(size),
        wrap=lambda network: Backbone(_vit_stages(network), 768),
        head=("heads.",),
        torchvision_name="vit_b_16",
    )
)
BACKBONES.register("small_cnn")(
    BackboneEntry(
        build=lambda size, quick_gelu: _small_cnn(size),
        wrap=lambda network: Backbone(OrderedDict(network.named_children()), 128),
    )
)
