"""LTML: two branches, trained together on uniform and on re-balanced samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from benchmark.method import METHODS, Batch, Method, MethodConfig, ParameterGroup, Task
from benchmark.models.losses import MultiLabelLoss, counts_tensor
from benchmark.spec import NonNegative, Positive


class CompensatedLoss(MultiLabelLoss):
    """w_c * BCE on compensated logits: s+_c x + m+_c where y = 1, s-_c x + m-_c where y = 0 (Guo and Wang, CVPR
    2021). w_c = exp(1 - rho_c) for positives and exp(rho_c) for negatives, rho_c = n_c / N (the first author's
    earlier code).

    compensation: learn s+, m+, s-, m-, which start at 1, 0, 1, 0; without it the logits stay as they are.
    """

    positive_weight: torch.Tensor
    negative_weight: torch.Tensor

    def __init__(self, class_counts: Sequence[int], num_images: int, compensation: bool = True):
        super().__init__()
        rho = counts_tensor(class_counts, num_images).float() / num_images
        self.register_buffer("positive_weight", torch.exp(1 - rho), persistent=False)
        self.register_buffer("negative_weight", torch.exp(rho), persistent=False)
        self.compensation = compensation
        if compensation:
            classes = len(class_counts)
            self.positive_scale, self.negative_scale = (nn.Parameter(torch.ones(classes)) for _ in range(2))
            self.positive_shift, self.negative_shift = (nn.Parameter(torch.zeros(classes)) for _ in range(2))

    def elementwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        positive = targets > 0
        if self.compensation:
            scale = torch.where(positive, self.positive_scale, self.negative_scale)
            logits = scale * logits + torch.where(positive, self.positive_shift, self.negative_shift)
        weight = torch.where(positive, self.positive_weight, self.negative_weight)
        return weight * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


class LTMLConfig(MethodConfig):
    """Configuration of `ltml`; the switches give the paper's ablations of its two branches."""

    consistency: bool = Field(True, description="train the branches to agree on each batch")
    compensation: bool = Field(True, description="learn the logit compensation")
    consistency_weight: NonNegative = Field(0.1, description="lambda, factor on the consistency loss")
    compensation_lr_scale: Positive | None = Field(
        None, description="learning rate of the compensation, as a factor; by default 1 with SGD, 0.01 with Adam"
    )
    inference: Literal["logits", "sigmoid"] = Field("logits", description="what is averaged over the branches")

    def without_effect(self) -> dict[str, str]:
        idle = {}
        if not self.consistency:
            idle["consistency_weight"] = "consistency=false"
        if not self.compensation:
            idle["compensation_lr_scale"] = "compensation=false"
        return idle


@METHODS.register("ltml")
class LTML(Method):
    """Collaborative training on uniform and re-balanced samplings (Guo and Wang, CVPR 2021; no released code).

    All stages of the backbone but the last are shared; branch U (`uniform`) and branch R (`rebalanced`) each have
    their own copy of the last stage with its pooling, and a linear classifier. With f, g the branches' logits of a
    batch of uniform sampling (x, y) and of one of class-aware sampling (x', y'):

        L = Lcls(f(x), y) + Lcls(g(x'), y') + lambda (Lcon(f(x), g(x)) + Lcon(f(x'), g(x')))

    Lcls is `CompensatedLoss`, Lcon the squared difference of the logits, both the mean over batch and classes.
    Inference takes the mean of the branches' logits, without the compensation, which needs the label.

    The paper's network has no neck and no dropout: `neck` and `dropout` of the recipe are ignored.
    lambda is a reproduction's "suggested parameters in the paper", and so is the SGD of the `paper` protocol.
    Our choices, where the paper is silent:
    - The batches pass through the network one after the other: batch norm normalises each by its own statistics, and
      the running statistics are over both. Without the consistency loss no branch sees the other's batch.
    - Both branches share one compensation, which has no weight decay.
    - With SGD the compensation learns at the head's rate, with Adam and AdamW at a hundredth of it. The compensation
      sees the label, so a higher m+ and a lower m- decrease the loss whatever the image shows. With SGD it learns
      slowly, since its gradients are a class's share of a mean over C. Adam's steps do not depend on the size of a
      gradient, and at the head's rate the network would learn nothing.
    - The consistency loss has gradients in both branches.
    - inference "sigmoid" averages the branches' probabilities. The score is the logit of the mean, which gives the same
      ranking and does not saturate.
    """

    title = "LTML"
    Config = LTMLConfig

    def __init__(self, task: Task, config: LTMLConfig):
        super().__init__(task, config)
        self.config = config
        adaptive = task.recipe.optimizer.name != "sgd"
        self.compensation_lr_scale = config.compensation_lr_scale or (0.01 if adaptive else 1.0)
        self.backbone = task.make_backbone()
        self.rebalanced = self.backbone.branch()
        classes = len(task.class_names)
        self.uniform_head, self.rebalanced_head = (nn.Linear(self.backbone.feature_dim, classes) for _ in range(2))
        self.loss = CompensatedLoss(task.class_counts, task.num_images, config.compensation)

    @classmethod
    def samplers(cls, config: LTMLConfig) -> tuple[str, ...]:
        return ("uniform", "class-aware")

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B, 3, S, S] -> the input of the last stage."""
        return self.backbone.stages[:-1](images)

    def uniform_branch(self, features: torch.Tensor) -> torch.Tensor:
        """f: output of `trunk` -> logits [B, C]."""
        return self.uniform_head(self.backbone.pool(self.backbone.stages[-1](features)))

    def rebalanced_branch(self, features: torch.Tensor) -> torch.Tensor:
        """g: output of `trunk` -> logits [B, C]."""
        return self.rebalanced_head(self.rebalanced(features))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.trunk(images)
        f, g = self.uniform_branch(features).float(), self.rebalanced_branch(features).float()
        if self.config.inference == "logits":
            return (f + g) / 2
        # log(p / (1 - p)) of p = (sigmoid(f) + sigmoid(g)) / 2; the halves cancel.
        log_p = torch.logaddexp(F.logsigmoid(f), F.logsigmoid(g))
        return log_p - torch.logaddexp(F.logsigmoid(-f), F.logsigmoid(-g))

    def training_loss(self, uniform: Batch, balanced: Batch) -> torch.Tensor:
        branches = (self.uniform_branch, self.rebalanced_branch)
        total = torch.zeros((), device=uniform.targets.device)
        for batch, own, other in ((uniform, *branches), (balanced, *branches[::-1])):
            features = self.trunk(batch.images)
            logits = own(features).float()
            total = total + self.loss(logits, batch.targets)
            if self.config.consistency:
                total = total + self.config.consistency_weight * F.mse_loss(logits, other(features).float())
        return total

    def parameter_groups(self) -> list[ParameterGroup]:
        compensation = list(self.loss.parameters())
        apart = {id(p) for p in compensation}
        groups = [
            ParameterGroup([p for p in group.parameters if id(p) not in apart], group.learning_rate)
            for group in super().parameter_groups()
        ]
        return [*groups, ParameterGroup(compensation, "head", 0.0, self.compensation_lr_scale)]
