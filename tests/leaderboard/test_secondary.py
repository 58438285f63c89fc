"""Scores beside the metric: against scikit-learn, torchmetrics and the definitions written out."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, label_ranking_average_precision_score

from benchmark.leaderboard.stats import secondary as module
from benchmark.leaderboard.stats.secondary import (
    at_threshold,
    best_threshold,
    calibration_error,
    highest,
    label_ranking_average_precision,
    secondary,
)

KINDS = {"no ties": None, "ties": 3, "one score": 1}


def problem(levels=None, n=80, c=7, positives=0.2, seed=0):
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, c)) < positives).astype(np.uint8)
    logits = rng.normal(size=(n, c)) + targets if levels is None else rng.integers(0, levels, (n, c)) - 1
    return logits.astype(np.float32), targets


@pytest.mark.parametrize("levels", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("positives", [0.05, 0.5, 1.0])
def test_label_ranking_is_scikit_learns(levels, positives, monkeypatch):
    logits, targets = problem(levels, positives=positives)
    assert (targets.sum(axis=1) == 0).any() == (positives == 0.05)  # images without a label count as 1
    expected = label_ranking_average_precision_score(targets, logits)
    assert label_ranking_average_precision(logits, targets) == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr(module, "_BLOCK", 20)
    assert label_ranking_average_precision(logits, targets) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", KINDS.values(), ids=KINDS)
def test_all_decisions_together_are_ranked_as_scikit_learn_does(levels):
    logits, targets = problem(levels)
    ap = np.array([50.0, 70.0, np.nan, 30.0])
    found = secondary(logits, targets, ap)
    assert found["micro_ap"] == pytest.approx(100 * average_precision_score(targets, logits, average="micro"), abs=1e-9)
    assert found["ap_std"] == pytest.approx(np.std([50, 70, 30]))


@pytest.mark.parametrize("levels", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("k", [1, 3, 6, 7, 9])
def test_the_highest_are_the_first_of_a_stable_sort(levels, k):
    logits, _ = problem(levels)
    expected = np.zeros(logits.shape, bool)
    for row, scores in enumerate(logits.tolist()):
        expected[row, sorted(range(len(scores)), key=lambda j: -scores[j])[:k]] = True
    np.testing.assert_array_equal(highest(logits, k), expected)


def test_top3_is_f1_of_the_three_highest():
    logits, targets = problem()
    chosen = np.argsort(-logits, axis=1, kind="stable")[:, :3]
    labels = np.zeros_like(targets)
    np.put_along_axis(labels, chosen, 1, axis=1)
    found = secondary(logits, targets, np.zeros(7))
    assert found["of1_top3"] == pytest.approx(100 * f1_score(targets, labels, average="micro"))
    precision = np.mean([(targets[:, k] & labels[:, k]).sum() / max(labels[:, k].sum(), 1) for k in range(7)])
    recall = np.mean([(targets[:, k] & labels[:, k]).sum() / targets[:, k].sum() for k in range(7)])
    assert found["cf1_top3"] == pytest.approx(100 * 2 * precision * recall / (precision + recall))


def test_a_shift_of_all_logits_changes_calibration_alone():
    logits, targets = problem()
    first, second = (secondary(values, targets, np.arange(7.0)) for values in (logits, logits + 4))
    assert second["ece"] > first["ece"] + 1
    for name in ("cf1_top3", "of1_top3", "ap_std", "micro_ap", "lrap"):
        assert second[name] == pytest.approx(first[name], abs=1e-9)


def test_without_a_positive_there_is_calibration_alone():
    logits, targets = problem()
    found = secondary(logits, 0 * targets, np.full(7, np.nan))
    values = [found["cf1_top3"], found["of1_top3"], found["ap_std"], found["micro_ap"], found["lrap"]]
    assert np.isnan(values).all() and found["ece"] > 0


@pytest.mark.parametrize("scale", [0.3, 1.0, 30.0])
def test_calibration_is_torchmetrics(scale):
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    logits, targets = problem(n=400)
    probability = torch.from_numpy(scale * logits.ravel().astype(np.float64)).sigmoid()
    expected = binary_calibration_error(probability, torch.from_numpy(targets.ravel()).long(), n_bins=15, norm="l1")
    assert calibration_error(scale * logits, targets) == pytest.approx(float(expected), abs=1e-5)


def test_calibration_by_hand():
    logits = np.array([[0.0, 0.0, 0.0, 0.0], [800.0, 800.0, -800.0, -800.0]], np.float32)
    targets = np.array([[1, 0, 0, 0], [1, 0, 0, 0]])
    assert calibration_error(logits, targets) == pytest.approx((4 * 0.25 + 2 * 0.5 + 2 * 0.0) / 8)


def mean_of1(seeds, threshold):
    return np.mean([f1_score(t, x >= threshold, average="micro", zero_division=0) for x, t in seeds])


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.slow
def test_no_threshold_is_better_than_the_best(levels, n):
    _, targets = problem(n=30)
    seeds = [(problem(levels, n=30, seed=seed)[0] + np.float32(seed), targets) for seed in range(n)]
    found = best_threshold(seeds)
    values = np.unique(np.concatenate([x.ravel() for x, _ in seeds]))
    assert found in values
    tried = {float(t): mean_of1(seeds, t) for t in [*values, *(values[1:] + values[:-1]) / 2, values[-1] + 1]}
    assert tried[found] == pytest.approx(max(tried.values()), abs=1e-12)
    assert all(of1 < tried[found] - 1e-12 for threshold, of1 in tried.items() if threshold > found)


def test_of_equally_good_thresholds_the_highest_is_taken():
    logits = np.array([[3.0], [2.0], [1.0], [0.0]], np.float32)
    targets = np.array([[1], [0], [0], [1]], np.uint8)  # OF1 is 2/3 at 3 and at 0
    assert best_threshold([(logits, targets)]) == 3.0


def test_one_threshold_for_seeds_that_differ_is_a_compromise():
    targets = np.array([[1], [0], [0], [0]], np.uint8)
    first = np.array([[9.0], [1.0], [0.0], [0.0]], np.float32)
    second = np.array([[3.0], [2.0], [0.0], [0.0]], np.float32)
    assert best_threshold([(first, targets)]) == 9.0
    assert best_threshold([(first, targets), (second, targets)]) == 3.0


def test_a_list_without_a_positive_gives_no_threshold():
    logits, targets = problem()
    assert best_threshold([(logits, 0 * targets)]) is None
    assert best_threshold([(logits, targets), (logits, 0 * targets)]) is None


def test_scores_at_a_threshold_count_what_is_at_least_as_high():
    logits = np.array([[1.0, 0.5], [0.5, 0.25]], np.float32)
    targets = np.array([[1, 1], [0, 1]], np.uint8)
    found = at_threshold(logits, targets, 0.5)
    assert found.threshold == 0.5
    assert found.of1_val == pytest.approx(100 * f1_score(targets, logits >= 0.5, average="micro"))
    precision, recall = (1 / 2 + 1) / 2, (1 + 1 / 2) / 2
    assert found.cf1_val == pytest.approx(100 * 2 * precision * recall / (precision + recall))
