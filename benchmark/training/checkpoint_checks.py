"""Checks of a checkpoint's content against the run, before training goes on with it.

The content may be anything. A check raises ValueError, or the error that nonsense leads to.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from benchmark.method import Method
from benchmark.store.records import EpochLog, EpochLogits
from benchmark.training.optim import copied_state, weight_sets
from benchmark.training.randomness import random_states
from benchmark.training.stages import StageTraining, Timetable


def check_progress(state: dict[str, Any], table: Timetable, selection: str) -> None:
    """Raise ValueError unless the stage, the step and the log of the epochs fit this run."""
    stage, step = state.get("stage"), state.get("step")
    if type(stage) is not int or not 0 <= stage < len(table.stages):
        raise ValueError(f"stage is {stage!r}, of {len(table.stages)}")
    first, end = table.first_step(stage), table.ends[stage]
    if type(step) is not int or not first <= step <= end:
        raise ValueError(f"step is {step!r}, and stage {stage} has those from {first} to {end}")
    for name in ("train_s", "epoch_loss"):
        value = state.get(name)
        if type(value) is not float or not math.isfinite(value) or (name == "train_s" and value < 0):
            raise ValueError(f"{name} is {value!r}")
    history = [EpochLog(**entry) for entry in state["history"]]
    epochs = step // table.steps_per_epoch
    expected = [(epoch, table.stage_of(epoch).name) for epoch in range(1, epochs + 1)]
    if [(entry.epoch, entry.stage) for entry in history] != expected:
        raise ValueError(f"history does not tell of the {epochs} epochs up to step {step}, one after the other")
    for entry in state["observed"]:
        EpochLogits(**entry)
    _check_best(state["best"], history, selection)


def _check_best(best: Any, history: list[EpochLog], selection: str) -> None:
    values = {entry.epoch: entry.val_overall for entry in history if entry.val_overall is not None}
    if (best is not None) != bool(values) or (values and selection != "best-val"):
        raise ValueError("best and history disagree on whether epochs were validated")
    if best is None:
        return
    if not isinstance(best, dict):
        raise TypeError(f"best is a {type(best).__name__}")
    chosen = max(values, key=lambda epoch: values[epoch])  # the first of equal ones, as in training
    if (best["epoch"], best["val_overall"]) != (chosen, values[chosen]):
        raise ValueError(f"best is not epoch {chosen}, which history has as the best")


def check_tensors(state: dict[str, Any], method: Method, stage: StageTraining, device: torch.device) -> None:
    """Raise ValueError unless all tensors have the shapes and types of the run's."""
    check_alike(state["method"], method.state_dict(), "method")
    check_alike(state["ema"], stage.ema.state() if stage.ema else None, "ema")
    own = random_states(device)
    check_alike(state["rng"], own, "rng")
    for kind in ("python", "numpy"):  # the name of the generator
        if state["rng"][kind][0] != own[kind][0]:
            raise ValueError(f"rng.{kind} is of {state['rng'][kind][0]!r}, not {own[kind][0]!r}")
    check_optimizer(state["optimizer"], stage.optimizer)
    if state["best"] is not None:
        check_alike(state["best"]["states"], dict.fromkeys(weight_sets(stage.ema), copied_state(method)), "best.states")


def check_alike(found: Any, expected: Any, place: str) -> None:
    """Raise ValueError, naming the first difference, unless two parts of checkpoints have the same structure: types,
    keys, lengths, and shapes and types of tensors. Values may differ."""
    if type(found) is not type(expected):
        raise ValueError(f"{place} is a {type(found).__name__}, not a {type(expected).__name__}")
    if isinstance(expected, torch.Tensor):
        if (found.shape, found.dtype) != (expected.shape, expected.dtype):
            raise ValueError(
                f"{place} is {found.dtype} {list(found.shape)}, not {expected.dtype} {list(expected.shape)}"
            )
    elif isinstance(expected, dict):
        if found.keys() != expected.keys():
            key = sorted(map(str, found.keys() ^ expected.keys()))[0]
            raise ValueError(f"{place} {'has no' if key in map(str, expected) else 'has an unknown'} {key!r}")
        for key, value in expected.items():
            check_alike(found[key], value, f"{place}.{key}")
    elif isinstance(expected, (list, tuple)):
        if len(found) != len(expected):
            raise ValueError(f"{place} has {len(found)} parts, not {len(expected)}")
        for number, (part, value) in enumerate(zip(found, expected, strict=True)):
            check_alike(part, value, f"{place}.{number}")


# The state of a parameter in each optimiser; a parameter that has had no gradient yet has none of it.
_KEPT = {"SGD": {"momentum_buffer"}, "Adam": {"step", "exp_avg", "exp_avg_sq"}}
_KEPT["AdamW"] = _KEPT["Adam"]


def check_optimizer(found: Any, optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError unless a state has this optimiser's settings and shapes: loading would not check them."""
    expected = optimizer.state_dict()
    check_alike(found, expected | {"state": found["state"]} if isinstance(found, dict) else expected, "optimizer")
    for number, (group, own) in enumerate(zip(found["param_groups"], expected["param_groups"], strict=True)):
        for key in own.keys() - {"lr"}:  # set anew at every step
            if group[key] != own[key]:
                raise ValueError(f"optimizer.param_groups.{number}.{key} is {group[key]!r}, not {own[key]!r}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    check_alike(found["state"], {key: found["state"][key] for key in found["state"]}, "optimizer.state")
    for index, kept in found["state"].items():
        place = f"optimizer.state.{index}"
        if type(index) is not int or not 0 <= index < len(parameters):
            raise ValueError(f"{place} is of no parameter")
        names = _KEPT[type(optimizer).__name__]
        if not isinstance(kept, dict) or not (kept.keys() == names or not kept):
            raise ValueError(f"{place} does not hold {', '.join(sorted(names))}")
        for name, value in kept.items():
            shape = parameters[index].shape if name != "step" else torch.Size()
            if value is None and name == "momentum_buffer":
                continue
            if not isinstance(value, torch.Tensor) or value.shape != shape or not value.is_floating_point():
                raise ValueError(f"{place}.{name} is not a tensor {list(shape)}")
