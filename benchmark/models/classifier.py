"""The network that all loss-only methods share: backbone, global pooling, optional neck, linear classifier."""

from __future__ import annotations

import torch
from torch import nn

from benchmark.models.backbones import Backbone

CLASSIFIER_STD = 0.01


class LinearClassifier(nn.Module):
    """Pooled features [B, D] -> logits [B, C].

    neck: width of a neck before the classifier, None for none. It is the neck of the DB-loss repository's recipe (code:
        `mllt/models/necks/pfc.py` with the arguments of `configs/{voc,coco}/LT_resnet50_pfc_DB.py`): a linear layer and
        batch norm, without an activation. The linear layer starts Kaiming-normal (fan out, bias 0), the classifier
        behind a neck normal(0, 0.01), bias 0; without a neck the classifier has PyTorch's initialisation. The neck's
        batch norm is trained also where the recipe freezes the backbone's.
    dropout: probability, on the input of the classifier.
    """

    def __init__(self, backbone: Backbone, num_classes: int, neck: int | None, dropout: float):
        super().__init__()
        self.backbone = backbone
        width = neck or backbone.feature_dim
        linear = nn.Linear(backbone.feature_dim, width) if neck else None
        self.neck = None if linear is None else nn.Sequential(linear, nn.BatchNorm1d(width))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)
        if linear is not None:
            nn.init.kaiming_normal_(linear.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            nn.init.normal_(self.classifier.weight, std=CLASSIFIER_STD)
            nn.init.zeros_(self.classifier.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B, 3, H, W] -> logits [B, C]."""
        features = self.backbone(images)
        if self.neck is not None:
            features = self.neck(features)
        return self.classifier(self.dropout(features))
