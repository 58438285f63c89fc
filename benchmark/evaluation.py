"""The one metric: logits -> average precision -> head / medium / tail. It needs numpy alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmark.errors import Cause, RunFailed
from benchmark.store.records import GROUPS, Group, Metrics

_EDGE = np.array([True])


def average_precision(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Average precision of every class: logits [N, C], targets {0, 1} [N, C] -> float64 [C].

    AP = sum_n (R_n - R_{n-1}) P_n over the distinct scores, as scikit-learn's `average_precision_score`: images
    with one score enter together, so their order does not matter, and -0.0 is 0.0. NaN for a class without positives.

    Raises ValueError for other shapes, for logits that are not finite, and for targets other than 0 and 1.
    """
    logits, targets = np.asarray(logits), np.asarray(targets)
    if not np.issubdtype(logits.dtype, np.floating):
        logits = logits.astype(np.float64)
    if logits.ndim != 2 or logits.shape != targets.shape or not len(logits):
        raise ValueError(f"logits and targets must both be [N, C] with N > 0, found {logits.shape}, {targets.shape}")
    if not np.isfinite(logits).all():
        row, column = np.argwhere(~np.isfinite(logits))[0]
        raise ValueError(f"logits are not all finite: {logits[row, column]} at image {row}, class {column}")
    positive = targets == 1
    if not (positive | (targets == 0)).all():
        raise ValueError("targets must be 0 or 1")

    # Precision needs the number of images that score at least as high as a positive: a binary search among the sorted
    # scores gives it. Values sort several times faster than indices.
    rows = zip(np.array(logits.T, order="C"), np.array(positive.T, order="C"), strict=True)
    return np.array([_class_average_precision(*row) for row in rows])


def _class_average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Average precision of one class: scores [N], which are sorted in place; positive bool [N]."""
    found = np.sort(scores[np.flatnonzero(positive)])
    if not len(found):
        return np.nan
    scores.sort()
    # Where each run of positives with equal scores begins, and the end.
    edges = np.flatnonzero(np.concatenate((_EDGE, found[1:] != found[:-1], _EDGE)))
    starts = edges[:-1]
    precision = (len(found) - starts) / (len(scores) - np.searchsorted(scores, found[starts]))
    return (precision * (edges[1:] - starts)).sum() / len(found)


def f1_scores(chosen: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """(CF1, OF1) in [0, 1] of chosen labels, bool [N, C]; targets {0, 1} [N, C].

    CF1 is the F1 of the class-wise means of precision and recall, OF1 that of all decisions together (as in
    ML-GCN's evaluation; Chen et al., CVPR 2019). A class that is never predicted has precision 0. A class without
    positives is in neither mean of CF1; its predictions count in OF1.
    """
    true = np.asarray(targets) == 1
    right, predicted, positives = (chosen & true).sum(0), chosen.sum(0), true.sum(0)
    known = positives > 0

    def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.divide(a, b, out=np.zeros(np.shape(a)), where=np.asarray(b) > 0)

    def f1(precision: float, recall: float) -> float:
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    cf1 = 0.0
    if known.any():
        cf1 = f1(float(ratio(right, predicted)[known].mean()), float(ratio(right, positives)[known].mean()))
    of1 = f1(float(ratio(right.sum(), predicted.sum())), float(ratio(right.sum(), positives.sum())))
    return cf1, of1


def score(logits: np.ndarray, targets: np.ndarray, groups: Mapping[str, Group]) -> Metrics:
    """All metrics of one split, in percent. logits float32 [N, C]; groups: class name -> group, in class order.

    A class without a positive has no AP and is in no mean. Raises RunFailed when the logits cannot be ranked.
    """
    try:
        ap = 100 * average_precision(logits, targets)
    except ValueError as error:
        cause: Cause = "code" if np.isfinite(logits).all() else "nan"
        raise RunFailed(f"the model's scores cannot be evaluated: {error}", cause) from None
    group_of = np.array(list(groups.values()))

    def mean(values: np.ndarray) -> float | None:
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else None

    return Metrics(
        overall=mean(ap),
        **{group: mean(ap[group_of == group]) for group in GROUPS},
        per_class={name: None if np.isnan(value) else float(value) for name, value in zip(groups, ap, strict=True)},
    )


def numbers_again(
    recorded: Mapping[str, float | None], logits: np.ndarray, targets: np.ndarray, groups: Mapping[str, Group]
) -> dict[str, float | None]:
    """The numbers of a record (`Metrics.numbers`) computed again from its logits.

    They are those of `score` and, where they are recorded (schema 1), CF1 and OF1 at a sigmoid of 0.5. Raises RunFailed
    as `score`.
    """
    found = score(logits, targets, groups).numbers()
    if "cf1" in recorded:
        found["cf1"], found["of1"] = (100 * f1 for f1 in f1_scores(logits >= 0, targets))
    return found
