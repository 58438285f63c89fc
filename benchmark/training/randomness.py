"""The global random generators of Python, NumPy and PyTorch: seeded, kept and restored together."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from benchmark.data.samplers import generator
from benchmark.distributed import Peers


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch (all devices): a method may draw from any of them."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_states(device: torch.device) -> dict[str, Any]:
    """The states of all generators, as plain values and tensors; of the GPUs only that of `device`."""
    state = np.random.get_state()
    assert isinstance(state, tuple)  # a dict only with legacy=False
    kind, keys, *rest = state
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def restore_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Set the generators to states from `random_states`."""
    random.setstate(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


@contextmanager
def draws_kept_apart(device: torch.device) -> Iterator[None]:
    """Restore the generators after the block, whatever is drawn within it."""
    states = random_states(device)
    try:
        yield
    finally:
        restore_random_states(states, device)


@contextmanager
def own_draws(seed: int, step: int, peers: Peers, device: torch.device) -> Iterator[None]:
    """Seed the generators for this process and this step within the block, where several processes train.

    A single process goes on with its generators.
    """
    if peers.size == 1:
        yield
        return
    with draws_kept_apart(device):
        seed_everything(generator("draws", seed, peers.rank, step).initial_seed() % 2**32)
        yield
