"""Support sets of few-shot episodes with several labels an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmark.errors import InputError, shown

# Of every draw; another one gives other episodes and so another dataset.
SEED = 0
# Of one episode, until its support set is none of the earlier ones.
MOST_DRAWS = 100


def draw_episodes(
    labels: Mapping[str, frozenset[int]], classes: Sequence[str], shots: int, episodes: int
) -> list[dict[str, frozenset[int]]]:
    """Support sets drawn from labelled images: image -> classes' indices, images sorted.

    Each class has `shots` positives in each support set, and more only where every further image of a class shows
    another that has enough. An image counts for every class that it shows. The draw of an episode depends on the
    images, their labels, `shots` and the episode's number; one that gives an earlier support set goes on to another.
    Raises InputError for a class with fewer images, and for too few images to draw different support sets.
    """
    images = sorted(labels)
    targets = np.zeros((len(images), len(classes)), dtype=np.int64)
    for row, image in zip(targets, images, strict=True):
        row[list(labels[image])] = 1
    few = [name for name, n in zip(classes, targets.sum(axis=0), strict=True) if n < shots]
    if few:
        raise InputError(f"class {shown(few[0])!r} has fewer than {shots} images to draw a support set from")
    drawn: list[list[int]] = []
    for episode in range(episodes):
        bits = np.random.PCG64([SEED, shots, episode])
        draws = (_draw(targets, shots, bits) for _ in range(MOST_DRAWS))
        found = next((chosen for chosen in draws if chosen not in drawn), None)
        if found is None:
            raise InputError(f"{len(images)} images are too few for {episodes} support sets; draw fewer episodes")
        drawn.append(found)
    return [{images[i]: labels[images[i]] for i in chosen} for chosen in drawn]


def _draw(targets: np.ndarray, shots: int, bits: np.random.PCG64) -> list[int]:
    """Indices of the images of one support set, sorted. targets: [N, C]."""
    chosen = np.zeros(len(targets), dtype=bool)
    while (counts := targets[chosen].sum(axis=0)).min() < shots:
        # The class with the fewest positives so far; of several the rarest, which has the least to choose from.
        needy = np.flatnonzero(counts == counts.min())
        wanted = needy[np.argmin(targets.sum(axis=0)[needy])]
        candidates = np.flatnonzero(~chosen & (targets[:, wanted] == 1))
        beyond = targets[candidates] @ (counts >= shots).astype(np.int64)
        best = candidates[beyond == beyond.min()]
        # Raw numbers are the same in every version of NumPy; `Generator.choice` need not be.
        chosen[best[int(bits.random_raw()) % len(best)]] = True
    return np.flatnonzero(chosen).tolist()
