"""Focal loss, multi-label, as the long-tailed multi-label literature runs it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field

from benchmark.method import METHODS, LossMethod, MethodConfig, Task
from benchmark.models.losses import MultiLabelLoss, Reduction, focal
from benchmark.spec import NonNegative, Positive


class FocalLoss(MultiLabelLoss):
    """balance * (1 - p_t)^gamma * BCE, element-wise, p_t = exp(-BCE) (Lin et al., ICCV 2017, eq. 4 with a
    constant balance: DB-loss repository with re-weighting off)."""

    def __init__(
        self,
        gamma: float = 2.0,
        balance: float = 2.0,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(loss_weight, reduction)
        self.gamma = gamma
        self.balance = balance

    def elementwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return focal(bce, self.gamma, self.balance) * bce


class FocalConfig(MethodConfig):
    """Configuration of `focal`."""

    gamma: NonNegative = Field(2.0, description="focusing exponent")
    balance: Positive = Field(2.0, description="constant factor")


@METHODS.register("focal")
class Focal(LossMethod):
    """`FocalLoss`; uniform sampling."""

    title = "Focal"
    Config = FocalConfig

    def make_loss(self, task: Task, config: FocalConfig) -> FocalLoss:
        return FocalLoss(config.gamma, config.balance)
