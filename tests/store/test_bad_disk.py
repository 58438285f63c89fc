"""Disks that fill up, folders that vanish, files that are garbage: one line, exit code 2, and nothing is lost."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kit.command import Done, ltbench, refused
from kit.disks import PAGE, SmallDisk, mounted
from kit.factories import make_record, make_scored, write_scored, write_store
from kit.runs import execute_plan, outcome
from kit.tiny import TINY, TINY_ARGS
from kit.trainers import save_every_step

import benchmark.leaderboard.files
from benchmark.running.plan import Plan, make_plan
from benchmark.store.claim import Claim
from benchmark.store.records import Record
from benchmark.store.runs import Store
from benchmark.training.checkpoint import load_checkpoint
from benchmark.training.loop import Trainer

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path) -> Iterator[SmallDisk]:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=16m", "tmpfs") as path:
        yield SmallDisk(path)


def run_tiny(tiny: Path, results: Path) -> Done:
    return ltbench("run", "--method", "erm", "--dataset", tiny, *TINY_ARGS, "--results", results)


def stopped(done: Done, *words: str) -> str:
    """Assert that a run told how far it came and then ended in one line that holds these words; returns it."""
    *progress, line = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: "), done.stderr
    assert all(told.startswith(("erm on tiny", "epoch ")) for told in progress), done.stderr
    for word in words:
        assert word in line
    return line


@pytest.fixture
def plan(tiny) -> Plan:
    """What `run_tiny` runs: six steps."""
    return make_plan("erm", str(tiny), **TINY)


@pytest.fixture
def undisturbed(plan, tmp_path) -> Record:
    return execute_plan(plan, tmp_path / "undisturbed")


def at_call(patch: pytest.MonkeyPatch, owner: object, name: str, n: int, act: Callable[[], object]) -> None:
    """`act` just before the n-th call of a function."""
    original, calls = getattr(owner, name), []

    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == n:
            act()
        return original(*args, **kwargs)

    patch.setattr(owner, name, wrapped)


def interrupt(*args: object) -> None:
    raise KeyboardInterrupt


# --- a disk that fills up ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "name", "n", "leave", "file"),
    [
        (Trainer, "_save", 1, 4 * PAGE, "checkpoint.pt"),
        (Trainer, "_save", 3, 4 * PAGE, "checkpoint.pt"),
        (Trainer, "_save", 3, 0, "checkpoint.pt"),
        (Claim, "store_logits", 1, 0, "logits-"),
        (Claim, "finish", 1, PAGE, "record.json"),
        (Claim, "finish", 1, 0, "record.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value) if isinstance(value, int) else "",
)
def test_a_run_on_a_full_disk_goes_on_when_there_is_room(
    tiny, plan, undisturbed, disk, monkeypatch, owner, name, n, leave, file
):
    """leave: bytes that are still there; with some of them, how the attempt ended can be written down."""
    results = disk.path / "results"
    folder = Store(results).folder(plan.spec)
    with monkeypatch.context() as patch:
        save_every_step(patch)
        patch.setenv("SLURM_CLUSTER_NAME", "c" * PAGE)  # it is recorded: no record fits on one page
        at_call(patch, owner, name, n, lambda: disk.fill(leave))
        line = stopped(run_tiny(tiny, results), str(folder.path / file), "No space left on device")
    assert "what was there stays" in line
    assert folder.record() is None and folder.state() != "done"
    saved = load_checkpoint(folder.checkpoint_path)
    assert (saved and saved["step"]) == ((n - 1 or None) if owner is Trainer else 6)
    assert not [path.name for path in folder.path.iterdir() if path.name.startswith((".", "lease"))]

    disk.free()
    done = run_tiny(tiny, results)
    assert done.returncode == 0, done.stderr
    assert ("going on from step" in done.stderr) == (saved is not None)
    assert outcome(folder.record()) == outcome(undisturbed)


def test_a_record_stands_while_another_cannot_be_written(tiny, plan, disk, monkeypatch):
    results = disk.path / "results"
    folder = Store(results).folder(plan.spec)
    first = execute_plan(plan, results)
    with monkeypatch.context() as patch:
        at_call(patch, Claim, "finish", 1, disk.fill)
        done = ltbench("run", "--method", "erm", "--dataset", tiny, *TINY_ARGS, "--results", results, "--rerun=always")
        stopped(done, str(folder.record_path), "No space left on device")
    assert folder.state() == "done" and folder.record() == first
    disk.free()
    assert run_tiny(tiny, results).returncode == 0


def test_a_leaderboard_that_finds_no_room_is_named_and_the_run_is_done(tiny, plan, undisturbed, disk, monkeypatch):
    results = disk.path / "results"
    with monkeypatch.context() as patch:
        at_call(patch, benchmark.leaderboard.files, "write", 1, disk.fill)
        done = run_tiny(tiny, results)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"error: {results}") and "No space left on device" in line
    assert outcome(Store(results).folder(plan.spec).record()) == outcome(undisturbed)
    disk.free()
    assert run_tiny(tiny, results).returncode == 0
    assert ltbench("leaderboard", "--check", "--results", results).returncode == 0


def test_an_image_cache_that_finds_no_room_is_named(tiny, plan, undisturbed, disk, tmp_path, monkeypatch):
    folder = Store(tmp_path / "results").folder(plan.spec)
    monkeypatch.setenv("LTBENCH_CACHE", str(disk.path / "cache"))
    for leave in (0, 2 * PAGE):  # without room for a folder, and with some for a part of the pixels
        disk.fill(leave)
        refused(run_tiny(tiny, tmp_path / "results"), str(disk.path / "cache"), "are free", "LTBENCH_CACHE")
        assert folder.record() is None and not list(disk.path.glob("cache/*.npy"))
        disk.free()
    assert run_tiny(tiny, tmp_path / "results").returncode == 0
    assert outcome(folder.record()) == outcome(undisturbed)


# --- folders that vanish or cannot be written -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "name", "n"), [(Trainer, "_save", 3), (Claim, "store_logits", 1), (Claim, "finish", 1)]
)
@pytest.mark.parametrize("above", [0, 2], ids=["run", "results"])
def test_a_run_whose_folder_is_removed_is_not_done(
    tiny, plan, undisturbed, tmp_path, monkeypatch, owner, name, n, above
):
    results = tmp_path / "results"
    folder = Store(results).folder(plan.spec)
    removed = [folder.path, *folder.path.parents][above]
    with monkeypatch.context() as patch:
        save_every_step(patch)
        at_call(patch, owner, name, n, lambda: shutil.rmtree(removed))
        line = stopped(run_tiny(tiny, results), str(folder.path))
    assert "No such file" in line or "was removed" in line
    assert not removed.exists(), "made anew by halves"
    assert folder.state() == "pending"
    assert run_tiny(tiny, results).returncode == 0
    assert outcome(folder.record()) == outcome(undisturbed)


def test_results_that_can_only_be_read_are_shown_and_not_added_to(tiny, plan, tmp_path):
    store = write_scored(tmp_path / "store", [make_scored("erm")])
    with mounted(tmp_path / "bound", "--bind", str(store)) as results:
        subprocess.run(["mount", "-o", "remount,ro,bind", results], check=True)
        refused(run_tiny(tiny, results), str(results), "cannot be written", "--results")
        [row] = json.loads(ltbench("status", "--results", results, "--json").stdout)
        assert row["state"] == "done"
        assert ltbench("show", row["run"], "--results", results).returncode == 0
        refused(ltbench("leaderboard", "--results", results), str(results), "Read-only file system")


# --- leases that are garbage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(range(256)),
        b'{"token": "t", "host": "node7", "pid": 1}',
        b"[" * 100_000,
        json.dumps({"token": "t", "host": socket.gethostname(), "pid": 10**30, "started": "1", "job": ""}).encode(),
    ],
    ids=["empty", "binary", "short", "deep", "no-pid"],
)
def test_a_lease_that_is_garbage_is_named_and_hides_no_other_run(
    tiny, plan, undisturbed, tmp_path, monkeypatch, content
):
    results = write_store(tmp_path / "results", [make_record("asl", seed) for seed in range(2)])
    folder = Store(results).folder(plan.spec)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_end_epoch", interrupt)
        save_every_step(patch)
        assert run_tiny(tiny, results).returncode == 130
    lease = folder.path / "lease.json"
    lease.write_bytes(content)
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    refused(run_tiny(tiny, results), str(lease), "remove the file")
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before
    done = ltbench("status", "--results", results, "--json")
    states = {row["run"]: row for row in json.loads(done.stdout)}
    assert [states[name]["state"] for name in sorted(states)] == ["done", "done", "damaged"]
    assert str(lease) in states[folder.path.name]["note"]

    lease.unlink()
    done = run_tiny(tiny, results)
    assert "going on from step 2" in done.stderr
    assert outcome(folder.record()) == outcome(undisturbed)
