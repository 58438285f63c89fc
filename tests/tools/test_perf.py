"""The speed comparison: what it compares, and what it says where a library is missing. No time is asserted."""

import importlib
import json
from dataclasses import replace

import numpy as np
import pytest

from benchmark.evaluation import average_precision
from benchmark.tools import perf

SMALL = tuple(replace(size, images=60, classes=4) for size in perf.SIZES)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(perf, "SIZES", SMALL)


def test_all_sizes_are_compared_and_scikit_learn_agrees(small, capsys):
    assert perf.main(["metric", "--repeats", "2", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [c["size"]["ties"] for c in shown["comparisons"]] == [False, False, True, True] * 3
    for comparison in shown["comparisons"]:
        assert comparison["fastest"] > 0 and comparison["median"] > 0
        exact = comparison["library"].startswith("scikit-learn ")
        assert exact or comparison["library"].startswith("torchmetrics ")
        assert comparison["difference"] <= (1e-12 if exact else 1e-3)


def test_the_table_names_size_library_and_ratio(small, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert perf.main(["metric", "--repeats", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("60 x 4, 30 %, ties" in line and "scikit-learn" in line and " x " in line for line in lines) == 1


def test_a_difference_is_told():
    [comparison] = perf.compare(SMALL[0], {"worse": lambda logits, targets: average_precision(logits, targets) / 2}, 1)
    logits, targets = perf._problem(SMALL[0])
    assert comparison.difference == average_precision(logits, targets).max() / 2


@pytest.mark.parametrize("size", SMALL, ids=str)
def test_made_up_test_sets_are_what_they_say(size):
    logits, targets = perf._problem(replace(size, images=1000))
    assert (logits.dtype, targets.dtype) == (np.float32, np.uint8) and targets.any(axis=0).all()
    assert abs(targets.mean() - size.positives) < 0.03
    assert (len(np.unique(logits)) < 100) == size.ties


@pytest.mark.parametrize("package", ["sklearn", "torchmetrics"])
def test_a_library_that_is_not_installed_is_named_with_the_remedy(package, monkeypatch, capsys):
    real = importlib.import_module

    def without(name):
        if name.startswith(package):
            raise ModuleNotFoundError(f"No module named {package!r}")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", without)
    assert perf.main(["metric"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"error: {package} cannot be imported") and "pip install -e '.[dev]'" in message


def test_a_number_of_repeats_that_is_none_is_refused(capsys):
    assert perf.main(["metric", "--repeats", "0"]) == 2
    assert capsys.readouterr().err.startswith("error: --repeats 0: ")
