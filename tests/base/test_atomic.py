"""Files are replaced whole or not at all, whatever goes wrong meanwhile."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from kit.checks import refusing
from kit.disks import full_disk

from benchmark.base.atomic import drafts, replacing, write_atomically


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def no_space(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_write_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "x.json"
    for content in (b"old", b"", b"new" * 1000):
        write_atomically(path, content)
        assert path.read_bytes() == content
        assert names(tmp_path) == ["x.json"]


@pytest.mark.parametrize(
    ("target", "name"), [(os, "fsync"), (Path, "open"), (Path, "rename")], ids=["fsync", "open", "rename"]
)
def test_full_disk_leaves_the_old_file_alone(tmp_path, monkeypatch, target, name):
    path = tmp_path / "x.json"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch, refusing(str(path), "No space left on device", "what was there stays"):
        patch.setattr(target, name, no_space)
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x.json"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space there and repeat the command"),
        (errno.EDQUOT, "free some space there and repeat the command"),
        (errno.EROFS, "make the folder {} writable, or choose another one"),
        (errno.EIO, "choose another place"),
    ],
)
def test_a_write_that_fails_says_what_to_do(tmp_path, monkeypatch, number, remedy):
    def fail(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch, refusing(f"what was there stays; {remedy.format(tmp_path)}"):
        patch.setattr(os, "fsync", fail)
        write_atomically(tmp_path / "x.json", b"new")


def test_a_write_into_no_folder_names_the_folder_to_make(tmp_path):
    with refusing("No such file or directory", f"make the folder {tmp_path / 'none'}, or choose another one"):
        write_atomically(tmp_path / "none" / "x.zip", b"new")


def test_write_that_stops_half_way_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"old")
    with full_disk(), refusing(str(path), "cannot be written"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x.json"]


def test_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "x.json"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x.json"]


def test_write_where_there_is_no_folder_names_the_file(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "x.json", tmp_path / "missing" / "x.json"):
        with refusing(str(path), "cannot be written"):
            write_atomically(path, b"new")


@pytest.mark.parametrize("durable", [True, False])
def test_a_draft_is_replaced_only_when_its_block_ends_well(tmp_path, durable):
    path = tmp_path / "x.npy"
    path.write_bytes(b"old")
    with pytest.raises(ValueError), replacing(path, durable=durable) as file:
        file.write(b"half")
        file.flush()
        assert [draft.read_bytes() for draft in drafts(tmp_path, "x.npy")] == [b"half"]
        raise ValueError
    assert path.read_bytes() == b"old" and names(tmp_path) == ["x.npy"]
    with replacing(path, durable=durable) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new" and names(tmp_path) == ["x.npy"]


def test_the_drafts_of_a_file_are_not_those_of_another(tmp_path):
    with replacing(tmp_path / "a.json"), replacing(tmp_path / "b.json"):
        assert len(drafts(tmp_path, "a.json")) == 1 and len(drafts(tmp_path)) == 2
    assert drafts(tmp_path) == []
