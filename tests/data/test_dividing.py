"""Division into lists: proportions, copies, classes of few images, the seed."""

import numpy as np
import pytest
from kit.checks import refused

from benchmark.data.dividing import divide

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def long_tail(images=2000, classes=12, seed=0):
    """Labels of which class k is on an image with probability 0.4 / (k + 1); some images have none."""
    drawn = np.random.default_rng(seed).random((images, classes)) < 0.4 / (1 + np.arange(classes))
    return {f"{i:04}": frozenset(np.flatnonzero(row).tolist()) for i, row in enumerate(drawn)}


def test_each_class_is_in_every_list_in_proportion():
    labels = long_tail()
    lists, moved = divide(labels, 12, SHARES, 0)
    assert sorted(image for images in lists.values() for image in images) == sorted(labels) and moved == []
    for name, share in SHARES.items():
        assert len(lists[name]) == pytest.approx(share * len(labels), rel=0.03)
        assert lists[name] == sorted(lists[name])
        for k in range(12):
            total = sum(k in found for found in labels.values())
            assert sum(k in labels[image] for image in lists[name]) == pytest.approx(share * total, abs=2.5)
    without = [image for image, found in labels.items() if not found]
    assert sum(not labels[image] for image in lists["test"]) == pytest.approx(0.15 * len(without), rel=0.2)


def test_the_seed_decides():
    labels = long_tail(300)
    assert divide(labels, 12, SHARES, 5) == divide(labels, 12, SHARES, 5)
    assert divide(labels, 12, SHARES, 5) != divide(labels, 12, SHARES, 6)


def test_a_seed_gives_the_same_lists_for_ever():
    lists, _ = divide({str(i): frozenset([i % 2]) for i in range(12)}, 2, SHARES, 3)
    assert {name: " ".join(images) for name, images in lists.items()} == {
        "train": "0 1 2 4 5 6 7 11",
        "val": "9 10",
        "test": "3 8",
    }


def test_copies_are_in_one_list():
    labels = long_tail(400)
    names = list(labels)
    together = [names[i : i + 3] for i in range(0, 300, 3)]
    for seed in range(3):
        lists, _ = divide(labels, 12, SHARES, seed, together)
        place = {image: name for name, images in lists.items() for image in images}
        assert all(len({place[image] for image in group}) == 1 for group in together)
        assert len(set(place.values())) == 3 and len(place) == 400


def test_a_class_of_one_image_is_trained():
    labels = long_tail(60, 4) | {"rare": frozenset([4]), "pair": frozenset([5, 6])}
    for seed in range(10):
        lists, _ = divide(labels, 7, SHARES, seed)
        assert {"rare", "pair"} <= set(lists["train"])


def test_an_image_is_moved_where_the_training_list_lacks_a_class():
    """Of class 0 there is one image under two names, and most images are to be tested."""
    labels = {"0": frozenset([0]), "1": frozenset([0])} | {f"x{i}": frozenset([1]) for i in range(8)}
    lists, moved = divide(labels, 2, {"train": 0.3, "test": 0.7}, 0, [["0", "1"]])
    assert moved == [0] and {"0", "1"} <= set(lists["train"])


def test_a_list_that_would_be_empty_is_refused():
    labels = {str(i): frozenset([i]) for i in range(3)}
    assert "3 different images are too few" in refused(divide, labels, 3, SHARES, 0)
    assert "list val" in refused(divide, labels, 3, SHARES, 0)
