"""Digests of image files: read once, read again when a file changed, never remembered wrongly."""

from __future__ import annotations

import hashlib
import os
import time

import numpy as np
import pytest

import benchmark.data.contents
from benchmark.data.contents import changed_contents, file_digests, missing_files
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
    [book] = (tmp_path / "cache").glob("*.digests")
    book.write_bytes(content)
    assert read() == (expected, ["a.png", "b.png"])


def test_a_memory_that_cannot_be_written_costs_time_alone(read, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert read()[1] == read()[1] == ["a.png", "b.png"]


def test_a_file_that_is_gone_is_named(read):
    (read.images / "b.png").unlink()
    with pytest.raises(InputError, match=r"b\.png: cannot be read: No such file"):
        read()


def test_what_an_interrupted_reading_read_is_remembered(read, tmp_path):
    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        file_digests(read.images, ["a.png", "b.png"], tmp_path / "cache", stop)
    assert read() == ([sha256("a.png"), sha256("b.png")], ["b.png"])


def test_the_progress_of_reading_ends_with_all(read, tmp_path):
    done = []
    file_digests(read.images, ["a.png"], tmp_path / "cache")
    file_digests(read.images, ["b.png", "a.png", "b.png"], tmp_path / "cache", done.append)
    assert done == [2, 3]


def test_processes_that_read_other_files_lose_no_digest_of_each_other(read, tmp_path):
    """Each reads the memory first, and adds to it when the others have."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    together = Barrier(6)
    names = [f"{i}.png" for i in range(6)]
    for name in names:
        (read.images / name).write_text(name)

    def one(name):
        return file_digests(read.images, [name], tmp_path / "cache", lambda done: together.wait(20))

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(one, names)) == [[sha256(name)] for name in names]
    file_digests(read.images, names, tmp_path / "cache", lambda done: pytest.fail("a file was read again"))


def test_the_memory_is_compared_with_the_files_when_asked(read, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        # As a disk that reads wrongly, and as one whose content changes unseen.
        patch.setattr("benchmark.data.contents.file_digest", lambda path: sha256("wrong"))
        file_digests(read.images, ["b.png"], tmp_path / "cache")
    assert read() == ([sha256("a.png"), sha256("wrong")], ["a.png"])
    done = []
    paths = ["a.png", "b.png"]
    assert changed_contents(read.images, paths, tmp_path / "cache", done.append) == ["b.png"] and done == [1, 2]
    assert read() == ([sha256("a.png"), sha256("b.png")], [])
    assert changed_contents(read.images, paths, tmp_path / "cache") == []
    (read.images / "a.png").write_text("new, and not hidden: nothing is remembered of it")
    assert changed_contents(read.images, paths, tmp_path / "cache") == []


@pytest.mark.parametrize("count", [3, 200])
def test_missing_files_are_found_in_listed_and_in_small_folders(tmp_path, count):
    """A folder with many images is listed, of few each is asked for; links and folders are looked at by name."""
    folder = tmp_path / "x"
    folder.mkdir()
    paths = [f"x/{i}.jpg" for i in range(count)]
    for path in paths[2:]:
        (tmp_path / path).touch()
    (folder / "0.jpg").symlink_to("2.jpg")
    (folder / "1.jpg").symlink_to("nowhere.jpg")
    (folder / "folder.jpg").mkdir()
    wanted = [*paths, "x/folder.jpg", "x/gone.jpg", "y/a.jpg", "a.jpg"]
    assert missing_files(tmp_path, wanted, lambda path: path.exists()) == ["x/1.jpg", "x/gone.jpg", "y/a.jpg", "a.jpg"]
    assert "x/folder.jpg" in missing_files(tmp_path, wanted, lambda path: path.is_file())


def test_digests_of_no_file_and_of_large_inodes(read, tmp_path, monkeypatch):
    assert file_digests(read.images, [], tmp_path / "cache") == []
    real = os.stat

    def with_large_inode(path, *args, **options):
        found = real(path, *args, **options)
        if not str(path).endswith(".png"):
            return found
        return os.stat_result((found[0], 2**64 - 5, *found[2:]), {"st_mtime_ns": 1, "st_ctime_ns": 2})

    monkeypatch.setattr("benchmark.data.contents.os.stat", with_large_inode)
    assert read()[1] == ["a.png", "b.png"] and read()[1] == []
    assert benchmark.data.contents._facts(read.images, ["a.png"]).dtype == np.int64
