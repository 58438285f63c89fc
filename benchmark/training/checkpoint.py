"""Checkpoints that are whole or are not loaded: PyTorch's format, followed by the sha256 of it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from benchmark.base.atomic import write_atomically
from benchmark.base.files import read_regular
from benchmark.errors import StoreError

_DIGEST_BYTES = 32


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint by rename. Raises StoreError; an older checkpoint then stays."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write_atomically(path, content + hashlib.sha256(content).digest())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """A checkpoint's state on the CPU, None where there is no file. Raises StoreError when it is not whole."""
    try:
        content = read_regular(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from None
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise StoreError(
            f"{path}: the checkpoint is truncated or damaged; remove it, or start anew with --rerun always"
        )
    try:
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can end in almost any error
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise StoreError(f"{path}: not a checkpoint of this version ({reason}); remove it") from None
    if not isinstance(state, dict):
        raise StoreError(f"{path}: not a checkpoint of this version (it holds a {type(state).__name__}); remove it")
    return state


def check_alike(found: Any, expected: Any, place: str) -> None:
    """Raise ValueError, naming the first place, unless two parts of checkpoints have the same form: types, keys,
    lengths, and shapes and types of tensors. Values may differ."""
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


# What an optimiser keeps of a parameter: all of it or, of one without a gradient so far, nothing.
_KEPT = {"SGD": {"momentum_buffer"}, "Adam": {"step", "exp_avg", "exp_avg_sq"}}
_KEPT["AdamW"] = _KEPT["Adam"]


def check_optimizer(found: Any, optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError unless a state is one of this optimiser, whose settings are those of the run: loading would take
    others over, and a state of other shapes too."""
    expected = optimizer.state_dict()
    check_alike(found, expected | {"state": found["state"]} if isinstance(found, dict) else expected, "optimizer")
    for number, (group, own) in enumerate(zip(found["param_groups"], expected["param_groups"], strict=True)):
        for key in own.keys() - {"lr"}:  # of every step, which sets it
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
