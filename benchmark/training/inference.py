"""From images to logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmark.data.pixels import Images
from benchmark.spec import TestTime

BATCH_SIZE = 64


class Normalizer(nn.Module):
    """(x - mean) / std for RGB in [0, 1], with the mean and std of the pretrained weights."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device):
        super().__init__()
        self.mean = torch.tensor(mean, device=device)[:, None, None]
        self.std = torch.tensor(std, device=device)[:, None, None]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [B, 3, H, W] in [0, 1] -> normalised."""
        return (images - self.mean) / self.std


def views_of(images: torch.Tensor, test_time: TestTime) -> list[torch.Tensor]:
    """Images [B, 3, S, S], S as `scoring_size` gives -> the views that the method scores.

    flip: the images and their mirror images. five-crop: the four corners and the centre, `margin` pixels smaller
    than the images (LIFT, ICML 2024, resizes to the network's size + 24).
    """
    if test_time.views == "flip":
        return [images, images.flip(-1)]
    if test_time.views == "five-crop":
        far = test_time.margin
        size = images.shape[-1] - far
        corners = [(0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2)]
        return [images[:, :, top : top + size, left : left + size] for top, left in corners]
    return [images]


def predict(
    method: nn.Module,
    images: Images,
    normalizer: Normalizer,
    device: torch.device,
    test_time: TestTime,
    advance: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """uint8 images [N, S, S, 3] -> logits float32 [N, C]: the mean over the views of each image.

    `advance(done)` is called with the number of images scored so far.
    """

    def logits(batch: torch.Tensor) -> torch.Tensor:
        scores = [method(normalizer(view)).float() for view in views_of(batch, test_time)]
        return torch.stack(scores).mean(dim=0).cpu()

    return map_images(logits, method, images, device, advance).numpy()


@torch.no_grad()
def map_images(
    function: Callable[[torch.Tensor], torch.Tensor],
    method: nn.Module,
    images: Images,
    device: torch.device,
    advance: Callable[[int], None] = lambda done: None,
) -> torch.Tensor:
    """The results of `function` for uint8 images [N, S, S, 3], concatenated.

    It gets them in batches, float32 [B, 3, S, S] in [0, 1], with the method in evaluation mode and without autocast.
    """
    method.eval()
    # One tensor for all: small results between the batches would keep the memory of every batch from being used again.
    results: torch.Tensor | None = None
    # TensorFloat-32 keeps ten bits of a product's factors: too few to rank images.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for start in range(0, len(images), BATCH_SIZE):
            batch = torch.from_numpy(images[start : start + BATCH_SIZE]).to(device)
            part = function(batch.permute(0, 3, 1, 2).float().div_(255))
            if results is None:
                results = part.new_empty((len(images), *part.shape[1:]))
            results[start : start + len(part)] = part
            advance(start + len(part))
    assert results is not None  # a list is never empty
    return results
