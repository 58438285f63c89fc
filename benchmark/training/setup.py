"""What training is given: its data, its settings, the process that does it, and where it is saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmark.distributed import ALONE, Peers
from benchmark.method import Stage
from benchmark.spec import Recipe
from benchmark.store.records import Group
from benchmark.training.inference import Normalizer
from benchmark.ui.progress import Reporter


@dataclass(frozen=True)
class ImageSet:
    """images uint8 [N, S, S, 3]; targets {0, 1} [N, C]."""

    images: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class TrainingData:
    """What is trained on; never a test image.

    validation: as `TestTime.decoded_size` says, None for none; only the first process scores it. groups: of the
    classes, for that score.
    """

    train: ImageSet
    validation: ImageSet | None
    groups: dict[str, Group]
    normalizer: Normalizer


@dataclass(frozen=True)
class TrainingConfig:
    """How it is trained.

    samplers: names, one batch of each is drawn a step. stages: in order; none trains nothing. seed: the run's.
    """

    recipe: Recipe
    samplers: tuple[str, ...]
    stages: tuple[Stage, ...]
    seed: int


@dataclass(frozen=True)
class Runtime:
    """The process that trains.

    peers: it and those that train with it; the first alone validates and writes the checkpoint. stop: asked at every
    step; True of any process saves a checkpoint and raises RunInterrupted in all.
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
    """Where checkpoints are saved and looked for, and what they are made by: only the same run, with the same code, on
    the same training images, goes on from one."""

    path: Path
    run_id: str
    code_digest: str
    data_digest: str
