"""Digests of image files: read once, read again when a file changed, never remembered wrongly."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

import benchmark.data.contents
from benchmark.data.contents import file_digests
from benchmark.errors import InputError

LONG_AGO_NS = time.time_ns() - 10**12


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def read(tmp_path, monkeypatch):
    """A function: the digests of a.png and b.png, and which files were read for them."""
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a.png", "b.png"):
        (images / name).write_text(name)
    opened = []
    original = benchmark.data.contents.file_digest
    monkeypatch.setattr(
        "benchmark.data.contents.file_digest", lambda path: (opened.append(path.name), original(path))[1]
    )
    # As if some time had passed: what was written just now is read again.
    monkeypatch.setattr("benchmark.data.contents._TIME_RESOLUTION_NS", -(10**12))

    def digests(cache="cache"):
        opened.clear()
        return file_digests(images, ["a.png", "b.png"], tmp_path / cache), sorted(opened)

    digests.images = images
    return digests


def test_files_are_read_once(read):
    both = [sha256("a.png"), sha256("b.png")]
    assert read() == (both, ["a.png", "b.png"])
    assert read() == (both, [])
    assert read("another cache") == (both, ["a.png", "b.png"])


def test_a_changed_file_is_read_again_whatever_its_size_and_time(read):
    read()
    before = (read.images / "a.png").stat()
    (read.images / "a.png").write_text("A.png")
    os.utime(read.images / "a.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read() == ([sha256("A.png"), sha256("b.png")], ["a.png"])
    (read.images / "other.png").write_text("a.png")
    (read.images / "other.png").replace(read.images / "a.png")
    assert read() == ([sha256("a.png"), sha256("b.png")], ["a.png"])


def test_what_was_written_just_now_is_not_remembered(read, monkeypatch):
    monkeypatch.setattr("benchmark.data.contents._TIME_RESOLUTION_NS", 10**12)
    assert read()[1] == read()[1] == ["a.png", "b.png"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a.png": 3}', b'{"a.png": [[1], "x"]}', b"[" * 100_000])
def test_a_damaged_memory_costs_time_alone(read, tmp_path, content):
    expected = read()[0]
    [book] = (tmp_path / "cache").iterdir()
    book.write_bytes(content)
    assert read() == (expected, ["a.png", "b.png"])


def test_a_memory_that_cannot_be_written_costs_time_alone(read, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert read()[1] == read()[1] == ["a.png", "b.png"]


def test_a_file_that_is_gone_is_named(read):
    (read.images / "b.png").unlink()
    with pytest.raises(InputError, match=r"b\.png: cannot be read: No such file"):
        read()
