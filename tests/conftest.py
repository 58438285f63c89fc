"""Shared fixtures: an image cache of the test session's own, a tiny dataset of real image files, the photographs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from kit.tiny import write_tiny_dataset

# Before PyTorch is imported: on tiny models threads only wait for each other, and the processes that tests start
# must compute as this one does, to the bit.
os.environ["OMP_NUM_THREADS"] = "1"
# In the background of a shell Ctrl-C is ignored, and so it would be by the processes that tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest

# The files whose tests take longest, the longest first.
LONGEST = ("test_slurm", "test_readme", "test_pool", "test_published_size", "test_photos")


def pytest_collection_modifyitems(items):
    """The longest files first: where two processes run the tests, neither ends long after the other."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Nothing is read from or left in the user's cache, and no variable of the user changes a test."""
    os.environ["LTBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    for name in ("LTBENCH_DATA", "LTBENCH_METHODS", "LTBENCH_RESULTS", "LTBENCH_TRACEBACK"):
        os.environ.pop(name, None)


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A fresh tiny dataset folder."""
    return write_tiny_dataset(tmp_path / "tiny")


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real photographs that the variable PHOTOS_LT names."""
    return _given("PHOTOS_LT", "the folder of real photographs these tests run on")


@pytest.fixture(scope="session")
def voc_mini() -> Path:
    """The data root of voc-mini-lt that the variable VOC_MINI_LT names."""
    return _given("VOC_MINI_LT", "a data root with the photographs of VOC 2012")


def _given(variable: str, what: str) -> Path:
    """The folder that a variable names; the test is skipped without."""
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set: it names {what}")
    return Path(os.environ[variable])
