"""HP-DVAL's two readings: the paper's, and its released code's (see `methods.hp_dval.HPDVAL`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F

from benchmark.distributed import batch_mean
from benchmark.models.clip import ImageTower
from benchmark.models.local_global import class_normalised_scores, cosine_scores
from benchmark.models.losses import focal

from .db_focal import DistributionBalancedLoss

LossName = Literal["db-class-weight", "db", "db-focal"]


class ClassWeightedDBLoss(DistributionBalancedLoss):
    """DB loss without a focal factor, with biased logits u replaced by w_c u where y = 1, w_c = n_c / max_j n_j (paper,
    eq. 14-15)."""

    class_weight: torch.Tensor

    def __init__(self, class_counts: Sequence[int], num_images: int, neg_scale: float = 2.0, map_gamma: float = 0.2):
        super().__init__(class_counts, num_images, neg_scale, map_gamma, focal=False)
        self.register_buffer("class_weight", self.counts / self.counts.max(), persistent=False)

    def tolerant(self, logits: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        biased = logits + self.bias
        return biased * torch.where(positive, self.class_weight, self.neg_scale)


class BatchFocalDBLoss(DistributionBalancedLoss):
    """DB-Focal as the released code computes it: one focal factor for the batch, from the mean BCE.

    The code's BCE ignores `reduction="none"`, so that p_t is exp(-mean BCE).
    """

    def elementwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        weighted, bce = self.weighted_bce(logits, targets)
        return focal(batch_mean(bce.mean()), gamma=2.0, balance=2.0) * weighted


class Reading(ABC):
    """The differences between the two readings.

    top_k, loss: defaults of the settings. context_words: start of the contexts, None for noise. students: the possible
    values of `student_init`. prior_offset: whether scaled logits start at the class priors. restarts: whether the
    prompt stage starts from CLIP's image tower and scale, not from the aligned ones. focal_loss: the loss `db-focal`.
    """

    top_k: ClassVar[int]
    loss: ClassVar[LossName]
    context_words: ClassVar[str | None]
    students: ClassVar[tuple[str, ...]]
    prior_offset: ClassVar[bool]
    restarts: ClassVar[bool]
    focal_loss: ClassVar[type[DistributionBalancedLoss]]

    @abstractmethod
    def distillation(self, teacher: ImageTower, images: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """The alignment stage's further loss; images [B, 3, S, S], the student's global features g [B, D]."""

    @abstractmethod
    def consistency(self, fixed: torch.Tensor, global_text: torch.Tensor, local_text: torch.Tensor) -> torch.Tensor:
        """The prompt stage's further loss; text features [C, D] of P_H, P_G and P_L."""

    @abstractmethod
    def scores(self, text: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Text features [C, D], image or patch features [..., D] -> class scores [..., C]."""

    @abstractmethod
    def global_weight(self, alpha: float) -> float:
        """The weight of the global score; that of the local score is 1 minus it."""


class PaperReading(Reading):
    """Huang et al., arXiv 2509.17747."""

    top_k = 32
    loss = "db-class-weight"
    context_words = None
    students = ("clip", "imagenet")
    prior_offset = True
    restarts = False
    focal_loss = DistributionBalancedLoss

    def distillation(self, teacher: ImageTower, images: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """|g - g_teacher|."""
        with torch.no_grad():
            target = teacher(images)
        return F.l1_loss(g.float(), target.float())

    def consistency(self, fixed: torch.Tensor, global_text: torch.Tensor, local_text: torch.Tensor) -> torch.Tensor:
        """|P_H - P_G|."""
        return F.l1_loss(global_text, fixed)

    def scores(self, text: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Cosines."""
        return cosine_scores(text, features)

    def global_weight(self, alpha: float) -> float:
        return alpha


class ReleasedReading(Reading):
    """The released code."""

    top_k = 16
    loss = "db-focal"
    context_words = "a photo of a"
    students = ("clip",)
    prior_offset = False
    restarts = True
    focal_loss = BatchFocalDBLoss

    def distillation(self, teacher: ImageTower, images: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """0: the code's teacher and student are one object."""
        return g.new_zeros(())

    def consistency(self, fixed: torch.Tensor, global_text: torch.Tensor, local_text: torch.Tensor) -> torch.Tensor:
        """|P_H - P_L|."""
        return F.l1_loss(local_text, fixed)

    def scores(self, text: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Dot products, L2-normalised over the classes."""
        return class_normalised_scores(text, features)

    def global_weight(self, alpha: float) -> float:
        """alpha multiplies the local score."""
        return 1 - alpha


READINGS: dict[str, Reading] = {"paper": PaperReading(), "released-code": ReleasedReading()}
