"""Files of decoded images: rows that are read, and decodings that go on after an interruption."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from kit.disks import mounted
from kit.paths import ROOT
from PIL import Image

from benchmark.data.images import cache_split, check_room
from benchmark.data.lists import Split
from benchmark.data.pixels import Draft, PixelFile
from benchmark.data.sources import FileImages
from benchmark.errors import StoreError

COUNT, SIZE = 12, 8
ROW = SIZE * SIZE * 3


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("LTBENCH_CACHE", str(folder))
    # A note after every third image: so many bytes as else.
    monkeypatch.setattr("benchmark.data.pixels._NOTED_EVERY", 3 * ROW)
    return folder


@pytest.fixture
def split(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
    return Split("train", tuple(f"{i:02d}.png" for i in range(COUNT)), np.ones((COUNT, 1), np.uint8))


@pytest.fixture
def build(tmp_path, split, cache):
    """A function: (pixels, number of decoded images), interrupted after some images where asked."""

    def build(stop_after=None, error=KeyboardInterrupt):
        decoded = []

        class Counting(FileImages):
            def opened(self, path):
                decoded.append(path)
                return super().opened(path)

        def advance(done, total):
            if done == stop_after:
                raise error

        cached = cache_split(split, Counting(tmp_path / "images", ""), SIZE, "bilinear", advance=advance)
        pixels = cached.load()[:]
        assert cached.digest == hashlib.sha256(pixels).hexdigest()
        return pixels, len(decoded)

    return build


@pytest.fixture
def expected(tmp_path, split):
    """The pixels of a decoding that nothing interrupted, in another cache."""
    return cache_split(split, FileImages(tmp_path / "images", ""), SIZE, "bilinear", tmp_path / "other").load()[:]


def draft_in(cache):
    [draft] = cache.glob(".*.tmp")
    return draft


def stopped(build, after):
    with pytest.raises(KeyboardInterrupt):
        build(after)


def test_rows_are_those_of_the_array(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", array)
    file = PixelFile(tmp_path / "a.npy")
    assert len(file) == 7 and file.shape == array.shape
    for rows in (slice(None), slice(2, 5), slice(5, 99), slice(7, 9), np.array([3, 0, 3]), np.array([], np.int64)):
        np.testing.assert_array_equal(file[rows], array[rows])
    assert file.digest() == hashlib.sha256(array).hexdigest()


@pytest.mark.parametrize("other", [np.zeros((2, 3), np.uint8), np.zeros((2, 4, 4, 3)), "cut", "longer"])
def test_another_file_is_no_file_of_pixels(tmp_path, other):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 4, 4, 3), np.uint8) if isinstance(other, str) else other)
    if isinstance(other, str):
        os.truncate(path, path.stat().st_size + (-1 if other == "cut" else 1))
    with pytest.raises(ValueError, match="not a file of pixels"):
        PixelFile(path)


def test_a_file_that_is_cut_while_it_is_read_is_one_line(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 4, 3), np.uint8))
    file = PixelFile(tmp_path / "a.npy")
    os.truncate(tmp_path / "a.npy", 150)
    with pytest.raises(StoreError, match=r"a\.npy: was cut short.*run again"):
        file[:]


@pytest.mark.parametrize("after", [1, 3, 7, COUNT])
def test_an_interrupted_decoding_goes_on_where_it_stopped(build, cache, expected, after):
    stopped(build, after)
    pixels, decoded = build()
    np.testing.assert_array_equal(pixels, expected)
    assert decoded == COUNT - after + 1, "the image of the interruption was not written"
    assert sorted(path.suffix for path in cache.iterdir() if path.is_file()) == [".json", ".lock", ".npy"]


def test_a_decoding_goes_on_after_several_interruptions(build, expected):
    for after in (2, 5, 9):
        stopped(build, after)
    pixels, decoded = build()
    np.testing.assert_array_equal(pixels, expected)
    assert decoded == COUNT - 8


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["pixel", "cut", "longer", "header", "note", "no notes", "strange notes"])
def test_of_a_draft_only_what_is_proved_is_kept(build, cache, expected, damage):
    stopped(build, 10)  # nine are written; notes after three, six and nine
    draft = draft_in(cache)
    notes = draft.with_suffix(".notes")
    kept = {"pixel": 3, "cut": 6, "longer": 9, "header": 0, "note": 3, "no notes": 0, "strange notes": 0}[damage]
    if damage == "pixel":
        flip(draft, 128 + 4 * ROW)
    elif damage == "cut":
        os.truncate(draft, 128 + 9 * ROW - 1)
    elif damage == "longer":
        with draft.open("ab") as file:
            file.write(bytes(5 * ROW))
    elif damage == "header":
        flip(draft, 70)
    elif damage == "note":
        flip(notes, notes.read_bytes().index(b"\n") + 10)
    elif damage == "no notes":
        notes.unlink()
    else:
        notes.write_bytes(b"999999999999999999999 " + b"0" * 64 + b"\n-3 x\n" + b"9" * 5000)
    pixels, decoded = build()
    np.testing.assert_array_equal(pixels, expected)
    assert decoded == COUNT - kept


def test_a_killed_process_leaves_what_it_noted(tmp_path, build, cache, expected):
    program = """
import os, signal, sys
import numpy as np
import benchmark.data.pixels
from benchmark.data.images import cache_split
from benchmark.data.lists import Split
from benchmark.data.sources import FileImages
from pathlib import Path
benchmark.data.pixels._NOTED_EVERY = 3 * 8 * 8 * 3
paths = tuple(f"{i:02d}.png" for i in range(12))
def advance(done, total):
    if done == 9:
        os.kill(os.getpid(), signal.SIGKILL)
split = Split("train", paths, np.ones((12, 1), np.uint8))
cache_split(split, FileImages(Path(sys.argv[1]), ""), 8, "bilinear", advance=advance)
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "images"], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    pixels, decoded = build()
    np.testing.assert_array_equal(pixels, expected)
    assert decoded == COUNT - 6, "eight were written, six of them noted"


def test_a_bad_image_leaves_no_draft(tmp_path, build, cache):
    (tmp_path / "images" / "07.png").write_bytes(b"no image")
    with pytest.raises(Exception, match=r"07\.png: cannot be decoded"):
        build()
    assert not list(cache.glob(".*"))


@pytest.mark.parametrize(("age_s", "decoded"), [(10, COUNT), (1000, COUNT - 6)])
def test_the_draft_of_another_machine_is_taken_over_when_it_no_longer_grows(build, cache, expected, age_s, decoded):
    stopped(build, 7)
    own = draft_in(cache)
    other = own.with_name(own.name.replace(own.name.split(".")[-2], "01234567"))
    own.with_suffix(".notes").rename(other.with_suffix(".notes"))
    own.rename(other)
    os.utime(other, (time.time() - age_s,) * 2)
    pixels, count = build()
    np.testing.assert_array_equal(pixels, expected)
    assert count == decoded and other.exists() == (age_s < 100)


def test_without_locks_no_draft_is_left(build, cache, expected, monkeypatch):
    def no_locks(file):
        raise OSError("no locks available")

    monkeypatch.setattr("benchmark.data.images.lock_open", no_locks)
    stopped(build, 7)
    assert not list(cache.glob(".*"))
    pixels, decoded = build()
    np.testing.assert_array_equal(pixels, expected)
    assert decoded == COUNT


def test_a_draft_that_ends_by_itself_is_the_file(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    with Draft(tmp_path / "a.npy", rows.shape, None) as draft:
        for row in rows:
            draft.append(row)
        assert draft.finish() == hashlib.sha256(rows).hexdigest()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), rows)
    assert [path.name for path in tmp_path.glob("*a.npy*")] == ["a.npy"]


def test_a_disk_without_room_is_said_before_an_image_is_decoded(tmp_path, split, cache, monkeypatch):
    source = FileImages(tmp_path / "images", "")
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as disk:
        monkeypatch.setenv("LTBENCH_CACHE", str(disk / "not" / "there"))
        check_room([(split, 64)], source, "bilinear")
        with pytest.raises(StoreError, match=r"decoded images take 2\.0 MB.*LTBENCH_CACHE") as caught:
            check_room([(split, 64), (split, 224)], source, "bilinear")
        assert str(disk) in str(caught.value) and not list(disk.iterdir())
        monkeypatch.setenv("LTBENCH_CACHE", str(cache))
    cache_split(split, source, 224, "bilinear")
    check_room([(split, 224)], source, "bilinear")
