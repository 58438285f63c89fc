"""The metric: average precision against scikit-learn, groups, F1, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from benchmark.errors import RunFailed
from benchmark.evaluation import average_precision, f1_scores, numbers_again, score

LARGEST = float(np.finfo(np.float32).max)
TINY = float(np.finfo(np.float32).smallest_subnormal)
SCORES = {
    "many ties": st.sampled_from([-1.5, 0.0, 0.1, 0.2]),
    "extreme": st.sampled_from([-LARGEST, -1e30, -TINY, -0.0, 0.0, TINY, 1e-30, 1.0, 1.0 + 2**-23, LARGEST]),
    "any": st.floats(width=32, allow_nan=False, allow_infinity=False),
}
quick = settings(max_examples=60, deadline=None, database=None, derandomize=True)


def sklearn_ap(logits, targets):
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(
            [
                average_precision_score(t, s) if t.any() else np.nan
                for s, t in zip(np.asarray(logits).T, targets.T, strict=True)
            ]
        )


@st.composite
def problems(draw, scores):
    n, c = draw(st.integers(1, 40)), draw(st.integers(1, 3))
    logits = draw(st.lists(scores, min_size=n * c, max_size=n * c))
    targets = draw(st.lists(st.integers(0, 1), min_size=n * c, max_size=n * c))
    return np.array(logits, np.float32).reshape(n, c), np.array(targets, np.uint8).reshape(n, c)


def random_problem(n=300, c=7, seed=0, positives=0.1, levels=None):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, c)) if levels is None else rng.integers(0, levels, (n, c))
    return logits.astype(np.float32), (rng.random((n, c)) < positives).astype(np.uint8)


@pytest.mark.parametrize("kind", SCORES)
def test_average_precision_is_scikit_learns(kind):
    @quick
    @given(problems(SCORES[kind]))
    def agree(problem):
        logits, targets = problem
        np.testing.assert_allclose(average_precision(logits, targets), sklearn_ap(logits, targets), rtol=0, atol=1e-12)

    agree()


@pytest.mark.parametrize("levels", [None, 2, 20])
@pytest.mark.parametrize("positives", [0.004, 0.1, 0.9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_average_precision_is_scikit_learns_on_larger_problems(levels, positives, dtype):
    logits, targets = random_problem(2000, 12, 3, positives, levels)
    found = average_precision(logits.astype(dtype), targets)
    np.testing.assert_allclose(found, sklearn_ap(logits.astype(dtype), targets), rtol=0, atol=1e-12)


def test_scores_that_differ_in_the_last_bit_are_no_tie():
    one = np.float32(1)
    logits = np.array([[np.nextafter(one, np.float32(2))], [one]])
    assert average_precision(logits, np.array([[1], [0]])) == [1.0]
    assert average_precision(logits, np.array([[0], [1]])) == [0.5]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0]])
def test_images_that_tie_enter_together(order):
    targets = np.array([[1], [0], [0], [0]])[order]
    assert average_precision(np.zeros((4, 1), np.float32), targets) == [0.25]


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([3, 2, 1], [1, 0, 1], (1 + 2 / 3) / 2),
        ([3, 2, 1], [1, 1, 1], 1.0),
        ([3, 2, 1], [0, 0, 1], 1 / 3),
        ([2, 2, 1], [1, 0, 1], (1 / 2 + 2 / 3) / 2),
        ([5], [1], 1.0),
    ],
)
def test_average_precision_by_hand(scores, labels, expected):
    found = average_precision(np.array(scores, np.float32)[:, None], np.array(labels)[:, None])
    assert found == pytest.approx([expected], abs=1e-12)


def test_class_without_positives_is_nan_and_others_are_unaffected():
    logits, targets = random_problem()
    targets[:, 2] = 0
    found = average_precision(logits, targets)
    assert np.isnan(found).tolist() == [k == 2 for k in range(7)]
    rest = [k for k in range(7) if k != 2]
    np.testing.assert_array_equal(found[rest], average_precision(logits[:, rest], targets[:, rest]))


def test_negative_zero_ties_with_zero():
    logits, targets = np.array([[-0.0], [0.0], [-0.0], [0.0]], np.float32), np.array([[1], [0], [0], [1]])
    assert average_precision(logits, targets) == average_precision(-logits, targets) == [0.5]


def test_one_score_for_all_gives_the_share_of_positives():
    _, targets = random_problem()
    found = average_precision(np.full(targets.shape, 0.1, np.float32), targets)
    np.testing.assert_allclose(found, targets.mean(axis=0), rtol=0, atol=1e-15)


def test_all_positive_class_has_one():
    logits, targets = random_problem(levels=3)
    assert (average_precision(logits, np.ones_like(targets)) == 1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused_with_their_place(value):
    logits, targets = random_problem()
    logits[17, 4] = value
    with pytest.raises(ValueError, match=rf"{value} at image 17, class 4"):
        average_precision(logits, targets)


@pytest.mark.parametrize(
    ("logits", "targets"), [((3, 2), (3, 3)), ((3, 2), (2, 2)), ((3,), (3,)), ((0, 2), (0, 2)), ((1, 3, 2), (1, 3, 2))]
)
def test_other_shapes_are_refused(logits, targets):
    with pytest.raises(ValueError, match="must both be"):
        average_precision(np.zeros(logits), np.zeros(targets))


@pytest.mark.parametrize("value", [-1, 2, 0.5, np.nan])
def test_targets_other_than_0_and_1_are_refused(value):
    with pytest.raises(ValueError, match="targets must be 0 or 1"):
        average_precision(np.zeros((2, 1)), np.array([[1.0], [value]]))


@pytest.mark.parametrize("levels", [None, 2, 9])
def test_order_of_images_does_not_matter(levels):
    logits, targets = random_problem(levels=levels)
    order = np.random.default_rng(1).permutation(len(logits))
    np.testing.assert_allclose(
        average_precision(logits[order], targets[order]), average_precision(logits, targets), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("levels", [None, 2, 9])
@pytest.mark.parametrize(
    "transform", [lambda x: 2 * x, lambda x: x.astype(np.float64) ** 3, lambda x: x - 128.0 * (x < 1)]
)
def test_monotone_transforms_change_nothing(levels, transform):
    logits, targets = random_problem(levels=levels)
    np.testing.assert_array_equal(average_precision(transform(logits), targets), average_precision(logits, targets))


def test_average_precision_leaves_its_arguments_alone():
    logits, targets = random_problem()
    copies = logits.copy(), targets.copy()
    average_precision(logits, targets)
    assert (logits == copies[0]).all() and (targets == copies[1]).all()


def test_f1_by_hand():
    # class 0: 1 right of 2 chosen, 2 true; class 1: 1 right of 1 chosen, 1 true; class 2: never chosen, 1 true
    logits = np.array([[1, -1, -1], [0, 2, -3], [-1, -2, -1], [-4, -1, -1]], np.float32)
    targets = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
    precision, recall = (1 / 2 + 1 + 0) / 3, (1 / 2 + 1 + 0) / 3
    cf1, of1 = f1_scores(logits >= 0, targets)
    assert cf1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert of1 == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))


@pytest.mark.parametrize("seed", range(5))
def test_f1_of_class_means_and_of_all_decisions(seed):
    logits, targets = random_problem(100, 6, seed, positives=0.3)
    cf1, of1 = f1_scores(logits >= 0, targets)
    assert of1 == pytest.approx(f1_score(targets, logits >= 0, average="micro"))
    chosen = logits >= 0
    precision = np.mean([(targets[:, k] & chosen[:, k]).sum() / chosen[:, k].sum() for k in range(6)])
    recall = np.mean([(targets[:, k] & chosen[:, k]).sum() / targets[:, k].sum() for k in range(6)])
    assert cf1 == pytest.approx(2 * precision * recall / (precision + recall))


def test_f1_is_zero_where_nothing_is_chosen():
    assert f1_scores(np.zeros((3, 2), bool), np.ones((3, 2))) == (0.0, 0.0)


def groups_of(*groups):
    return {f"class {i}": group for i, group in enumerate(groups)}


def test_score_averages_by_group_in_percent():
    logits, targets = random_problem(c=4, positives=0.3)
    metrics = score(logits, targets, groups_of("tail", "head", "head", "medium"))
    ap = 100 * sklearn_ap(logits, targets)
    assert metrics.overall == pytest.approx(ap.mean())
    assert metrics.head == pytest.approx(ap[1:3].mean())
    assert (metrics.tail, metrics.medium) == pytest.approx((ap[0], ap[3]))
    assert list(metrics.per_class) == [f"class {i}" for i in range(4)]
    assert list(metrics.per_class.values()) == pytest.approx(ap.tolist())
    assert metrics.cf1 is None and metrics.of1 is None


def test_the_numbers_of_a_first_record_are_made_again_with_f1_at_a_sigmoid_of_half():
    logits, targets = random_problem(c=3, positives=0.3)
    groups = groups_of("tail", "head", "medium")
    plain = score(logits, targets, groups).numbers()
    assert numbers_again(plain, logits, targets, groups) == plain and "cf1" not in plain
    first = numbers_again(plain | {"cf1": 1.0, "of1": 2.0}, logits, targets, groups)
    cf1, of1 = f1_scores(logits >= 0, targets)
    assert first == plain | {"cf1": 100 * cf1, "of1": 100 * of1}


def test_class_without_test_positive_is_missing_and_in_no_mean():
    logits, targets = random_problem(c=4, positives=0.3)
    targets[:, 1] = 0
    metrics = score(logits, targets, groups_of("tail", "head", "head", "medium"))
    ap = 100 * sklearn_ap(logits, targets)
    assert metrics.per_class["class 1"] is None
    assert metrics.head == pytest.approx(ap[2])
    assert metrics.overall == pytest.approx(ap[[0, 2, 3]].mean())


def test_group_without_classes_or_positives_has_no_mean():
    logits, targets = random_problem(c=3, positives=0.3)
    targets[:, 0] = 0
    metrics = score(logits, targets, groups_of("tail", "head", "head"))
    assert metrics.tail is None and metrics.medium is None and metrics.head is not None


def test_without_any_positive_there_is_no_overall_mean():
    logits, targets = random_problem(c=2)
    metrics = score(logits, np.zeros_like(targets), groups_of("tail", "head"))
    assert metrics.overall is None and set(metrics.per_class.values()) == {None}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_run_fails_on_scores_that_are_not_finite(value):
    logits, targets = random_problem(c=2)
    logits[5, 1] = value
    with pytest.raises(RunFailed, match="image 5, class 1") as caught:
        score(logits, targets, groups_of("tail", "head"))
    assert caught.value.cause == "nan"


def test_images_without_label_count_as_negatives():
    logits = np.array([[2.0], [1.0]], np.float32)
    assert score(logits, np.array([[0], [1]]), groups_of("head")).overall == 50


def test_integer_scores_are_ranked_as_the_same_floats():
    targets = np.array([[0], [1], [0], [1]])
    for kind in (np.uint8, np.int64, bool):
        scores = np.array([[0], [1], [0], [1]], dtype=kind)
        assert average_precision(scores, targets) == average_precision(scores.astype(np.float64), targets) == 1.0


def test_a_class_without_positives_is_in_no_mean_of_cf1():
    targets = np.array([[1, 0], [0, 0]])
    assert f1_scores(np.array([[True, False], [False, False]]), targets) == (1.0, 1.0)
    cf1, of1 = f1_scores(np.array([[True, True], [False, False]]), targets)
    assert cf1 == 1.0 and of1 == pytest.approx(2 / 3)
