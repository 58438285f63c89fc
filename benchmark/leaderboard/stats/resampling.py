"""A bootstrap over the test images: the scores of a run on other test images of the same kind.

Every replicate gives each test image a weight and scores the stored logits with these weights. The weights are
exponential (the Bayesian bootstrap; Rubin, Annals of Statistics 9, 1981). So no image is left out, and a class with few
test positives has a score in every replicate; and no image occurs twice, which would raise its average precision. The
replicates of all runs on one test set have the same weights: two methods are compared on the same reweighted images.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.sparse import csc_array

from benchmark.store.records import GROUPS

REPLICATES = 1000
SEED = 0
# Rows of a block of classes: enough to save calls for small test sets, few enough for the processor's cache.
_BLOCK_ROWS = 1024


@lru_cache(maxsize=1)
def image_weights(num_images: int) -> np.ndarray:
    """float32 [N, 1 + REPLICATES]: 1 for every image in the first column, the replicates' weights in the others."""
    # The raw bits of PCG64 are the same in every version of NumPy; its distributions may change.
    bits = np.random.PCG64(SEED)
    weights = np.ones((num_images, 1 + REPLICATES), np.float32)
    for row in weights:
        row[1:] = _weights(bits.random_raw(REPLICATES))
    weights.flags.writeable = False
    return weights


@lru_cache(maxsize=1)
def replicate_weights(num_images: int, replicate: int) -> np.ndarray:
    """float32 [N, 1]: one column of `image_weights`, replicates counted from 1, without the others."""
    bits = np.random.PCG64(SEED)
    drawn = np.array([bits.random_raw(REPLICATES)[replicate - 1] for _ in range(num_images)], np.uint64)
    return _weights(drawn)[:, None].astype(np.float32)


def _weights(bits: np.ndarray) -> np.ndarray:
    # Between 0 and 1, never either: a weight of 0 would leave an image out.
    return -np.log(((bits >> np.uint64(12)) + 0.5) * 2.0**-52)


def class_scores(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision in percent of each class under each column of weights, float32 [C, R].

    logits float32 [N, C], finite; targets {0, 1} [N, C]; weights float32 [N, R]. With weights w it is
    `sklearn.metrics.average_precision_score(targets, logits, sample_weight=w)`. NaN for a class without a positive.
    """
    scores = np.full((logits.shape[1], weights.shape[1]), np.nan, np.float32)
    block: list[_Ranking] = []
    for index in range(logits.shape[1]):
        if targets[:, index].any():
            block.append(_Ranking(index, logits[:, index], targets[:, index]))
        if block and (index == logits.shape[1] - 1 or sum(len(r.starts) for r in block) >= _BLOCK_ROWS):
            _score_block(block, weights, scores)
            block = []
    return scores


def run_scores(logits: np.ndarray, targets: np.ndarray, groups: tuple[str, ...]) -> np.ndarray:
    """Overall, head, medium and tail mAP in percent, float32 [4, 1 + REPLICATES]: unweighted, then for each replicate.

    groups: of each class. Shapes as in `class_scores`; NaN for a group without a class that has a positive.
    """
    return group_means(class_scores(logits, targets, image_weights(len(logits))), groups)


def group_means(scores: np.ndarray, groups: tuple[str, ...]) -> np.ndarray:
    """Class scores [C, R] -> overall, head, medium, tail [4, R]: means over classes that have one, NaN without any."""
    known = ~np.isnan(scores[:, 0])
    members = [known, *(known & (np.array(groups) == name) for name in GROUPS)]
    return np.stack([scores[m].mean(axis=0) if m.any() else np.full(scores.shape[1], np.nan) for m in members]).astype(
        np.float32
    )


class _Ranking:
    """The positions of all images among the positives of a class, by score.

    positives: indices of its positive images, highest score first. starts: of the runs of positives with one score.
    place: of every image, the first of these runs that it is not below; len(starts) for an image below them all.
    """

    def __init__(self, index: int, scores: np.ndarray, targets: np.ndarray):
        self.index = index
        positives = np.flatnonzero(targets)
        self.positives = positives[np.argsort(-scores[positives], kind="stable")]
        ranked = scores[self.positives]
        self.starts = np.concatenate(([0], np.flatnonzero(ranked[1:] != ranked[:-1]) + 1))
        thresholds = ranked[self.starts][::-1]
        self.place = len(thresholds) - np.searchsorted(thresholds, scores, side="right")


def _score_block(block: list[_Ranking], weights: np.ndarray, scores: np.ndarray) -> None:
    """Compute the rows of `scores` of a block's classes."""
    sizes = [len(ranking.starts) + 1 for ranking in block]
    offsets = np.r_[0, np.cumsum(sizes)]
    places = np.stack([ranking.place for ranking in block], axis=1) + offsets[:-1]
    n = len(weights)
    ones = np.ones(places.size, np.float32)
    to_places = csc_array(
        (ones, places.ravel().astype(np.int32), np.arange(0, places.size + 1, len(block), dtype=np.int32)),
        shape=(offsets[-1], n),
    )
    weight_at = to_places @ weights
    for ranking, first, size in zip(block, offsets, sizes, strict=False):
        positive = weights[ranking.positives]
        if len(ranking.starts) < len(ranking.positives):
            positive = np.add.reduceat(positive, ranking.starts, axis=0)
        found = _accumulated(positive.copy())
        precision = found / _accumulated(weight_at[first : first + size - 1])
        scores[ranking.index] = 100 * np.einsum("kr,kr->r", positive, precision) / found[-1]


def _accumulated(rows: np.ndarray) -> np.ndarray:
    """Running sums down the rows, in place: `numpy.cumsum` takes three times as long on rows of this length."""
    above = rows[0]
    for row in rows[1:]:
        row += above
        above = row
    return rows
