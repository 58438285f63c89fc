"""Text embeddings from a file, and values that name a file: what is read, what is refused, what a run's id holds."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from kit.checks import refused

from benchmark.base.files import split_file
from benchmark.models.embeddings import expect_width, is_embeddings_file, load_embeddings
from benchmark.spec import FileOrName, Strict, parse

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)
NAMES = np.array(["dog", "cat", "sofa", "tv monitor"])


def write(path: Path, **arrays) -> str:
    np.savez(path, **(arrays or {"all": VECTORS, "all_names": NAMES}))
    return str(path)


@pytest.fixture
def file(tmp_path) -> str:
    return write(tmp_path / "text.npz")


def test_vectors_come_in_the_classes_order(file):
    found = load_embeddings(file, ["sofa", "dog"])
    assert found.dtype == torch.float32
    assert found.tolist() == [[6.0, 7.0, 8.0], [0.0, 1.0, 2.0]]


def test_the_one_pair_that_names_every_class_is_taken(tmp_path):
    arrays = {"a": VECTORS[:2], "a_names": NAMES[:2], "b": VECTORS + 100, "b_names": NAMES, "note": np.zeros(3)}
    file = write(tmp_path / "t.npz", **arrays)
    assert load_embeddings(file, ["tv monitor"]).tolist() == [[109.0, 110.0, 111.0]]


def test_pairs_that_agree_are_as_good_as_one_and_pairs_that_differ_are_not(tmp_path):
    arrays = {"a": VECTORS[:2], "a_names": NAMES[:2], "b": VECTORS, "b_names": NAMES}
    assert load_embeddings(write(tmp_path / "t.npz", **arrays), ["cat"]).tolist() == [[3.0, 4.0, 5.0]]
    arrays["a"] = VECTORS[:2] + 1
    file = write(tmp_path / "u.npz", **arrays)
    message = refused(load_embeddings, file, ["cat"])
    assert [part for part in [file, "a, b", "differ", "u.npz:KEY"] if part not in message] == []
    assert load_embeddings(f"{file}:a", ["cat"]).tolist() == [[4.0, 5.0, 6.0]]
    assert load_embeddings(f"{file}:b", ["cat"]).tolist() == [[3.0, 4.0, 5.0]]


@pytest.mark.parametrize("key", ["", ":all"])
def test_class_without_a_vector_is_named_with_near_names(file, key):
    message = refused(load_embeddings, file + key, ["dog", "tvmonitor"])
    assert [part for part in [file, "'tvmonitor'", "did you mean 'tv monitor'", "1 of 2"] if part not in message] == []


def test_of_several_pairs_the_most_complete_is_reported(tmp_path):
    file = write(tmp_path / "t.npz", a=VECTORS[:1], a_names=NAMES[:1], b=VECTORS, b_names=NAMES)
    assert "b lacks 1 of 3 classes, first 'cow'" in refused(load_embeddings, file, ["cow", "cat", "dog"])


def test_unknown_key_is_named(file):
    message = refused(load_embeddings, f"{file}:al", ["dog"])
    assert [part for part in [file, "'al'", "did you mean 'all'"] if part not in message] == []


def test_missing_file_is_named(tmp_path):
    assert str(tmp_path / "no.npz") in refused(load_embeddings, str(tmp_path / "no.npz"), ["dog"])


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "sprung")


def test_python_objects_are_refused_and_not_run(tmp_path):
    trap = np.array([Trap(tmp_path / "sprung")] * 4, dtype=object)
    file = write(tmp_path / "t.npz", all=trap, all_names=NAMES)
    message = refused(load_embeddings, file, ["dog"])
    assert file in message and "Python objects" in message
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half", None], ids=["empty", "text", "cut", "npy"])
def test_what_is_no_npz_is_refused(tmp_path, content):
    path = tmp_path / "t.npz"
    if content is None:
        with path.open("wb") as out:
            np.save(out, VECTORS)
    else:
        path.write_bytes(content)
    message = refused(load_embeddings, str(path), ["dog"])
    assert str(path) in message and "objects" not in message


def test_damaged_archive_is_refused(file):
    data = bytearray(Path(file).read_bytes())
    data[60:80] = b"\xff" * 20
    Path(file).write_bytes(data)
    assert file in refused(load_embeddings, file, ["dog"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"all": VECTORS[0]}, "[3]"),
        ({"all": VECTORS[:3]}, "[3, 3]"),
        ({"all": VECTORS[:, :0]}, "[4, 0]"),
        ({"all": VECTORS.astype(np.int64)}, "int64"),
        ({"all": np.where(VECTORS == 7, np.nan, VECTORS)}, "not finite"),
        ({"all": np.where(VECTORS == 7, 1e300, VECTORS.astype(np.float64))}, "not finite"),
        ({"all_names": np.arange(4)}, "int64"),
        ({"all_names": NAMES[None]}, "[1, 4]"),
        ({"all_names": NAMES[[0, 0, 1, 2]]}, "twice"),
        ({"all_names": None}, "NAME_names"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, change, named):
    arrays = {"all": VECTORS, "all_names": NAMES} | change
    file = write(tmp_path / "t.npz", **{key: value for key, value in arrays.items() if value is not None})
    message = refused(load_embeddings, file, ["dog"])
    assert file in message and named in message


def test_other_width_than_the_image_towers_is_refused(file):
    embeddings = load_embeddings(file, ["dog", "cat"])
    assert expect_width(embeddings, 3, file) is embeddings
    message = refused(expect_width, embeddings, 512, file)
    assert file in message and "embeddings are 3 wide, the image tower gives 512" in message


# Values that name a file


class Settings(Strict):
    semantics: FileOrName


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("random", None),
        ("demo:shapes", None),
        ("ViT-B-16:openai", None),
        ("glove.npz", (Path("glove.npz"), "")),
        ("a/glove.npz:coco", (Path("a/glove.npz"), "coco")),
        ("glove.npz:coco", (Path("glove.npz"), "coco")),
        ("clip.safetensors", (Path("clip.safetensors"), "")),
        ("clip.pt", (Path("clip.pt"), "")),
        ("folder/clip", (Path("folder/clip"), "")),
        ("odd:folder/text.npz", (Path("odd:folder/text.npz"), "")),
    ],
)
def test_paths_are_told_from_names(value, expected):
    assert split_file(value) == expected
    assert is_embeddings_file(value) == (".npz" in value)


def identity(value: str) -> str:
    return json.loads(parse(Settings, {"semantics": value}, "setting").model_dump_json())["semantics"]


def label(value: str) -> str:
    settings = parse(Settings, {"semantics": value}, "setting")
    return settings.model_dump(mode="json", context={"for_people": True})["semantics"]


@pytest.mark.parametrize("key", ["", ":all"])
def test_identity_is_the_digest_and_people_see_the_files_name(file, key):
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    assert identity(file + key) == f"sha256:{digest}{key}"
    assert label(file + key) == f"text.npz{key}"
    assert parse(Settings, {"semantics": file + key}, "setting").semantics == file + key


def test_names_are_left_as_they_are():
    for name in ("random", "demo:shapes", "ViT-B-16:openai"):
        assert identity(name) == label(name) == name


def test_identity_follows_the_content_not_the_path(file, tmp_path):
    copy = shutil.copy(file, tmp_path / "other name.npz")
    assert identity(str(copy)) == identity(file)
    write(Path(copy), all=VECTORS + 1, all_names=NAMES)
    os.utime(copy, ns=(1, 1))
    assert identity(str(copy)) != identity(file)


@pytest.mark.parametrize("value", ["no/where.npz", "where.npz:key", "where.safetensors", "some/folder"])
def test_file_that_is_not_there_is_refused_at_once(value):
    message = refused(parse, Settings, {"semantics": value}, "setting")
    assert "semantics" in message and "no such file" in message and repr(value) in message
