"""Class scores of an image from two views: the whole image, and its patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def cosine_scores(text: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Text features [C, D], image or patch features [..., D] -> cosines [..., C]."""
    return F.normalize(features, dim=-1) @ F.normalize(text, dim=-1).T


def class_normalised_scores(text: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Dot products [..., C], divided by their L2 norm over the C classes; arguments as of `cosine_scores`."""
    return F.normalize(features @ text.T, dim=-1)


def top_mean(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Patch scores [B, P, C] -> the mean of each class's k largest, [B, C]."""
    return scores.topk(k, dim=1).values.mean(dim=1)
