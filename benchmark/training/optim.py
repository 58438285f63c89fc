"""Optimiser, learning rate and weight averaging."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from benchmark.method import Method
from benchmark.spec import Optimizer, Schedule


def make_optimizer(
    method: Method, config: Optimizer, device: torch.device, lr_scale: float = 1.0
) -> torch.optim.Optimizer:
    """The optimiser over the method's parameter groups; each group has its full rate as `base_lr`.

    lr_scale: multiplies all rates.
    """
    groups = []
    for group in method.parameter_groups():
        lr = config.lr * lr_scale * (config.head_lr_scale if group.learning_rate == "head" else 1.0) * group.lr_scale
        decay = config.weight_decay if group.weight_decay is None else group.weight_decay
        groups.append({"params": group.parameters, "lr": lr, "base_lr": lr, "weight_decay": decay})
    groups = [group for group in groups if group["params"]]
    fused = {"fused": True} if device.type == "cuda" else {"foreach": True}
    if config.name == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, **fused)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name](groups, **fused)


def lr_factor(schedule: Schedule, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Factor on the learning rate at `step` of a stage, from 0: a pure function, so resuming needs no state.

    constant: 1. step: gamma to the power of the milestones passed. cosine: to 0 at the end of the stage. one-cycle:
    cosine from 1/25 to 1 over the fraction `peak` of the stage, then cosine to 1e-4/25 (Smith and Topin's policy with
    PyTorch's defaults, without its momentum cycle). A linear warm-up from `warmup_start` multiplies each of them.
    """
    if schedule.name == "step":
        factor = schedule.gamma ** bisect.bisect_right(schedule.milestones, step / steps_per_epoch)
    elif schedule.name == "cosine":
        factor = (1 + math.cos(math.pi * step / total_steps)) / 2
    elif schedule.name == "one-cycle":
        peak = schedule.peak * total_steps
        if step < peak:
            factor = _cosine(1 / 25, 1.0, step / peak)
        else:
            factor = _cosine(1.0, 1e-4 / 25, (step - peak) / max(total_steps - 1 - peak, 1))
    else:
        factor = 1.0
    if step < schedule.warmup_steps:
        factor *= schedule.warmup_start + (1 - schedule.warmup_start) * step / schedule.warmup_steps
    return factor


def _cosine(start: float, end: float, at: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(at, 1.0))) / 2


class EMA:
    """Exponential moving average of the trained parameters and of the saved float buffers.

    The decay is min(decay, (1 + t) / (10 + t)) at step t, so that early averages are not the initial weights
    (TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, module: nn.Module, decay: float):
        self._decay = decay
        self._steps = 0
        self._live = _changing_tensors(module)
        self._average = [value.detach().clone() for value in self._live.values()]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the module's current state."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        if self._average:  # a method may have nothing that changes
            torch._foreach_lerp_(self._average, list(self._live.values()), 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average and the module's state; a second call undoes the first."""
        for average, live in zip(self._average, self._live.values(), strict=True):
            kept = live.clone()
            live.copy_(average)
            average.copy_(kept)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the module holds the average."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state(self) -> dict:
        """The state for a checkpoint."""
        return {"steps": self._steps, "average": dict(zip(self._live, self._average, strict=True))}

    def restore(self, state: dict) -> None:
        """Load the state from a checkpoint."""
        self._steps = state["steps"]
        for name, average in zip(self._live, self._average, strict=True):
            average.copy_(state["average"][name])


def weight_sets(ema: EMA | None) -> Iterator[str]:
    """The names of the kept weight sets; the module holds a set's weights until the next name is asked for."""
    yield "raw"
    if ema is not None:
        with ema.applied():
            yield "ema"


def copied_states(module: nn.Module, ema: EMA | None) -> dict[str, dict[str, torch.Tensor]]:
    """Weight set -> the module's state dict with its weights, copied to the CPU."""
    return {name: copied_state(module) for name in weight_sets(ema)}


def copied_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """The module's state dict, copied to the CPU."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def _changing_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    tensors = {name: p.data for name, p in module.named_parameters() if p.requires_grad}
    # Unsaved buffers are constant, and may be infinite: the average of an attention mask would be NaN.
    saved = module.state_dict()
    return tensors | {name: b for name, b in module.named_buffers() if name in saved and b.is_floating_point()}
