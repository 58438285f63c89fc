"""The facts of a dataset, its traps, and whether its images are here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from kit.paths import ROOT
from kit.tiny import write_tiny_dataset

from benchmark.data import dataset as datasets
from benchmark.data.dataset import DATASETS, find_dataset
from benchmark.data.facts import facts_of
from benchmark.data.presence import presence_of


@pytest.fixture
def own(tmp_path):
    """Writes a dataset folder with these lists, a line an image, and opens it."""

    def opened(classes: str, **lists: list[str]):
        folder = tmp_path / "own"
        folder.mkdir(exist_ok=True)
        (folder / "classes.txt").write_text("\n".join(classes.split()) + "\n")
        for name, labels in lists.items():
            (folder / f"{name}.txt").write_text("".join(f"{name}{i}.png {row}\n" for i, row in enumerate(labels)))
        return find_dataset(str(folder)).open()

    return opened


def test_facts_are_counted_from_the_lists(own):
    facts = facts_of(own("a b c", train=["0 1", "0 1", "0", "2"], test=["0", "1 2", ""]))
    train, test = facts.lists["train"], facts.lists["test"]
    assert (train.images, train.labels, train.most_labels, train.without_label) == (4, 6, 2, 0)
    assert (test.images, test.labels, test.without_label) == (3, 3, 1) and train.labels_per_image == 1.5
    assert facts.groups == {"head": 0, "medium": 0, "tail": 3} and facts.imbalance == 3
    assert [one.name for one in facts.ranked()] == ["a", "b", "c"]
    assert facts.classes[1].positives == {"train": 2, "test": 1}
    assert np.allclose(facts.cooccurrence, [[1, 2 / 3, 0], [1, 1, 0], [0, 0, 1]], atol=1e-6)
    pairs = [(pair.first, pair.second, pair.both, pair.given) for pair in facts.closest_pairs(5)]
    assert pairs == [("b", "a", 2, 2), ("a", "b", 2, 3)]
    assert facts.fingerprint is None, "the images of a folder of one's own would have to be read"


@pytest.mark.parametrize("name", ["coco-lt", "shapes-lt", "voc-lt", "voc-mini-lt"])
def test_registered_datasets_name_sources_terms_and_traps(name):
    facts = facts_of(DATASETS.get(name).open())
    assert facts.sources and facts.terms and facts.traps and facts.fingerprint


def test_published_facts():
    coco, voc = (facts_of(DATASETS.get(name).open()) for name in ("coco-lt", "voc-lt"))
    assert coco.lists["test"].without_label == 48 and coco.groups == {"head": 22, "medium": 33, "tail": 25}
    assert voc.imbalance == 775 / 4
    told = "\n".join(coco.traps)
    assert "backpack exactly on 100 and boat, tennis racket exactly on 20" in told and "21 / 32 / 27" in told
    assert "8 for toaster" in told and "48 of 5,000 images of the test list" in told and "no validation list" in told
    told = "\n".join(voc.traps)
    assert "pottedplant exactly on 100 and motorbike exactly on 20" in told and "5 / 6 / 9" in told
    assert "(2,000 images, 2,951 labels) is larger than the training list (1,142 images" in told
    assert "difficult count as positive" in told


def test_test_images_of_voc_mini_lt_that_are_in_voc_lt_s_lists():
    mini, voc = DATASETS.get("voc-mini-lt").open(), DATASETS.get("voc-lt").open()
    seen = set(voc.splits["train"].paths) | set(voc.splits["val"].paths)
    shared = len(seen & set(mini.splits["test"].paths))
    assert any(trap.startswith(f"{shared} of its test images") for trap in mini.card.traps)


def test_a_class_that_a_list_lacks_is_a_trap(own):
    traps = facts_of(own("a b c", train=["0 1 2"] * 3, val=["0 1"], test=["0", "1"])).traps
    assert any(trap.startswith("Without a test positive: c.") for trap in traps)
    assert any(trap.startswith("Without a validation positive: c.") for trap in traps)


def test_a_balanced_dataset_has_no_trap(own):
    lists = {"train": ["0", "1"] * 30, "val": ["0", "1"], "test": ["0", "1"] * 60}
    assert facts_of(own("a b", **lists)).traps == []


def test_an_extension_has_the_sources_terms_and_traps_of_its_base_too(tmp_path, monkeypatch):
    base, more = write_tiny_dataset(tmp_path / "splits" / "base"), tmp_path / "splits" / "more"
    (base / "dataset.yaml").write_text("sources: [first]\nterms: [free]\ntraps: [deep]\n")
    more.mkdir()
    (more / "dataset.yaml").write_text("extends: base\nsources: [second]\n")
    shutil.copy(base / "val.txt", more / "val.txt")
    monkeypatch.setattr(datasets, "SPLITS_FOLDER", tmp_path / "splits")
    monkeypatch.setattr(DATASETS, "_entries", {})
    monkeypatch.setattr(DATASETS, "_load", datasets._load_datasets)
    facts = facts_of(DATASETS.get("more").open())
    assert (facts.sources, facts.terms, facts.traps[0]) == (["first", "second"], ["free"], "deep")


def test_presence(tmp_path, monkeypatch):
    voc = DATASETS.get("voc-lt")
    assert presence_of(voc.open()).state == "no data root"
    absent = presence_of(voc.open(tmp_path))
    assert (absent.state, absent.text, absent.total) == ("missing", "all 8,094 missing", 8094)
    assert presence_of(DATASETS.get("shapes-lt").open()).state == "rendered"
    tiny = write_tiny_dataset(tmp_path / "tiny")
    assert presence_of(find_dataset(str(tiny)).open()).text == "yes"
    (tiny / "images" / "test3.png").unlink()
    some = presence_of(find_dataset(str(tiny)).open())
    assert (some.text, some.missing) == ("1 missing", ("images/test3.png",))


def test_the_small_real_track_is_told_to_be_here():
    given = os.environ.get("VOC_MINI_LT")
    if not given:
        pytest.skip("VOC_MINI_LT is not set: it names the folder that holds VOCdevkit")
    assert presence_of(DATASETS.get("voc-mini-lt").open(Path(given))).state == "here"


def test_pages_are_what_the_lists_give(tmp_path, monkeypatch, capsys):
    from benchmark.tools import dataset_pages

    assert dataset_pages.main(["--check"]) == 0, capsys.readouterr().out
    shutil.copytree(ROOT / "splits" / "voc-mini-lt", tmp_path / "voc-mini-lt")
    monkeypatch.setattr(datasets, "SPLITS_FOLDER", tmp_path)
    monkeypatch.setattr(DATASETS, "_entries", {})
    monkeypatch.setattr(DATASETS, "_load", datasets._load_datasets)
    page, picture = tmp_path / "voc-mini-lt" / "README.md", tmp_path / "voc-mini-lt" / "cooccurrence.png"
    before = page.read_bytes()
    assert all(one.stat().st_size < 150_000 for one in (ROOT / "splits").glob("*/cooccurrence.png"))
    card = tmp_path / "voc-mini-lt" / "dataset.yaml"
    card.write_text(card.read_text() + '  - "A <b>new</b> trap | here."\n')
    picture.write_bytes(picture.read_bytes()[:-1])
    DATASETS._entries, DATASETS._load = {}, datasets._load_datasets
    assert dataset_pages.main(["--check"]) == 1 and page.read_bytes() == before
    assert [line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()] == [str(page), str(picture)]
    assert dataset_pages.main([]) == 0 and dataset_pages.main(["--check"]) == 0
    assert "- A &lt;b&gt;new&lt;/b&gt; trap &#124; here.\n" in page.read_text()
    first = picture.read_bytes()
    picture.unlink()
    assert dataset_pages.main([]) == 0 and picture.read_bytes() == first, "the same bytes"
