"""Telling methods apart: the test against scipy's, its error rate by simulation, rank groups, Holm."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmark.leaderboard import calibration
from benchmark.leaderboard.calibration import equal_pairs, whole_tables
from benchmark.leaderboard.comparison import Comparison, compare
from benchmark.leaderboard.statistics import holm

REPLICATES = 200


def row(seeds, images: np.ndarray | float = 0.0) -> np.ndarray:
    """Scores of a row: one a seed as measured, the replicates that much off."""
    seeds = np.array(seeds, dtype=np.float32)
    return np.concatenate([seeds[:, None], seeds[:, None] + np.broadcast_to(images, (len(seeds), REPLICATES))], axis=1)


def test_without_noise_from_images_it_is_welchs_test():
    a, b = [80.0, 82.5, 79.0], [75.0, 77.0, 76.5, 71.0]
    found = compare([row(a), row(b)])
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert found.difference[0, 1] == pytest.approx(np.mean(a) - np.mean(b), abs=1e-4)
    assert found.p[0, 1] == pytest.approx(expected.pvalue, rel=1e-4) == found.p[1, 0]
    low, high = expected.confidence_interval(0.95)
    assert found.half_width[0, 1] == pytest.approx((high - low) / 2, rel=1e-4)


def test_without_noise_from_seeds_it_is_the_bootstraps_normal_interval():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, REPLICATES), rng.normal(0, 2, REPLICATES)
    found = compare([row([80.0, 80.0], a), row([77.0, 77.0], b)])
    spread = (a - b).std(ddof=1)
    assert found.half_width[0, 1] == pytest.approx(1.95996 * spread, rel=1e-3)
    assert found.p[0, 1] == pytest.approx(2 * stats.norm.sf(3.0 / spread), rel=1e-3)


def test_the_same_images_are_no_noise_of_a_difference():
    easy = np.random.default_rng(0).normal(0, 5, REPLICATES)
    found = compare([row([80.0, 80.0], easy), row([79.0, 79.0], easy)])
    assert found.half_width[0, 1] == pytest.approx(0, abs=1e-4) and found.p[0, 1] < 1e-6


def test_both_noises_add_up():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, REPLICATES), rng.normal(0, 1, REPLICATES)
    both = compare([row([80.0, 82.0, 81.0], a), row([78.0, 79.0, 77.0], b)]).half_width[0, 1]
    seeds = compare([row([80.0, 82.0, 81.0]), row([78.0, 79.0, 77.0])]).half_width[0, 1]
    images = compare([row([81.0] * 3, a), row([78.0] * 3, b)]).half_width[0, 1]
    assert max(seeds, images) < both < seeds + images


def test_one_seed_or_no_score_is_not_compared():
    found = compare([row([80.0, 81.0]), row([70.0]), row([np.nan, np.nan]), row([60.0, 61.0])])
    known = ~np.isnan(found.p)
    assert [list(np.flatnonzero(line)) for line in known] == [[3], [], [], [0]]
    assert found.rank_groups == (1, None, None, 2)
    assert found.verdicts == ((None, None, None, 1), (None,) * 4, (None,) * 4, (-1, None, None, None))
    assert found.counts(0) == (1, 0, 0) and found.counts(1) == (0, 0, 0)


def test_rows_that_are_the_same_are_tied():
    found = compare([row([50.0, 50.0]), row([50.0, 50.0])])
    assert found.p[0, 1] == 1.0 and found.rank_groups == (1, 1)


def test_a_single_row_is_compared_with_nothing():
    found = compare([row([50.0, 51.0])])
    assert np.isnan(found.p).all() and found.rank_groups == (None,)


def test_verdicts_are_antisymmetric_and_the_diagonal_is_empty():
    rng = np.random.default_rng(2)
    found = compare([row(80 - 3 * i + rng.normal(0, 1, 4), rng.normal(0, 0.5, REPLICATES)) for i in range(8)])
    for i, line in enumerate(found.verdicts):
        assert line[i] is None
        assert all(v == -found.verdicts[j][i] for j, v in enumerate(line) if i != j)
    assert (found.p_holm[found.p < 2] >= found.p[found.p < 2]).all()


def with_p(p: list[list[float]]) -> Comparison:
    p = np.array(p)
    return Comparison(np.zeros_like(p), np.zeros_like(p), p, p)


def test_rank_groups_by_hand():
    nan = np.nan
    # 0 leads: 1 is tied with it, 2 is not (0.01 becomes 0.02), 3 is not (0.003). Then 2 leads, and 3 is tied with it.
    found = with_p([[nan, 0.3, 0.01, 0.001], [0.3, nan, 0.3, 0.3], [0.01, 0.3, nan, 0.2], [0.001, 0.3, 0.2, nan]])
    assert found.rank_groups == (1, 1, 2, 2)
    # Of two comparisons the smaller p of 0.03 becomes 0.06: both stay.
    assert with_p([[nan, 0.03, 0.04], [0.03, nan, 1], [0.04, 1, nan]]).rank_groups == (1, 1, 1)
    # Alone it would be told apart.
    assert with_p([[nan, 0.03], [0.03, nan]]).rank_groups == (1, 2)


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_the_p_value_and_bonferronis(values):
    p = np.array(values)
    adjusted = holm(p)
    assert (adjusted >= p).all() and (adjusted <= np.minimum(1, p * len(p)) + 1e-12).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("seed_noise,image_noise", [(2.0, 0.0), (2.0, 1.0), (0.3, 1.0)])
def test_equal_methods_are_told_apart_in_one_case_of_twenty_at_most(seeds, seed_noise, image_noise):
    told, drawn = equal_pairs(seeds, seed_noise, image_noise, pairs=1500)
    assert told <= (0.065 if seeds > 2 else 0.07)
    if image_noise == 0 or (seeds < 5 and seed_noise > image_noise):
        assert drawn > 0.1, "why seeds are not drawn with replacement"


@pytest.mark.parametrize("lead", [0.0, 1.0])
@pytest.mark.parametrize(("methods", "seeds"), [(10, 3), (4, 5)])
def test_the_truly_best_method_is_tied_with_the_best_and_wins_are_rarely_false(methods, seeds, lead):
    missed, wrong, _ = whole_tables(methods, seeds, lead, tables=600)
    assert missed <= 0.05
    # 600 tables know a rate of 7 %, which 1,500 give for ten methods, to 2 points.
    assert wrong <= 0.095


def test_the_calibration_prints_what_the_docs_give(monkeypatch, capsys):
    monkeypatch.setattr(calibration, "equal_pairs", lambda *args: equal_pairs(*args[:3], 20))
    monkeypatch.setattr(calibration, "whole_tables", lambda *args: whole_tables(*args[:3], 20))
    monkeypatch.setattr(calibration, "noise_of_test_sets", lambda *args: (1.0, 0.95))
    calibration.main(["--results", str(ROOT / "results")])
    shown = capsys.readouterr().out
    assert "3 seeds" in shown and "false win" in shown and "50 positives" in shown and "correlation" in shown
