"""Linear probe: a logistic regression for each class on a fixed backbone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from benchmark.method import METHODS, Batch, Method, MethodConfig, Task


@METHODS.register("linear-probe")
class LinearProbe(Method):
    """A linear layer on the pooled features of the frozen pretrained backbone; BCE, mean over batch and classes;
    uniform sampling. For a CLIP backbone the features are projected to the space shared with text.

    Our choices:
    - The features of the training images are computed once, without augmentation.
    - Each image's features are divided by their root mean square, so that one learning rate suits all backbones: their
      features differ tenfold in size.
    - The recipe's dropout is on the input of the linear layer, as for the other methods; its `neck` is ignored, as a
      probe is one linear layer.
    """

    title = "Linear probe"
    requires = "pretrained"
    trains_on = "features"

    def __init__(self, task: Task, config: MethodConfig):
        super().__init__(task, config)
        self.backbone = task.make_backbone()
        self.backbone.freeze_all()
        self.dropout = nn.Dropout(task.recipe.dropout)
        self.classifier = nn.Linear(self.backbone.feature_dim, len(task.class_names))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B, 3, S, S] -> [B, D] with root mean square 1."""
        pooled = self.backbone(images)
        return F.normalize(pooled, dim=1) * pooled.shape[1] ** 0.5

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(self.features(images)))

    def training_loss(self, batch: Batch) -> torch.Tensor:
        logits = self.classifier(self.dropout(batch.images))
        return F.binary_cross_entropy_with_logits(logits.float(), batch.targets)
