"""Long-tailed lists: the procedure of VOC-LT and COCO-LT on VOC's labels."""

import numpy as np
import pytest
from kit.checks import refused
from kit.paths import ROOT

from benchmark.data.lists import read_list
from benchmark.data.long_tail import SHAPE, long_tailed
from benchmark.errors import InputError


@pytest.fixture(scope="module")
def voc():
    """The labels of 3,142 images of VOC 2012 trainval."""
    splits = [read_list(ROOT / "splits" / "voc-lt" / f"{name}.txt", name, 20) for name in ("train", "val")]
    return {
        path: frozenset(np.flatnonzero(row).tolist())
        for split in splits
        for path, row in zip(split.paths, split.targets, strict=True)
    }


def counts(labels, chosen, num_classes):
    return np.array([sum(k in labels[image] for image in chosen) for k in range(num_classes)])


@pytest.mark.parametrize("seed", range(3))
def test_vocs_labels_give_the_groups_of_voc_lt(voc, seed):
    chosen = long_tailed(voc, 20, 800, 1, SHAPE, seed)
    found = counts(voc, chosen, 20)
    head, tail = (found >= 100).sum(), (found < 20).sum()
    assert 5 <= head <= 7 and 6 <= tail <= 9 and found.min() >= 1
    assert 1000 < len(chosen) < 1300 and found.argmax() == 14 and 700 < found.max() < 850
    assert len(set(chosen)) == len(chosen) and chosen == sorted(chosen)


def test_the_seed_and_not_the_order_of_the_images_decides(voc):
    chosen = long_tailed(voc, 20, 800, 1, SHAPE, 0)
    assert long_tailed(dict(reversed(voc.items())), 20, 800, 1, SHAPE, 0) == chosen
    assert long_tailed(voc, 20, 800, 1, SHAPE, 1) != chosen


def test_single_labels_follow_the_reference_sizes():
    """Without company, classes keep their order and their sizes are the density's: 20 / x^7 + 1, at 1 and at 0.99."""
    labels = {f"{k}-{i}": frozenset([k]) for k in range(3) for i in range(50)}
    found = counts(labels, long_tailed(labels, 3, 21, 1, SHAPE, 0), 3)
    middle = (1 + 0.01 ** (-1 / 6)) / 2
    assert found.tolist() == [21, int(20 / middle**7 + 1), int(20 * 0.01 ** (7 / 6) + 1)]


def test_images_that_others_brought_along_are_removed_again():
    """The second class is seen beside the first alone, and its size is smaller."""
    labels = {f"{i}": frozenset([0, 1]) for i in range(100)} | {f"x{i}": frozenset([0]) for i in range(100)}
    found = counts(labels, chosen := long_tailed(labels, 2, 100, 1, SHAPE, 0), 2)
    assert found[1] == 1 and all(labels[image] for image in chosen)


def test_a_class_without_image_is_refused():
    assert "class 1 has no image" in refused(long_tailed, {"a": frozenset([0])}, 2, 5, 1, SHAPE, 0)


def test_a_class_that_keeps_no_image_is_refused():
    """Of classes 0 and 1 one image is chosen each; where both are of class 2, which comes last, one must leave."""
    labels = {"0x": frozenset([0, 2]), "1x": frozenset([1, 2])}
    labels |= {f"{k}-{i}": frozenset([k]) for k in (0, 1) for i in range(4)}
    lost = 0
    for seed in range(100):
        try:
            chosen = long_tailed(labels, 3, 1, 1, SHAPE, seed)
        except InputError as error:
            assert "keeps no image" in str(error) and f"seed {seed}" in str(error)
            lost += 1
        else:
            assert counts(labels, chosen, 3).min() == 1
    assert 0 < lost < 30
