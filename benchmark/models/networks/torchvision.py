"""Networks and weights of torchvision."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
import torchvision
from torch import nn

from benchmark.models.backbones import BACKBONES, Architecture, Backbone, WeightsSource
from benchmark.models.vision_transformer import PatchEmbedding, transformer_stages
from benchmark.models.weight_files import UrlFile
from benchmark.spec import WeightsRef


class TorchvisionArchitecture(Architecture):
    """A network of torchvision, with the weights that torchvision lists for it.

    constructor: torchvision's function that makes the network.
    """

    constructor: ClassVar[Callable[..., nn.Module]]

    @classmethod
    def build(cls, image_size: int, quick_gelu: bool) -> nn.Module:
        return cls.constructor()

    @classmethod
    def weight_names(cls) -> list[str]:
        return [item.name for item in torchvision.models.get_model_weights(cls.constructor)]

    @classmethod
    def published(cls, backbone: str, weights: str) -> WeightsSource | None:
        item = next((i for i in torchvision.models.get_model_weights(cls.constructor) if i.name == weights), None)
        if item is None:
            return None
        preparation = item.transforms()
        ref = WeightsRef(
            name=weights,
            digest=f"torchvision/{item.url.rpartition('/')[2]}",
            mean=tuple(preparation.mean),
            std=tuple(preparation.std),
            interpolation=preparation.interpolation.value,
            batch_norm="normal",
        )
        name = item.url.rpartition("/")[2]
        digits = name.rpartition(".")[0].rpartition("-")[2]  # names end in the first digits of the sha256
        return WeightsSource(ref, UrlFile(item.url, Path(torch.hub.get_dir()) / "checkpoints" / name, digits))


class ResNet(TorchvisionArchitecture):
    """Residual networks (He et al., CVPR 2016): a stem and four layers."""

    head = ("fc.",)

    @classmethod
    def wrap(cls, network: torchvision.models.ResNet) -> Backbone:
        stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        layers = {f"layer{i}": getattr(network, f"layer{i}") for i in range(1, 5)}
        return Backbone(OrderedDict(stem=stem, **layers), network.fc.in_features)


@BACKBONES.register("resnet18")
class ResNet18(ResNet):
    """ResNet-18, 512 features."""

    constructor = torchvision.models.resnet18


@BACKBONES.register("resnet50")
class ResNet50(ResNet):
    """ResNet-50, 2048 features."""

    constructor = torchvision.models.resnet50


@BACKBONES.register("resnet101")
class ResNet101(ResNet):
    """ResNet-101, 2048 features."""

    constructor = torchvision.models.resnet101


@BACKBONES.register("mobilenet_v2")
class MobileNetV2(TorchvisionArchitecture):
    """MobileNetV2, 1280 features (Sandler et al., CVPR 2018): one stage per resolution, 1/2 to 1/32 of the image."""

    constructor = torchvision.models.mobilenet_v2
    head = ("classifier.",)
    # Index of the first block of each stage, and the number of blocks.
    borders = (0, 2, 4, 7, 14, 19)

    @classmethod
    def wrap(cls, network: torchvision.models.MobileNetV2) -> Backbone:
        names = ("stem", "stage1", "stage2", "stage3", "stage4")
        parts = (network.features[a:b] for a, b in zip(cls.borders[:-1], cls.borders[1:], strict=True))
        return Backbone(OrderedDict(zip(names, parts, strict=True)), network.last_channel)


@BACKBONES.register("vit_b_16")
class ViTB16(TorchvisionArchitecture):
    """ViT-B/16, 768 features (Dosovitskiy et al., ICLR 2021). Its last norm belongs to the last block's stage."""

    constructor = torchvision.models.vit_b_16
    head = ("heads.",)
    size_step = 16  # the side of a patch
    positions = "encoder.pos_embedding"

    @classmethod
    def build(cls, image_size: int, quick_gelu: bool) -> nn.Module:
        return cls.constructor(image_size=image_size)

    @classmethod
    def wrap(cls, network: torchvision.models.VisionTransformer) -> Backbone:
        encoder = network.encoder
        stem = PatchEmbedding(network.conv_proj, network.class_token, encoder.pos_embedding, encoder.dropout)
        *blocks, last = encoder.layers
        return Backbone(transformer_stages(stem, [*blocks, nn.Sequential(last, encoder.ln)]), network.hidden_dim)

    @classmethod
    def fit(
        cls, state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], image_size: int
    ) -> dict[str, torch.Tensor]:
        """Interpolate the position embedding to the image size, as torchvision does for fine-tuning."""
        shape = state[cls.positions].shape if cls.positions in state else ()
        if len(shape) != 3 or shape[0] != 1 or shape[1] < 2 or shape[1] == (image_size // cls.size_step) ** 2 + 1:
            return state
        if math.isqrt(shape[1] - 1) ** 2 != shape[1] - 1:
            return state  # not a square grid: refused as a wrong shape
        interpolate = torchvision.models.vision_transformer.interpolate_embeddings
        return interpolate(image_size, cls.size_step, state, "bicubic")
