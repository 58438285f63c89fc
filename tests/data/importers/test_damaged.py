"""Damaged files of annotations: whatever is in them, they are read, or refused in one line that names the file."""

import json

from hypothesis import given
from hypothesis import strategies as st

from benchmark.data.importers.coco import read_coco
from benchmark.data.importers.voc import read_voc
from benchmark.errors import InputError

JSON = json.dumps(
    {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": 3, "iscrowd": 0, "segmentation": [[1.5, 2]]}],
    }
).encode()
XML = (
    b"<annotation><folder>VOC2012</folder><filename>a.jpg</filename>"
    b"<object><name>cat</name><difficult>0</difficult></object></annotation>"
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def damaged(content: bytes, edits: list[tuple[int, int]], end: int) -> bytes:
    changed = bytearray(content)
    for place, byte in edits:
        changed[place % len(changed)] = byte
    return bytes(changed[: end % (2 * len(changed))])


EDITS = st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(b'<>&"{}[]:,\\/.0a\0\xff')), max_size=4)


@given(EDITS, st.integers(0, 10_000))
def test_a_damaged_json_file(tmp_path_factory, edits, end):
    file = tmp_path_factory.getbasetemp() / "damaged.json"
    file.write_bytes(damaged(JSON, edits, end))
    read_or_refused(lambda: read_coco(file), str(file))


@given(st.sampled_from(["images", "categories", "annotations"]), st.integers(0, 3), VALUES, st.text(max_size=3))
def test_any_value_in_place_of_another(tmp_path_factory, part, place, value, key):
    content = json.loads(JSON)
    entry = content[part][place % len(content[part])]
    entry[[*entry, key][place % (len(entry) + 1)]] = value
    file = tmp_path_factory.getbasetemp() / "other.json"
    file.write_text(json.dumps(content))
    read_or_refused(lambda: read_coco(file), str(file))


@given(EDITS, st.integers(0, 10_000))
def test_a_damaged_xml_file(tmp_path_factory, edits, end):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / "a.xml").write_bytes(damaged(XML, edits, end))
    read_or_refused(lambda: read_voc(folder), str(folder))


def read_or_refused(read, named: str) -> None:
    try:
        found = read()
    except InputError as error:
        assert named in str(error) and len(str(error).splitlines()) == 1
    else:
        assert found.classes
        assert all(label < len(found.classes) for labels in found.labels.values() for label in labels)
