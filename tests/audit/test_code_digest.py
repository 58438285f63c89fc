"""The digest of a run's code: what a run does not depend on leaves it alone, and nothing else does."""

from __future__ import annotations

import ast
import shutil
import sys
import threading
from pathlib import Path

import pytest
from kit.code import forget_code
from kit.paths import ROOT
from kit.runs import execute_plan
from kit.tiny import TINY

import benchmark
from benchmark.audit import code_digest as module
from benchmark.data.samplers import SAMPLERS
from benchmark.method import METHODS
from benchmark.models.backbones import BACKBONES

ERM, HP_DVAL = METHODS.get("erm"), METHODS.get("hp-dval")


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A copy of the harness that the digest is made of."""
    copy = tmp_path / "benchmark"
    shutil.copytree(ROOT / "benchmark", copy, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    monkeypatch.setattr(module, "_PACKAGE", copy)
    forget_code()
    yield copy
    monkeypatch.undo()
    forget_code()


def digest(method: type = ERM) -> str:
    forget_code()
    return module.digest_of(method)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_new_file_changes_nothing(package):
    before = digest(), digest(HP_DVAL)
    for room in ("models", "training", "data"):
        (package / room / "unheard_of.py").write_text("import torch\n\ntorch.manual_seed(1)\n")
    assert (digest(), digest(HP_DVAL)) == before


def test_a_new_function_that_nothing_calls_changes_nothing(package):
    before = digest(HP_DVAL)
    for file in ("models/losses.py", "data/samplers.py", "training/optim.py"):
        with (package / file).open("a") as text:
            text.write("\n\ndef unheard_of():\n    return 1\n")
    assert digest(HP_DVAL) == before


def test_docstrings_comments_and_layout_change_nothing(package):
    """Every docstring of the harness in other words, every comment gone."""
    before = digest(HP_DVAL)
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body[0].value.value = "In other words."
        path.write_text(ast.unparse(tree))
    assert digest(HP_DVAL) == before


def test_a_definition_may_move_to_another_module(package):
    before = digest()
    path = package / "training" / "optim.py"
    (package / "training" / "elsewhere.py").write_text(path.read_text())
    names = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    path.write_text(f"from benchmark.training.elsewhere import {', '.join(names)}\n")
    assert digest() == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        # The task's builder: batch norm is not frozen any more.
        ("running/task.py", 'batch_norm=recipe.batch_norm == "frozen"', "batch_norm=False"),
        ("training/randomness.py", "random.seed(seed)", "random.seed(seed + 1)"),
        ("training/optim.py", "momentum=config.momentum", "momentum=0.5"),
        ("training/inference.py", "(images - self.mean) / self.std", "images - self.mean"),
        ("data/decoding.py", "def decoded(", "def decoded(unheard_of=1, *, "),
        ("data/augment.py", "class Augmenter", "class Augmenter(object)"),
        ("data/samplers.py", '"/".join', '"-".join'),
        ("models/classifier.py", "CLASSIFIER_STD = 0.01", "CLASSIFIER_STD = 0.02"),
        ("models/backbones.py", "features.mean(dim=(2, 3))", "features.amax(dim=(2, 3))"),
        ("evaluation.py", "found = np.sort(", "found = -np.sort("),
        ("method.py", "self(batch.images).float()", "self(batch.images)"),
    ],
)
@pytest.mark.slow
def test_any_change_of_what_is_reached_changes_it(package, file, old, new):
    before = digest()
    edit(package / file, old, new)
    assert digest() != before


def test_another_loss_changes_the_methods_that_use_it_alone(package):
    before = digest(), digest(METHODS.get("focal"))
    edit(package / "models" / "losses.py", "def focal(", "def focal(unheard_of=1, *, ")
    assert digest() == before[0] and digest(METHODS.get("focal")) != before[1]


def test_what_only_tells_and_stores_changes_nothing(package):
    before = digest()
    for room in ("ui", "store", "cli", "launch", "leaderboard"):
        for path in (package / room).rglob("*.py"):
            path.write_text(path.read_text() + "\n\nTOLD = 1\n")
    edit(package / "ui" / "progress.py", "class Reporter", "class Reporter(object)")
    assert digest() == before


def test_a_path_that_has_changed_is_an_error(package, monkeypatch):
    monkeypatch.setattr(module, "PATH", ("benchmark.evaluation:gone",))
    with pytest.raises(ValueError, match="benchmark.evaluation has no gone"):
        digest()


@pytest.mark.parametrize(
    ("method", "network"),
    [("erm", {}), ("ltml", {}), ("ltml", {"backbone": "timm:test_vit", "weights": "none"})],
)
def test_every_function_that_a_run_calls_is_in_the_digest(tiny, tmp_path, method, network):
    """Outside of the rooms that decide no number."""
    called: set[tuple[str, str]] = set()

    def note(frame, event, argument):
        if event == "call":
            name = frame.f_globals.get("__name__", "")
            if name.startswith(("benchmark.", "methods.")):
                called.add((name, frame.f_code.co_qualname.partition(".")[0]))

    plan = benchmark.plan(method, str(tiny), **TINY, **network)
    sys.setprofile(note)
    threading.setprofile(note)
    try:
        execute_plan(plan, tmp_path / "results")
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    chosen = [
        plan.method,
        BACKBONES.get(plan.spec.recipe.backbone),
        *map(SAMPLERS.get, plan.method.samplers(plan.config)),
    ]
    reached = module.reach([*map(module._named, module.PATH), *map(module._definition, chosen)])
    missing = {
        (name, function)
        for name, function in called - reached
        if not name.startswith(module.APART) and not function.startswith(("<", "__"))
    }
    assert not missing
    assert len(called & reached) > 50
