"""Scores beside the metric, from stored logits: F1 of chosen labels, rankings over all decisions, calibration.

They can always be made from the logits of a run, so no record holds them. All are in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from benchmark.evaluation import average_precision, f1_scores

TOP = 3
BINS = 15
# Comparisons of scores that are held at a time, to rank the labels of images.
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Secondary:
    """Of the test logits of one run, float64, NaN where no decision is positive.

    cf1_top3, of1_top3: where the three highest logits of each image are its labels. ap_std: standard deviation of
    average precision over the classes that have one, in points. micro_ap: average precision of all decisions together.
    lrap: label ranking average precision. ece: expected calibration error of the sigmoid, in points.
    """

    cf1_top3: float
    of1_top3: float
    ap_std: float
    micro_ap: float
    lrap: float
    ece: float


@dataclass(frozen=True)
class AtThreshold:
    """Test scores where every logit of at least `threshold`, chosen on the validation list, is a label."""

    threshold: float
    cf1_val: float
    of1_val: float


def secondary(logits: np.ndarray, targets: np.ndarray, class_ap: np.ndarray) -> Secondary:
    """All of them. logits float32 [N, C], finite; targets {0, 1} [N, C]; class_ap: average precision in percent of each
    class [C], NaN for a class without a positive."""
    if not targets.any():
        return Secondary(*[np.nan] * 5, ece=100 * calibration_error(logits, targets))
    top3 = f1_scores(highest(logits, TOP), targets)
    return Secondary(
        *(100 * f1 for f1 in top3),
        ap_std=float(class_ap[~np.isnan(class_ap)].std()),
        micro_ap=100 * float(average_precision(logits.reshape(-1, 1), targets.reshape(-1, 1))[0]),
        lrap=100 * label_ranking_average_precision(logits, targets),
        ece=100 * calibration_error(logits, targets),
    )


def highest(logits: np.ndarray, k: int) -> np.ndarray:
    """bool [N, C]: the k highest logits of each image, all where there are fewer classes. Of equal ones the first in
    class order. ML-GCN's `overall_topk` leaves out those below 0, which would compare calibration."""
    if k >= logits.shape[1]:
        return np.ones(logits.shape, dtype=bool)
    last = np.partition(logits, -k, axis=1)[:, -k, None]
    above, equal = logits > last, logits == last
    return above | (equal & (equal.cumsum(axis=1) <= k - above.sum(axis=1, keepdims=True)))


def best_threshold(validation: Sequence[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """The logit that is the best one threshold for several networks: it has the highest OF1, mean over their logits and
    targets [M, C] on the validation list. Of equally good ones the highest; None where a list has no positive.

    A label is what scores at least the threshold. Lowering it to anything but the logit of a positive adds wrong labels
    alone: the best is among the logits of the positives, all of which are tried.
    """
    found = [np.sort(logits[targets == 1]) for logits, targets in validation]
    if not all(map(len, found)):
        return None
    candidates = np.unique(np.concatenate(found))
    of1 = np.zeros(len(candidates))
    for (logits, _), own in zip(validation, found, strict=True):
        right = len(own) - np.searchsorted(own, candidates)
        chosen = logits.size - np.searchsorted(np.sort(logits, axis=None), candidates)
        of1 += 2 * right / (chosen + len(own))
    return float(candidates[len(of1) - 1 - np.argmax(of1[::-1])])


def at_threshold(logits: np.ndarray, targets: np.ndarray, threshold: float) -> AtThreshold:
    """Scores of test logits [N, C] at a threshold, NaN where no decision is positive."""
    if not targets.any():
        return AtThreshold(threshold, np.nan, np.nan)
    cf1, of1 = f1_scores(logits >= threshold, targets)
    return AtThreshold(threshold, 100 * cf1, 100 * of1)


def label_ranking_average_precision(logits: np.ndarray, targets: np.ndarray) -> float:
    """In [0, 1], as scikit-learn's `label_ranking_average_precision_score`: mean over images of the mean over an
    image's labels of the share of its labels among the classes that score at least as high. An image without a label
    counts as 1, as there."""
    images, classes = np.nonzero(targets)
    positive = targets == 1
    precision = np.empty(len(images))
    step = max(1, _BLOCK // logits.shape[1])
    for start in range(0, len(images), step):
        rows = images[start : start + step]
        above = logits[rows] >= logits[rows, classes[start : start + step], None]
        precision[start : start + step] = (above & positive[rows]).sum(axis=1) / above.sum(axis=1)
    labels = np.bincount(images, minlength=len(logits))
    totals = np.bincount(images, precision, minlength=len(logits))
    return float(np.divide(totals, labels, out=np.ones(len(logits)), where=labels > 0).mean())


def calibration_error(logits: np.ndarray, targets: np.ndarray) -> float:
    """Expected calibration error of the sigmoid over all decisions, in [0, 1]: the mean of |mean probability - share of
    positives| over 15 bins of equal width, each weighted by its decisions (Guo et al., ICML 2017, for decisions of two
    outcomes)."""
    probability = expit(logits.ravel().astype(np.float64))
    bins = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(bins, probability - targets.ravel(), BINS)
    return float(np.abs(gap).sum() / probability.size)
