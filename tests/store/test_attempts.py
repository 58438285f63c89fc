"""How attempts end when they cannot say so themselves, and when trying again is worth nothing."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
from kit.paths import ROOT

import benchmark.store.lease
import benchmark.store.runs
from benchmark.errors import RunHeld, RunInterrupted
from benchmark.store.lease import LEASE_LIFETIME_S, Lease
from benchmark.store.runs import RunFolder


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs" / "erm-s0-0123456789ab")


def killed_attempt(folder: RunFolder, saved: bool) -> None:
    """An attempt in a process of its own that ends as by kill -9."""
    save = "claim.folder.checkpoint_path.write_bytes(b'x')" if saved else "pass"
    code = (
        "import os, sys; from pathlib import Path; from benchmark.store.runs import RunFolder\n"
        f"with RunFolder(Path({str(folder.path)!r})).claim() as claim:\n    {save}\n    os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)


def interrupted_attempt(folder: RunFolder, saved: bool) -> None:
    with pytest.raises(RunInterrupted), folder.claim() as claim:
        if saved:
            claim.folder.checkpoint_path.write_bytes(str(time.monotonic_ns()).encode())
        raise RunInterrupted("stopped")


def test_who_claims_next_notes_that_an_attempt_was_killed(folder):
    killed_attempt(folder, saved=True)
    assert folder.state() == "preempted" and folder.last_attempt()["outcome"] == "running"
    with folder.claim() as claim:
        first = json.loads((folder.path / "attempts" / "001.json").read_text())
        assert (first["outcome"], first["cause"], first["saved"]) == ("preempted", "killed", True)
        assert socket.gethostname() in first["message"] and claim.number == 2


def test_the_launcher_says_why_an_attempt_was_cut_off(folder):
    killed_attempt(folder, saved=False)
    folder.settle("killed", "its process ended by SIGKILL")
    last = folder.last_attempt()
    assert (last["cause"], last["message"], last["saved"]) == ("killed", "its process ended by SIGKILL", False)
    interrupted_attempt(folder, saved=True)
    folder.settle("killed", "no: it was asked to stop")
    assert folder.last_attempt()["cause"] == "interrupted"
    folder.settle("timeout", "the walltime ended")
    assert (folder.last_attempt()["cause"], folder.last_attempt()["saved"]) == ("timeout", True)
    folder.settle("killed", "not again")
    assert folder.last_attempt()["cause"] == "timeout", "what is known stays"


def test_nothing_is_settled_while_a_process_is_at_work(folder):
    with folder.claim():
        folder.settle("killed", "no")
        assert folder.last_attempt()["outcome"] == "running"


def test_idle_attempts_are_those_in_a_row_that_saved_nothing(folder):
    assert folder.idle_attempts(since=1) == []
    interrupted_attempt(folder, saved=False)
    interrupted_attempt(folder, saved=True)
    assert folder.idle_attempts(since=1) == []
    interrupted_attempt(folder, saved=False)
    killed_attempt(folder, saved=False)
    folder.settle("killed", "by SIGKILL")
    assert [attempt["attempt"] for attempt in folder.idle_attempts(since=1)] == [4, 3]
    assert [attempt["attempt"] for attempt in folder.idle_attempts(since=4)] == [4]


def test_giving_up_is_a_failed_attempt_with_its_cause(folder):
    folder.give_up("timeout", "no progress in 2 attempts")
    assert folder.state() == "failed"
    assert (folder.last_attempt()["cause"], folder.last_attempt()["message"]) == (
        "timeout",
        "no progress in 2 attempts",
    )
    with folder.claim(), pytest.raises(RunHeld):
        folder.give_up("timeout", "no")


def elsewhere(folder: RunFolder, job: str, age_s: float) -> None:
    """A lease of a process on another machine."""
    folder.path.mkdir(parents=True, exist_ok=True)
    lease = folder.path / "lease.json"
    facts = {"token": "t", "host": "another-node", "pid": 1, "started": "1", "job": job, "restarts": "0"}
    lease.write_text(json.dumps(facts))
    os.utime(lease, (time.time() - age_s,) * 2)


def test_a_lease_elsewhere_lives_as_long_as_its_heart_beats(folder):
    elsewhere(folder, "", LEASE_LIFETIME_S - 60)
    assert folder.state() == "running"
    elsewhere(folder, "", LEASE_LIFETIME_S + 60)
    assert folder.state() == "pending"


def test_a_job_that_starts_anew_on_another_node_knows_that_its_first_start_has_ended(folder, monkeypatch):
    elsewhere(folder, "77", 1)
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    assert folder.state() == "running"
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert folder.state() == "running", "another node of the same start"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert folder.state() == "pending"
    with folder.claim():
        assert Lease.read(folder.path / "lease.json").host == socket.gethostname()


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("echo 76; echo 77", "running"),  # the node is only silent, its job has not ended
        ("echo 76", "pending"),
        ("true", "pending"),
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", "running"),
    ],
)
def test_a_silent_owner_is_dead_only_when_its_job_is_gone(folder, monkeypatch, tmp_path, answer, state):
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f"#!/bin/sh\n{answer}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(squeue.parent), prepend=os.pathsep)
    benchmark.store.lease._jobs_in_queue.cache_clear()
    elsewhere(folder, "77", LEASE_LIFETIME_S + 60)
    assert folder.state() == state


def test_a_process_learns_at_a_heartbeat_that_its_run_is_not_its_own_any_more(folder, monkeypatch):
    monkeypatch.setattr(benchmark.store.runs, "HEARTBEAT_S", 0.01)
    with folder.claim() as claim:
        claim.check()
        elsewhere(folder, "", 0)
        with pytest.raises(Exception, match="another process took this run over"):
            while True:
                claim.check()
                time.sleep(0.01)
    assert json.loads((folder.path / "lease.json").read_text())["host"] == "another-node"


@pytest.mark.parametrize("hidden", ["by another user", "in another container"])
def test_a_living_owner_on_this_machine_keeps_its_run_whatever_any_clock_says(folder, monkeypatch, hidden):
    """Its process cannot be looked at, and its heartbeat seems to be an hour old, by either clock."""
    if not (machine := benchmark.store.lease.machine()):
        pytest.skip("this system does not tell its start")
    with folder.claim() as claim, monkeypatch.context() as patch:
        os.utime(folder.path / "lease.json", (time.time() - 3600,) * 2)
        if hidden == "by another user":
            patch.setattr(benchmark.store.lease, "process_start", lambda pid: "unknown")
        else:
            patch.setattr(benchmark.store.lease, "machine", lambda: f"{machine.partition(' ')[0]} pid:[1]")
            patch.setattr(socket, "gethostname", lambda: "container")
        assert folder.state() == "running"
        with pytest.raises(RunHeld), folder.claim():
            pass
        claim._lock.close()  # as its death does
        assert folder.last_attempt()["outcome"] == "running" and folder.state() == "preempted"


@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_a_clock_that_is_wrong_robs_no_owner_on_another_machine(folder, monkeypatch, ahead_s):
    elsewhere(folder, "", 1)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + ahead_s)
    assert folder.state() == "running"
    assert [path.name for path in folder.path.iterdir()] == ["lease.json"], "nothing is left of looking"
