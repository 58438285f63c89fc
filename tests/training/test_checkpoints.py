"""A whole checkpoint with the wrong content: one clear line or a fresh start that says so, never a traceback, never
another result."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.checkpoints import SETTINGS, plan, resume, stopped, write  # noqa: F401 - fixtures
from kit.command import ltbench
from kit.runs import execute_plan, outcome
from rich.console import Console

from benchmark.errors import StoreError
from benchmark.running.plan import Plan
from benchmark.store.runs import Store
from benchmark.training.checkpoint import load_checkpoint, save_checkpoint
from benchmark.ui.progress import Reporter


@pytest.fixture(scope="module")
def undisturbed(plan, tmp_path_factory) -> dict:
    return outcome(execute_plan(plan, tmp_path_factory.mktemp("undisturbed")))


@pytest.fixture
def results(stopped, tmp_path) -> Path:
    return shutil.copytree(stopped, tmp_path / "results")


def path_of(plan: Plan, results: Path) -> Path:
    return Store(results).folder(plan.spec).checkpoint_path


def put(*keys: Any, value: Any) -> Callable[[dict], None]:
    def change(state: dict) -> None:
        for key in keys[:-1]:
            state = state[key]
        state[keys[-1]] = value

    return change


def drop(*keys: Any) -> Callable[[dict], None]:
    def change(state: dict) -> None:
        for key in keys[:-1]:
            state = state[key]
        del state[keys[-1]]

    return change


def each(part: str, change: Callable[[torch.Tensor], Any]) -> Callable[[dict], None]:
    """Change every tensor of the method, or of what the optimiser keeps."""

    def edit(state: dict) -> None:
        tables = [state["method"]] if part == "method" else list(state["optimizer"]["state"].values())
        for table in tables:
            for name, value in table.items():
                table[name] = change(value)

    return edit


WRONG = {
    "no step": drop("step"),
    "step of text": put("step", value="4"),
    "step of another kind": put("step", value=4.0),
    "step true": put("step", value=True),
    "negative step": put("step", value=-1),
    "step beyond the end": put("step", value=10**9),
    "another step": put("step", value=8),
    "no stage": drop("stage"),
    "stage beyond the end": put("stage", value=7),
    "negative stage": put("stage", value=-1),
    "time of text": put("train_s", value="long"),
    "time not a number": put("train_s", value=float("nan")),
    "negative time": put("train_s", value=-5.0),
    "loss not a number": put("epoch_loss", value=float("nan")),
    "loss of a tensor": put("epoch_loss", value=torch.zeros(2)),
    "no history": drop("history"),
    "history of another epoch": put("history", 0, "epoch", value=2),
    "history of no epochs": put("history", value=[]),
    "history of nonsense": put("history", value=[{"epoch": "one"}]),
    "history of numbers": put("history", value=[1, 2]),
    "history of another stage": put("history", 0, "stage", value="warm-up"),
    "no method": drop("method"),
    "method of text": put("method", value="weights"),
    "method of nothing": put("method", value=None),
    "method of other names": lambda state: state.update(method={"x": torch.zeros(1)}),
    "method of other shapes": each("method", lambda value: value[..., None]),
    "method of other numbers": each("method", lambda value: value.double() if value.is_floating_point() else value),
    "no optimizer": drop("optimizer"),
    "optimizer of nothing": put("optimizer", value=None),
    "optimizer of other keys": put("optimizer", value={}),
    "optimizer of other groups": put("optimizer", "param_groups", value=[]),
    "optimizer of other parameters": put("optimizer", "param_groups", 0, "params", value=[0]),
    "optimizer of another decay": put("optimizer", "param_groups", 0, "weight_decay", value=0.5),
    "optimizer of other shapes": each("optimizer", lambda value: value[..., None] if value.dim() else value),
    "optimizer of other names": lambda state: state["optimizer"]["state"].update({0: {"momentum": torch.zeros(1)}}),
    "optimizer of no parameter": lambda state: state["optimizer"]["state"].update({999: {}}),
    "optimizer of text": put("optimizer", "state", value="state"),
    "no average": put("ema", value=None),
    "average of other names": put("ema", "average", value={}),
    "average of other kind": put("ema", "steps", value="many"),
    "no best": put("best", value=None),
    "best of another epoch": put("best", "epoch", value=2),
    "best of another score": put("best", "val_overall", value=100.0),
    "best of nonsense": put("best", value=[1]),
    "best of other weights": put("best", "states", value={"raw": {}}),
    "best of other shapes": lambda state: state["best"]["states"]["ema"].update(
        {name: value[..., None] for name, value in state["best"]["states"]["ema"].items()}
    ),
    "no epochs kept": drop("observed"),
    "epochs of nonsense": put("observed", value=[{"epoch": 1}]),
    "no random states": drop("rng"),
    "random states of nothing": put("rng", value=None),
    "no state of python": put("rng", "python", value=(3, (1, 2), None)),
    "other state of python": put("rng", "python", value=(2, tuple(range(625)), None)),
    "state of numpy": put("rng", "numpy", value=("MT19937", [1])),
    "state of torch": put("rng", "torch", value=torch.zeros(3, dtype=torch.uint8)),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.slow
def test_what_is_not_this_runs_is_one_line(plan, results, resume, case):
    path = path_of(plan, results)
    state = load_checkpoint(path)
    WRONG[case](state)
    write(path, state)
    with pytest.raises(StoreError) as caught:
        resume(results)
    message = str(caught.value)
    assert message.startswith(f"{path}: not a checkpoint of this run (") and len(message.splitlines()) == 1
    assert "remove it" in message and "--rerun always" in message


@pytest.mark.parametrize(
    ("state", "words"),
    [([1, 2], "it holds a list"), (torch.zeros(3), "it holds a Tensor"), (7, "it holds a int"), (None, "a NoneType")],
)
def test_what_is_no_table_is_one_line(plan, results, state, words):
    write(path_of(plan, results), state)
    with pytest.raises(StoreError, match=f"not a checkpoint of this version .*{words}.*; remove it"):
        execute_plan(plan, results)


@pytest.mark.parametrize("change", [put("made_by", value="me"), put("made_by", value={}), drop("made_by"), dict.clear])
@pytest.mark.slow
def test_what_somebody_else_made_is_not_continued_and_that_is_said(plan, results, undisturbed, change):
    path = path_of(plan, results)
    state = load_checkpoint(path)
    change(state)
    write(path, state)
    console = Console(record=True, width=200, file=io.StringIO())
    assert outcome(execute_plan(plan, results, reporter=Reporter(console))) == undisturbed
    assert "starting anew" in console.export_text()


def test_a_checkpoint_as_it_was_is_continued(plan, results, undisturbed):
    path = path_of(plan, results)
    state = load_checkpoint(path)
    save_checkpoint(path, state)
    assert outcome(execute_plan(plan, results)) == undisturbed


@pytest.mark.slow
def test_on_the_command_line_it_is_one_line_and_always_starts_anew(plan, results, undisturbed):
    path = path_of(plan, results)
    write(path, load_checkpoint(path) | {"step": -1})
    args = ["run", "--method", "erm", "--dataset", plan.request["dataset"], "--protocol", "demo", "--image-size", "16"]
    args += ["--epochs", "3", "--set", "recipe.batch_size=8", "--set", "recipe.selection=best-val", "--oracle"]
    done = ltbench(*args, "--results", results)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: {path}: not a checkpoint of this run (step is -1")
    assert ltbench(*args, "--results", results, "--rerun", "always").returncode == 0
