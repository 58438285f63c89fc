"""Which methods of a track can be told apart: a test over test images and seeds together.

The difference of two methods' means over seeds has two kinds of noise. The noise of the test images is measured by a
bootstrap over images, with the same reweighted images for both methods (`resampling`). The noise of the seeds is the
variance over seeds of each method's scores, shrunk over the rows of the track (`shrinkage`). The variances add, and
Student's t gives interval and p-value.

The degrees of freedom of the seeds' part S are Welch's and Satterthwaite's: of each row's own variance, and of the
variance that all rows share. The images' part I is known well. For it Satterthwaite would multiply the degrees of
freedom by ((S + I) / S)^2. That relies on S, and finds differences of equal methods too often where S is small by
chance. Here the factor is (S + I) / S, the geometric mean of his and of 1.

Seeds are not drawn with replacement: with three seeds that would find differences of equal methods in one case of five
instead of one in twenty. Seeds are not paired either: runs of one seed share the order of images, but their scores are
hardly correlated, and pairing would halve the degrees of freedom. `calibration` measures the error rates of all this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtr, stdtrit

from benchmark.leaderboard.stats.shrinkage import SeedVariances, shrink
from benchmark.leaderboard.stats.statistics import CONFIDENCE, MANY, holm

POWER = 0.8


@dataclass(frozen=True)
class Comparison:
    """Every two rows of a table compared by one score; row i minus row j, in percent points.

    difference, variance, freedom, half_width, p, p_holm: float64 [rows, rows]; all but `difference` are NaN where two
    rows cannot be compared, because a score or a second seed is missing. variance: of the difference, over test images
    and seeds; freedom: its degrees of freedom. half_width: of the 95 % interval of each difference alone. p: two-sided.
    p_holm: after Holm's correction for all pairs of the table.
    """

    difference: np.ndarray
    variance: np.ndarray
    freedom: np.ndarray

    @cached_property
    def half_width(self) -> np.ndarray:
        """Half width of the 95 % interval of each difference."""
        return stdtrit(self.freedom, 0.5 + CONFIDENCE / 2) * np.sqrt(self.variance)

    @cached_property
    def p(self) -> np.ndarray:
        """Two-sided p-values, for each pair alone."""
        return p_values(self.difference, self.variance, self.freedom)

    @cached_property
    def p_holm(self) -> np.ndarray:
        """The p-values corrected for all pairs (Holm)."""
        pairs = np.triu(~np.isnan(self.p))
        corrected = np.full_like(self.p, np.nan)
        corrected[pairs] = holm(self.p[pairs])
        return np.where(pairs, corrected, corrected.T)

    @cached_property
    def verdicts(self) -> tuple[tuple[int | None, ...], ...]:
        """1 where row i is better than row j, -1 where it is worse, 0 where they are not told apart at 95 % (Holm),
        None where they are not compared."""
        signs = np.where(self.p_holm <= 1 - CONFIDENCE, np.sign(self.difference), 0)
        known = ~np.isnan(self.p)
        return tuple(
            tuple(int(sign) if is_known else None for sign, is_known in zip(*row, strict=True))
            for row in zip(signs.tolist(), known.tolist(), strict=True)
        )

    @cached_property
    def rank_groups(self) -> tuple[int | None, ...]:
        """The rank group of each row, from 1, None for rows that cannot be compared; rows come best mean first.

        The best mean leads group 1. The rows that are not told apart from it at 95 % join it (Holm's correction for the
        comparisons with the leader). The best of the others leads group 2, and so on. The truly best method is in group
        1 with 95 % confidence, as in Hsu's comparisons with the best. Of equal methods some may be in a later group,
        since the leader was chosen by the same data.
        """
        groups: list[int | None] = [None] * len(self.p)
        left = [i for i, row in enumerate(self.p) if not np.isnan(row).all()]
        number = 0
        while left:
            number += 1
            leader, *others = left
            apart = self.against(leader, others) <= 1 - CONFIDENCE  # False where it is NaN
            for i in [leader, *(i for i, is_apart in zip(others, apart, strict=True) if not is_apart)]:
                groups[i] = number
            left = [i for i, is_apart in zip(others, apart, strict=True) if is_apart]
        return tuple(groups)

    def against(self, row: int, others: Sequence[int] | None = None) -> np.ndarray:
        """p-values of rows (all, unless `others` are given) against one row, float64 [others], corrected for these
        comparisons (Holm); NaN where two rows cannot be compared."""
        p = self.p[row] if others is None else self.p[row, others]
        known = ~np.isnan(p)
        corrected = np.full_like(p, np.nan)
        corrected[known] = holm(p[known])
        return corrected

    def detectable(self, row: int | None = None, comparisons: int = 1) -> float | None:
        """The smallest true difference in percent points that is found in 80 of 100 cases, as a mean over pairs.

        row: only pairs with this row; all pairs if None. comparisons: the number of p-values that are corrected
        together, each multiplied by it (Holm's first step). None without a pair that is compared.
        """
        chosen = np.triu(~np.isnan(self.p)) if row is None else ~np.isnan(self.p) & (np.arange(len(self.p)) == row)
        if not chosen.any():
            return None
        freedom, spread = self.freedom[chosen], np.sqrt(self.variance[chosen])
        critical = stdtrit(freedom, 1 - (1 - CONFIDENCE) / (2 * comparisons))
        of_pairs = (critical + stdtrit(freedom, POWER)) * spread
        low, high = of_pairs.min(), of_pairs.max()
        while high - low > 1e-4:
            middle = (low + high) / 2
            # For a pair without noise every difference is found.
            shift = np.divide(middle, spread, out=np.full_like(spread, np.inf), where=spread > 0)
            low, high = (middle, high) if stdtr(freedom, shift - critical).mean() < POWER else (low, middle)
        return float(high)

    def counts(self, row: int) -> tuple[int, int, int]:
        """(wins, ties, losses) of a row against the others it can be compared with."""
        verdicts = self.verdicts[row]
        return verdicts.count(1), verdicts.count(0), verdicts.count(-1)


def compare(scores: Sequence[np.ndarray], others: Sequence[np.ndarray] = ()) -> Comparison:
    """Compare rows by their scores, each [seeds, 1 + replicates] in percent; the first column is the measured score.

    The replicates of all rows are of the same reweighted images. others: scores [seeds] of the track's further rows,
    which are not compared and only inform the variance over seeds.
    """
    rows = len(scores)
    means = np.stack([row.mean(axis=0, dtype=np.float64) for row in scores])
    spreads = [_over_seeds(row) for row in [*scores, *(row[:, None] for row in others)]]
    shrunk = shrink(*np.array(spreads).T)
    of_rows = SeedVariances(shrunk.variance[:rows], shrunk.freedom[:rows], shrunk.common[:rows], shrunk.common_freedom)
    variance, freedom = of_differences(
        of_rows, np.array([len(row) for row in scores]), np.atleast_2d(np.cov(means[:, 1:]))
    )
    difference = means[:, None, 0] - means[None, :, 0]
    unknown = np.isnan(variance) | np.isnan(difference) | np.eye(rows, dtype=bool)
    variance[unknown] = freedom[unknown] = np.nan
    return Comparison(difference, variance, freedom)


def of_differences(seeds: SeedVariances, n: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance of the difference of every two rows' means, and its degrees of freedom, [..., rows, rows].

    n: seeds of each row. images: covariance of the rows' scores over test images, [..., rows, rows].
    """
    own = np.diagonal(images, axis1=-2, axis2=-1)
    by_images = np.maximum(own[..., :, None] + own[..., None, :] - 2 * images, 0)
    by_seeds = _sums(seeds.variance / n)
    spread = _sums((seeds.variance / n) ** 2 / seeds.freedom)
    spread += _sums(seeds.common / n) ** 2 / seeds.common_freedom[..., None]
    variance = by_seeds + by_images
    with np.errstate(divide="ignore", invalid="ignore"):
        return variance, np.fmin(by_seeds * variance / spread, MANY)


def p_values(difference: np.ndarray, variance: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Two-sided p-values of Student's t; 1 where difference and variance are zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(freedom, -np.abs(difference) / np.sqrt(variance))
    return np.where((variance == 0) & (difference == 0), 1.0, p)


def _over_seeds(scores: np.ndarray) -> tuple[float, float]:
    """Variance over seeds of a row's scores [seeds, columns] as measured, and its degrees of freedom.

    Seeds that agree in every given column are one network, as of a method without training: their variance is known to
    be zero, and does not inform that of other rows.
    """
    if len(scores) == 1 or np.isnan(scores).any():
        return np.nan, 0.0
    if (scores == scores[0]).all():
        return 0.0, np.inf
    return float(scores[:, 0].var(ddof=1, dtype=np.float64)), len(scores) - 1.0


def _sums(values: np.ndarray) -> np.ndarray:
    """Values [..., rows] -> the sums of every two rows, [..., rows, rows]."""
    return values[..., :, None] + values[..., None, :]
