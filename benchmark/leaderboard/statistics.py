"""Mean and 95 % t-interval over seeds; correction of p-values for their number.

The interval covers what changes from seed to seed (initialisation, order of the data, augmentation), not the
choice of the test images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtri, stdtrit  # scipy.stats gives the same quantile and takes a second to import

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds, in the unit of the values; half_width: of the 95 % t-interval, None for n = 1."""

    mean: float
    half_width: float | None
    n: int


def estimate(values: Sequence[float | None]) -> Estimate | None:
    """Mean and t-interval of one value a seed; None where any value is missing: no mean is taken over a gap.

    The caller gives one value a seed. A seed cannot occur twice in a row of a table: records that differ in
    anything hashed besides the seed are different rows (`tables.build_tables`), and two records of the same run
    are an error there.
    """
    if not values:
        raise ValueError("no values to take the mean of")
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    n = len(known)
    mean = math.fsum(known) / n
    if n == 1:
        return Estimate(mean, None, 1)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (n - 1))
    return Estimate(mean, _t_quantile(n - 1) * std / math.sqrt(n), n)


@lru_cache
def _t_quantile(degrees_of_freedom: int) -> float:
    return float(stdtrit(degrees_of_freedom, 0.5 + CONFIDENCE / 2))


def noise_half_width(replicates: np.ndarray) -> float | None:
    """Half of the 95 % interval of a score, from the spread of its replicates [1 + R], of which the first is the score
    itself; None for a score that is missing."""
    spread = float(replicates[1:].std(ddof=1, dtype=np.float64))
    return None if math.isnan(spread) else float(ndtri(0.5 + CONFIDENCE / 2)) * spread


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values [m] -> adjusted by Holm's step-down method (Scandinavian Journal of Statistics 6, 1979).

    Those at most alpha are rejected with a chance of at most alpha that any of them is true.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return adjusted
