"""The progress of training, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from benchmark.store.records import EpochLog, EpochLogits

States = dict[str, dict[str, torch.Tensor]]  # weight set -> state dict, on the CPU


@dataclass(frozen=True)
class Best:
    """The epoch that is best on the validation list, the first of equal ones, and its weights.

    epoch: from 1. val_overall: mAP in percent.
    """

    epoch: int
    val_overall: float
    states: States


@dataclass
class Progress:
    """The progress of training; a checkpoint holds it beside the weights.

    stage: index of the current stage. step: number of steps made, over all stages. train_s: seconds that they took.
    epoch_loss: sum over the steps of the current epoch. best: None before an epoch was validated, and in all processes
    but the first. observed: the observer's result for each epoch.
    """

    stage: int = 0
    step: int = 0
    train_s: float = 0.0
    epoch_loss: float = 0.0
    history: list[EpochLog] = field(default_factory=list)
    best: Best | None = None
    observed: list[EpochLogits] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """The outcome of training: each kept weight set at the selected epoch, and the log.

    selected_epoch: from 1; 0 where nothing was trained. num_trained: number of parameters that any stage trained.
    """

    states: States
    selected_epoch: int
    history: list[EpochLog]
    observed: list[EpochLogits]
    num_trained: int
    train_s: float
    images_per_second: float
