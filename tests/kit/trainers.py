"""Trainers that are asked to stop, or save at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

import benchmark.training.loop
from benchmark.training.loop import Trainer


@contextmanager
def stopping(when: Callable[[Trainer], bool] = lambda trainer: True) -> Iterator[None]:
    """Within the block every trainer that is made is asked to stop after each step for which `when` says so."""
    original = Trainer.__init__

    def begin(self: Trainer, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)
        self.runtime = replace(self.runtime, stop=lambda: when(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "__init__", begin)
        yield


def save_every_step(patch: pytest.MonkeyPatch) -> None:
    """From now on a checkpoint is due after every step."""
    patch.setattr(benchmark.training.loop, "SAVE_EVERY_S", 0.0)
