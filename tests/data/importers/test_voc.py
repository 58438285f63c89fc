"""VOC XML: official shape, odd files that are noted, and faults that are refused by name."""

import pytest
from kit.checks import refused

from benchmark.data.importers.voc import read_voc

BILLION_LAUGHS = (
    '<!DOCTYPE a [<!ENTITY x "ha">'
    + "".join(f'<!ENTITY x{i} "{f"&x{i - 1 if i else str()};" * 10}">' for i in range(10))
    + "]><annotation><filename>&x9;</filename></annotation>"
)


def entry(name, difficult="0", **more):
    parts = "".join(f"<{key}>{value}</{key}>" for key, value in more.items())
    mark = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"<object><name>{name}</name>{parts}{mark}<bndbox><xmin>1</xmin></bndbox></object>"


def xml(*objects, filename="a.jpg", folder="VOC2012"):
    named = "" if filename is None else f"<filename>{filename}</filename>"
    return f"<annotation><folder>{folder}</folder>{named}<size><depth>3</depth></size>{''.join(objects)}</annotation>"


def write(folder, **files):
    for stem, content in files.items():
        (folder / f"{stem}.xml").write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_objects_are_labels_and_parts_are_not(tmp_path):
    part = "<part><name>head</name></part>"
    person = f"<object><name>person</name><difficult>1</difficult>{part}</object>"
    write(tmp_path, b=xml(person, entry("dog"), entry("dog"), filename="b.jpg"), a=xml(entry("cat", None)), c="x")
    (tmp_path / "c.xml").rename(tmp_path / "c.txt")
    read = read_voc(tmp_path)
    assert read.classes == ("cat", "dog", "person")
    assert list(read.labels.items()) == [("a.jpg", {0}), ("b.jpg", {1, 2})]
    assert read.notes == ("1 object marked difficult: counted",)
    easy = read_voc(tmp_path, difficult=False)
    assert easy.labels["b.jpg"] == {1} and easy.notes == ("1 object marked difficult: left out",)


def test_classes_can_be_given_in_their_order(tmp_path):
    write(tmp_path, a=xml(entry("dog")))
    assert read_voc(tmp_path, ("owl", "dog")).labels == {"a.jpg": {1}}
    message = refused(read_voc, tmp_path, ("owl",))
    assert "a.xml: class 'dog' is not among the 1 classes" in message


def test_an_image_without_object_has_no_label(tmp_path):
    read = read_voc(write(tmp_path, a=xml(entry("dog")), b=xml(filename="b.jpg")))
    assert read.labels["b.jpg"] == frozenset()


def test_names_that_differ_from_the_file_and_several_sources_are_noted(tmp_path):
    write(tmp_path, a=xml(entry("dog"), filename=None), b=xml(filename="x &amp; y.png", folder="VOC2007"))
    read = read_voc(tmp_path)
    assert list(read.labels) == ["a.jpg", "x & y.png"]
    nameless, other, sources = read.notes
    assert "1 file without <filename>" in nameless and "'a.xml'" in nameless
    assert "b.xml: x & y.png" in other
    assert "'VOC2012' 1" in sources and "'VOC2007' 1" in sources


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ("not valid VOC XML",)),
        (xml(entry("dog"))[:-30], ("not valid VOC XML", "line 1")),
        (BILLION_LAUGHS, ("declares a document type",)),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', ("declares a document type",)),
        ("<annotations><image/></annotations>", ("root is <annotations>", "another format")),
        (b'<?xml version="1.0" encoding="none"?><annotation/>', ("not valid VOC XML",)),
        (xml("<object><difficult>0</difficult></object>"), ("object 1 has no <name>",)),
        (xml(entry("dog"), entry("cat", "maybe")), ("object 2 ('cat')", "'maybe'")),
        (xml(entry("dog"), filename="../../a.jpg"), ("leaves the folder",)),
        (xml(entry("dog"), filename="/home/me/a.jpg"), ("leaves the folder",)),
        (xml(entry("dog"), entry("Dog")), ("'Dog', 'dog' differ in case",)),
        (xml(), ("names no class",)),
        (" " * (5 * 2**20), ("has more than",)),
    ],
)
def test_a_fault_is_one_line_that_names_the_file(tmp_path, content, words):
    message = refused(read_voc, write(tmp_path, a=content))
    assert str(tmp_path) in message and all(word in message for word in words), message


def test_hidden_files_that_macos_adds_are_none_of_the_annotations(tmp_path):
    write(tmp_path, a=xml(entry("dog")))
    (tmp_path / "._a.xml").write_bytes(b"\0\5\26\7Mac OS X")
    assert read_voc(tmp_path).labels == {"a.jpg": {0}}


def test_two_files_of_one_image_are_refused(tmp_path):
    message = refused(read_voc, write(tmp_path, a=xml(entry("dog")), b=xml(entry("cat"))))
    assert "b.xml: image 'a.jpg' is that of a.xml too" in message


def test_a_folder_without_xml_files_says_which_one_is_meant(tmp_path):
    (tmp_path / "Annotations").mkdir()
    assert str(tmp_path / "Annotations") in refused(read_voc, tmp_path)
    assert "No such file" in refused(read_voc, tmp_path / "none")
