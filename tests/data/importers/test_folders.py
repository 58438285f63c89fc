"""Folders of classes, and how the kind of a file or folder is found."""

import pytest
from kit.checks import refused

from benchmark.data.importers.folders import read_folders
from benchmark.data.importers.kinds import KINDS, find_kind


def make(folder, **files):
    """Files by path, `__` for a slash and `_` before the suffix; each holds the given text."""
    for name, content in files.items():
        path = folder.joinpath(*name.split("__"))
        path = path.with_name(".".join(path.name.rsplit("_", 1)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def test_a_folder_is_a_class(tmp_path):
    read = read_folders(make(tmp_path, dog__1_jpg="x", cat__2_PNG="y", cat__1_jpg="z"))
    assert read.classes == ("cat", "dog") and read.notes == ()
    assert list(read.labels.items()) == [("cat/1.jpg", {0}), ("cat/2.PNG", {0}), ("dog/1.jpg", {1})]


def test_equal_files_of_one_name_are_one_image_with_several_labels(tmp_path):
    make(tmp_path, cat__1_jpg="same", dog__1_jpg="same", owl__1_jpg="other", owl__2_jpg="same")
    read = read_folders(tmp_path)
    assert read.labels == {"cat/1.jpg": {0, 1}, "owl/1.jpg": {2}, "owl/2.jpg": {2}}
    [note] = read.notes
    assert "cat/1.jpg = dog/1.jpg" in note


def test_other_files_are_left_out_and_noted(tmp_path):
    make(tmp_path, cat__1_jpg="x", cat__Thumbs_db="", read_me="")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "cat" / ".DS_Store").write_text("")
    (tmp_path / "empty").mkdir()
    read = read_folders(tmp_path)
    assert read.classes == ("cat", "empty") and read.labels == {"cat/1.jpg": {0}}
    [note] = read.notes
    assert "2 files left out" in note and "read.me" in note and "cat/Thumbs.db" in note


def test_folders_in_a_class_are_refused(tmp_path):
    make(tmp_path, pets__cat__1_jpg="x")
    assert "pets: it has a folder in it, 'cat'" in refused(read_folders, tmp_path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"train__1_jpg": "x", "train__a_json": "{}", "Valid__2_jpg": "y"}, "lists by their names"),
        ({"Annotations__1_xml": "x", "JPEGImages__1_jpg": "y"}, "'Annotations' holds annotations and no image"),
    ],
)
def test_an_export_of_another_kind_is_no_folder_of_classes(tmp_path, files, words):
    assert words in refused(read_folders, make(tmp_path, **files))


def test_folders_that_differ_in_case_alone_are_refused(tmp_path):
    make(tmp_path, cat__1_jpg="x", Cat__1_jpg="y")
    assert "'Cat', 'cat' differ in case" in refused(read_folders, tmp_path)


def test_a_file_name_that_is_no_text_is_refused(tmp_path):
    make(tmp_path, cat__1_jpg="x")
    (tmp_path / "cat" / "caf\udce9.jpg").write_text("y")
    assert "rename the file" in refused(read_folders, tmp_path)


def test_each_kind_is_found_by_what_it_is(tmp_path):
    make(tmp_path, i_JSON="", t_csv="", u_tsv="", v_txt="", xml__a_xml="", xml__sub__a_jpg="")
    make(tmp_path, folders__cat__1_jpg="")
    found = [find_kind(tmp_path / name) for name in ("i.JSON", "t.csv", "u.tsv", "v.txt", "xml", "folders")]
    assert [KINDS.index(kind) for kind in found] == [0, 1, 1, 1, 2, 3]


def test_an_unknown_kind_is_refused_with_those_that_there_are(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "labels.xlsx").write_text("")
    for name in ("empty", "labels.xlsx"):
        message = refused(find_kind, tmp_path / name)
        assert all(kind.title in message for kind in KINDS)


@pytest.mark.parametrize(("name", "reason"), [("none", "no such file"), ("x" * 300, "too long")])
def test_what_is_not_there_is_refused(tmp_path, name, reason):
    assert reason in refused(find_kind, tmp_path / name)
