"""How often the leaderboard's statistics err, by simulation: `python -m benchmark.leaderboard.calibration`.

The numbers that docs/leaderboard.md gives are from here. Nothing of it depends on a stored run but the last table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmark.console import compact_table
from benchmark.leaderboard.board import load_board
from benchmark.leaderboard.comparison import compare
from benchmark.leaderboard.resampling import class_scores, run_scores
from benchmark.leaderboard.statistics import noise_half_width
from benchmark.leaderboard.tables import Table

REPLICATES = 200


def equal_pairs(seeds: int, seed_noise: float, image_noise: float, pairs: int) -> tuple[float, float]:
    """How often two equal methods are told apart at 95 %, and how often a bootstrap that draws seeds would do so.

    Noises are standard deviations in percent points.
    """
    rng = np.random.default_rng(seeds)
    told = drawn = 0
    for _ in range(pairs):
        rows = [_row(rng, 50.0, seeds, seed_noise, image_noise) for _ in range(2)]
        told += compare(rows).p[0, 1] <= 0.05
        picks = [rng.integers(0, seeds, (seeds, REPLICATES)) for _ in rows]
        columns = np.arange(1, 1 + REPLICATES)
        means = [scores[pick, columns].mean(axis=0) for scores, pick in zip(rows, picks, strict=True)]
        low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
        drawn += low > 0 or high < 0
    return told / pairs, drawn / pairs


def whole_tables(methods: int, seeds: int, lead: float, tables: int) -> tuple[float, float, float]:
    """How often, in tables of methods that are equal but for the first one's lead in percent points: the first one is
    not in group 1; an equal method wins against another; any method falls out of group 1.

    Seeds have a standard deviation of 1 point, test images of half a point.
    """
    rng = np.random.default_rng(methods)
    missed = won = split = 0
    for _ in range(tables):
        rows = [_row(rng, 50.0 + lead * (method == 0), seeds, 1.0, 0.5) for method in range(methods)]
        order = sorted(range(methods), key=lambda i: -rows[i][:, 0].mean())
        found = compare([rows[i] for i in order])
        equal = [place for place, method in enumerate(order) if method != 0 or lead == 0]
        missed += found.rank_groups[order.index(0)] != 1
        won += any(found.verdicts[i][j] == 1 for i in equal for j in equal if i != j)
        split += any(group != 1 for group in found.rank_groups)
    return missed / tables, won / tables, split / tables


def _row(rng: np.random.Generator, level: float, seeds: int, seed_noise: float, image_noise: float) -> np.ndarray:
    """Scores of a method: its test set is one draw, and the replicates scatter around it as test sets do around the
    truth."""
    scores = level + rng.normal(0, image_noise) + rng.normal(0, seed_noise, (seeds, 1))
    return np.concatenate([scores, scores + rng.normal(0, image_noise, REPLICATES)], axis=1).astype(np.float32)


def noise_of_test_sets(images: int, test_sets: int) -> tuple[float, float]:
    """(mean spread that the bootstrap gives over the spread of many test sets' scores; how often the interval of a test
    set holds the score of all together). One class, a fifth of the images positive."""
    rng = np.random.default_rng(0)
    targets = (rng.random((images * test_sets, 1)) < 0.2).astype(np.uint8)
    logits = (rng.normal(size=targets.shape) + 1.2 * targets).astype(np.float32)
    truth = class_scores(logits, targets, np.ones((len(targets), 1), np.float32))[0, 0]
    parts = [slice(start, start + images) for start in range(0, len(targets), images)]
    replicates = [run_scores(logits[part], targets[part], ("head",))[0] for part in parts]
    scores = np.array([values[0] for values in replicates])
    half_widths = np.array([noise_half_width(values) for values in replicates])
    return half_widths.mean() / 1.96 / scores.std(ddof=1), float(np.mean(abs(scores - truth) <= half_widths))


def seed_correlation(table: Table) -> float | None:
    """Mean correlation over seeds of the overall mAP of two methods with the same seeds; None without such a pair."""
    by_seeds: dict[str, list[np.ndarray]] = {}
    for row in table.rows:
        scores = np.array([record.metrics.overall for record in row.records], dtype=float)
        if row.n > 2 and scores.std() > 0:
            by_seeds.setdefault(row.seeds, []).append(scores)
    pairs = [np.corrcoef(group)[np.triu_indices(len(group), 1)] for group in by_seeds.values() if len(group) > 1]
    return float(np.concatenate(pairs).mean()) if pairs else None


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.leaderboard.calibration",
        description="How often the leaderboard's statistics err, by simulation; takes a minute or two.",
        epilog="example:\n  python -m benchmark.leaderboard.calibration --results results\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, help="also tell how the seeds of these runs are correlated")
    args = parser.parse_args(argv)
    console = Console()
    noises = [(2.0, 0.0), (2.0, 1.0), (0.3, 1.0)]
    rows = [
        [f"{n} seeds", seed, image, *map(_percent, equal_pairs(n, seed, image, 3000))]
        for n in (2, 3, 5)
        for seed, image in noises
    ]
    console.print("Two equal methods told apart at 95 %; sd of seeds and of test images in points")
    console.print(compact_table(["", "seeds sd", "images sd", "told apart", "seeds drawn"], rows))
    rows = [
        [f"{methods} methods, {seeds} seeds", lead, *map(_percent, whole_tables(methods, seeds, lead, 1500))]
        for methods, seeds in ((4, 5), (10, 3))
        for lead in (0.0, 1.0)
    ]
    console.print("Tables of equal methods, but for the lead of the first in points")
    console.print(compact_table(["", "lead", "best not in group 1", "false win", "several groups"], rows))
    rows = []
    for images, test_sets in ((250, 1600), (1000, 400)):
        spread, covered = noise_of_test_sets(images, test_sets)
        rows.append([f"{images // 5} positives", f"{spread:.2f}", _percent(covered)])
    console.print("Test noise against the spread of many test sets")
    console.print(compact_table(["", "bootstrap / true", "interval holds truth"], rows))
    if args.results is not None:
        tables = load_board(args.results, args.results).tables
        found = [(table.title, seed_correlation(table)) for table in tables]
        rows = [[title, f"{value:.2f}"] for title, value in found if value is not None]
        console.print("Correlation over seeds of two methods' scores, mean over pairs")
        console.print(compact_table(["track", "correlation"], rows))


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


if __name__ == "__main__":
    main()
