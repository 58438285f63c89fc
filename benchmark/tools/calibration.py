"""Error rates of the leaderboard's statistics, by simulation: `python -m benchmark.tools.calibration`.

The numbers in docs/leaderboard.md are from here. Only the last table depends on stored runs. Scores are in units of the
standard deviation over seeds, unless stated otherwise.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from scipy.special import ndtri

from benchmark.leaderboard.board import load_board
from benchmark.leaderboard.stats.comparison import Comparison, of_differences, p_values
from benchmark.leaderboard.stats.resampling import class_scores, run_scores
from benchmark.leaderboard.stats.shrinkage import shrink
from benchmark.leaderboard.stats.statistics import CONFIDENCE, Estimate, estimate, holm, noise_half_width
from benchmark.leaderboard.tables import Table
from benchmark.ui.progress import Reporter
from benchmark.ui.tables import compact_table

REPLICATES = 200
TABLES = 1500
SEEDS, ROWS, IMAGES, SPREADS = (2, 3, 5, 10), (5, 11, 14, 20), (0.0, 0.3, 0.7), (0.0, 0.5)
# Standard deviation of the change that test images make to all methods alike, in the settings that have one.
_COMMON = 3.0


@dataclass(frozen=True)
class Setting:
    """Tables whose methods are equal, but for the lead of the first.

    images: standard deviation over test images of a difference of two rows. spread: the rows' standard deviations over
    seeds are seed_sd e^(spread z), z normal. common: standard deviation over test images of the change that all rows
    share. fixed: number of first rows that do not vary over seeds. two_seeds: number of last rows with two seeds only.
    """

    rows: int
    seeds: int
    images: float = 0.0
    spread: float = 0.0
    seed_sd: float = 1.0
    lead: float = 0.0
    common: float = 0.0
    fixed: int = 0
    two_seeds: int = 0


@dataclass(frozen=True)
class Tables:
    """Many tables at once.

    means, variances (over seeds): [tables, rows]. images: covariance over test images, [tables, rows, rows]. n,
    freedom: [rows], numbers of seeds and degrees of freedom of the variances.
    """

    setting: Setting
    means: np.ndarray
    variances: np.ndarray
    images: np.ndarray
    n: np.ndarray
    freedom: np.ndarray


# Variances and degrees of freedom of the differences of every two rows, [tables, rows, rows].
Test = Callable[[Tables], tuple[np.ndarray, np.ndarray]]


def leaderboard_test(tables: Tables) -> tuple[np.ndarray, np.ndarray]:
    """The leaderboard's own test."""
    return of_differences(shrink(tables.variances, tables.freedom), tables.n, tables.images)


def draw(setting: Setting, tables: int) -> Tables:
    """Tables as a sweep and its bootstrap would give them."""
    rng = np.random.default_rng([setting.rows, setting.seeds, round(100 * setting.images), round(100 * setting.spread)])
    shape = (tables, setting.rows)
    sd = setting.seed_sd * np.exp(setting.spread * rng.normal(size=shape))
    sd[:, : setting.fixed] = 0
    levels = setting.lead * (np.arange(setting.rows) == 0)
    scores = sd[..., None] * rng.normal(size=(*shape, setting.seeds))

    def test_sets(number: int) -> np.ndarray:
        own = rng.normal(0, setting.images / 2**0.5, (*shape, number))
        return own + setting.common * rng.normal(size=(tables, 1, number))

    replicates = test_sets(REPLICATES)
    replicates -= replicates.mean(axis=-1, keepdims=True)
    n = np.full(setting.rows, setting.seeds)
    n[setting.rows - setting.two_seeds :] = 2
    scores[np.broadcast_to(np.arange(setting.seeds) >= n[:, None], scores.shape)] = np.nan
    freedom = np.where(np.arange(setting.rows) < setting.fixed, np.inf, n - 1.0)
    return Tables(
        setting,
        levels + np.nanmean(scores, axis=-1) + test_sets(1)[..., 0],
        np.nanvar(scores, axis=-1, ddof=1),
        replicates @ replicates.transpose(0, 2, 1) / (REPLICATES - 1),
        n,
        freedom,
    )


def tested(tables: Tables, test: Test = leaderboard_test) -> tuple[np.ndarray, np.ndarray]:
    """(differences, p-values) of every two rows, [tables, rows, rows]."""
    difference = tables.means[:, :, None] - tables.means[:, None, :]
    return difference, p_values(difference, *test(tables))


def false_wins(setting: Setting, tables: int, test: Test = leaderboard_test) -> tuple[float, float]:
    """Two rates of false wins in tables of equal methods: of any pair, and of any comparison with the last row.

    For the second rate, only the comparisons with the last row are made, as with a baseline.
    """
    _, p = tested(draw(setting, tables), test)
    pairs = p[:, *np.triu_indices(setting.rows, 1)]
    return _any(pairs), _any(p[:, -1, :-1])


def power(setting: Setting, tables: int, test: Test = leaderboard_test) -> tuple[float, float]:
    """How often the first row, which leads, wins against another, as a mean over the other rows.

    Corrected for all pairs, and for the comparisons with one row alone.
    """
    difference, p = tested(draw(setting, tables), test)
    first, second = np.triu_indices(setting.rows, 1)
    corrected = holm(p[:, first, second])[:, first == 0]
    wins = (corrected <= 1 - CONFIDENCE) & (difference[:, 0, 1:] > 0)
    against = [holm(np.delete(p[:, row], row, axis=1))[:, 0] for row in range(1, setting.rows)]
    return float(wins.mean()), float(np.mean(np.array(against) <= 1 - CONFIDENCE))


def rank_groups(setting: Setting, tables: int) -> tuple[float, float]:
    """How often the truly best method (the first) is not in group 1; how often any method falls out of group 1."""
    drawn = draw(setting, tables)
    variances, freedoms = leaderboard_test(drawn)
    missed = split = 0
    for means, variance, freedom in zip(drawn.means, variances, freedoms, strict=True):
        order = np.argsort(-means)
        groups = _comparison(means[order], variance[np.ix_(order, order)], freedom[np.ix_(order, order)]).rank_groups
        missed += groups[int(np.flatnonzero(order == 0)[0])] != 1
        split += any(group != 1 for group in groups)
    return missed / tables, split / tables


def detected(setting: Setting, tables: int) -> tuple[float, float, float]:
    """How often a table finds the difference that it claims to find in 80 of 100 cases; the first row leads by it.

    For a pair alone, for the comparisons with one row, and for all pairs.
    """
    drawn = draw(setting, tables)
    variances, freedoms = leaderboard_test(drawn)
    first, second = np.triu_indices(setting.rows, 1)
    ways: list[tuple[int, Callable[[np.ndarray], np.ndarray]]] = [
        (1, lambda p: p[:, 0, 1:]),
        (setting.rows - 1, lambda p: holm(p[:, -1, :-1])[:, :1]),
        (len(first), lambda p: holm(p[:, first, second])[:, first == 0]),
    ]
    found = []
    for comparisons, corrected in ways:
        lead = [
            _comparison(*arrays).detectable(comparisons=comparisons)
            for arrays in zip(drawn.means, variances, freedoms, strict=True)
        ]
        means = drawn.means + np.array(lead)[:, None] * (np.arange(setting.rows) == 0)
        p = tested(replace(drawn, means=means))[1]
        found.append(float(np.mean(corrected(p) <= 1 - CONFIDENCE)))
    return found[0], found[1], found[2]


def cell_coverage(seeds: int, images: float, cells: int) -> float:
    """How often the interval of a cell contains the mean over test sets and seeds.

    images: standard deviation of a mean over test sets, in units of that over seeds.
    """
    rng = np.random.default_rng(seeds)
    scores = rng.normal(size=(cells, seeds)) + images * rng.normal(size=(cells, 1))
    by_images = ndtri(0.5 + CONFIDENCE / 2) * images
    found = _estimates(scores, by_images)
    return float(np.mean([cell.half_width is not None and abs(cell.mean) <= cell.half_width for cell in found]))


def prediction_errors(seeds: int, images: float, prints: int) -> tuple[float, float]:
    """How often the one run of an exact reproduction is outside the prediction interval.

    Scored on the same test images, and on others.
    """
    rng = np.random.default_rng(seeds)
    own = images * rng.normal(size=(prints, 1))
    scores = rng.normal(size=(prints, seeds)) + own
    run = rng.normal(size=prints)
    by_images = ndtri(0.5 + CONFIDENCE / 2) * images
    found = _estimates(scores, by_images)
    means, halves = np.array([(item.mean, item.prediction_half_width) for item in found]).T
    same = np.mean(abs(run + own[:, 0] - means) > halves)
    return float(same), float(np.mean(abs(run + images * rng.normal(size=prints) - means) > halves))


def _estimates(scores: np.ndarray, by_images: float) -> list[Estimate]:
    """The estimate of each row of scores [cells, seeds]."""
    found = (estimate(values, by_images) for values in scores.tolist())
    return [cell for cell in found if cell is not None]


def seeds_drawn(seeds: int, pairs: int) -> float:
    """How often a bootstrap that draws seeds with replacement finds a difference of equal methods at 95 %."""
    rng = np.random.default_rng(seeds)
    scores = rng.normal(size=(pairs, 2, seeds))
    picks = rng.integers(0, seeds, (pairs, 2, REPLICATES, seeds))
    means = np.take_along_axis(scores[:, :, None], picks, axis=-1).mean(axis=-1)
    low, high = np.quantile(means[:, 0] - means[:, 1], [0.025, 0.975], axis=-1)
    return float(np.mean((low > 0) | (high < 0)))


def noise_of_test_sets(images: int, test_sets: int) -> tuple[float, float]:
    """(ratio of the bootstrap's mean spread to the spread of many test sets' scores; how often the interval of a test
    set contains the score of all test sets together).

    One class, with a fifth of the images positive.
    """
    rng = np.random.default_rng(0)
    targets = (rng.random((images * test_sets, 1)) < 0.2).astype(np.uint8)
    logits = (rng.normal(size=targets.shape) + 1.2 * targets).astype(np.float32)
    truth = class_scores(logits, targets, np.ones((len(targets), 1), np.float32))[0, 0]
    parts = [slice(start, start + images) for start in range(0, len(targets), images)]
    replicates = [run_scores(logits[part], targets[part], ("head",))[0] for part in parts]
    scores = np.array([values[0] for values in replicates])
    half_widths = np.array([noise_half_width(values) for values in replicates])
    return half_widths.mean() / 1.96 / scores.std(ddof=1), float(np.mean(abs(scores - truth) <= half_widths))


def few_positives(positives: int, test_sets: int, images: int = 1000) -> tuple[float, float, float]:
    """(mean average precision in percent of a class with that many positives; that of all test sets together; how often
    a table of 5 equal methods with 3 seeds has a false win on such a class).

    A score is the sum of three parts: one of the image, one of image and method, one of image and network.
    """
    rng = np.random.default_rng(positives)
    rows, seeds = 5, 3
    weights = rng.exponential(size=(images, REPLICATES)).astype(np.float32)
    weights = np.concatenate([np.ones((images, 1), np.float32), weights], axis=1)
    targets = np.zeros((images, rows * seeds), np.uint8)
    targets[:positives] = 1
    wins, means, pooled = 0, [], []
    for _ in range(test_sets):
        shared = rng.normal(size=(images, 1))
        of_rows = np.repeat(rng.normal(size=(images, rows)), seeds, axis=1)
        logits = shared + 0.5 * of_rows + 0.5 * rng.normal(size=targets.shape) + 1.2 * targets
        scores = class_scores(logits.astype(np.float32), targets, weights).reshape(rows, seeds, -1)
        over_seeds = scores.mean(axis=1, dtype=np.float64)
        drawn = Tables(
            Setting(rows, seeds),
            over_seeds[None, :, 0],
            scores[None, :, :, 0].var(axis=-1, ddof=1, dtype=np.float64),
            np.cov(over_seeds[:, 1:])[None],
            np.full(rows, seeds),
            np.full(rows, seeds - 1.0),
        )
        wins += _any(tested(drawn)[1][:, *np.triu_indices(rows, 1)]) > 0
        means.append(scores[0, 0, 0])
        pooled.append(logits[:, 0])
    together = np.concatenate(pooled)[:, None].astype(np.float32)
    truth = class_scores(together, np.tile(targets[:, :1], (test_sets, 1)), np.ones((len(together), 1), np.float32))
    return float(np.mean(means)), float(truth[0, 0]), wins / test_sets


def seed_correlation(table: Table) -> float | None:
    """Mean correlation over seeds of the overall mAP of two methods with the same seeds; None without such a pair."""
    by_seeds: dict[tuple[int, ...], list[np.ndarray]] = {}
    for row in table.rows:
        scores = np.array([record.metrics.overall for record in row.records], dtype=float)
        if row.n > 2 and scores.std() > 0:
            by_seeds.setdefault(row.seeds, []).append(scores)
    pairs = [np.corrcoef(group)[np.triu_indices(len(group), 1)] for group in by_seeds.values() if len(group) > 1]
    return float(np.concatenate(pairs).mean()) if pairs else None


# Settings outside of the grid.
SPECIAL = {
    "correlated images": Setting(11, 3, 0.3, 0.5, common=_COMMON),
    "a row without training": Setting(11, 3, 0.3, 0.5, fixed=1),
    "no images, a row without training": Setting(11, 3, 0.0, 0.5, fixed=1),
    "3 rows of 2 seeds, the others of 5": Setting(11, 5, 0.3, 0.5, two_seeds=3),
    "images 1.5": Setting(11, 3, 1.5, 0.5),
    "2 rows": Setting(2, 3, 0.3),
    "2 rows, one without training": Setting(2, 3, 0.3, fixed=1),
    "3 rows": Setting(3, 3, 0.3, 0.5),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.tools.calibration",
        description="Error rates of the leaderboard's statistics, by simulation; takes a minute or two.",
        epilog="example:\n  python -m benchmark.tools.calibration --results results\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, help="also print how the seeds of these runs are correlated")
    parser.add_argument("--tables", type=int, default=TABLES, help=f"simulated tables a line (default {TABLES})")
    args = parser.parse_args(argv)
    if args.tables < 1:
        parser.error(f"--tables {args.tables}: give 1 or more")
    console = Console()
    shown = []
    with Reporter(Console(stderr=True)).task("simulating tables of figures", len(_SECTIONS)) as task:
        for number, (title, columns, make) in enumerate(_SECTIONS, 1):
            shown += [title, compact_table(columns, list(make(args.tables)))]
            task.update(number)
    for part in shown:
        console.print(part)
    if args.results is not None:
        tables = load_board(args.results, args.results).tables
        found = [(table.title, seed_correlation(table)) for table in tables]
        rows = [[title, f"{value:.2f}"] for title, value in found if value is not None]
        console.print("Correlation over seeds of two methods' scores, mean over pairs")
        console.print(compact_table(["track", "correlation"], rows))


def _grid_rows(spread: float, tables: int) -> Iterator[list[str]]:
    """A line for each number of seeds and of rows, with a column for each noise of the images."""
    for seeds, rows in itertools.product(SEEDS, ROWS):
        rates = [false_wins(Setting(rows, seeds, images, spread), tables) for images in IMAGES]
        yield [str(seeds), str(rows), *(_percent(rate) for kind in zip(*rates, strict=True) for rate in kind)]


def _special_rows(tables: int) -> Iterator[list[str]]:
    for name, setting in SPECIAL.items():
        yield [name, *map(_percent, false_wins(setting, tables))]


def _power_rows(tables: int) -> Iterator[list[str]]:
    for spread, images, seeds in itertools.product(SPREADS, IMAGES, (2, 3, 5)):
        setting = Setting(11, seeds, images / 2, spread, seed_sd=0.5, lead=2.0)
        kind = "unequal" if spread else "equal"
        yield [kind, f"{images / 2:g}", str(seeds), *map(_percent, power(setting, tables))]


def _rank_rows(tables: int) -> Iterator[list[str]]:
    for spread, (rows, seeds), lead in itertools.product(SPREADS, ((5, 5), (11, 3), (20, 2)), (0.0, 1.0)):
        setting = Setting(rows, seeds, 0.5, spread, lead=lead)
        kind = "unequal" if spread else "equal"
        yield [kind, str(rows), str(seeds), f"{lead:g}", *map(_percent, rank_groups(setting, tables))]


def _detected_rows(tables: int) -> Iterator[list[str]]:
    for spread, seeds, images in itertools.product(SPREADS, (3, 5), (0.0, 0.7)):
        kind = "unequal" if spread else "equal"
        yield [kind, str(seeds), f"{images:g}", *map(_percent, detected(Setting(11, seeds, images, spread), tables))]


def _interval_rows(tables: int) -> Iterator[list[str]]:
    for seeds, images in itertools.product((2, 3, 5, 10), (0.0, 0.1, 0.3, 1.0, 3.0)):
        rates = (1 - cell_coverage(seeds, images, 10 * tables), *prediction_errors(seeds, images, 10 * tables))
        yield [str(seeds), f"{images:g}", _percent(1 - rates[0]), *map(_percent, rates[1:])]


def _test_set_rows(tables: int) -> Iterator[list[str]]:
    for images, test_sets in ((250, tables), (1000, tables // 4 + 1)):
        spread, covered = noise_of_test_sets(images, test_sets + 1)
        yield [f"{images // 5} positives", f"{spread:.2f}", _percent(covered)]


def _few_rows(tables: int) -> Iterator[list[str]]:
    mean, truth, wins = few_positives(8, tables // 3 + 1)
    yield ["8 positives", f"{mean:.1f}", f"{truth:.1f}", _percent(wins)]


def _drawn_rows(tables: int) -> Iterator[list[str]]:
    for seeds in (2, 3, 5):
        yield [str(seeds), _percent(seeds_drawn(seeds, tables))]


# Title, columns, and a function from a number of tables to the rows.
_SECTIONS: list[tuple[str, list[str], Callable[[int], Iterator[list[str]]]]] = [
    *(
        (
            f"False wins: tables of equal methods, rows' seed sds {kind};\n"
            "of all pairs, or of the comparisons with one row; images' sd of a difference in the seeds' sd",
            ["seeds", "rows", *(f"{way} {images:g}" for way in ("pairs", "row") for images in IMAGES)],
            partial(_grid_rows, spread),
        )
        for kind, spread in zip(("equal", "unequal (factors e^(0.5 z))"), SPREADS, strict=True)
    ),
    ("The same for other settings", ["", "all pairs", "one row"], _special_rows),
    (
        "Power: how often a true +2 wins, 11 rows, seeds' sd 0.5 points",
        ["seed sds", "images sd", "seeds", "all pairs", "one row"],
        _power_rows,
    ),
    (
        "Rank groups (images 0.5): tables in which the truly best is not in group 1; with several groups",
        ["seed sds", "rows", "seeds", "lead", "best not in group 1", "several groups"],
        _rank_rows,
    ),
    (
        "How often a table finds the difference that it claims to find in 80 % of cases, 11 rows",
        ["seed sds", "seeds", "images", "one pair", "one row", "all pairs"],
        _detected_rows,
    ),
    (
        "Intervals; images: sd over test sets of a mean, in one seed's sd. Cell: contains the mean over test sets\n"
        "and seeds. Print: an exact reproduction's run is outside the prediction interval",
        ["seeds", "images", "cell contains", "print, same images", "print, other images"],
        _interval_rows,
    ),
    (
        "The interval over test images against the spread of many test sets",
        ["", "bootstrap / true", "interval contains truth"],
        _test_set_rows,
    ),
    (
        "A class with few test positives: mean AP in percent, AP of all test sets together; false wins of 5 methods",
        ["", "mean AP", "together", "false win"],
        _few_rows,
    ),
    ("Differences of two equal methods by a bootstrap that draws seeds too", ["seeds", "false wins"], _drawn_rows),
]


def _comparison(means: np.ndarray, variance: np.ndarray, freedom: np.ndarray) -> Comparison:
    off = ~np.eye(len(means), dtype=bool)
    shown = [np.where(off, values, np.nan) for values in (variance, freedom)]
    return Comparison(means[:, None] - means[None, :], *shown)


def _any(p: np.ndarray) -> float:
    """How often the smallest of p [tables, m] is significant after Holm's correction."""
    return float(np.mean(p.min(axis=1) * p.shape[1] <= 1 - CONFIDENCE))


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


if __name__ == "__main__":
    main()
