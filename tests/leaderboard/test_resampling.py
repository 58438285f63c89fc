"""Scores under reweighted test images: the same average precision as scikit-learn's, and the noise it should show."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from benchmark.evaluation import score
from benchmark.leaderboard.stats import resampling
from benchmark.leaderboard.stats.resampling import REPLICATES, class_scores, group_means, image_weights, run_scores
from benchmark.leaderboard.stats.statistics import noise_half_width
from benchmark.tools.calibration import noise_of_test_sets


def made_up(n: int, classes: int, rate: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, classes)) < rate).astype(np.uint8)
    targets[rng.integers(0, n, classes), np.arange(classes)] = 1
    return (rng.normal(size=(n, classes)) + targets).astype(np.float32), targets


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 5), st.sampled_from([None, 0, 1]))
def test_weighted_average_precision_is_scikit_learns(seed, n, classes, decimals):
    logits, targets = made_up(n, classes, 0.3, seed)
    if decimals is not None:  # few values, many ties
        logits = logits.round(decimals)
    weights = np.random.default_rng(seed).standard_exponential((n, 3)).astype(np.float32)
    scores = class_scores(logits, targets, weights)
    for index in range(classes):
        for column in range(3):
            expected = average_precision_score(targets[:, index], logits[:, index], sample_weight=weights[:, column])
            assert scores[index, column] == pytest.approx(100 * expected, rel=1e-5)


def test_blocks_of_classes_make_no_difference(monkeypatch):
    logits, targets = made_up(300, 12, 0.2)
    weights = image_weights(300)
    together = class_scores(logits, targets, weights)
    monkeypatch.setattr(resampling, "_BLOCK_ROWS", 1)
    assert np.array_equal(class_scores(logits, targets, weights), together)


def test_the_first_column_is_the_score_itself():
    logits, targets = made_up(500, 9, 0.1)
    names = [f"class {i}" for i in range(9)]
    groups = dict(zip(names, ["head"] * 3 + ["medium"] * 3 + ["tail"] * 3, strict=True))
    expected = score(logits, targets, groups)
    scores = run_scores(logits, targets, tuple(groups.values()))
    assert scores.shape == (4, 1 + REPLICATES)
    wanted = [expected.overall, expected.head, expected.medium, expected.tail]
    assert scores[:, 0].tolist() == pytest.approx(wanted, abs=1e-4)


def test_a_class_without_a_positive_is_in_no_mean_and_a_group_without_a_class_is_missing():
    logits, targets = made_up(100, 3, 0.3)
    targets[:, 1] = 0
    scores = class_scores(logits, targets, image_weights(100))
    assert np.isnan(scores[1]).all() and not np.isnan(scores[[0, 2]]).any()
    means = group_means(scores, ("head", "tail", "head"))
    assert np.isnan(means[2:]).all(), "no medium class; the one tail class has no score"
    assert means[0] == pytest.approx(scores[[0, 2]].mean(axis=0))
    assert noise_half_width(means[3]) is None


def test_replicates_are_the_same_at_every_call_and_for_every_method():
    first = image_weights(50).copy()
    image_weights(20)  # another test set meanwhile
    assert np.array_equal(image_weights(50), first)
    assert (first[:, 0] == 1).all() and first[:, 1:].mean() == pytest.approx(1, abs=0.02)
    # Published numbers depend on these: from raw bits, the same under every version of NumPy.
    assert hashlib.sha256(first.round(4).tobytes()).hexdigest().startswith("bc1ef5b0dd49")


def test_no_image_has_no_weight():
    """A weight of 0 on the best positive would leave a replicate without a score."""
    weights = image_weights(20_000)
    assert weights.min() > 0 and weights[:, 1:].std() == pytest.approx(1, abs=0.01)


def test_the_noise_is_that_of_drawing_images_with_replacement():
    logits, targets = made_up(400, 6, 0.15, seed=3)
    groups = ("head",) * 6
    ours = run_scores(logits, targets, groups)[0, 1:].std()
    rng = np.random.default_rng(1)
    counts = rng.multinomial(400, np.full(400, 1 / 400), size=1000).T.astype(np.float32)
    drawn = group_means(class_scores(logits, targets, np.maximum(counts, 1e-6)), groups)[0].std()
    # 1,000 draws know a standard deviation to 2.2 %; repeated images add a little to that of average precision.
    assert ours == pytest.approx(drawn, rel=0.15)


def test_the_noise_is_that_of_other_test_sets():
    """Against many test sets drawn alike: the spread of their scores, and how often their intervals hold the truth."""
    spread, covered = noise_of_test_sets(images=1000, test_sets=200)
    # 200 test sets know their spread to 5 %.
    assert spread == pytest.approx(1, rel=0.12)
    assert 0.89 <= covered <= 0.98
