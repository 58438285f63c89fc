"""A long-tailed training list from the labels of a larger one.

Source: Wu et al., Distribution-Balanced Loss for Multi-Label Classification in Long-Tailed Datasets, ECCV 2020, and
the script of its repository that made VOC-LT and COCO-LT.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmark.errors import InputError

# The shape of the Pareto density in the paper.
SHAPE = 6.0
# The last class is where the distribution function of that density reaches this.
_QUANTILE = 0.99


def long_tailed(
    labels: Mapping[str, frozenset[int]], num_classes: int, largest: int, smallest: int, b: float, seed: int
) -> list[str]:
    """The chosen images, sorted.

    labels: image -> its classes' indices, each below `num_classes`. The classes' reference sizes fall from `largest` to
    about `smallest` (at least 1) as a Pareto density of shape `b`, from the class that is most often seen beside others
    to the one that is least. A class can end with more images than its size: later classes bring it along.
    The choice depends on the labels and the seed alone, not on the order of the images.
    Raises InputError where a class has no image, or keeps none.
    """
    images = sorted(labels)
    targets = np.zeros((len(images), num_classes), dtype=bool)
    for row, image in zip(targets, images, strict=True):
        row[list(labels[image])] = True
    if not targets.any(axis=0).all():
        raise InputError(f"class {int(np.argmin(targets.any(axis=0)))} has no image to choose from")
    rng = np.random.Generator(np.random.PCG64(seed))
    chosen = np.zeros(len(images), dtype=bool)
    sizes = _reference_sizes(num_classes, largest, smallest, b)
    for label, size in zip(_by_company(targets), sizes, strict=True):
        members = targets[:, label]
        surplus = int(np.count_nonzero(members & chosen)) - int(size)
        # Too many: some leave. Too few: some that are not in yet come in.
        changing = np.flatnonzero(members & chosen if surplus > 0 else members & ~chosen)
        # Not `choice`, whose stream may change between versions of NumPy.
        drawn = changing[np.argsort(rng.random(len(changing)), kind="stable")[: abs(surplus)]]
        chosen[drawn] = surplus < 0
    lost = np.flatnonzero(~targets[chosen].any(axis=0))
    if len(lost):
        raise InputError(
            f"class {lost[0]} keeps no image in a long-tailed list from {largest} to {smallest} images a class with "
            f"seed {seed}; take another seed or more images a class"
        )
    return [images[i] for i in np.flatnonzero(chosen)]


def _by_company(targets: np.ndarray) -> np.ndarray:
    """Class indices by sum_i P(j | i), the largest first; targets: bool [N, C], every class with an image."""
    counts = targets.astype(np.float32)  # exact: no list has 2^24 images
    together = (counts.T @ counts).astype(np.float64)  # [C, C]
    return np.argsort(-(together / np.diag(together)[:, None]).sum(axis=0), kind="stable")


def _reference_sizes(num_classes: int, largest: int, smallest: int, b: float) -> np.ndarray:
    """Images of the class at each place, int [C]."""
    x = np.linspace(1.0, (1.0 - _QUANTILE) ** (-1.0 / b), num_classes)
    return (b / x ** (b + 1.0) * (largest - smallest) / b + smallest).astype(np.int64)
