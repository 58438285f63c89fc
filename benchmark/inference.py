"""From images to logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

BATCH_SIZE = 64


class Normalizer(nn.Module):
    """(x - mean) / std for RGB in [0, 1], as the pretrained weights want it."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device):
        super().__init__()
        self.mean = torch.tensor(mean, device=device)[:, None, None]
        self.std = torch.tensor(std, device=device)[:, None, None]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [B, 3, H, W] in [0, 1] -> normalised."""
        return (images - self.mean) / self.std


@torch.no_grad()
def predict(
    method: nn.Module,
    images: np.ndarray,
    normalizer: Normalizer,
    device: torch.device,
    advance: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """uint8 images [N, S, S, 3] -> logits float32 [N, C]; in evaluation mode, never under autocast.

    `advance(done)` is called with the number of images scored so far.
    """
    method.eval()
    logits = []
    # TensorFloat-32 keeps ten bits of a product's factors: enough to train, not to rank.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for start in range(0, len(images), BATCH_SIZE):
            batch = torch.from_numpy(images[start : start + BATCH_SIZE]).to(device)
            x = batch.permute(0, 3, 1, 2).float().div_(255)
            logits.append(method(normalizer(x)).float().cpu().numpy())
            advance(min(start + BATCH_SIZE, len(images)))
    return np.concatenate(logits)
