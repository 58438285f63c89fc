"""Mean and 95 % interval of a score, over seeds and test images; correction of p-values for their number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtri, stdtrit  # scipy.stats gives the same quantile and takes a second to import

CONFIDENCE = 0.95
# Degrees of freedom beyond which Student's t is the normal distribution.
MANY = 1e6
_NORMAL = float(ndtri(0.5 + CONFIDENCE / 2))


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds, in the unit of the values, and half widths of 95 % intervals around it.

    half_width: over seeds and test images. Its parts, each an interval by itself: seeds (t-interval; None for n = 1),
    images (None where the values have no replicates). With one part alone, half_width is that part; None with neither.
    """

    mean: float
    half_width: float | None
    n: int
    seeds: float | None
    images: float | None

    @property
    def prediction_half_width(self) -> float | None:
        """Half of the 95 % interval for one further run, of another seed and on other test images; None for n = 1.

        It is that of the difference between the mean and the run. The part over seeds is t s sqrt(1 + 1/n), the part
        over images sqrt(2) times that of one test set, where it is known. A run on the same test images lies within it
        more often.
        """
        if self.seeds is None:
            return None
        seeds = self.seeds * math.sqrt(self.n + 1)
        return seeds if self.images is None else _both(seeds, self.images * math.sqrt(2), self.n - 1)


def estimate(values: Sequence[float | None], images: float | None = None) -> Estimate | None:
    """Mean and interval of one value for each seed; None where a value is missing, as no mean is taken over a gap.

    images: half width over test images of that mean, see `noise_half_width`. A seed must not occur twice, which
    `build.build_tables` ensures for the rows of a table.
    """
    if not values:
        raise ValueError("no values to take the mean of")
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    n = len(known)
    mean = math.fsum(known) / n
    if n == 1:
        return Estimate(mean, images, 1, None, images)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (n - 1))
    seeds = _t_quantile(n - 1) * std / math.sqrt(n)
    return Estimate(mean, seeds if images is None else _both(seeds, images, n - 1), n, seeds, images)


def _both(seeds: float, images: float, freedom: int) -> float:
    """Half of the 95 % interval for both noises, from the half intervals of each: t times the root of the summed
    variances S + I, with Satterthwaite's degrees of freedom, those of the seeds times ((S + I) / S)^2.

    They rely on S, which may be small by chance, so the interval is at least as wide as that of each noise alone. The
    root of the two intervals' squares would cover more than 95 % (see `calibration`).
    """
    by_seeds = (seeds / _t_quantile(freedom)) ** 2
    variance = by_seeds + (images / _NORMAL) ** 2
    freedoms = MANY if by_seeds == 0 else min(freedom * min(variance / by_seeds, MANY) ** 2, MANY)
    return max(seeds, images, float(stdtrit(freedoms, 0.5 + CONFIDENCE / 2)) * math.sqrt(variance))


@lru_cache
def _t_quantile(degrees_of_freedom: int) -> float:
    return float(stdtrit(degrees_of_freedom, 0.5 + CONFIDENCE / 2))


def noise_half_width(replicates: np.ndarray) -> float | None:
    """Half of the 95 % interval of a score over test images, from the spread of its replicates; None for a missing
    score. replicates: [1 + R], first the score itself."""
    spread = float(replicates[1:].std(ddof=1, dtype=np.float64))
    return None if math.isnan(spread) else _NORMAL * spread


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values [..., m] -> adjusted by Holm's step-down method (Scandinavian Journal of Statistics 6, 1979).

    Rejecting those of at most alpha rejects a true hypothesis with a chance of at most alpha.
    """
    order = np.argsort(p_values, axis=-1, kind="stable")
    factors = np.arange(p_values.shape[-1], 0, -1)
    stepped = np.maximum.accumulate(np.take_along_axis(p_values, order, -1) * factors, axis=-1)
    adjusted = np.empty(p_values.shape)
    np.put_along_axis(adjusted, order, np.minimum(stepped, 1.0), -1)
    return adjusted
