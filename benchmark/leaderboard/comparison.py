"""Which methods of a track can be told apart: a test over test images and seeds together.

The difference of two methods' means over seeds has two kinds of noise. Other test images would give another
difference: a bootstrap over images, the same reweighted images for both methods (`resampling`). Other seeds would too:
the variance over seeds of each method's scores. The variances add; the degrees of freedom are Welch's and
Satterthwaite's (images: infinite), and Student's t gives interval and p-value.

Seeds are not drawn with replacement: with three seeds that would tell equal methods apart in one case of five, not in
one of twenty (`calibration` measures both). Nor are they paired: runs of one seed share its order of
images, but their scores are hardly correlated, and pairing would halve the degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtr, stdtrit

from benchmark.leaderboard.statistics import CONFIDENCE, holm

# Degrees of freedom beyond which Student's t is the normal distribution.
_MANY = 1e6


@dataclass(frozen=True)
class Comparison:
    """Every two rows of a table compared by one score; row i minus row j, in percent points.

    difference, half_width, p, p_holm: float64 [rows, rows]; NaN where two rows cannot be compared, for want of a score
    or of a second seed. half_width: of the 95 % interval of the one difference. p: two-sided. p_holm: after Holm's
    correction for all pairs of the table.
    """

    difference: np.ndarray
    half_width: np.ndarray
    p: np.ndarray
    p_holm: np.ndarray

    @cached_property
    def verdicts(self) -> tuple[tuple[int | None, ...], ...]:
        """1 where row i is better than row j, -1 worse, 0 not told apart at 95 % (Holm); None not compared."""
        signs = np.where(self.p_holm <= 1 - CONFIDENCE, np.sign(self.difference), 0)
        known = ~np.isnan(self.p)
        return tuple(
            tuple(int(sign) if is_known else None for sign, is_known in zip(*row, strict=True))
            for row in zip(signs.tolist(), known.tolist(), strict=True)
        )

    @cached_property
    def rank_groups(self) -> tuple[int | None, ...]:
        """The rank group of each row, from 1, None for rows that cannot be compared; rows come best mean first.

        The best mean leads group 1, which those join that are not told apart from it at 95 % (Holm's correction for
        the comparisons with the leader). The best of the others leads group 2, and so on. The truly best method is in
        group 1 with 95 % confidence, as in Hsu's comparisons with the best; of equal methods some may fall out of it,
        since the leader was chosen by the same data.
        """
        groups: list[int | None] = [None] * len(self.p)
        left = [i for i, row in enumerate(self.p) if not np.isnan(row).all()]
        number = 0
        while left:
            number += 1
            leader, *others = left
            p = self.p[leader, others]
            apart = np.zeros(len(others), dtype=bool)
            known = ~np.isnan(p)
            apart[known] = holm(p[known]) <= 1 - CONFIDENCE
            for i in [leader, *(i for i, is_apart in zip(others, apart, strict=True) if not is_apart)]:
                groups[i] = number
            left = [i for i, is_apart in zip(others, apart, strict=True) if is_apart]
        return tuple(groups)

    def counts(self, row: int) -> tuple[int, int, int]:
        """(wins, ties, losses) of a row against the others it can be compared with."""
        verdicts = self.verdicts[row]
        return verdicts.count(1), verdicts.count(0), verdicts.count(-1)


def compare(scores: Sequence[np.ndarray]) -> Comparison:
    """Compare rows by their scores, each [seeds, 1 + replicates] in percent, the first column as measured.

    The replicates of all rows are those of the same reweighted images.
    """
    rows = len(scores)
    means = np.stack([row.mean(axis=0, dtype=np.float64) for row in scores])
    difference = means[:, None, 0] - means[None, :, 0]
    covariance = np.atleast_2d(np.cov(means[:, 1:]))
    own = np.diag(covariance)
    by_images = np.maximum(own[:, None] + own[None, :] - 2 * covariance, 0)
    n = np.array([len(row) for row in scores], dtype=np.float64)
    by_seeds = np.array([row[:, 0].var(ddof=1, dtype=np.float64) if len(row) > 1 else np.nan for row in scores]) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        term = by_seeds**2 / (n - 1)
        variance = by_images + by_seeds[:, None] + by_seeds[None, :]
        freedom = np.fmin(variance**2 / (term[:, None] + term[None, :]), _MANY)
        p = 2 * stdtr(freedom, -np.abs(difference) / np.sqrt(variance))
    p[(variance == 0) & (difference == 0)] = 1.0
    half_width = stdtrit(freedom, 0.5 + CONFIDENCE / 2) * np.sqrt(variance)
    unknown = np.isnan(variance) | np.isnan(difference) | np.eye(rows, dtype=bool)
    p[unknown] = half_width[unknown] = np.nan
    p_holm = np.full_like(p, np.nan)
    pairs = np.triu(~unknown)
    p_holm[pairs] = holm(p[pairs])
    return Comparison(difference, half_width, p, np.where(pairs, p_holm, p_holm.T))
