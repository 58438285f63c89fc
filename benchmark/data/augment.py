"""Augmentation of whole batches on the device; every image has its own random parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from benchmark.spec import Augment


class Augmenter:
    """Photometric distortion, then crop, resize and flip (the DB-loss repository's order), then cutout and RandAugment
    (the ASL repository's), each as `Augment` says.

    Random numbers are drawn on the CPU from the given generator, so they do not depend on the device.
    """

    def __init__(self, augment: Augment, image_size: int):
        self._augment = augment
        self._size = image_size

    def __call__(self, images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """uint8 [B, H, W, 3] -> float32 [B, 3, S, S] in [0, 1], channels last in memory."""
        a = self._augment
        # A permuted NHWC tensor already is channels-last; contiguous() keeps that layout.
        x = images.permute(0, 3, 1, 2).float().div_(255)
        if a.photometric:
            x = self._photometric(x, rng)
        x = self._geometric(x, rng)
        if a.cutout:
            x = _cut_out(x, a.cutout, rng)
        return _rand_augmented(x, a.rand_augment, rng) if a.rand_augment else x

    def _geometric(self, x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        a, b = self._augment, len(x)
        uniform = torch.rand(5, b, generator=rng)
        flip = uniform[0] < a.flip
        if a.crop_min_side == 1 and x.shape[-1] == self._size:
            return torch.where(flip.to(x.device)[:, None, None, None], x.flip(-1), x)
        width, height = a.crop_min_side + (1 - a.crop_min_side) * uniform[1:3]
        left, top = (1 - width) * uniform[3], (1 - height) * uniform[4]
        theta = torch.zeros(b, 2, 3)
        theta[:, 0, 0] = torch.where(flip, -width, width)
        theta[:, 0, 2] = 2 * left + width - 1
        theta[:, 1, 1] = height
        theta[:, 1, 2] = 2 * top + height - 1
        grid = F.affine_grid(theta.to(x.device), [b, 3, self._size, self._size], align_corners=False)
        cropped = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return cropped.contiguous(memory_format=torch.channels_last)

    def _photometric(self, x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        a, b = self._augment, len(x)
        signed = torch.rand(4, b, generator=rng) * 2 - 1
        applied = (torch.rand(5, b, generator=rng) < a.photometric).float()
        contrast_first = torch.rand(b, generator=rng) < 0.5
        permutations = torch.rand(b, 3, generator=rng).argsort(dim=1)

        brightness = a.brightness * signed[0] * applied[0]
        contrast = 1 + a.contrast * signed[1] * applied[1]
        saturation = 1 + a.saturation * signed[2] * applied[2]
        hue = a.hue / 360 * signed[3] * applied[3]
        before = torch.where(contrast_first, contrast, 1.0)
        after = torch.where(contrast_first, 1.0, contrast)

        def column(values: torch.Tensor) -> torch.Tensor:
            return values.to(x.device)[:, None, None, None]

        x = (x + column(brightness)) * column(before)
        if a.saturation or a.hue:
            x = _shift_hsv(x, column(hue)[:, 0], column(saturation)[:, 0])
        x = x * column(after)
        if a.channel_swap:
            order = torch.where(applied[4].bool()[:, None], permutations, torch.arange(3)).to(x.device)
            x = x.gather(1, order[:, :, None, None].expand_as(x))
        # The reference keeps values outside [0, 1], which no camera gives.
        return x.clamp(0, 1)


def _cut_out(x: torch.Tensor, side: float, rng: torch.Generator) -> torch.Tensor:
    """Paint a square of `side` times the image's side in a random colour, its centre anywhere in the image (DeVries
    and Taylor, 2017, with the colour of the ASL repository)."""
    b, size = len(x), x.shape[-1]
    centre = torch.rand(2, b, 1, generator=rng).to(x.device) * size
    colour = torch.rand(b, 3, 1, 1, generator=rng).to(x.device)
    pixel = torch.arange(size, device=x.device) + 0.5
    rows, columns = (pixel - centre).abs() <= side * size / 2
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], colour, x)


def _rand_augmented(x: torch.Tensor, operations: int, rng: torch.Generator) -> torch.Tensor:
    """torchvision's RandAugment (Cubuk et al., 2020) of every image. It draws from the global generator, which is
    seeded from ours and restored afterwards."""
    apply = v2.RandAugment(num_ops=operations, magnitude=9)
    seed = int(torch.randint(2**62, (), generator=rng))
    pixels = (x * 255).round().to(torch.uint8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        changed = torch.stack([apply(image) for image in pixels])
    return changed.to(x.dtype).div_(255).contiguous(memory_format=torch.channels_last)


def _shift_hsv(rgb: torch.Tensor, hue: torch.Tensor, saturation: torch.Tensor) -> torch.Tensor:
    """Add `hue` (in turns) and multiply the saturation in HSV space. rgb [B, 3, H, W]; the others [B, 1, 1]."""
    value, which = rgb.max(dim=1)
    chroma = value - rgb.amin(dim=1)
    red, green, blue = rgb.unbind(1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    sector = torch.stack([(green - blue) / safe, (blue - red) / safe + 2, (red - green) / safe + 4])
    turns = sector.gather(0, which[None])[0] / 6 + hue
    # HSV to RGB without branches: each channel is the value less the chroma times a piecewise linear wave.
    offset = torch.tensor([5.0, 3.0, 1.0], device=rgb.device)[None, :, None, None]
    wave = torch.remainder(offset + turns[:, None] * 6, 6)
    wave = torch.minimum(wave, 4 - wave).clamp(0, 1)
    return value[:, None] - (chroma * saturation)[:, None] * wave
