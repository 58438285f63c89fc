"""HP-DVAL's student from ImageNet: a pretrained vision transformer instead of CLIP's image tower."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from benchmark.models.backbones import Backbone
from benchmark.models.clip import ImageTower
from benchmark.models.vision_transformer import PatchEmbedding

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageNetTower(ImageTower):
    """torchvision's vision transformer with a new projection to the joint space.

    vit: a backbone with its last norm in its last stage. feature_dim: D of the joint space.
    Images come with the normalisation of OpenAI's CLIP, and get that of ImageNet's networks instead. The projection
    starts at N(0, 1 / M), as CLIP's does.
    """

    def __init__(self, vit: Backbone, feature_dim: int):
        stages: OrderedDict[str, nn.Module] = OrderedDict(vit.stages.named_children())
        stem = stages["stem"]
        assert isinstance(stem, PatchEmbedding)
        stages["stem"] = nn.Sequential(_FromClipToImageNet(), stem)
        super().__init__(stages, vit.map_dim, feature_dim)
        self.projection = nn.Parameter(self.map_dim**-0.5 * torch.randn(self.map_dim, feature_dim))
        self.num_patches = stem.position.shape[-2] - 1

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        return features[:, 0] @ self.projection

    def project(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        projected = features @ self.projection
        return projected[:, 0], projected[:, 1:]


class _FromClipToImageNet(nn.Module):
    """Images normalised with CLIP's mean and deviation -> normalised with ImageNet's."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self):
        super().__init__()
        # Here, because importing open_clip takes seconds.
        from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

        mean, std, new_mean, new_std = (
            torch.tensor(values)[:, None, None]
            for values in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD, IMAGENET_MEAN, IMAGENET_STD)
        )
        self.register_buffer("scale", std / new_std, persistent=False)
        self.register_buffer("shift", (mean - new_mean) / new_std, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * self.scale + self.shift
