"""CB-Focal: focal loss weighted by the effective number of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field

from benchmark.method import METHODS, LossMethod, MethodConfig, Task
from benchmark.models.losses import NegativeTolerantLoss, Reduction, counts_tensor, focal, to_float32
from benchmark.spec import Positive


class ClassBalancedFocalLoss(NegativeTolerantLoss):
    """w_c = (1 - beta) / (1 - beta^n_c) (Cui et al., CVPR 2019, eq. 2), on focal loss (gamma 2, balance 2) with
    the negative-tolerant logits of the DB loss, as the DB-loss repository runs it."""

    class_weight: torch.Tensor

    def __init__(
        self,
        class_counts: Sequence[int],
        num_images: int,
        beta: float = 0.9,
        neg_scale: float = 2.0,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(class_counts, num_images, neg_scale, loss_weight, reduction)
        counts = counts_tensor(class_counts, num_images)
        exact = (1 - beta) / -torch.expm1(math.log(beta) * counts)
        weight = to_float32(exact, (1 - beta) / (1 - beta ** counts.float()))
        self.register_buffer("class_weight", weight, persistent=False)

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        return self.class_weight

    def elementwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        weighted, bce = self.weighted_bce(logits, targets)
        return focal(bce, gamma=2.0, balance=2.0) * weighted


class CBFocalConfig(MethodConfig):
    """Configuration of `cb-focal`."""

    beta: Annotated[float, Field(gt=0, lt=1)] = Field(0.9, description="of the effective number of samples")
    neg_scale: Positive = Field(2.0, description="lambda, factor on the logits of negatives")
    loss_weight: Positive = Field(10.0, description="factor on the loss (DB-loss repository, LMPT)")


@METHODS.register("cb-focal")
class CBFocal(LossMethod):
    """`ClassBalancedFocalLoss`, loss weight 10; uniform sampling. neg_scale is the DB loss's: 5 on VOC-LT, 2 on
    COCO-LT and, our choice, elsewhere."""

    title = "CB-Focal"
    Config = CBFocalConfig
    dataset_defaults = {"voc-lt": {"neg_scale": 5.0}}

    def make_loss(self, task: Task, config: CBFocalConfig) -> ClassBalancedFocalLoss:
        return ClassBalancedFocalLoss(
            task.class_counts, task.num_images, config.beta, config.neg_scale, config.loss_weight
        )
