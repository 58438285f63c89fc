"""The arguments of training: its data, its settings, its process, and where its checkpoints are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmark.data.pixels import Images
from benchmark.distributed import ALONE, Peers
from benchmark.method import Stage
from benchmark.spec import Recipe
from benchmark.store.records import Group
from benchmark.training.inference import Normalizer
from benchmark.ui.progress import Reporter


@dataclass(frozen=True)
class ImageSet:
    """Decoded images, uint8 [N, S, S, 3], with their targets, {0, 1} [N, C]."""

    images: Images
    targets: np.ndarray


@dataclass(frozen=True)
class TrainingData:
    """The images of training; never a test image.

    validation: images of `scoring_size`, None for none; only the first process scores them. groups: class name
    -> group, for that score.
    """

    train: ImageSet
    validation: ImageSet | None
    groups: dict[str, Group]
    normalizer: Normalizer


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of training.

    samplers: names; each step draws one batch from each. stages: in order; without any nothing is trained. seed: the
    run's.
    """

    recipe: Recipe
    samplers: tuple[str, ...]
    stages: tuple[Stage, ...]
    seed: int


@dataclass(frozen=True)
class Runtime:
    """The process that trains.

    peers: all processes that train together; only the first validates and writes the checkpoint. stop: called at every
    step; where it returns True in any process, all save and raise RunInterrupted.
    """

    device: torch.device
    reporter: Reporter
    peers: Peers = ALONE
    stop: Callable[[], bool] = lambda: False

    def autocasts(self, recipe: Recipe) -> bool:
        """Whether training runs under bfloat16 autocast."""
        return recipe.amp and self.device.type == "cuda"


@dataclass(frozen=True)
class Saving:
    """The path of the checkpoint and its origin: only the same run, with the same code and the same training images,
    goes on from it."""

    path: Path
    run_id: str
    code_digest: str
    data_digest: str
