"""Lists made from official files: made whole, anew the same, refused where they would be others."""

import hashlib
import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from kit.checks import refused
from kit.command import ltbench
from kit.disks import mounted
from kit.factories import make_record
from kit.official import COCO_CLASSES, NUS_CLASSES, coco_annotation, write_coco, write_image, write_nus_wide

from benchmark.audit.files import FolderFiles
from benchmark.audit.lists import split_fault
from benchmark.data.dataset import DATASETS, find_dataset
from benchmark.data.importers.coco import read_coco
from benchmark.data.makers import MAKERS, make_lists
from benchmark.data.makers.coco import read_instances
from benchmark.data.preparing.obtain import Wishes, obtain
from benchmark.data.registered import registered, registered_split, settings_name
from benchmark.running.plan import make_plan
from benchmark.spec import DatasetRef
from benchmark.tools.voc_val_small import val_small
from benchmark.ui.progress import Reporter

COCO_TRAIN = [int(path[-16:-4]) for path in DATASETS.get("coco-lt").open().splits["train"].paths]
SPARE = list(range(600_000, 602_600))
CROWD_ALONE, THIN, BARE = SPARE[:100], SPARE[100:200], SPARE[200:300]


@pytest.fixture(scope="module")
def coco_root(tmp_path_factory):
    """A data root with instances_train2017.json: COCO-LT's training images and 2,600 others, 200 of which are bare."""
    root = tmp_path_factory.mktemp("coco")
    annotations = [coco_annotation(image, i % 80) for i, image in enumerate(COCO_TRAIN)]
    annotations += [coco_annotation(image, 3, crowd=1) for image in CROWD_ALONE]
    annotations += [coco_annotation(image, 5, box=(3, 4, 9, 0.5)) for image in THIN]
    for i, image in enumerate(SPARE[300:]):
        annotations += [coco_annotation(image, i % 80), coco_annotation(image, i % 80), coco_annotation(image, 79)]
    write_coco(root / "coco/annotations/instances_train2017.json", [*COCO_TRAIN, *SPARE], annotations)
    return root


@pytest.fixture
def root(coco_root, tmp_path):
    return shutil.copytree(coco_root, tmp_path / "root")


def make(name, root, **options):
    lines = []
    make_lists(DATASETS.get(name), root, say=lines.append, **options)
    return lines


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_every_dataset_whose_lists_are_made_has_a_maker():
    assert list(MAKERS) == sorted(name for name, folder in DATASETS.items() if folder.card.lists == "data-root")


def test_coco_lt_val_is_the_2000_smallest_digests(root):
    lines = make("coco-lt-val", root)
    dataset = DATASETS.get("coco-lt-val").open(root)
    published = DATASETS.get("coco-lt").open()
    annotated = [image for image in SPARE if image not in (*THIN, *BARE)]
    by_digest = sorted(annotated, key=lambda image: hashlib.sha256(f"coco-lt/val/{image}".encode()).hexdigest())
    assert dataset.splits["val"].paths == tuple(f"train2017/{image:012d}.jpg" for image in sorted(by_digest[:2000]))
    labels = dataset.splits["val"].labels
    assert {labels[f"train2017/{image:012d}.jpg"] for image in CROWD_ALONE if image in by_digest[:2000]} == {
        frozenset({3})
    }
    for split in ("train", "test"):
        assert dataset.splits[split].paths == published.splits[split].paths
        assert (dataset.splits[split].targets == published.splits[split].targets).all()
    made = json.loads((root / "ltbench-lists/coco-lt-val/made.json").read_text())
    file = root / "coco/annotations/instances_train2017.json"
    assert made["fingerprint"] == dataset.fingerprint != published.fingerprint
    assert made["sources"] == {
        "coco/annotations/instances_train2017.json": hashlib.sha256(file.read_bytes()).hexdigest()
    }
    assert made["lists"]["val"] == {"images": 2000, "labels": int(dataset.splits["val"].targets.sum())}
    assert "val 2,000 images" in lines[-1]


def test_the_same_files_give_the_same_bytes_and_other_files_are_refused(root):
    make("coco-lt-val", root)
    folder = root / "ltbench-lists/coco-lt-val"
    before = content(folder)
    assert "are there" in make("coco-lt-val", root)[-1] and content(folder) == before
    file = root / "coco/annotations/instances_train2017.json"
    changed = json.loads(file.read_text())
    changed["annotations"] = [a for a in changed["annotations"] if a["category_id"] != 90]
    file.write_text(json.dumps(changed))
    message = refused(make, "coco-lt-val", root)
    assert "made.json, val.txt there are not" in message and "remove that folder" in message
    assert content(folder) == before
    shutil.rmtree(folder)
    make("coco-lt-val", root)
    assert content(folder)["val.txt"] != before["val.txt"]
    assert {path.name for path in folder.parent.iterdir()} == {"coco-lt-val"}


def test_a_made_list_that_was_edited_is_refused(root):
    make("coco-lt-val", root)
    file = root / "ltbench-lists/coco-lt-val/val.txt"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    message = refused(DATASETS.get("coco-lt-val").open, root)
    assert str(file.parent) in message and "ltbench data prepare coco-lt-val" in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(images=c["images"][5:]), "lacks 5 images of COCO-LT's training list"),
        (lambda c: c.update(annotations=c["annotations"][:2100]), "100 annotated images are left"),
        (lambda c: c["categories"][0].update(name="man"), "its categories are not COCO's 80"),
    ],
    ids=["another year", "too few", "other categories"],
)
def test_annotations_of_another_set_are_refused(change, said, root):
    file = root / "coco/annotations/instances_train2017.json"
    changed = json.loads(file.read_text())
    change(changed)
    kept = {image["id"] for image in changed["images"]}
    changed["annotations"] = [a for a in changed["annotations"] if a["image_id"] in kept]
    file.write_text(json.dumps(changed))
    message = refused(make, "coco-lt-val", root)
    assert str(file) in message and said in message and not (root / "ltbench-lists/coco-lt-val").exists()


def test_missing_annotations_are_named_with_where_they_belong(tmp_path):
    message = refused(make, "coco-lt-val", tmp_path)
    assert str(tmp_path / "coco" / "annotations") in message and "annotations_trainval2017.zip" in message


def test_a_data_root_that_cannot_be_written_is_named(root):
    (root / "ltbench-lists").write_text("a file")
    with pytest.raises(Exception, match="ltbench-lists.*cannot be written") as caught:
        make("coco-lt-val", root)
    assert type(caught.value).__name__ == "StoreError"


def test_crowd_objects_count_and_objects_below_a_pixel_do_not(tmp_path):
    annotations = [
        coco_annotation(1, 0, crowd=1),
        coco_annotation(2, 0),
        coco_annotation(2, 52, box=(1, 1, 1.03, 0.0)),
        coco_annotation(3, 7, box=(1, 1, 0.99, 40)),
        coco_annotation(4, 8, box=(1, 1, 1, 1)),
    ]
    file = write_coco(tmp_path / "instances_val2017.json", range(1, 6), annotations)
    names = [f"{i:012d}.jpg" for i in range(1, 6)]
    assert read_instances(file).classes == COCO_CLASSES
    assert list(read_instances(file).labels.items()) == list(
        zip(names, map(frozenset, [{0}, {0}, (), {8}, ()]), strict=True)
    )
    assert [*map(set, read_instances(file, crowd=False).labels.values())] == [set(), {0}, set(), {8}, set()]
    assert [*map(set, read_coco(file).labels.values())] == [{0}, {0, 52}, {7}, {8}, set()]


# -- records of such datasets


@pytest.mark.slow
def test_a_plan_needs_the_data_root_alone(root, monkeypatch):
    monkeypatch.delenv("LTBENCH_DATA", raising=False)
    make("coco-lt-val", root)
    plan = make_plan("erm", "coco-lt-val", protocol="controlled", weights="none", data_root=root)
    same = make_plan("erm", "coco-lt", protocol="controlled", weights="none", data_root=root)
    assert plan.spec.dataset.fingerprint == DATASETS.get("coco-lt-val").open(root).fingerprint
    assert plan.spec.recipe == same.spec.recipe and settings_name(plan.spec.dataset) == "coco-lt"
    assert len(plan.dataset.splits["val"]) == 2000


def test_without_the_lists_planning_says_how_to_make_them(tmp_path, monkeypatch):
    monkeypatch.delenv("LTBENCH_DATA", raising=False)
    message = refused(make_plan, "erm", "coco-lt-val", protocol="controlled")
    assert "--data-root DIR" in message and "ltbench data prepare coco-lt-val" in message
    assert str(tmp_path) in refused(make_plan, "erm", "coco-lt-val", protocol="controlled", data_root=tmp_path)


def test_records_are_judged_by_the_lists_where_they_are(root, monkeypatch, tmp_path):
    make("coco-lt-val", root)
    dataset = DATASETS.get("coco-lt-val").open(root)
    counts = dict(zip(dataset.classes, dataset.class_counts.tolist(), strict=True))
    facts = {"num_train_images": 1909, "num_test_images": 5000, "num_validation_images": 2000}
    facts["validation"] = {"per_class": dict.fromkeys(counts, 50.0)}
    ref = {"name": "coco-lt-val", "fingerprint": dataset.fingerprint}

    def record(**changes):
        return make_record(classes=counts, spec={"dataset": ref}, **(facts | changes))

    sound, faulty = record(), record(num_test_images=4999)
    monkeypatch.delenv("LTBENCH_DATA", raising=False)
    assert registered("coco-lt-val") is None and registered_split(sound) is None
    assert split_fault(sound, FolderFiles(tmp_path)) is split_fault(faulty, FolderFiles(tmp_path)) is None
    monkeypatch.setenv("LTBENCH_DATA", str(root))
    assert registered_split(sound).fingerprint == dataset.fingerprint
    assert split_fault(sound, FolderFiles(tmp_path)) is None
    assert "numbers of images" in split_fault(faulty, FolderFiles(tmp_path))
    other = DatasetRef(name="coco-lt-val", fingerprint="b" * 64)
    assert settings_name(other) == "coco-lt", "lists made from other files keep the settings"


def test_a_folder_with_the_name_of_a_dataset_that_is_not_made_here_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("LTBENCH_DATA", raising=False)
    folder = tmp_path / "nus-wide"
    folder.mkdir()
    (folder / "classes.txt").write_text("cat\n")
    for name in ("train", "test"):
        (folder / f"{name}.txt").write_text(f"{name}.jpg 0\n")
    assert "rename it" in refused(find_dataset(str(folder)).open)


def test_the_small_validation_list_of_voc_lt_is_what_its_rule_gives():
    folder = DATASETS.get("voc-lt-val-small")
    assert (folder.path / "val.txt").read_bytes() == val_small()
    small, full = folder.open(), DATASETS.get("voc-lt").open()
    assert len(small.splits["val"]) == len(small.splits["train"]) == 1142
    assert set(small.splits["val"].labels.items()) <= set(full.splits["val"].labels.items())
    assert small.splits["test"].paths == full.splits["test"].paths and small.groups == full.groups
    ids = [path[-15:-4] for path in full.splits["val"].paths]
    first = min(ids, key=lambda image: hashlib.sha256(f"voc-lt/val-small/{image}".encode()).hexdigest())
    assert f"VOCdevkit/VOC2012/JPEGImages/{first}.jpg" in small.splits["val"].paths


# -- NUS-WIDE

rng = np.random.default_rng(3)
TARGETS = {"Train": rng.random((300, 81)) < 0.12, "Test": rng.random((40, 81)) < 0.03}
LAYOUTS = {
    "official": lambda entry, i: f"Flickr/{entry}",
    "images": lambda entry, i: f"images/{i}_{entry.rpartition('_')[2][:-4]}_f86eb6{i % 10}ccf_m.jpg",
    "flat": lambda entry, i: f"{entry.rpartition('_')[2]}",
}


@pytest.fixture(scope="module")
def labels_tree(tmp_path_factory):
    """The official label files, and the entries of their lists."""
    folder = tmp_path_factory.mktemp("labels")
    return folder, write_nus_wide(folder / "made", TARGETS)


@pytest.fixture
def nus_wide(labels_tree):
    """Makes a data root: nus_wide(root, layout, without), with the entries of the lists."""

    def write(root, layout="official", without=()):
        folder, entries = labels_tree
        shutil.copytree(folder / "made", root / "nus-wide", dirs_exist_ok=True)
        image = write_image(folder / "one.jpg")
        for i, entry in enumerate([*entries["Train"], *entries["Test"]]):
            if i not in without:
                path = root / "nus-wide" / LAYOUTS[layout](entry, i)
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(image, path)
        return entries

    return write


@pytest.fixture(scope="module")
def full_fingerprint(labels_tree, tmp_path_factory):
    """Of nus-wide with all images, by the content of lists written by hand."""
    folder, entries = labels_tree
    root = tmp_path_factory.mktemp("by-hand")
    shutil.copy(DATASETS.get("nus-wide").path / "classes.txt", root)
    for part, rows in TARGETS.items():
        lines = (
            " ".join([entry, *map(str, np.flatnonzero(row))]) for entry, row in zip(entries[part], rows, strict=True)
        )
        (root / "ltbench-lists/nus-wide").mkdir(parents=True, exist_ok=True)
        (root / f"ltbench-lists/nus-wide/{part.lower()}.txt").write_text("\n".join(lines))
    return DATASETS.get("nus-wide").open_draft(root).fingerprint


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nus_wide_has_the_official_split_whatever_the_layout_of_its_images(
    layout, nus_wide, full_fingerprint, tmp_path
):
    entries = nus_wide(tmp_path, layout)
    make("nus-wide", tmp_path)
    dataset = DATASETS.get("nus-wide").open(tmp_path)
    assert dataset.classes == NUS_CLASSES and list(dataset.splits) == ["train", "test"]
    for part, split in (("Train", "train"), ("Test", "test")):
        assert dataset.splits[split].paths == tuple(entries[part])
        assert (dataset.splits[split].targets == TARGETS[part]).all()
    assert (dataset.splits["test"].targets.sum(axis=1) == 0).any(), "images without a label stay"
    dataset.source.check(dataset.splits.values())
    assert dataset.source.open(entries["Test"][0]).size == (4, 4)
    assert dataset.fingerprint == full_fingerprint
    links = tmp_path / "ltbench-lists/nus-wide/images"
    assert links.is_symlink() == (layout == "official")


def test_groups_of_nus_wide_are_thirds_by_training_images(nus_wide, tmp_path):
    nus_wide(tmp_path)
    make("nus-wide", tmp_path)
    dataset = DATASETS.get("nus-wide").open(tmp_path)
    groups = np.array(list(dataset.groups.values()))
    assert [(groups == group).sum() for group in ("head", "medium", "tail")] == [27, 27, 27]
    lowest, highest = {g: dataset.class_counts[groups == g].min() for g in groups}, {}
    for group in groups:
        highest[group] = dataset.class_counts[groups == group].max()
    assert lowest["head"] >= highest["medium"] and lowest["medium"] >= highest["tail"]


def test_separators_cases_and_line_ends_do_not_matter(nus_wide, full_fingerprint, tmp_path):
    nus_wide(tmp_path)
    base = (tmp_path / "nus-wide").rename(tmp_path / "NUS_WIDE")
    for file in base.rglob("*.txt"):
        file.write_bytes(file.read_bytes().replace(b"\r\n", b"\n"))
    (base / "Groundtruth/TrainTestLabels/Labels_airport_Train.txt").rename(base / "LABELS_Airport_train.TXT")
    listed = base / "ImageList/TrainImagelist.txt"
    lines = listed.read_text().split("\n")
    listed.write_text("\n".join([lines[0], *(line.replace("\\", "/") for line in lines[1:])]))
    concepts = base / "ConceptsList/Concepts81.txt"
    concepts.write_text(concepts.read_text().replace("airport\n", "Airport \n"))
    make("nus-wide", tmp_path)
    assert DATASETS.get("nus-wide").open(tmp_path).fingerprint == full_fingerprint


def test_images_that_moved_are_found_when_the_lists_are_made_again(nus_wide, tmp_path):
    entries = nus_wide(tmp_path)
    make("nus-wide", tmp_path)
    shutil.rmtree(tmp_path / "nus-wide/Flickr")
    nus_wide(tmp_path, "flat")
    before = content(tmp_path / "ltbench-lists/nus-wide")
    assert "are there" in make("nus-wide", tmp_path)[-1]
    dataset = DATASETS.get("nus-wide").open(tmp_path)
    dataset.source.check(dataset.splits.values())
    assert content(tmp_path / "ltbench-lists/nus-wide") == before
    link = tmp_path / "ltbench-lists/nus-wide/images" / entries["Test"][3]
    assert link.readlink().parts[:5] == ("..", "..", "..", "..", "nus-wide")


def test_where_a_made_list_is_missing_the_other_datasets_are_listed(nus_wide, tmp_path):
    nus_wide(tmp_path)
    make("nus-wide", tmp_path)
    (tmp_path / "ltbench-lists/nus-wide/test.txt").unlink()
    refused(DATASETS.get("nus-wide").open, tmp_path)
    done = ltbench("data", "list", "--data-root", tmp_path, "--json")
    found = json.loads(done.stdout)
    assert found["nus-wide"]["images_here"] == "lists faulty: ltbench data verify nus-wide"
    assert found["shapes-lt"]["images_here"] == "rendered"


@pytest.mark.parametrize("layout", ["official", "flat"])
def test_lists_on_a_read_only_disk_are_used(layout, nus_wide, tmp_path):
    root = tmp_path / "root"
    nus_wide(root, layout, without=[4])
    wishes = Wishes(allow_missing=True)
    made = obtain(DATASETS.get("nus-wide"), root, wishes, Reporter())
    with mounted(tmp_path / "disk", "--bind", str(root)) as disk:
        subprocess.run(["mount", "-o", "remount,ro,bind", disk], check=True)
        dataset = obtain(DATASETS.get("nus-wide"), disk, wishes, Reporter())
        assert dataset.fingerprint == made.fingerprint
        dataset.source.check(dataset.splits.values())


@pytest.mark.parametrize(("layout", "given"), [("official", ""), ("images", "NUS-WIDE"), ("flat", "")])
def test_prepare_links_nus_wide_in_any_layout(layout, given, nus_wide, full_fingerprint, tmp_path):
    nus_wide(tmp_path / "mine", layout)
    (tmp_path / "mine/nus-wide").rename(tmp_path / "mine/NUS-WIDE")
    root = tmp_path / "mine/root"  # in the source, with the lists that are made there
    for _ in range(2):
        dataset = obtain(DATASETS.get("nus-wide"), root, Wishes([tmp_path / "mine" / given]), Reporter())
        assert dataset.fingerprint == full_fingerprint
    assert {path.name for path in root.iterdir()} == {"nus-wide", "ltbench-lists"}


def test_prepare_uses_a_folder_of_nus_wide_in_any_spelling(nus_wide, full_fingerprint, tmp_path):
    nus_wide(tmp_path)
    (tmp_path / "nus-wide").rename(tmp_path / "NUS_WIDE")
    for sources in ([], [tmp_path]):
        dataset = obtain(DATASETS.get("nus-wide"), tmp_path, Wishes(sources), Reporter())
        assert dataset.fingerprint == full_fingerprint
    assert not (tmp_path / "nus-wide").exists()


def test_without_an_image_of_a_class_the_long_tailed_list_names_the_class(nus_wide, tmp_path):
    nus_wide(tmp_path, without=range(340))
    message = refused(make, "nus-wide-lt", tmp_path)
    assert "no training image of class 'airport'" in message and "300 of 300 training images are missing" in message


def test_missing_images_are_listed_and_need_to_be_allowed(nus_wide, full_fingerprint, tmp_path):
    entries = nus_wide(tmp_path, without=(4, 305))
    named = [entries["Train"][4], entries["Test"][5]]
    (tmp_path / "nus-wide/Flickr" / named[0]).touch()  # what a failed download leaves
    message = refused(make, "nus-wide", tmp_path)
    file = tmp_path / "ltbench-lists/nus-wide.missing.txt"
    assert "2 images are missing" in message and "--allow-missing" in message and str(file) in message
    assert file.read_text().split() == named and not (tmp_path / "ltbench-lists/nus-wide").exists()
    lines = make("nus-wide", tmp_path, allow_missing=True)
    assert any("not that of the full dataset" in line for line in lines)
    dataset = DATASETS.get("nus-wide").open(tmp_path)
    assert [len(split) for split in dataset.splits.values()] == [299, 39]
    assert json.loads((tmp_path / "ltbench-lists/nus-wide/made.json").read_text())["missing"] == named
    assert dataset.fingerprint != full_fingerprint


def test_nus_wide_lt_is_drawn_from_the_official_training_part(nus_wide, tmp_path):
    nus_wide(tmp_path)
    make("nus-wide-lt", tmp_path)
    dataset = DATASETS.get("nus-wide-lt").open(tmp_path)
    make("nus-wide", tmp_path)
    official = DATASETS.get("nus-wide").open(tmp_path)
    assert set(dataset.splits["train"].labels.items()) < set(official.splits["train"].labels.items())
    assert dataset.splits["test"].paths == official.splits["test"].paths
    assert dataset.class_counts.min() >= 1 and dataset.card.groups == "borders"
    before = content(tmp_path / "ltbench-lists/nus-wide-lt")
    shutil.rmtree(tmp_path / "ltbench-lists/nus-wide-lt")
    make("nus-wide-lt", tmp_path)
    assert content(tmp_path / "ltbench-lists/nus-wide-lt") == before


def cut(path, lines):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-lines]))


LABELS = "Groundtruth/TrainTestLabels/Labels_zebra_Test.txt"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda base: cut(base / LABELS, 2), ["Labels_zebra_Test.txt", "38 values for the 40 images"]),
        (lambda base: (base / LABELS).write_text("0\n1\n2\n"), ["Labels_zebra_Test.txt", "value 3 is '2'"]),
        (lambda base: (base / LABELS).unlink(), ["no Labels_zebra_Test.txt", "Groundtruth"]),
        (lambda base: shutil.copy(base / LABELS, base), ["Labels_zebra_Test.txt is there 2 times"]),
        (lambda base: cut(base / "ConceptsList/Concepts81.txt", 1), ["Concepts81.txt", "'zebra'"]),
        (
            lambda base: (base / "ImageList/TestImagelist.txt").write_text("../x\\1_2.jpg"),
            ["TestImagelist.txt:1", "leaves"],
        ),
        (
            lambda base: (base / "ImageList/TestImagelist.txt").write_text("a\\x.jpg"),
            ["TestImagelist.txt:1", "Flickr id"],
        ),
        (lambda base: (base / "ImageList/TestImagelist.txt").write_text("a\\1_2.jpg\na/1_2.jpg"), ["more than once"]),
        (
            lambda base: shutil.copy(base / "ImageList/TrainImagelist.txt", base / "ImageList/TestImagelist.txt"),
            ["values for the 300 images"],
        ),
        (lambda base: base.rename(base.parent / "flickr"), ["no folder nus-wide"]),
        (lambda base: (base.parent / "NUSWIDE").mkdir(), ["several folders of NUS-WIDE"]),
    ],
)
def test_faulty_official_files_are_named(change, said, labels_tree, tmp_path):
    shutil.copytree(labels_tree[0] / "made", tmp_path / "nus-wide")
    change(tmp_path / "nus-wide")
    message = refused(make, "nus-wide", tmp_path)
    assert [part for part in said if part not in message] == []
