"""RW: smooth re-weighting by the inverse square root of the class frequency."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from benchmark.method import METHODS, LossMethod, MethodConfig, Task
from benchmark.models.losses import MultiLabelLoss, Reduction, counts_tensor


class ReweightedBCELoss(MultiLabelLoss):
    """w_c * BCE with w_c = sqrt(N / n_c), for positives and negatives of class c alike.

    Sources: "inverse proportion to the square root of class frequency" (Guo and Wang, CVPR 2021, table 1);
    the formula is `sqrt_inv` of the DB-loss repository.
    """

    weight: torch.Tensor

    def __init__(
        self,
        class_counts: Sequence[int],
        num_images: int,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(loss_weight, reduction)
        counts = counts_tensor(class_counts, num_images)
        self.register_buffer("weight", (num_images / counts.float()).sqrt(), persistent=False)

    def elementwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.weight * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


@METHODS.register("rw")
class RW(LossMethod):
    """`ReweightedBCELoss`; uniform sampling."""

    title = "RW"

    def make_loss(self, task: Task, config: MethodConfig) -> ReweightedBCELoss:
        return ReweightedBCELoss(task.class_counts, task.num_images)
