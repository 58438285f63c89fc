"""ASL: asymmetric loss."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from benchmark.method import METHODS, LossMethod, MethodConfig, Task
from benchmark.models.losses import MultiLabelLoss, Reduction
from benchmark.spec import Fraction, NonNegative

SMALLEST_PROBABILITY = 1e-8


class AsymmetricLoss(MultiLabelLoss):
    """-[y (1 - p)^g+ log p + (1 - y) p_m^g- log(1 - p_m)], p_m = max(p - margin, 0) (Ridnik et al., ICCV 2021,
    eq. 4-7). Logarithms are of at least 1e-8. Computed in float32 whatever the logits' type.

    detach_focusing: take no gradient through the focusing weights (1 - p)^g+ and p_m^g-, as all released
        training code does; False is the paper's formula read literally.
    """

    def __init__(
        self,
        gamma_neg: float = 4.0,
        gamma_pos: float = 0.0,
        margin: float = 0.05,
        detach_focusing: bool = True,
        loss_weight: float = 1.0,
        reduction: Reduction = "sum",
    ):
        super().__init__(loss_weight, reduction)
        self.gamma_neg = gamma_neg
        self.gamma_pos = gamma_pos
        self.margin = margin
        self.detach_focusing = detach_focusing

    def elementwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        p = torch.sigmoid(logits.float())
        not_p = (1 - p + self.margin).clamp(max=1)
        log_likelihood = torch.where(targets > 0, p, not_p).clamp(min=SMALLEST_PROBABILITY).log()
        gamma = torch.where(targets > 0, self.gamma_pos, self.gamma_neg)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detach_focusing):
            focusing = (1 - torch.where(targets > 0, p, not_p)) ** gamma
        return -focusing * log_likelihood


class ASLConfig(MethodConfig):
    """Configuration of `asl`; g+ 0, g- 4 and margin 0.05 are this literature's (CPRFL, LMPT)."""

    gamma_neg: NonNegative = Field(4.0, description="focusing exponent of negatives")
    gamma_pos: NonNegative = Field(0.0, description="focusing exponent of positives")
    margin: Fraction = Field(0.05, description="probability below which a negative costs nothing")
    detach_focusing: bool = Field(True, description="no gradient through the focusing weights")
    reduction: Literal["mean", "sum"] = Field("mean", description="over batch and classes: see the class")


@METHODS.register("asl")
class ASL(LossMethod):
    """`AsymmetricLoss`; uniform sampling.

    The reference sums over batch and classes, CPRFL's copy takes the mean. The default is the mean, as for every other
    loss here; the protocol `paper` makes up for the smaller gradient with a higher rate.
    """

    title = "ASL"
    Config = ASLConfig

    def make_loss(self, task: Task, config: ASLConfig) -> AsymmetricLoss:
        return AsymmetricLoss(
            config.gamma_neg, config.gamma_pos, config.margin, config.detach_focusing, reduction=config.reduction
        )
