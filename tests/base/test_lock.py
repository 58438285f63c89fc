"""One process at a time holds a lock, and it ends with its holder."""

from __future__ import annotations

import errno
import fcntl
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from kit.runs import wait_for

from benchmark.base.lock import folder_lock, is_locked, lock, lock_open


def test_a_lock_is_waited_for_and_given_back_when_it_is_closed(tmp_path):
    path = tmp_path / "lock"
    with ThreadPoolExecutor() as pool, lock(path):
        assert is_locked(path)
        second = pool.submit(lock, path)
        with pytest.raises(TimeoutError):
            second.result(timeout=0.2)
    with second.result():
        assert is_locked(path)
    assert not is_locked(path)


def test_a_lock_through_a_link_is_refused(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="is a link"):
        lock(tmp_path / "lock")
    assert not (tmp_path / "precious").exists()


def test_who_waits_for_a_folder_says_so_once_and_a_folder_that_is_not_there_is_not_made(tmp_path):
    said = []

    def second() -> None:
        with folder_lock(tmp_path, lambda: said.append("waiting")):
            said.append("held")

    with ThreadPoolExecutor() as pool:
        with folder_lock(tmp_path, lambda: said.append("never")):
            waiting = pool.submit(second)
            wait_for(lambda: said, 10, "the second to wait")
        waiting.result(timeout=10)
    assert said == ["waiting", "held"]
    with pytest.raises(FileNotFoundError), folder_lock(tmp_path / "none", lambda: None):
        raise AssertionError("locked")
    assert not (tmp_path / "none").exists()


def test_a_file_system_without_locks_is_an_error_of_the_system_and_locks_nothing(tmp_path, monkeypatch):
    def none(*args: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(OSError, match="No locks"):
        lock(tmp_path / "lock")
    with (tmp_path / "lock").open() as file, pytest.raises(OSError, match="No locks"):
        lock_open(file)
    assert not is_locked(tmp_path / "lock")
