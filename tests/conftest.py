"""Shared fixtures: an image cache of the test session's own, a tiny dataset of real image files, the photographs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Before PyTorch is imported: on tiny models threads only wait for each other, and the processes that tests start
# must compute as this one does, to the bit.
os.environ["OMP_NUM_THREADS"] = "1"
# In the background of a shell Ctrl-C is ignored, and so it would be by the processes that tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest
from PIL import Image

from benchmark.errors import InputError

ROOT = Path(__file__).resolve().parents[1]


def refused(call, *args, **kwargs) -> str:
    """The message of the InputError that the call raises: one line."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def pytest_collection_modifyitems(items):
    """The longest files first: where two processes run the tests, neither ends long after the other."""
    items.sort(key=lambda item: item.path.name not in ("test_slurm.py", "test_readme.py"))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Nothing is read from or left in the user's cache, and no variable of the user changes a test."""
    os.environ["LTBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    for name in ("LTBENCH_DATA", "LTBENCH_RESULTS", "LTBENCH_TRACEBACK"):
        os.environ.pop(name, None)


def write_tiny_dataset(folder: Path, counts: dict[str, int] | None = None, seed: int = 0) -> Path:
    """A dataset folder of 20 x 20 PNG files: each class tints the image, so a model can learn it in seconds."""
    counts = counts or {"train": 24, "val": 10, "test": 12}
    colours = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("\n".join(colours) + "\n")
    for split, n in counts.items():
        lines = []
        for i in range(n):
            labels = [0] if i % 4 else [1, 2] if i % 8 else [0, 1]
            pixels = rng.integers(0, 60, (20, 20, 3))
            for label in labels:
                pixels[:, label * 7 : label * 7 + 6] += np.array(list(colours.values())[label]) * 3 // 4
            name = f"images/{split}{i}.png"
            (folder / name).parent.mkdir(exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
            lines.append(" ".join([name, *map(str, labels)]))
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A fresh tiny dataset folder."""
    return write_tiny_dataset(tmp_path / "tiny")


# What makes a run on the tiny dataset take about a second.
TINY = {
    "protocol": "demo",
    "image_size": 16,
    "epochs": 2,
    "settings": {"recipe.batch_size": 8},
}
TINY_ARGS = ["--protocol", "demo", "--image-size", "16", "--epochs", "2", "--set", "recipe.batch_size=8"]


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real photographs that the variable PHOTOS_LT names."""
    given = os.environ.get("PHOTOS_LT")
    if not given:
        pytest.skip("PHOTOS_LT is not set: it names the folder of real photographs these tests run on")
    return Path(given)
