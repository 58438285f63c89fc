"""A tiny dataset of real image files, and what makes a run on it take about a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.data.annotations import write_list
from benchmark.data.dataset import episode_lists
from benchmark.data.episodes import draw_episodes
from benchmark.data.lists import read_classes, read_list


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


# What makes a run on the tiny dataset take about a second.
TINY = {
    "protocol": "demo",
    "image_size": 16,
    "epochs": 2,
    "settings": {"recipe.batch_size": 8},
}
TINY_ARGS = ["--protocol", "demo", "--image-size", "16", "--epochs", "2", "--set", "recipe.batch_size=8"]


def write_few_shot(folder: Path, episodes: int = 3) -> Path:
    """The tiny dataset as a few-shot one: support sets of one positive a class, drawn from its training list."""
    write_tiny_dataset(folder, {"train": 24, "test": 12})
    classes = read_classes(folder / "classes.txt")
    pool = read_list(folder / "train.txt", "train", len(classes))
    for name, support in zip(episode_lists(episodes), draw_episodes(pool.labels, classes, 1, episodes), strict=True):
        (folder / name).parent.mkdir()
        write_list(folder / f"{name}.txt", support)
    (folder / "train.txt").unlink()
    (folder / "dataset.yaml").write_text(f"title: Tiny few-shot\nepisodes: {episodes}\nshots: 1\n")
    return folder
