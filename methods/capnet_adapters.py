"""CAPNET's trained parts of CLIP's image tower: adapters in a vision transformer, scale and shift behind a ResNet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from benchmark.models.clip import ImageTower

if TYPE_CHECKING:
    from open_clip.transformer import ResidualAttentionBlock


def adapter_width(num_classes: int) -> int:
    """r = 2^max(0, floor(log2(C / 24))): 1 below 48 classes, 2 below 96 (Shi et al., LIFT, ICML 2024)."""
    return 1 << max(0, (num_classes // 24).bit_length() - 1)


class Adapter(nn.Module):
    """scale * Up(ReLU(Down(LN(x)))), D -> r -> D, on tokens [B, L, D] (Chen et al., AdaptFormer, NeurIPS 2022).

    It has its own norm. Down starts as Kaiming's uniform (nn.Linear's default), Up and the biases at zero, the learned
    scale at 1: at the start the output is zero.
    """

    def __init__(self, dim: int, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, width)
        self.up = nn.Linear(width, dim)
        self.scale = nn.Parameter(torch.ones(()))
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for start_at_zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(start_at_zero)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.scale * self.up(F.relu(self.down(self.norm(tokens))))


class AdaptedBlock(nn.Module):
    """A block of CLIP's vision transformer with an adapter parallel to its MLP: tokens [B, L, D] -> [B, L, D].

    x' = x + attention(LN(x)), then x' + MLP(LN(x')) + adapter(x').
    """

    def __init__(self, block: ResidualAttentionBlock, width: int):
        super().__init__()
        self.block: ResidualAttentionBlock = block
        self.adapter = Adapter(block.ln_2.normalized_shape[0], width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        block = self.block
        tokens = tokens + block.ls_1(block.attention(block.ln_1(tokens)))
        return tokens + block.ls_2(block.mlp(block.ln_2(tokens))) + self.adapter(tokens)


def add_adapters(tower: ImageTower, width: int) -> int:
    """Add an adapter of `width` to every transformer block of a tower; returns their number, 0 for a ResNet."""
    if tower.num_patches is None:
        return 0
    blocks = [(name, block) for name, block in tower.stages.named_children() if name != "stem"]
    for name, block in blocks:
        setattr(tower.stages, name, AdaptedBlock(block, width))
    return len(blocks)


class ScaleShift(nn.Module):
    """scale * x + shift on features [B, D], starting from 1 and 0 (Lian et al., SSF, NeurIPS 2022; LIFT's for
    ResNets, behind the attention pooling)."""

    def __init__(self, dim: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))
        self.shift = nn.Parameter(torch.zeros(dim))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.scale * features + self.shift
