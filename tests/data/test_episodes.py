"""Support sets of few-shot episodes, and datasets that have them."""

import shutil

import numpy as np
import pytest
from kit.tiny import write_few_shot

from benchmark.data.dataset import DATASETS, Dataset, find_dataset
from benchmark.data.episodes import draw_episodes
from benchmark.data.lists import read_classes, read_list
from benchmark.errors import InputError

CLASSES = ("a", "b", "c", "d", "e")


def pool(images: int, seed: int = 0) -> dict[str, frozenset[int]]:
    """Images that show several classes as they do in photographs: class 0 often, class 4 rarely."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.6, 0.3, 0.2, 0.1, 0.05])
    rows = rng.random((images, len(CLASSES))) < shares
    return {f"{i:03}.jpg": frozenset(np.flatnonzero(row).tolist()) for i, row in enumerate(rows) if row.any()}


def counts(support: dict[str, frozenset[int]], classes: int = len(CLASSES)) -> list[int]:
    return [sum(c in found for found in support.values()) for c in range(classes)]


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("name", ["voc", "coco"])
def test_each_class_has_exactly_k_positives_with_real_labels(name, shots):
    """Those of VOC 2007 test and of COCO val2017, which the lists of VOC-LT and COCO-LT hold."""
    lists, few_shot = DATASETS.get(f"{name}-lt"), DATASETS.get(f"{name}-few-shot-{shots}")
    assert (few_shot.card.episodes, few_shot.card.shots) == (10, shots)
    known, classes = (read_classes(folder.file("classes.txt")) for folder in (lists, few_shot))
    test = read_list(lists.file("test.txt"), "test", len(known))
    rows = test.targets[:, [known.index(name) for name in classes]]
    labels = {path: frozenset(np.flatnonzero(row).tolist()) for path, row in zip(test.paths, rows, strict=True)}
    drawn = draw_episodes(labels, classes, shots, 10)
    assert {tuple(counts(support, len(classes))) for support in drawn} == {(shots,) * len(classes)}
    assert all(labels[image] == found for support in drawn for image, found in support.items()), "all labels are kept"
    assert all(list(support) == sorted(support) for support in drawn)
    assert len({tuple(support) for support in drawn}) == 10, "every episode is another one"
    assert any(len(support) < shots * len(classes) for support in drawn), "images of several classes are drawn too"


@pytest.mark.parametrize("seed", range(5))
def test_each_class_has_at_least_k_positives_where_classes_crowd_the_images(seed):
    drawn = draw_episodes(pool(400, seed), CLASSES, 5, 10)
    assert min(min(counts(support)) for support in drawn) == 5
    assert max(max(counts(support)) for support in drawn) <= 8


def test_more_than_k_positives_only_where_no_image_allows_less():
    # b is seen with a alone: each b adds an a. c has images of its own, so it adds none.
    labels = {f"{i}.jpg": frozenset({0, 1}) for i in range(6)} | {f"a{i}.jpg": frozenset({0}) for i in range(6)}
    labels |= {f"c{i}.jpg": frozenset({2}) for i in range(6)} | {f"ac{i}.jpg": frozenset({0, 2}) for i in range(6)}
    for support in draw_episodes(labels, ("a", "b", "c"), 2, 5):
        a, b, c = counts(support, 3)
        assert (b, c) == (2, 2) and 2 <= a <= 4
    only = {f"{i}.jpg": frozenset({0, 1}) for i in range(6)} | {"a.jpg": frozenset({0})}
    assert {tuple(counts(support, 2)) for support in draw_episodes(only, ("a", "b"), 3, 2)} <= {(3, 3), (4, 3)}


def test_a_draw_depends_on_the_images_alone_and_not_on_their_order():
    labels = pool(200)
    turned = dict(reversed(labels.items()))
    assert draw_episodes(labels, CLASSES, 2, 3) == draw_episodes(turned, CLASSES, 2, 3)
    assert draw_episodes(labels, CLASSES, 2, 3) == draw_episodes(labels, CLASSES, 2, 5)[:3]
    # Pinned: another draw would be another dataset under the same name.
    assert [list(support) for support in draw_episodes(labels, CLASSES, 2, 2)] == [
        ["002.jpg", "054.jpg", "113.jpg", "148.jpg", "166.jpg", "179.jpg"],
        ["009.jpg", "021.jpg", "029.jpg", "054.jpg", "129.jpg", "168.jpg", "183.jpg"],
    ]


def test_too_few_images_are_refused():
    labels = {"a.jpg": frozenset({0}), "b.jpg": frozenset({1}), "ab.jpg": frozenset({0, 1})}
    with pytest.raises(InputError, match="class 'b' has fewer than 3 images"):
        draw_episodes(labels | {"a2.jpg": frozenset({0})}, ("a", "b"), 3, 1)
    with pytest.raises(InputError, match="too few for 10 support sets"):
        draw_episodes(labels, ("a", "b"), 1, 10)


# Datasets


def opened(folder) -> Dataset:
    return find_dataset(str(folder)).open()


def test_a_seed_has_the_support_set_of_its_episode_and_all_have_one_fingerprint(tmp_path):
    dataset = opened(write_few_shot(tmp_path / "few"))
    seen = [dataset.of_seed(seed) for seed in range(3)]
    assert [view.splits["train"].paths for view in seen] == [support.paths for support in dataset.supports]
    assert len({view.splits["train"].paths for view in seen}) == 3
    assert {view.fingerprint for view in seen} == {dataset.fingerprint}
    assert {view.splits["test"].paths for view in seen} == {dataset.splits["test"].paths}
    assert list(dataset.lists) == ["episode-0/train", "episode-1/train", "episode-2/train", "test"]


def test_the_fingerprint_covers_every_episode(tmp_path):
    folder = write_few_shot(tmp_path / "few")
    first = opened(folder).fingerprint
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert opened(copy).fingerprint == first
    lists = [copy / f"episode-{i}" / "train.txt" for i in (1, 2)]
    texts = [file.read_text() for file in lists]
    for file, text in zip(lists, reversed(texts), strict=True):
        file.write_text(text)
    assert opened(copy).fingerprint != first


def test_groups_are_by_the_most_positives_in_any_episode(tmp_path):
    folder = write_few_shot(tmp_path / "few")
    card = folder / "dataset.yaml"
    card.write_text(card.read_text() + "medium_from: 2\nhead_from: 3\n")
    last = folder / "episode-2" / "train.txt"
    unused = [i for i in (1, 2, 3) if f"train{i}.png" not in last.read_text()]  # images of red alone
    last.write_text(f"{last.read_text()}images/train{unused[0]}.png 0\n")
    dataset = opened(folder)
    assert dataset.groups["red"] == "medium" and dataset.class_counts[0] == 1
    assert {tuple(dataset.of_seed(seed).groups.items()) for seed in range(3)} == {tuple(dataset.groups.items())}


def refusal(folder) -> str:
    with pytest.raises(InputError) as info:
        opened(folder)
    assert "\n" not in str(info.value)
    return str(info.value)


def test_bad_episodes_are_refused_by_name(tmp_path):
    folder = write_few_shot(tmp_path / "few")
    (folder / "train.txt").write_text("images/train0.png 0\n")
    assert f"{folder / 'train.txt'}: a dataset with episodes" in refusal(folder)
    (folder / "train.txt").unlink()
    second = folder / "episode-1" / "train.txt"
    kept = second.read_text()
    test_image = (folder / "test.txt").read_text().splitlines()[0]
    second.write_text(f"{kept}{test_image}\n")
    assert "episode-1/train.txt and test.txt" in refusal(folder)
    second.write_text("images/train1.png 0\n")
    assert refusal(folder).startswith(f"{second}: no training image for class 'green', 'blue'")
    second.unlink()
    assert refusal(folder).startswith(f"{second}: no such file")
    second.write_text(kept)
    card = folder / "dataset.yaml"
    card.write_text(card.read_text().replace("shots: 1", "shots: 2"))
    assert f"{folder / 'episode-0' / 'train.txt'}: fewer than 2 training images for class" in refusal(folder)
    card.write_text("episodes: -1\n")
    assert "episodes" in refusal(folder)
