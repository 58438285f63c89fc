"""The network that all loss-only methods share: backbone, global pooling, optional neck, linear classifier."""

from __future__ import annotations

import torch
from torch import nn

from benchmark.models.backbones import Backbone


class LinearClassifier(nn.Module):
    """Pooled features [B, D] -> logits [B, C].

    neck_width: None for a plain linear layer; otherwise linear to that width and ReLU first, the neck of the
        DB-loss repository's recipe.
    dropout: probability, on the input of the last linear layer.
    """

    def __init__(self, backbone: Backbone, num_classes: int, neck_width: int | None, dropout: float):
        super().__init__()
        self.backbone = backbone
        width = neck_width or backbone.feature_dim
        self.neck = nn.Sequential(nn.Linear(backbone.feature_dim, width), nn.ReLU()) if neck_width else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B, 3, H, W] -> logits [B, C]."""
        return self.classifier(self.dropout(self.neck(self.backbone(images))))
