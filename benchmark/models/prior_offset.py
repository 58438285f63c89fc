"""Scores that start at the class priors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from benchmark.distributed import batch_mean
from benchmark.models.losses import counts_tensor, to_float32


class PriorOffset(nn.Module):
    """Logits [B, C] -> logits + b.

    b is 0 until the first batch in training mode fixes it, so that the mean logit of class c becomes
    log(n_c / (N - n_c)), the log odds in the training list. Lin et al. (ICCV 2017) do this for one class.

    Cosines of image and text are all positive. Multiplied by CLIP's scale, scores without a bias start far above zero.
    Then every negative is a gross error, and training moves the features away from the text.
    """

    prior: torch.Tensor
    offset: torch.Tensor
    known: torch.Tensor

    def __init__(self, class_counts: Sequence[int], num_images: int):
        super().__init__()
        counts = counts_tensor(class_counts, num_images)
        odds = to_float32(counts / (num_images - counts), counts.float() / (num_images - counts.float()))
        self.register_buffer("prior", torch.log(odds), persistent=False)
        self.register_buffer("offset", torch.zeros(len(counts)))
        self.register_buffer("known", torch.tensor(False))

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        if self.training:
            # `where` instead of `if`: reading the value would wait for a GPU at every step.
            mean = batch_mean(logits.detach().mean(dim=0))
            self.offset.copy_(torch.where(self.known, self.offset, self.prior - mean))
            self.known.fill_(True)
        return logits + self.offset
