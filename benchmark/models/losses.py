"""The base of all multi-label losses: element-wise values, a weight, a reduction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmark.distributed import batch_sum
from benchmark.errors import InputError

# Rounding errors, in units of float32's precision, of a formula of a few operations without cancellation.
_LAST_BITS = 4
Reduction = Literal["none", "mean", "sum"]


class MultiLabelLoss(nn.Module, ABC):
    """Base of a loss over logits [B, C] and targets {0, 1} [B, C]; neither is changed.

    loss_weight multiplies the result; reduction is over B and C.
    """

    def __init__(self, loss_weight: float = 1.0, reduction: Reduction = "mean"):
        super().__init__()
        if reduction not in ("none", "mean", "sum"):
            raise InputError(f"unknown reduction {reduction!r} (known: none, mean, sum)")
        self.loss_weight = loss_weight
        self.reduction = reduction

    @abstractmethod
    def elementwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of every decision, [B, C]."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar, or [B, C] with reduction "none"."""
        loss = self.loss_weight * self.elementwise(logits, targets.to(logits.dtype))
        if self.reduction == "none":
            return loss
        return loss.mean() if self.reduction == "mean" else batch_sum(loss.sum())


def counts_tensor(class_counts: Sequence[int] | torch.Tensor, num_images: float) -> torch.Tensor:
    """Training positives of every class, float64 [C], as float32 lacks odd numbers from 2^24 on. Raises InputError
    unless 0 < n_c <= N for all."""
    # Through NumPy: the check needs values, also where models are built on the meta device.
    counts = torch.from_numpy(np.array(class_counts, dtype=np.float64))
    if not ((counts > 0) & (counts <= num_images)).all():
        raise InputError(f"class counts must be in 1..{num_images:g}, found {counts.tolist()}")
    return counts


def to_float32(exact: torch.Tensor, single: torch.Tensor) -> torch.Tensor:
    """A weight in float32. exact: its value in float64; single: by the same formula in float32, as in published runs.

    `single` is kept where it is right up to its last bits, so that published runs repeat bit for bit. Where float32
    lost digits by cancellation, `exact` is taken.
    """
    right = (single - exact).abs() <= _LAST_BITS * torch.finfo(torch.float32).eps * exact.abs()
    return torch.where(right, single, exact.float())


def focal(bce: torch.Tensor, gamma: float, balance: float) -> torch.Tensor:
    """balance * (1 - p_t)^gamma with p_t = exp(-BCE), element-wise: the focal factor of an unweighted BCE."""
    return balance * (1 - torch.exp(-bce)) ** gamma


class NegativeTolerantLoss(MultiLabelLoss):
    """Base of losses on negative-tolerant logits (Wu et al., ECCV 2020, eq. 5-7): a bias from the class priors is
    added, and the logits of negatives are multiplied by lambda (`neg_scale`), their loss divided by it.

    Raises InputError when a class is in every training image: its bias would be infinite.
    """

    KAPPA = 0.05
    counts: torch.Tensor
    bias: torch.Tensor

    def __init__(
        self,
        class_counts: Sequence[int],
        num_images: int,
        neg_scale: float,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(loss_weight, reduction)
        counts = counts_tensor(class_counts, num_images)
        if (counts >= num_images).any():
            where = int((counts >= num_images).nonzero()[0])
            raise InputError(f"class number {where} is in every training image: its logit bias would be infinite")
        self.neg_scale = neg_scale
        odds = to_float32((num_images - counts) / counts, num_images / counts.float() - 1)
        self.register_buffer("counts", counts.float(), persistent=False)
        self.register_buffer("bias", -torch.log(odds) * self.KAPPA / neg_scale, persistent=False)

    @abstractmethod
    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """Weight of every decision, broadcast to [B, C], before the division for negatives."""

    def tolerant(self, logits: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        """The logits q [B, C] of the paper. positive: bool [B, C], true where the label is 1."""
        biased = logits + self.bias
        return torch.where(positive, biased, biased * self.neg_scale)

    def weighted_bce(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(weight * BCE, BCE), each [B, C]."""
        positive = targets > 0
        bce = F.binary_cross_entropy_with_logits(self.tolerant(logits, positive), targets, reduction="none")
        weight = self.weight(targets)
        return torch.where(positive, weight, weight / self.neg_scale) * bce, bce
