"""The text of the leaderboard's numbers."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.leaderboard.stats.statistics import Estimate

MISSING = "–"
VARIOUS = "various"
# Marks of a ± that covers one of the two noises.
SEEDS_MARK, IMAGES_MARK = "ˢ", "ⁱ"
MARKS = f"{SEEDS_MARK} over seeds alone; {IMAGES_MARK} over test images alone"


def number_text(value: float | None) -> str:
    """`84.21`, a dash for none."""
    return MISSING if value is None else f"{value:.2f}"


def difference_text(value: float | None) -> str:
    """`+1.23`, a dash for none; a zero has no minus."""
    return MISSING if value is None else f"{value:+z.2f}"


def score_text(score: Estimate | None) -> str:
    """`84.21 ± 0.35`, with a mark where ± covers one noise alone; the mean alone where neither is known; a dash for a
    missing score."""
    if score is None:
        return MISSING
    mean = number_text(score.mean)
    return mean if score.half_width is None else f"{mean} ± {number_text(score.half_width)}{_mark(score)}"


def cell_text(score: Estimate | None) -> str:
    """`84.21 ± 0.35 (3)`: `score_text` with the number of seeds."""
    return MISSING if score is None else f"{score_text(score)} ({score.n})"


def part_texts(score: Estimate | None) -> tuple[str, str]:
    """The two parts of ±, over seeds and over test images: `± 0.75`, a dash for an unknown part."""
    seeds, images = (None, None) if score is None else (score.seeds, score.images)
    return _part_text(seeds), _part_text(images)


def are_best(scores: Sequence[Estimate | None]) -> list[bool]:
    """For each score, whether its mean is the best of them, at the precision shown."""
    means = [None if score is None else score.mean for score in scores]
    best = max((mean for mean in means if mean is not None), default=None)
    return [mean is not None and number_text(mean) == number_text(best) for mean in means]


def _mark(score: Estimate) -> str:
    if score.seeds is None:
        return IMAGES_MARK
    return SEEDS_MARK if score.images is None else ""


def _part_text(part: float | None) -> str:
    return MISSING if part is None else f"± {number_text(part)}"
