"""The variance over seeds of each row of a track, estimated with the other rows' help, as a few seeds say little of it.

An empirical Bayes estimate after Smyth (Stat. Appl. Genet. Mol. Biol. 3(1), 2004; limma): rows' variances are taken to
be drawn from a scaled inverse chi-square distribution with d0 freedoms around s0^2 (his eq. 3), so that the measured
variances are s0^2 times an F of d and d0 freedoms (eq. 6), and the estimate of a row is its own variance moderated by
s0^2 (eq. 8). Smyth matches the moments of log s^2 to thousands of genes. A track has 2 to 20 rows: their moments say
little, and d0 would often be infinite by chance. Therefore

- s0^2 is the maximum-likelihood estimate for a given d0, and its own uncertainty is kept as `common_freedom`;
- 1 / d0 (half the squared coefficient of variation of the variances) is its posterior mean under a uniform prior on
  0 to 1/2: from rows of one variance to rows whose standard deviations differ by a factor of 2 to 3 either way;
- a row with a variance above its moderated variance keeps half of the excess, since a variance that is shrunk too far
  causes false wins in every comparison of that row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

# 1 / d0 is taken at the middles of equal parts of its range.
_PARTS = 10
_PRIOR_FREEDOMS = _PARTS / (0.5 * (np.arange(_PARTS) + 0.5))
# Lower bound of log s0^2, for rows whose variances are all zero.
_SMALLEST_LOG = -300.0
_HALVINGS = 50


@dataclass(frozen=True)
class SeedVariances:
    """Shrunken variances of one run over seeds, float64 [..., rows], in squared units of the scores.

    variance: NaN for a row of one seed. freedom: degrees of freedom of each as if s0^2 were known; infinite for a known
    variance. common: the part of the variance that comes from s0^2, which all rows share. common_freedom: degrees of
    freedom of s0^2, [..., 1].
    """

    variance: np.ndarray
    freedom: np.ndarray
    common: np.ndarray
    common_freedom: np.ndarray


def shrink(variance: np.ndarray, freedom: np.ndarray) -> SeedVariances:
    """Shrink variances [..., rows] towards each other.

    freedom [rows]: of each variance, seeds - 1; infinite for a known variance, which is neither changed nor used for
    others; 0 for a row of one seed.
    """
    measured = np.isfinite(freedom) & (freedom > 0)
    d = np.where(measured, freedom, 0.0)
    # In units of their mean, so that the search for s0^2 starts near 1.
    own = np.where(measured, variance, 0.0)
    unit = (own @ d)[..., None] / max(d.sum(), 1.0)
    x = np.divide(own, unit, out=np.zeros_like(own), where=unit > 0)
    d0 = 1 / (_posterior(x, d) @ (1 / _PRIOR_FREEDOMS))[..., None]
    s0 = unit * _prior_variance(x, d, d0)
    common = d0 * s0 / (d0 + d)
    moderated = common + d * own / (d0 + d)
    known = np.isinf(freedom)
    return SeedVariances(
        np.where(measured, np.maximum(moderated, (moderated + own) / 2), np.where(known, variance, np.nan)),
        np.where(known, np.inf, d0 + d),
        np.where(measured, common, 0.0),
        np.maximum(2 * _information(d, d0), np.finfo(float).tiny),
    )


def _posterior(x: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Weights of `_PRIOR_FREEDOMS`, [..., parts]: the likelihood of variances x, integrated over s0^2 (Laplace)."""
    d0 = _PRIOR_FREEDOMS[:, None]
    x = x[..., None, :]
    s0 = _prior_variance(x, d, d0)
    of_rows = (
        gammaln((d + d0) / 2)
        - gammaln(d0 / 2)
        + d0 / 2 * np.log(d0)
        - (d + d0) / 2 * np.log(d0 + d * x / s0)
        - d / 2 * np.log(s0)
    )
    log = of_rows.sum(axis=-1) - np.log(np.maximum(_information(d, d0), np.finfo(float).tiny))[..., 0] / 2
    weights = np.exp(log - log.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _prior_variance(x: np.ndarray, d: np.ndarray, d0: np.ndarray) -> np.ndarray:
    """The maximum-likelihood s0^2, [..., 1], of x ~ s0^2 F(d, d0): the slope of the likelihood is bisected for its
    zero."""
    shape = np.broadcast_shapes(x.shape[:-1], d0.shape[:-1]) + (1,)
    low = np.full(shape, _SMALLEST_LOG)
    high = np.broadcast_to(np.log(np.maximum(x.max(axis=-1, keepdims=True), np.exp(_SMALLEST_LOG))), shape)
    for _ in range(_HALVINGS):
        log = (low + high) / 2
        slope = (d * ((d0 + d) * x / (d0 * np.exp(log) + d * x) - 1)).sum(axis=-1, keepdims=True)
        low, high = np.where(slope > 0, log, low), np.where(slope > 0, high, log)
    return np.exp((low + high) / 2)


def _information(d: np.ndarray, d0: np.ndarray) -> np.ndarray:
    """Fisher's information of log s0^2, [..., 1]: half of its degrees of freedom."""
    return (d * d0 / (2 * (d + d0 + 2))).sum(axis=-1, keepdims=True)
