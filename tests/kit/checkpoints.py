"""A run that was stopped on the way, and its checkpoint."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import benchmark.running.execute as runner
from benchmark.errors import RunInterrupted
from benchmark.running.plan import Plan, make_plan
from benchmark.store.runs import Store
from benchmark.training.setup import Runtime
from benchmark.ui.progress import Reporter
from kit.runs import execute_plan
from kit.tiny import TINY, write_tiny_dataset
from kit.trainers import stopping

SETTINGS = {**TINY["settings"], "recipe.selection": "best-val"}


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Plan:
    tiny = write_tiny_dataset(tmp_path_factory.mktemp("data") / "tiny")
    return make_plan("erm", str(tiny), **TINY | {"settings": SETTINGS, "epochs": 3}, oracle=True)


@pytest.fixture(scope="module")
def stopped(plan, tmp_path_factory) -> Path:
    """Results of the run that was stopped in its second epoch."""
    results = tmp_path_factory.mktemp("stopped")
    with pytest.raises(RunInterrupted), stopping(lambda t: t.progress.step == t.table.steps_per_epoch + 1):
        execute_plan(plan, results)
    return results


def write(path: Path, state: Any) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())


@pytest.fixture(scope="module")
def resume(plan) -> Callable[..., bool]:
    """Goes on with the checkpoint of a results folder; train: False looks at the checkpoint alone, and returns whether
    it would."""
    cached = runner.cache_images(plan, Reporter())

    def begin(results: Path, train: bool = True) -> bool:
        folder = Store(results).folder(plan.spec)
        method = runner._make_method(plan, Reporter())
        runtime = Runtime(torch.device("cpu"), Reporter())
        trainer = runner._make_trainer(plan, method, cached, folder, runtime, lambda *args: None)
        if train:
            return bool(trainer.run())
        trainer._begin()
        return trainer.progress.step > 0

    return begin
