"""COCO JSON: official shape, odd entries that are noted, and faults that are refused by name."""

import json

import pytest
from kit.checks import refused

from benchmark.data.importers.coco import read_coco

CATEGORIES = [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat", "supercategory": "animal"}, {"id": 5, "name": "owl"}]
IMAGES = [
    {"id": 7, "file_name": "b.jpg", "width": 4, "height": 3, "coco_url": "http://example.org/b.jpg"},
    {"id": 3, "file_name": "sub/a 1.jpg"},
    {"id": 4, "file_name": "c.jpg"},
]
OUTLINE = [[0.5, 1.5, 2.0, 1.0, 3.0, 1.0]]


def annotation(image, category, **more):
    return {"id": 1, "image_id": image, "category_id": category, "segmentation": OUTLINE, "bbox": [0, 0, 1, 1]} | more


ANNOTATIONS = [annotation(3, 9), annotation(3, 9), annotation(7, 2, iscrowd=0), annotation(7, 9, iscrowd=1)]


def write(folder, **parts):
    whole = {"info": {}, "licenses": [], "images": IMAGES, "annotations": ANNOTATIONS, "categories": CATEGORIES}
    file = folder / "instances.json"
    file.write_text(json.dumps(whole | parts))
    return file


def test_classes_are_by_category_id_and_images_in_the_order_of_the_file(tmp_path):
    read = read_coco(write(tmp_path))
    assert read.classes == ("cat", "owl", "dog")
    assert list(read.labels.items()) == [("b.jpg", {0, 2}), ("sub/a 1.jpg", {2}), ("c.jpg", frozenset())]
    assert read.notes == ("1 crowd annotation (iscrowd 1): counted",)


def test_crowds_can_be_left_out(tmp_path):
    read = read_coco(write(tmp_path), crowd=False)
    assert read.labels["b.jpg"] == {0} and read.notes == ("1 crowd annotation (iscrowd 1): left out",)


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path):
    file = write(tmp_path)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(read_coco(file).labels) == 3


def test_repeated_images_are_noted(tmp_path):
    images = [*IMAGES, IMAGES[0], {"id": 8, "file_name": "./c.jpg"}]
    read = read_coco(write(tmp_path, images=images, annotations=[annotation(4, 2), annotation(8, 5)]))
    assert list(read.labels) == ["b.jpg", "sub/a 1.jpg", "c.jpg"] and read.labels["c.jpg"] == {0, 1}
    again, shared = read.notes
    assert "1 image listed again" in again and "id 7" in again
    assert "under another id too, labels joined: 'c.jpg'" in shared


def test_annotations_of_images_that_are_not_listed_are_left_out_and_noted(tmp_path):
    read = read_coco(write(tmp_path, annotations=[*ANNOTATIONS[:3], annotation(99, 9)]))
    [note] = read.notes
    assert "1 annotation left out" in note and "image_id 99" in note


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"categories": [*CATEGORIES, {"id": 2, "name": "emu"}]}, ("categories[3]", "id 2 is given twice")),
        ({"categories": [*CATEGORIES, {"id": 6, "name": "dog"}]}, ("class 'dog' is given twice",)),
        ({"categories": [*CATEGORIES, {"id": 6, "name": "Dog "}]}, ("'Dog'", "'dog'", "case, blanks")),
        ({"categories": [{"id": 1, "name": " "}]}, ("empty name",)),
        ({"categories": [{"id": 1, "name": "a\nb"}]}, ("'a\\nb'", "rename the class")),
        ({"categories": [{"id": "1", "name": "a"}]}, ("categories[0]: id is '1'", "whole number")),
        ({"categories": [{"id": True, "name": "a"}]}, ("id is True",)),
        ({"categories": [{"id": 1}]}, ("categories[0]: name is missing",)),
        ({"categories": []}, ("names no class",)),
        ({"images": []}, ("lists no image",)),
        ({"images": [3]}, ("images[0]: expected an object, found 3",)),
        ({"images": [{"id": 1}]}, ("images[0]: file_name is missing",)),
        ({"images": [{"id": 1.5, "file_name": "a"}]}, ("images[0]: id is 1.5",)),
        (
            {"images": [{"id": 1, "file_name": "../a.jpg"}]},
            (
                "images[0]",
                "'../a.jpg' leaves the folder",
            ),
        ),
        ({"images": [{"id": 1, "file_name": "/etc/passwd"}]}, ("leaves the folder",)),
        ({"images": [{"id": 1, "file_name": "x\\a.jpg"}]}, ("backslash; write /",)),
        ({"images": [{"id": 1, "file_name": ""}]}, ("name of its image is empty",)),
        ({"images": [{"id": 1, "file_name": "a\nb.jpg"}]}, ("'a\\nb.jpg'", "rename the file")),
        ({"images": [{"id": 1, "file_name": "\ud800.jpg"}]}, ("rename the file",)),
        ({"images": [*IMAGES, {"id": 7, "file_name": "z.jpg"}]}, ("images[3]", "id 7", "'b.jpg'", "'z.jpg'")),
        ({"annotations": [annotation(7, 1)]}, ("annotations[0]", "category_id 1 is not among")),
        ({"annotations": [annotation(7, 9, iscrowd="no")]}, ("annotations[0]: iscrowd is 'no'",)),
        ({"annotations": [annotation("7", 9)]}, ("annotations[0]: image_id is '7'",)),
        ({"annotations": [None]}, ("annotations[0]: expected an object",)),
        ({"annotations": {}}, ("not COCO instances", "'annotations'")),
    ],
)
def test_a_fault_is_one_line_that_names_its_entry(tmp_path, parts, words):
    file = write(tmp_path, **parts)
    message = refused(read_coco, file)
    assert message.startswith(f"{file}:") and all(word in message for word in words), message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ("not valid JSON", "cut off")),
        ('{"images": [{"id": 1, "file_na', (":1:", "not valid JSON")),
        ("[1]", ("it is a list",)),
        ('{"images": [], "annotations": []}', ("it has 'images', 'annotations'",)),
        ("[" * 100_000, ("nested too deeply",)),
        ('{"images": ' + "1" * 5000 + "}", ("number is too long",)),
        (b"\xff\xfe{", ("UTF-8",)),
    ],
)
def test_what_is_no_coco_file_is_refused(tmp_path, content, words):
    file = tmp_path / "labels.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refused(read_coco, file)
    assert message.startswith(f"{file}:") and all(word in message for word in words), message


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "No such file" in refused(read_coco, tmp_path / "none.json")
    assert "cannot be read" in refused(read_coco, tmp_path)
