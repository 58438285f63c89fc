"""The stages of a vision transformer: a stem that makes tokens, then one stage for each block."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import nn


class PatchEmbedding(nn.Module):
    """A vision transformer's stem: images [B, 3, H, W] -> tokens [B, 1 + h * w, M], class token first (Dosovitskiy et
    al., ICLR 2021, eq. 1).

    project: convolution whose stride is its kernel. class_token: M numbers. position: [..., 1 + h * w, M], added.
    last: applied to the tokens at the end, dropout or norm.
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


def transformer_stages(stem: PatchEmbedding, blocks: Iterable[nn.Module]) -> OrderedDict[str, nn.Module]:
    """`stem`, then `block1`, `block2` ..."""
    return OrderedDict(stem=stem, **{f"block{i}": block for i, block in enumerate(blocks, 1)})
