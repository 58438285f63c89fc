"""The stages of training: how many epochs each gets, and what belongs to one alone."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from benchmark.distributed import ALONE, Peers
from benchmark.errors import InputError
from benchmark.method import Batch, Method, Stage
from benchmark.models.synced_batch_norm import sync_batch_norm
from benchmark.spec import Recipe
from benchmark.training.optim import EMA, lr_factor, make_optimizer


def epochs_per_stage(stages: Sequence[Stage], epochs: int) -> tuple[int, ...]:
    """The epochs divided among the stages by their shares: largest remainder, and at least one each.

    Nothing for no stages. Raises InputError when there are more stages than epochs.
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
        # Give to the one that lacks most, or take from the one that has most too much.
        counts[max(able, key=lambda i: step * (quotas[i] - counts[i]))] += step
    return tuple(counts)


class StageTraining:
    """One stage while it is trained: its optimiser, learning rate and EMA, and which of the run's steps are its own.

    training_loss: the method's, of this process's part of the batches; its gradient is the mean over all processes.

    Making it begins the stage in the method. first_step, end: of the run's steps, counted from 0; end is the first
    that is not the stage's. trained: the parameters that the optimiser changes, in the method's order.
    """

    def __init__(
        self,
        method: Method,
        stage: Stage,
        recipe: Recipe,
        first_step: int,
        end: int,
        steps_per_epoch: int,
        device: torch.device,
        peers: Peers = ALONE,
    ):
        method.begin_stage(stage)
        method.to(device, memory_format=torch.channels_last)  # a stage may add modules
        self.training_loss: Callable[..., torch.Tensor] = method.training_loss
        if peers.size > 1:
            sync_batch_norm(method, peers.size)
            self.training_loss = _parallel(_TrainingLoss(method, device))
        self.name = stage.name
        self.first_step = first_step
        self.end = end
        self.optimizer = make_optimizer(method, recipe.optimizer, device, stage.lr_scale)
        self.ema = EMA(method, recipe.ema_decay) if recipe.ema_decay is not None else None
        optimized = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        self.trained = [p for p in method.parameters() if id(p) in optimized]
        self._schedule = recipe.schedule
        self._base_lr = recipe.optimizer.lr * stage.lr_scale
        self._steps_per_epoch = steps_per_epoch

    def lr(self, step: int) -> float:
        """Learning rate of the backbone at a step of the run."""
        return self._base_lr * self._factor(step)

    def set_lr(self, step: int) -> None:
        """Give every parameter group its rate for a step of the run."""
        factor = self._factor(step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    def _factor(self, step: int) -> float:
        return lr_factor(self._schedule, step - self.first_step, self._steps_per_epoch, self.end - self.first_step)


def _parallel(loss: nn.Module) -> DistributedDataParallel:
    """The loss with gradients that are the mean over the processes.

    Parameters that it leaves out keep no gradient, as in one process. With `find_unused_parameters` buckets are not
    arranged anew after the first step either: a run that goes on sums in the same order.
    """
    with warnings.catch_warnings():
        # PyTorch 2.15 has another name for broadcast_buffers, which earlier versions do not know.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(loss, broadcast_buffers=False, find_unused_parameters=True)


class _TrainingLoss(nn.Module):
    """A method whose forward is its loss."""

    def __init__(self, method: Method, device: torch.device):
        super().__init__()
        self.method = method
        # Left out of every loss: without such a parameter PyTorch would warn, in every process, that none is.
        self.unused = nn.Parameter(torch.zeros((), device=device))

    def forward(self, *batches: Batch) -> torch.Tensor:
        return self.method.training_loss(*batches)
