"""The stages of training: the epochs and steps of each, and its optimiser, learning rate and EMA."""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from benchmark.errors import InputError
from benchmark.method import Batch, Method, Stage
from benchmark.models.synced_batch_norm import sync_batch_norm
from benchmark.spec import Recipe
from benchmark.training.optim import EMA, lr_factor, make_optimizer
from benchmark.training.setup import Runtime


def epochs_per_stage(stages: Sequence[Stage], epochs: int) -> tuple[int, ...]:
    """The epochs divided among the stages by their shares: largest remainder, and at least one each.

    Empty without stages. Raises InputError when there are more stages than epochs.
    """
    if epochs < len(stages):
        names = ", ".join(stage.name for stage in stages)
        raise InputError(f"recipe.epochs is {epochs}, but training has {len(stages)} stages ({names}); give one each")
    total = sum(stage.share for stage in stages)
    quotas = [epochs * stage.share / total for stage in stages]
    counts = [max(1, math.floor(quota)) for quota in quotas]
    while stages and sum(counts) != epochs:
        step = 1 if sum(counts) < epochs else -1
        able = [i for i, count in enumerate(counts) if count + step >= 1]
        # Add an epoch to the stage that lacks most, or remove one from the stage with the largest excess.
        counts[max(able, key=lambda i: step * (quotas[i] - counts[i]))] += step
    return tuple(counts)


@dataclass(frozen=True)
class Timetable:
    """The steps of each stage of a run. Steps are counted from 0 and epochs from 1, over all stages.

    ends: for each stage the first step after it.
    """

    stages: tuple[Stage, ...]
    steps_per_epoch: int
    ends: tuple[int, ...]

    @classmethod
    def of(cls, stages: tuple[Stage, ...], epochs: int, steps_per_epoch: int) -> Timetable:
        """The epochs divided among the stages. Raises InputError when there are too few."""
        last_epochs = itertools.accumulate(epochs_per_stage(stages, epochs))
        return cls(stages, steps_per_epoch, tuple(epoch * steps_per_epoch for epoch in last_epochs))

    @property
    def total_steps(self) -> int:
        """Number of steps of the run; 0 where nothing is trained."""
        return self.ends[-1] if self.ends else 0

    def first_step(self, stage: int) -> int:
        """The first step of a stage, given by its index."""
        return self.ends[stage - 1] if stage else 0

    def stage_of(self, epoch: int) -> Stage:
        """The stage that an epoch is in."""
        return self.stages[bisect.bisect(self.ends, (epoch - 1) * self.steps_per_epoch)]


class StageTraining:
    """One stage while it is trained: its optimiser, learning rate and EMA. The constructor begins the method's stage.

    training_loss: the method's, for this process's part of the batches; its gradient is the mean over all processes.
    end: the first step of the run after the stage. trained: the parameters that the optimiser changes, in the method's
    order.
    """

    def __init__(self, method: Method, index: int, table: Timetable, recipe: Recipe, runtime: Runtime):
        stage, device, peers = table.stages[index], runtime.device, runtime.peers
        method.begin_stage(stage)
        moved(method, device)  # a stage may add modules
        self.training_loss: Callable[..., torch.Tensor] = method.training_loss
        if peers.size > 1:
            sync_batch_norm(method, peers.size)
            self.training_loss = _parallel(_TrainingLoss(method, device))
        self.name = stage.name
        self.end = table.ends[index]
        self.optimizer = make_optimizer(method, recipe.optimizer, device, stage.lr_scale)
        self.ema = EMA(method, recipe.ema_decay) if recipe.ema_decay is not None else None
        optimized = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        self.trained = [p for p in method.parameters() if id(p) in optimized]
        self._schedule = recipe.schedule
        self._base_lr = recipe.optimizer.lr * stage.lr_scale
        self._steps_per_epoch = table.steps_per_epoch
        self._first_step = table.first_step(index)

    def lr(self, step: int) -> float:
        """Learning rate of the backbone at a step of the run."""
        return self._base_lr * self._factor(step)

    def set_lr(self, step: int) -> None:
        """Set the rate of every parameter group for a step of the run."""
        factor = self._factor(step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    def _factor(self, step: int) -> float:
        return lr_factor(self._schedule, step - self._first_step, self._steps_per_epoch, self.end - self._first_step)


def moved(method: Method, device: torch.device) -> Method:
    """The method, moved to the device, with convolution weights in the layout of the images (channels last)."""
    return method.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stubs


def _parallel(loss: nn.Module) -> DistributedDataParallel:
    """The loss, with its gradients averaged over the processes.

    An unused parameter gets no gradient, as in one process. With `find_unused_parameters` PyTorch does not rearrange
    its buckets after the first step, so that a resumed run sums in the same order.
    """
    with warnings.catch_warnings():
        # PyTorch 2.15 has another name for broadcast_buffers, which earlier versions do not know.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(loss, broadcast_buffers=False, find_unused_parameters=True)


class _TrainingLoss(nn.Module):
    """A module whose forward is the method's training loss."""

    def __init__(self, method: Method, device: torch.device):
        super().__init__()
        self.method = method
        # In no loss: without an unused parameter PyTorch would warn, in every process, that there is none.
        self.unused = nn.Parameter(torch.zeros((), device=device))

    def forward(self, *batches: Batch) -> torch.Tensor:
        return self.method.training_loss(*batches)
