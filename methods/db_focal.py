"""DB-Focal: the distribution-balanced loss with a focal factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field

from benchmark.method import METHODS, LossMethod, MethodConfig, Task
from benchmark.models.losses import NegativeTolerantLoss, Reduction, focal
from benchmark.spec import Fraction, Positive

ALPHA, BETA = 0.1, 10.0  # of the smoothing function


class DistributionBalancedLoss(NegativeTolerantLoss):
    """Distribution-balanced loss (Wu et al., ECCV 2020; paper and code agree).

    neg_scale: lambda, factor on the logits of negatives. map_gamma: mu, centre of the smoothing function.
    focal: multiply by 2 (1 - p_t)^2, element-wise.
    """

    def __init__(
        self,
        class_counts: Sequence[int],
        num_images: int,
        neg_scale: float = 2.0,
        map_gamma: float = 0.2,
        focal: bool = True,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(class_counts, num_images, neg_scale, loss_weight, reduction)
        self.map_gamma = map_gamma
        self.focal = focal

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """r_ic = alpha + sigma(beta (rho_ic - mu)), [B, C]; rho's denominator runs over the positives of image i.

        In an image without a positive rho is infinite, as in the reference code, and r its largest value.
        """
        inverse = 1 / self.counts
        rho = inverse / (targets * inverse).sum(dim=1, keepdim=True)
        return ALPHA + torch.sigmoid(BETA * (rho - self.map_gamma))

    def elementwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        weighted, bce = self.weighted_bce(logits, targets)
        return focal(bce, gamma=2.0, balance=2.0) * weighted if self.focal else weighted


class DBConfig(MethodConfig):
    """Configuration of `db` and `db-focal`."""

    neg_scale: Positive = Field(2.0, description="lambda, factor on the logits of negatives")
    map_gamma: Fraction = Field(0.2, description="mu, centre of the smoothing function")
    loss_weight: Positive = Field(1.0, description="factor on the loss")
    sampler: Literal["class-aware", "uniform"] = Field("class-aware", description="how training images are drawn")


class DBMethod(LossMethod):
    """The base of `db` and `db-focal`. lambda and mu are the paper's on VOC-LT and COCO-LT; elsewhere COCO-LT's
    (our choice)."""

    Config = DBConfig
    dataset_defaults = {
        "voc-lt": {"neg_scale": 5.0, "map_gamma": 0.3},
        "coco-lt": {"neg_scale": 2.0, "map_gamma": 0.2},
    }
    focal: bool

    @classmethod
    def samplers(cls, config: DBConfig) -> tuple[str, ...]:
        return (config.sampler,)

    def make_loss(self, task: Task, config: DBConfig) -> DistributionBalancedLoss:
        return DistributionBalancedLoss(
            task.class_counts,
            task.num_images,
            config.neg_scale,
            config.map_gamma,
            focal=self.focal,
            loss_weight=config.loss_weight,
        )


@METHODS.register("db-focal")
class DBFocal(DBMethod):
    """`DistributionBalancedLoss` with the focal factor; class-aware sampling."""

    title = "DB-Focal"
    focal = True
