"""`ltbench data verify`: labels against official annotations, lists against their fingerprint, images."""

import json
import os
import shutil

import numpy as np
import pytest
from kit.command import ltbench, refused
from kit.official import coco_annotation, write_coco, write_image, write_nus_wide, write_voc

from benchmark.data.dataset import DATASETS, find_dataset
from benchmark.data.makers import make_lists
from benchmark.data.verifying import Difference, verify_dataset
from benchmark.errors import InputError

VOC_MINI = DATASETS.get("voc-mini-lt").open()


@pytest.fixture(scope="module")
def voc_tree(tmp_path_factory):
    """A data root of voc-mini-lt: its XML files as its lists have the labels, and an image for each."""
    root = tmp_path_factory.mktemp("voc")
    labels = {path: row for split in VOC_MINI.splits.values() for path, row in split.labels.items()}
    rows = {path[-15:-4]: [VOC_MINI.classes[i] for i in sorted(row)] for path, row in labels.items()}
    hard = list(rows)[::7]
    # An object of a class that the dataset lacks is no label in it.
    rows = {image: [*names, "aeroplane"] if i % 5 == 0 else names for i, (image, names) in enumerate(rows.items())}
    write_voc(root / "VOCdevkit/VOC2012", rows, hard)
    image = write_image(root / "one.jpg")
    (root / "VOCdevkit/VOC2012/JPEGImages").mkdir()
    for path in labels:
        os.link(image, root / path)
    return root


@pytest.fixture
def voc(voc_tree, tmp_path):
    """A copy whose annotations may be changed; images are links, so that a test replaces them."""
    shutil.copytree(voc_tree, tmp_path / "voc", copy_function=os.link)
    return tmp_path / "voc"


def replace(path, content):
    path.unlink()
    path.write_bytes(content)


def verify(*args):
    done = ltbench("data", "verify", *args, "--json")
    return done.returncode, json.loads(done.stdout)


def test_what_agrees_with_the_annotations_is_verified(voc_tree):
    done = ltbench("data", "verify", "voc-mini-lt", "--data-root", voc_tree)
    assert done.returncode == 0, done.stdout
    assert "1,921 rows compared with VOCdevkit/VOC2012/Annotations, 0 differ" in done.stdout
    assert VOC_MINI.fingerprint[:12] in done.stdout and done.stdout.endswith("verified\n")
    assert "1,921 images, all there" in done.stdout


def test_images_that_differ_are_named_the_first_of_them(voc):
    train = VOC_MINI.splits["train"]
    changed = train.paths[:23]
    for path in changed:
        image = path[-15:-4]
        (voc / f"VOCdevkit/VOC2012/Annotations/{image}.xml").unlink()
        write_voc(voc / "VOCdevkit/VOC2012", {image: ["sheep", "cow"]})
    truth = frozenset(VOC_MINI.classes.index(name) for name in ("sheep", "cow"))
    expected = [path for path in changed if train.labels[path] != truth]
    assert len(expected) > 20
    done = ltbench("data", "verify", "voc-mini-lt", "--data-root", voc)
    assert done.returncode == 1 and f"{len(expected)} differ" in done.stdout
    named = [line for line in done.stdout.splitlines() if line.startswith("train.txt: ")]
    listed = ", ".join(VOC_MINI.classes[i] for i in sorted(train.labels[expected[0]]))
    assert named[0] == f"train.txt: {expected[0]}: listed {listed}; official sheep, cow"
    assert len(named) == 20 and f"... and {len(expected) - 20} more" in done.stdout
    code, found = verify("voc-mini-lt", "--data-root", voc)
    assert code == 1 and not found["holds"] and [item["image"] for item in found["differences"]] == expected


def test_missing_annotations_are_no_pass(voc):
    bare = VOC_MINI.splits["test"].paths[4]
    (voc / f"VOCdevkit/VOC2012/Annotations/{bare[-15:-4]}.xml").unlink()
    code, found = verify("voc-mini-lt", "--data-root", voc)
    assert code == 1 and not found["differences"] and not found["holds"]
    [line] = found["unchecked"]
    assert "labels of 1 image are not checked" in line and bare in line
    shutil.move(voc / "VOCdevkit/VOC2012/Annotations", voc.parent / "elsewhere")
    done = ltbench("data", "verify", "voc-mini-lt", "--data-root", voc)
    assert done.returncode == 1 and "1,921 images are not checked: no VOCdevkit/VOC2012/Annotations" in done.stdout
    assert "NOT verified" in done.stdout and "--annotations" in done.stdout


def test_annotations_may_lie_elsewhere(voc):
    other = voc.parent / "labels" / "VOC2012"
    other.mkdir(parents=True)
    shutil.move(voc / "VOCdevkit/VOC2012/Annotations", other)
    for given in (other.parent, other, other / "Annotations"):
        code, found = verify("voc-mini-lt", "--data-root", voc, "--annotations", given)
        assert code == 0, (given, found["unchecked"])
    refused(ltbench("data", "verify", "voc-mini-lt", "--annotations", voc / "none"), "no such folder", "none")


def test_missing_and_changed_images_are_told(voc, monkeypatch, tmp_path):
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
    first, second = (voc / path for path in VOC_MINI.splits["val"].paths[:2])
    content = first.read_bytes()
    first.unlink()
    code, found = verify("voc-mini-lt", "--data-root", voc)
    assert code == 1 and "1 image is missing" in found["faults"][0] and first.name in found["faults"][0]
    first.write_bytes(content)
    replace(second, b"no image")
    assert verify("voc-mini-lt", "--data-root", voc)[0] == 0, "nothing is read without --content"
    code, found = verify("voc-mini-lt", "--data-root", voc, "--content")
    assert code == 1 and len(found["faults"]) == 1 and str(second) in found["faults"][0]


def test_a_content_that_changed_in_silence_is_found(tmp_path, monkeypatch):
    """A file whose size and times are the remembered ones: its digest in memory is another."""
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "classes.txt").write_text("cat\n")
    for i, name in enumerate(("train", "test")):
        (folder / f"{name}.txt").write_text(f"{name}.png 0\n")
        past = write_image(folder / f"{name}.png", i).stat().st_mtime - 100
        os.utime(folder / f"{name}.png", (past, past))
    dataset = find_dataset(str(folder))
    monkeypatch.setattr("benchmark.data.contents._TIME_RESOLUTION_NS", -(10**12))
    with monkeypatch.context() as patch:  # as a disk that reads wrongly
        patch.setattr("benchmark.data.contents.file_digest", lambda path: "0" * 64)
        dataset.open().source.digests(["test.png"])
    found = verify_dataset(dataset, content=True)
    [fault] = found.faults
    assert "test.png" in fault and "remembered digest" in fault


def test_changed_lists_of_a_registered_dataset_are_told(tmp_path, monkeypatch, voc_tree):
    folder = shutil.copytree(DATASETS.get("voc-mini-lt").path, tmp_path / "splits" / "voc-mini-lt")
    lines = (folder / "train.txt").read_text().splitlines(keepends=True)
    (folder / "train.txt").write_text("".join(lines[1:]))
    monkeypatch.setitem(DATASETS._entries, "voc-mini-lt", type(DATASETS.get("voc-mini-lt"))("voc-mini-lt", folder))
    found = verify_dataset(DATASETS.get("voc-mini-lt"), voc_tree)
    [fault] = found.faults
    assert "fingerprint" in fault and VOC_MINI.fingerprint[:12] in fault and not found.holds


@pytest.mark.parametrize("name", [name for name, folder in DATASETS.items() if folder.card.lists == "here"])
def test_every_list_in_the_repository_has_its_fingerprint_pinned(name):
    assert DATASETS.get(name).card.fingerprint == DATASETS.get(name).open().fingerprint


def test_coco_rows_are_compared_and_the_other_reading_of_crowds_is_told(tmp_path):
    dataset = DATASETS.get("coco-lt").open()
    first = dataset.splits["test"].paths[0]
    for part, split in (("train2017", "train"), ("val2017", "test")):
        annotations = []
        for path, row in dataset.splits[split].labels.items():
            crowd = int(path in dataset.splits["train"].paths[:3])
            annotations += [coco_annotation(int(path[-16:-4]), label, crowd) for label in row]
        if split == "test":
            annotations.append(coco_annotation(int(first[-16:-4]), 1))
        images = [int(path[-16:-4]) for path in dataset.splits[split].paths]
        write_coco(tmp_path / f"instances_{part}.json", images, annotations)
    found = verify_dataset(DATASETS.get("coco-lt"), tmp_path, annotations=tmp_path)
    [difference] = found.differences
    names = tuple(dataset.classes[i] for i in sorted(dataset.splits["test"].labels[first]))
    assert difference == Difference("test", first, names, (names[0], "bicycle", *names[1:]))
    assert any("1,909 rows compared with instances_train2017.json, 0 differ" in line for line in found.checked)
    [line] = (line for line in found.checked if "instances_val2017" in line)
    assert "5,000 rows" in line and line.endswith("1 differ; 1 would if crowd objects did not count")


def test_made_lists_are_compared_with_the_official_files(tmp_path):
    rng = np.random.default_rng(1)
    targets = {"Train": rng.random((200, 81)) < 0.2, "Test": rng.random((30, 81)) < 0.1}
    entries = write_nus_wide(tmp_path / "nus-wide", targets)
    for entry in (*entries["Train"], *entries["Test"]):
        write_image(tmp_path / "nus-wide" / "Flickr" / entry)
    make_lists(DATASETS.get("nus-wide"), tmp_path)
    assert verify_dataset(DATASETS.get("nus-wide"), tmp_path).holds
    file = tmp_path / "nus-wide/Groundtruth/TrainTestLabels/Labels_zebra_Test.txt"
    file.write_bytes(file.read_bytes().translate(bytes.maketrans(b"01", b"10")))
    found = verify_dataset(DATASETS.get("nus-wide"), tmp_path)
    assert len(found.differences) == 30 and {item.list for item in found.differences} == {"test"}


def test_a_dataset_without_official_annotations_says_so():
    found = verify_dataset(DATASETS.get("shapes-lt"))
    assert found.holds and any("no official annotations are known" in line for line in found.checked)


def test_without_a_data_root_the_message_says_so(monkeypatch):
    monkeypatch.delenv("LTBENCH_DATA", raising=False)
    done = ltbench("data", "verify", "voc-lt")
    assert done.returncode == 1 and "without --data-root or LTBENCH_DATA" in done.stdout
    refused(ltbench("data", "verify", "coco-lt-val"), "ltbench data prepare coco-lt-val")


def test_broken_annotations_are_an_error(voc):
    image = VOC_MINI.splits["train"].paths[0][-15:-4]
    replace(voc / f"VOCdevkit/VOC2012/Annotations/{image}.xml", b"<annotation>")
    with pytest.raises(InputError, match=f"{image}.xml"):
        verify_dataset(DATASETS.get("voc-mini-lt"), voc)
    done = ltbench("data", "verify", "voc-mini-lt", "--data-root", voc)
    assert done.returncode == 2 and f"{image}.xml" in done.stderr.splitlines()[-1]


# Images of val2017 that show a class, without crowd objects: from logs of detectors whose labels leave crowds out.
WITHOUT_CROWDS = """
person 2693, bicycle 149, car 535, motorcycle 159, airplane 97, bus 189, train 157, truck 250, boat 121,
traffic light 191, fire hydrant 86, stop sign 69, parking meter 37, bench 235, bird 125, cat 184, dog 177, horse 128,
zebra 85, giraffe 101, backpack 228, umbrella 174, handbag 292, tie 145, suitcase 105, frisbee 84, skis 120,
snowboard 49, sports ball 169, kite 91, baseball bat 97, baseball glove 100, skateboard 127, surfboard 149,
tennis racket 167, bottle 379, wine glass 110, cup 390, fork 155, knife 181, spoon 153, bowl 314, banana 103, apple 76,
sandwich 98, microwave 54, oven 115, toaster 8, sink 187, refrigerator 101, book 230, clock 204, vase 137, scissors 28,
teddy bear 94, hair drier 9, toothbrush 34
"""


def test_the_counts_of_cocos_test_list_do_not_tell_whether_crowds_count():
    dataset = DATASETS.get("coco-lt").open()
    counts = dict(zip(dataset.classes, dataset.splits["test"].targets.sum(axis=0).tolist(), strict=True))
    given = dict(item.strip().rsplit(" ", 1) for item in WITHOUT_CROWDS.replace("\n", " ").split(","))
    assert len(given) == 57 and {name: counts[name] for name in given} == {name: int(n) for name, n in given.items()}
