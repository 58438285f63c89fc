"""Datasets: the published lists, fingerprints, a user's own folder, and what is refused."""

import hashlib
import os
import re
import shutil
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.checks import refused
from kit.paths import ROOT, TESTS

from benchmark.data.dataset import DATASETS, SPLITS_FOLDER, find_dataset
from benchmark.data.lists import MAX_CLASSES, MAX_IMAGES, MAX_LIST_BYTES, read_classes, read_list
from benchmark.errors import InputError
from benchmark.running.plan import make_plan

VOC_LT_COUNTS = [6, 34, 8, 14, 154, 17, 249, 29, 479, 4, 240, 48, 11, 20, 775, 100, 5, 82, 7, 64]
PUBLISHED = {
    "voc-lt/classes.txt": "f14861775969fd006b382e005f96dc811ef062ea4a37356efb70d7775e90f743",
    "voc-lt/train.txt": "250e4ed1aff303606b3e57a6bd17ad392dede834ae5f6d689866d8b4a0efdf4b",
    "voc-lt/val.txt": "063e158ed29951dbf3c75bf6df0600831b241c32e9efe9af97e741b86c551e64",
    "voc-lt/test.txt": "578e789c2c85ffe7e8f901f2d0cb3577167a92dac896c9eefad24b5ce546ab95",
    "coco-lt/classes.txt": "bd17f1ee35d5f3c862a4894605855abbb9dda4b0621fdb0ac4c2c8c7bb7e730a",
    "coco-lt/train.txt": "52ef800b43dba82ccf3741d8b78f3561de63b70611759163a04ec1d9a240bb3c",
    "coco-lt/test.txt": "37adf1ba2c3fd82471cefd9cf112b3bf95c4f830d069a40444cfee9cd5a34a41",
}
# A changed fingerprint makes every stored record another dataset's.
FINGERPRINTS = {
    "voc-lt": "62d950b098b1c73a4b5ad29865f7a706dc70a7cc9fa9eb4024fb37c9bd8a0975",
    "coco-lt": "29396adae3886c9d8970f256ec51fd1a30e8ef1120b678ead3467aa3d896d978",
    "shapes-lt": "3629852b98c0a8200371eaba202dd385213cc0bc2d3ed86299993a2a2a5638de",
}
OWN = {
    "classes.txt": "cat\ndog\n",
    "train.txt": "a.jpg 0\nb.jpg 1\nc.jpg 0 1\n",
    "val.txt": "d.jpg 0\n",
    "test.txt": "e.jpg 1\nf.jpg\n",
}


@cache
def registered(name):
    return find_dataset(name).open(Path("somewhere"))


def own_folder(folder, **changes):
    """A dataset folder of a user's; changes: file name -> other content, None for no such file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (OWN | changes).items():
        if content is not None:
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def open_own(folder, **changes):
    own_folder(folder, **changes)
    for image in ("a", "a2", "b", "c", "d", "e", "f"):
        (folder / f"{image}.jpg").write_text(image)
    return find_dataset(str(folder)).open()


@pytest.mark.parametrize("file", PUBLISHED)
def test_published_list_is_unchanged(file):
    assert hashlib.sha256((SPLITS_FOLDER / file).read_bytes()).hexdigest() == PUBLISHED[file]


@pytest.mark.parametrize("name", ["voc-lt", "coco-lt"])
def test_folder_holds_the_published_lists_a_card_and_its_page_only(name):
    published = {file.rpartition("/")[2] for file in PUBLISHED if file.startswith(name)}
    assert {path.name for path in (SPLITS_FOLDER / name).iterdir()} == published | {
        "dataset.yaml",
        "README.md",
        "cooccurrence.png",
    }


def test_registered_datasets():
    few_shot = [f"{name}-few-shot-{kind}" for name in ("coco", "voc") for kind in ("1", "5", "base")]
    large = ["coco-lt", "coco-lt-val", "nus-wide", "nus-wide-lt", "voc-lt", "voc-lt-val-small"]
    assert list(DATASETS) == sorted([*few_shot, *large, "shapes-lt", "voc-mini-lt"])


@pytest.mark.parametrize(
    ("name", "classes", "sizes", "groups"),
    [
        ("voc-lt", 20, {"train": 1142, "val": 2000, "test": 4952}, {"head": 6, "medium": 6, "tail": 8}),
        ("coco-lt", 80, {"train": 1909, "test": 5000}, {"head": 22, "medium": 33, "tail": 25}),
        ("shapes-lt", 20, {"train": 1142, "val": 1000, "test": 1000}, {"head": 6, "medium": 6, "tail": 8}),
    ],
)
def test_sizes_and_groups_are_the_published_ones(name, classes, sizes, groups):
    dataset = registered(name)
    assert len(dataset.classes) == len(dataset.class_counts) == classes
    assert {split: len(images) for split, images in dataset.splits.items()} == sizes
    assert all(s.targets.shape == (len(s), classes) and s.targets.dtype == np.uint8 for s in dataset.splits.values())
    assert Counter(dataset.groups.values()) == groups
    assert tuple(dataset.groups) == dataset.classes


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_no_image_is_listed_twice(name):
    paths = [path for split in registered(name).splits.values() for path in split.paths]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("name", ["voc-lt", "shapes-lt"])
def test_voc_lt_class_counts(name):
    assert registered(name).class_counts.tolist() == VOC_LT_COUNTS


@pytest.mark.parametrize("name", ["voc-lt", "coco-lt"])
def test_classes_on_the_borders_are_head_and_medium(name):
    dataset = registered(name)
    groups = np.array(list(dataset.groups.values()))
    assert set(groups[dataset.class_counts == 100]) == {"head"}
    assert set(groups[dataset.class_counts == 20]) == {"medium"}


def test_coco_lt_keeps_test_images_without_label():
    assert (registered("coco-lt").splits["test"].targets.sum(axis=1) == 0).sum() == 48


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_fingerprint_is_pinned(name):
    assert registered(name).fingerprint == FINGERPRINTS[name]


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_fingerprint_does_not_depend_on_the_place(name, tmp_path):
    copy = shutil.copytree(SPLITS_FOLDER / name, tmp_path / "elsewhere" / name)
    assert find_dataset(str(copy)).open(tmp_path).fingerprint == FINGERPRINTS[name]


def test_other_images_under_the_same_lists_are_another_dataset(tmp_path):
    first, same, other = (open_own(tmp_path / name) for name in ("first", "same", "other"))
    (tmp_path / "other" / "e.jpg").write_text("blurred")
    assert first.fingerprint == same.fingerprint != other.fingerprint


def test_a_missing_image_of_ones_own_is_named_when_the_dataset_is_told_from_others(tmp_path):
    dataset = open_own(tmp_path / "birds")
    (tmp_path / "birds" / "c.jpg").unlink()
    with pytest.raises(InputError, match=r"1 image is missing below .*birds: c.jpg"):
        _ = dataset.fingerprint


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_a_folder_with_the_name_of_a_registered_dataset_and_other_lists_is_refused(name, tmp_path):
    own_folder(tmp_path / name)
    with pytest.raises(InputError, match=rf"has the name of the registered dataset '{name}' and other lists.*rename"):
        find_dataset(str(tmp_path / name)).open()
    (tmp_path / name).rename(tmp_path / "renamed")
    assert find_dataset(str(tmp_path / "renamed")).open().name == "renamed"


def test_fingerprint_ignores_how_a_line_is_written(tmp_path):
    same = open_own(tmp_path / "b", **{"train.txt": "./a.jpg  0\r\nb.jpg\t1\r\nc.jpg 1 0"})
    assert same.fingerprint == open_own(tmp_path / "a").fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"train.txt": "a.jpg 0\nb.jpg 0\nc.jpg 0 1\n"},
        {"test.txt": "e.jpg 1\nf.jpg 0\n"},
        {"val.txt": "d.jpg 1\n"},
        {"val.txt": None},
        {"train.txt": "a2.jpg 0\nb.jpg 1\nc.jpg 0 1\n"},
        {"train.txt": "b.jpg 1\na.jpg 0\nc.jpg 0 1\n"},
        {"classes.txt": "cats\ndog\n"},
        {"classes.txt": "dog\ncat\n"},
        {"dataset.yaml": "title: other groups\nhead_from: 2\nmedium_from: 1\n"},
    ],
    ids=[
        "training label",
        "test label",
        "validation label",
        "no validation list",
        "image name",
        "image order",
        "class name",
        "class order",
        "groups",
    ],
)
def test_fingerprint_changes_with(changes, tmp_path):
    assert open_own(tmp_path / "b", **changes).fingerprint != open_own(tmp_path / "a").fingerprint


def test_own_folder_needs_lists_and_class_names_only(tmp_path):
    dataset = open_own(tmp_path / "birds")
    assert (dataset.name, dataset.classes) == ("birds", ("cat", "dog"))
    assert dataset.splits["train"].paths == ("a.jpg", "b.jpg", "c.jpg")
    assert dataset.splits["train"].targets.tolist() == [[1, 0], [0, 1], [1, 1]]
    assert dataset.splits["test"].targets.tolist() == [[0, 1], [0, 0]]
    assert dataset.groups == {"cat": "tail", "dog": "tail"}
    for image in "abcdef":
        (tmp_path / "birds" / f"{image}.jpg").touch()
    dataset.source.check(dataset.splits.values())


def test_own_folder_groups_by_the_100_and_20_rule(tmp_path):
    counts = {"a": 100, "b": 99, "c": 20, "d": 19}
    lines = [f"{name}{i}.jpg {k}" for k, (name, n) in enumerate(counts.items()) for i in range(n)]
    dataset = open_own(tmp_path, **{"classes.txt": "\n".join(counts), "train.txt": "\n".join(lines)})
    assert dataset.groups == {"a": "head", "b": "medium", "c": "medium", "d": "tail"}


def test_own_folder_without_validation_list(tmp_path):
    assert list(open_own(tmp_path, **{"val.txt": None}).splits) == ["train", "test"]


def test_own_card_sets_title_groups_and_image_folder(tmp_path):
    card = "title: Birds\nfolder: images\nhead_from: 2\nmedium_from: 1\n"
    dataset = open_own(tmp_path, **{"dataset.yaml": card})
    assert dataset.card.title == "Birds"
    assert dataset.groups == {"cat": "head", "dog": "head"}
    assert str(tmp_path / "images") in refused(dataset.source.check, dataset.splits.values())


def test_byte_order_mark_is_no_part_of_a_name(tmp_path):
    files = {name: b"\xef\xbb\xbf" + text.encode() for name, text in OWN.items()}
    assert open_own(tmp_path / "b", **files).fingerprint == open_own(tmp_path / "a").fingerprint


def train(text):
    return {"train.txt": text}


REFUSED = {
    "class index out of range": (train("a.jpg 0\nb.jpg 1 2\n"), ["train.txt:2:", "index 2 ", "0 to 1"]),
    "negative class index": (train("a.jpg 0\nb.jpg -1\n"), ["train.txt:2:", "'-1'"]),
    "index that is no number": (train("a.jpg 0\nb.jpg dog\n"), ["train.txt:2:", "'dog'"]),
    "index in other digits": (train("a.jpg 0\nb.jpg \u0661\n"), ["train.txt:2:", "'\u0661'"]),
    "space in an image name": (train("a.jpg 0\nmy dog.jpg 1\n"), ["train.txt:2:", "'dog.jpg'", "in double quotes"]),
    "quote that is not closed": (train('a.jpg 0\n"my dog.jpg 1\n'), ["train.txt:2:", "my dog.jpg 1", "double quotes"]),
    "quote that ends in the path": (train('a.jpg 0\n"my dog".jpg 1\n'), ["train.txt:2:", "double quotes"]),
    "quotes of nothing": (train('a.jpg 0\n"" 1\n'), ["train.txt:2:", "double quotes"]),
    "quoted path above the root": (train('a.jpg 0\n"../b c.jpg" 1\n'), ["train.txt:2:", "'../b c.jpg'", "leaves"]),
    "commas": (train("a.jpg,0,1\nb.jpg,1\n"), ["train.txt:1:", "'a.jpg,0,1'", "commas", "write blanks"]),
    "comma and blank": (train("a.jpg 0\nb.jpg, 0, 1\n"), ["train.txt:2:", "commas", "write blanks"]),
    "comma behind the path": (train("a.jpg 0\nb.jpg, 0 1\n"), ["train.txt:2:", "commas", "write blanks"]),
    "commas between indices": (train("a.jpg 0\nb.jpg 0,1\n"), ["train.txt:2:", "commas", "write blanks"]),
    "comma and no index": (train("a.jpg 0\nb.jpg,\n"), ["train.txt:2:", "commas", "write blanks"]),
    "semicolons": (train("a.jpg 0\nb.jpg;0;1\n"), ["train.txt:2:", "commas", "write blanks"]),
    "multi-hot": (train("a.jpg 0 1 0\nb.jpg 0 0 1\n"), ["train.txt:1:", "'a.jpg'", "twice", "multi-hot"]),
    "multi-hot of two classes": (train("a.jpg 0 1\nb.jpg 0 0\n"), ["train.txt:2:", "'b.jpg'", "multi-hot"]),
    "index of 5,000 digits": (train(f"a.jpg 0\nb.jpg {'9' * 5000}\n"), ["train.txt:2:", "5,000 characters", "0 to 1"]),
    "index of 5,000 letters": (train(f"a.jpg 0\nb.jpg {'x' * 5000}\n"), ["train.txt:2:", "5,000 characters"]),
    "line separator in a class name": (
        {"classes.txt": "cat\ndining\u2028table\n"},
        ["classes.txt:2:", "'dining\\u2028table'", "write a blank"],
    ),
    "vertical tab in a class name": ({"classes.txt": "cat\na\vb\n"}, ["classes.txt:2:", "'a\\x0bb'", "write a blank"]),
    "form feed in a class name": ({"classes.txt": "cat\na\fb\n"}, ["classes.txt:2:", "'a\\x0cb'", "write a blank"]),
    "image listed twice": (train("a.jpg 0\nb.jpg 1\na.jpg 1\n"), ["train.txt:3:", "'a.jpg'", "line 1"]),
    "image listed twice in two spellings": (train("x/a.jpg 0\n./x//a.jpg 1\n"), ["train.txt:2:", "'x/a.jpg'"]),
    "label given twice": (train("a.jpg 0\nb.jpg 1 0 1\n"), ["train.txt:2:", "'b.jpg'", "twice"]),
    "image in train and test": ({"test.txt": "a.jpg 0\n"}, ["'a.jpg'", "train.txt", "test.txt"]),
    "image in train and test in two spellings": ({"test.txt": "./a.jpg 0\n"}, ["'a.jpg'", "train.txt", "test.txt"]),
    "image in train and val": ({"val.txt": "b.jpg 0\n"}, ["'b.jpg'", "train.txt", "val.txt"]),
    "image in val and test": ({"test.txt": "d.jpg 0\n"}, ["'d.jpg'", "val.txt", "test.txt"]),
    "many images in two lists": ({"test.txt": OWN["train.txt"]}, ["'a.jpg'", "2 more"]),
    "empty list": ({"test.txt": ""}, ["test.txt:", "empty"]),
    "list of blank lines": ({"test.txt": "\n \n"}, ["test.txt:", "empty"]),
    "empty line": (train("a.jpg 0\n\nb.jpg 1\n"), ["train.txt:2:", "empty line"]),
    "missing list": ({"test.txt": None}, ["test.txt:", "no such file"]),
    "list that is no text": (train(b"\xff\xd8\xff\xe0"), ["train.txt:", "UTF-8"]),
    "missing classes.txt": ({"classes.txt": None}, ["classes.txt"]),
    "empty classes.txt": ({"classes.txt": ""}, ["classes.txt:", "empty"]),
    "empty line in classes.txt": ({"classes.txt": "cat\n\ndog\n"}, ["classes.txt:2:", "empty line"]),
    "class named twice": ({"classes.txt": "cat\ndog\ncat \n"}, ["classes.txt:", "'cat'", "twice"]),
    "path above the root": (train("a.jpg 0\nx/../../b.jpg 1\n"), ["train.txt:2:", "'x/../../b.jpg'"]),
    "absolute path": (train("a.jpg 0\n/etc/b.jpg 1\n"), ["train.txt:2:", "'/etc/b.jpg'"]),
    "path with backslashes": (train("a.jpg 0\n..\\b.jpg 1\n"), ["train.txt:2:", "b.jpg"]),
    "class without training image": (train("a.jpg 0\n"), ["train.txt:", "'dog'"]),
    "card that is no YAML": ({"dataset.yaml": "title: a\nnotes: [unclosed\n"}, ["dataset.yaml:", "YAML"]),
    "card that is no mapping": ({"dataset.yaml": "- title\n"}, ["dataset.yaml:", "list"]),
    "key of the card given twice": ({"dataset.yaml": "title: a\ntitle: b\n"}, ["dataset.yaml:2:", "'title'"]),
    "rendered images of other classes": ({"dataset.yaml": "images: rendered\n"}, ["dataset.yaml:", "classes.txt"]),
    "unknown key": ({"dataset.yaml": "title: a\nhead_form: 3\n"}, ["dataset.yaml:", "'head_form'", "mean 'head_from'"]),
    "value of another type": (
        {"dataset.yaml": "title: a\nhead_from: many\n"},
        ["dataset.yaml:", "head_from", "'many'"],
    ),
    "borders in the wrong order": ({"dataset.yaml": "title: a\nhead_from: 3\n"}, ["dataset.yaml:", "20", "3"]),
    "image folder above the root": ({"dataset.yaml": "title: a\nfolder: ../x\n"}, ["dataset.yaml:", "'../x'"]),
    "unknown image source": ({"dataset.yaml": "title: a\nimages: web\n"}, ["dataset.yaml:", "images", "'web'"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_file_line_and_value(case, tmp_path):
    changes, named = REFUSED[case]
    message = refused(open_own, tmp_path, **changes)
    assert [part for part in [str(tmp_path), *named] if part not in message] == []


CASES = TESTS / "cases" / "lists"


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("comma.txt", ["comma.txt:1:", "'images/a.jpg,0,1'", "write blanks"]),
        ("blank_in_name.txt", ["blank_in_name.txt:1:", "'2008.jpg'", "in double quotes"]),
        ("multi_hot.txt", ["multi_hot.txt:1:", "'images/a.jpg'", "multi-hot"]),
    ],
)
def test_lists_in_another_form_are_refused_with_the_form_that_is_read(file, said):
    message = refused(read_list, CASES / file, "train", 4)
    assert [part for part in said if part not in message] == []


def test_a_line_separator_does_not_make_two_classes():
    message = refused(read_classes, CASES / "classes_with_u2028.txt")
    assert "classes_with_u2028.txt:2:" in message and "'dining\\u2028table'" in message


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ('"images/a 2008.jpg" 0 1', "images/a 2008.jpg"),
        ('  "images/a 2008.jpg"\t0  1 ', "images/a 2008.jpg"),
        ('"./a.jpg" 0 1', "a.jpg"),
        ('"a,0.jpg" 0 1', "a,0.jpg"),
        ('"a ""b"".jpg" 0 1', 'a "b".jpg'),
        ('"a\u2028b\u00a0c.jpg" 0 1', "a\u2028b\u00a0c.jpg"),
        ('a"b".jpg 0 1', 'a"b".jpg'),
        ("a,b.jpg 0 1", "a,b.jpg"),
        ("a,2 0 1", "a,2"),
        ("a\tb\v0 1", None),
        ("a.jpg\t0\f1", "a.jpg"),
        ("a.jpg 000 " + "0" * 5000 + "1", "a.jpg"),
    ],
)
def test_what_a_line_names(line, path, tmp_path):
    (tmp_path / "train.txt").write_text(line + "\r\n", newline="")
    if path is None:
        assert "'b' is not a class index" in refused(read_list, tmp_path / "train.txt", "train", 3)
        return
    split = read_list(tmp_path / "train.txt", "train", 3)
    assert split.paths == (path,) and split.targets.tolist() == [[1, 1, 0]]


def test_a_path_that_looks_like_commas_is_listed_in_quotes(tmp_path):
    (tmp_path / "test.txt").write_text('"a,0"\n"b,"\n')
    assert read_list(tmp_path / "test.txt", "test", 3).paths == ("a,0", "b,")


def test_images_with_blanks_in_their_names_are_found(tmp_path):
    dataset = open_own(tmp_path, **train('"my dog.jpg" 1\na.jpg 0\n'))
    assert "my dog.jpg" in refused(dataset.source.check, [dataset.splits["train"]])
    for name in ("my dog.jpg", "a.jpg"):
        (tmp_path / name).touch()
    dataset.source.check([dataset.splits["train"]])


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("MAX_LIST_BYTES", 10, "has more than the 10 bytes"),
        ("MAX_IMAGES", 2, "it has 3 lines; at most 2"),
        ("MAX_TARGETS", 5, "3 images x 2 classes"),
    ],
)
def test_a_list_beyond_every_use_is_refused_before_it_is_read(limit, value, said, tmp_path, monkeypatch):
    own_folder(tmp_path)
    monkeypatch.setattr(f"benchmark.data.lists.{limit}", value)
    message = refused(read_list, tmp_path / "train.txt", "train", 2)
    assert str(tmp_path / "train.txt") in message and said in message


def test_the_readme_tells_the_limits():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = re.search(r"A list has at most ([\d,]+)\s+lines and (\d+) MiB, and `classes.txt`\s+([\d,]+) lines", readme)
    assert said.groups() == (f"{MAX_IMAGES:,}", f"{MAX_LIST_BYTES / 2**20:.0f}", f"{MAX_CLASSES:,}")


PIECES = [
    "a.jpg",
    "b c.jpg",
    "0",
    "1",
    "2",
    "07",
    "9" * 5000,
    '"',
    '""',
    " ",
    "\t",
    ",",
    ";",
    ":",
    "\n",
    "\r",
    "\r\n",
    "\v",
]
PIECES += [
    "\x85",
    "\u2028",
    "\u00a0",
    "\0",
    "/",
    "..",
    "./",
    "\\",
    "\ufeff",
    "\u0661",
    "\u00b2",
    "x" * 5000,
    "-1",
    "0.5",
    "#",
]


@settings(deadline=None, max_examples=400, database=None)
@given(st.sampled_from(["classes.txt", "train.txt", "val.txt"]), st.lists(st.sampled_from(PIECES), max_size=9))
def test_any_list_is_read_or_refused_in_a_line(file, pieces):
    with tempfile.TemporaryDirectory() as folder:
        content = (OWN[file] + "".join(pieces)).encode()
        try:
            dataset = find_dataset(str(own_folder(Path(folder), **{file: content}))).open()
            dataset.source.check(dataset.splits.values())
        except InputError as error:
            assert len(str(error).splitlines()) == 1 and folder in str(error) and len(str(error)) < 2000
        else:
            raise AssertionError("none of the images is there")


@settings(deadline=None, max_examples=200, database=None)
@given(st.lists(st.lists(st.integers(0, 11), unique=True), min_size=1, max_size=9), st.sampled_from(["{}", "{:03d}"]))
def test_the_labels_of_a_list_are_those_that_it_names(rows, spelling):
    """In any order and number, an image without labels too, and in any spelling of the indices."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [" ".join([f"{i}.jpg", *map(spelling.format, row)]) for i, row in enumerate(rows)]
        (Path(folder) / "train.txt").write_text("\n".join(lines))
        split = read_list(Path(folder) / "train.txt", "train", 12)
    expected = [[int(index in row) for index in range(12)] for row in rows]
    assert split.targets.tolist() == expected and split.targets.dtype == np.uint8
    assert split.label_indices() == [sorted(row) for row in rows]


@pytest.mark.parametrize("file", ["classes.txt", "train.txt", "val.txt", "test.txt", "dataset.yaml"])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_only_regular_files_are_read(file, kind, tmp_path):
    own_folder(tmp_path)
    (tmp_path / file).unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(tmp_path / file)
    elif kind == "device":
        (tmp_path / file).symlink_to("/dev/zero")
    else:
        (tmp_path / file).mkdir()
    for call in (lambda: find_dataset(str(tmp_path)).open(), lambda: make_plan("erm", str(tmp_path), protocol="demo")):
        message = refused(call)
        assert str(tmp_path / file) in message
        assert ("directory" if kind == "folder" else "not a regular file") in message


@pytest.mark.parametrize("name", ["x" * 5000, "x/" * 2500])
def test_names_that_no_file_can_have_are_refused_in_a_line(name, tmp_path):
    message = refused(find_dataset, name)
    assert "unknown dataset 'x" in message and len(message) < 600
    dataset = find_dataset(str(own_folder(tmp_path, **train(f"a.jpg 0\n{name} 1\n")))).open()
    message = refused(dataset.source.check, dataset.splits.values())
    assert "images are missing" in message and len(message) < 1000 + len(str(tmp_path))
    card = f"images: dataset-folder\nfolder: {name}\n"
    dataset = open_own(tmp_path / "own", **{"dataset.yaml": card})
    assert len(refused(dataset.source.check, dataset.splits.values())) < 1000 + len(str(tmp_path))


def test_unknown_name_suggests_the_near_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused(find_dataset, "voc_lt")
    assert "'voc_lt'" in message and "did you mean 'voc-lt'" in message and "shapes-lt" in message


def test_folder_that_does_not_exist_is_named(tmp_path):
    assert str(tmp_path / "nowhere") in refused(find_dataset, str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["voc-lt", "coco-lt"])
def test_without_data_root_the_message_says_how_to_give_it(name, monkeypatch):
    monkeypatch.delenv("LTBENCH_DATA", raising=False)
    dataset = find_dataset(name).open()
    message = refused(dataset.source.check, dataset.splits.values())
    parts = ["--data-root", "LTBENCH_DATA", f"`ltbench data prepare {name}`", "GB)"]
    assert [part for part in parts if part not in message] == []


def test_data_root_argument_comes_before_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("LTBENCH_DATA", str(tmp_path / "variable"))
    for name in ("argument", "variable"):
        (tmp_path / name).mkdir()
    folder = find_dataset("coco-lt")
    for root, where in [(tmp_path / "argument", "--data-root"), (None, "LTBENCH_DATA")]:
        dataset = folder.open(root)
        message = refused(dataset.source.check, dataset.splits.values())
        assert str((root or tmp_path / "variable") / "coco") in message and where in message
        assert "6909 images are missing" in message


def test_demo_set_needs_no_files(monkeypatch):
    monkeypatch.delenv("LTBENCH_DATA", raising=False)
    dataset = find_dataset("shapes-lt").open()
    dataset.source.check(dataset.splits.values())
    assert dataset.source.open("train/0001.png").size == (64, 64)


def test_a_card_without_a_title_takes_the_folders_name(tmp_path):
    dataset = open_own(tmp_path / "mine", **{"dataset.yaml": "head_from: 30\n"})
    assert dataset.card.title == "mine" and dataset.card.head_from == 30
