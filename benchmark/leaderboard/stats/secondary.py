"""Secondary scores from stored logits: F1 of chosen labels, rankings over all decisions, calibration.

Records do not hold them, as they follow from a run's logits. All are in percent. To add one, add an entry to
STATISTICS: tables, pages and exports read it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import expit

from benchmark.evaluation import average_precision, f1_scores

TOP = 3
BINS = 15
# Number of comparisons of scores in memory at a time, for ranking the labels of images.
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Decisions:
    """The test logits of one run, float32 [N, C], finite; targets {0, 1} [N, C]; class_ap: average precision in percent
    of each class [C], NaN for a class without a positive."""

    logits: np.ndarray
    targets: np.ndarray
    class_ap: np.ndarray

    @cached_property
    def top3(self) -> tuple[float, float]:
        """CF1 and OF1 in percent where the three highest logits of each image are its labels."""
        cf1, of1 = f1_scores(highest(self.logits, TOP), self.targets)
        return 100 * cf1, 100 * of1


@dataclass(frozen=True)
class Statistic:
    """A score beside the metric. title: of its column. of: computes it. help: shown when one points at the title.

    in_table: whether it is a column of the tables, with the highest value best; otherwise it is in the details below
    them. of_probabilities: whether it is computed from probabilities: it is missing for an untrained network, and needs
    no positive, without which the others are missing.
    """

    title: str
    of: Callable[[Decisions], float]
    help: str = ""
    in_table: bool = False
    of_probabilities: bool = False


def secondary(logits: np.ndarray, targets: np.ndarray, class_ap: np.ndarray) -> dict[str, float]:
    """Name -> value of every statistic, NaN where it needs a positive and has none. Arguments as of `Decisions`."""
    decisions, has_positive = Decisions(logits, targets, class_ap), targets.any()
    return {
        name: float(one.of(decisions)) if has_positive or one.of_probabilities else np.nan
        for name, one in STATISTICS.items()
    }


def highest(logits: np.ndarray, k: int) -> np.ndarray:
    """bool [N, C]: the k highest logits of each image, or all where there are fewer classes; of equal ones the first in
    class order. ML-GCN's `overall_topk` leaves out logits below 0, which would measure calibration too."""
    if k >= logits.shape[1]:
        return np.ones(logits.shape, dtype=bool)
    last = np.partition(logits, -k, axis=1)[:, -k, None]
    above, equal = logits > last, logits == last
    return above | (equal & (equal.cumsum(axis=1) <= k - above.sum(axis=1, keepdims=True)))


@dataclass(frozen=True)
class AtThreshold:
    """Test scores with every logit of at least `threshold`, chosen on the validation list, as a label."""

    threshold: float
    cf1_val: float
    of1_val: float


def best_threshold(validation: Sequence[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """The best common threshold for several networks: the logit with the highest mean OF1 over their logits and targets
    [M, C] on the validation list. Of equally good ones the highest; None where a list has no positive.

    A decision is a label where its logit is at least the threshold. A threshold that is no positive's logit can be
    raised to the next one without losing a right label. So the best is among the positives' logits, and all are tried.
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
    """In [0, 1], as scikit-learn's `label_ranking_average_precision_score`.

    For each label of an image: the share of the image's labels among the classes that score at least as high. It is
    averaged over the labels of an image, then over images; an image without a label counts as 1.
    """
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


# By name, in the order of their columns.
STATISTICS = {
    "cf1_top3": Statistic("CF1 top-3", lambda found: found.top3[0], in_table=True),
    "of1_top3": Statistic("OF1 top-3", lambda found: found.top3[1], in_table=True),
    "ap_std": Statistic(
        "AP std",
        lambda found: found.class_ap[~np.isnan(found.class_ap)].std(),
        "standard deviation of average precision over the classes, in points",
    ),
    "micro_ap": Statistic(
        "Micro AP",
        lambda found: 100 * average_precision(found.logits.reshape(-1, 1), found.targets.reshape(-1, 1))[0],
        "average precision of all decisions together",
    ),
    "lrap": Statistic(
        "LRAP",
        lambda found: 100 * label_ranking_average_precision(found.logits, found.targets),
        "label ranking average precision",
    ),
    "ece": Statistic(
        "ECE",
        lambda found: 100 * calibration_error(found.logits, found.targets),
        "expected calibration error of the sigmoid over all decisions, in points",
        of_probabilities=True,
    ),
}
