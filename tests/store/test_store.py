"""The run store: writing, claims, attempts, records, logits and checkpoints."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit.factories import make_record, write_store
from kit.paths import ROOT

from benchmark.base.atomic import write_atomically
from benchmark.errors import InputError, LtbenchError, RunFailed, RunInterrupted, StoreError
from benchmark.store import runs
from benchmark.store.lease import Lease
from benchmark.store.logits import load_logits, read_logits
from benchmark.store.records import Record
from benchmark.store.runs import Claim, RunFolder, Store, load_records, record_paths
from benchmark.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return Store(tmp_path).folder(make_record().spec)


@contextlib.contextmanager
def refused(*words: str):
    """The block ends in a StoreError: one line that holds these words."""
    with pytest.raises(StoreError) as error:
        yield
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@contextlib.contextmanager
def full_disk():
    """Every write to a file fails, as on a full disk; files can still be made."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


# Writing


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
    with monkeypatch.context() as patch, refused(str(path), "No space left on device", "what was there stays"):
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

    with monkeypatch.context() as patch, refused(f"what was there stays; {remedy.format(tmp_path)}"):
        patch.setattr(os, "fsync", fail)
        write_atomically(tmp_path / "x.json", b"new")


def test_a_write_into_no_folder_names_the_folder_to_make(tmp_path):
    with refused("No such file or directory", f"make the folder {tmp_path / 'none'}, or choose another one"):
        write_atomically(tmp_path / "none" / "x.zip", b"new")


def test_write_that_stops_half_way_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"old")
    with full_disk(), refused(str(path), "cannot be written"):
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
        with refused(str(path), "cannot be written"):
            write_atomically(path, b"new")


# Claims


def test_claimed_run_is_running_and_then_given_back(folder):
    assert folder.state() == "pending"
    with folder.claim() as claim:
        assert (folder.state(), claim.number) == ("running", 1)
        with refused(str(folder.path), f"process {os.getpid()}", socket.gethostname()), folder.claim():
            raise AssertionError("claimed twice")
        assert folder.state() == "running"  # the refused claim took nothing away
    assert folder.state() == "preempted"
    with folder.claim() as claim:
        assert claim.number == 2
    assert not [name for name in names(folder.path) if "lease" in name]


def test_runs_are_claimed_one_by_one(tmp_path):
    one, other = (Store(tmp_path).folder(make_record(seed=seed).spec) for seed in (0, 1))
    with one.claim(), other.claim():
        assert one.state() == other.state() == "running"


def test_claim_where_the_results_folder_is_a_file(tmp_path):
    (tmp_path / "results").write_text("in the way")
    folder = Store(tmp_path / "results").folder(make_record().spec)
    assert folder.state() == "pending"
    with refused(str(tmp_path / "results"), "cannot be written", "--results"), folder.claim():
        raise AssertionError("claimed")


def test_claim_on_a_full_disk_leaves_no_lease(folder):
    with full_disk(), refused("cannot be written"), folder.claim():
        raise AssertionError("claimed")
    assert folder.state() == "pending"
    assert not [name for name in names(folder.path) if "lease" in name]
    with folder.claim() as claim:
        assert claim.number == 1


def test_disk_that_fills_up_hides_no_error_and_leaves_the_run_to_go_on(folder):
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.raises(RunFailed, match="nan"))
        with folder.claim():
            stack.enter_context(full_disk())
            raise RunFailed("the loss is nan", cause="nan")
    assert folder.state() == "preempted"


HOLD = """
import sys
from pathlib import Path
from benchmark.store.runs import RunFolder
with RunFolder(Path(sys.argv[1])).claim():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(folder):
    """Another process that holds the run until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_run_of_another_process_is_taken_over_once_it_is_killed(folder, holder):
    with refused(f"process {holder.pid} on {socket.gethostname()}"), folder.claim():
        raise AssertionError("claimed twice")
    os.utime(folder.path / "lease.json", (0, 0))
    assert folder.state() == "running"  # on this host the process counts, not the heartbeat
    holder.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    assert folder.state() == "preempted"  # also while nobody has asked how the process ended
    holder.wait()
    assert folder.state() == "preempted"
    with folder.claim() as claim:
        assert (folder.state(), claim.number) == ("running", 2)


def test_run_of_another_process_is_free_once_it_ends(folder, holder):
    holder.stdin.close()
    assert holder.wait() == 0
    assert folder.state() == "preempted"
    with folder.claim():
        pass


RACE = """
import json, multiprocessing, os, sys, time
from pathlib import Path
from benchmark.errors import StoreError
from benchmark.store.runs import RunFolder

fork = multiprocessing.get_context("fork")
path, lease = Path(sys.argv[1]), sys.argv[2]
PROCESSES = 8


def once(path, start, end, wins):
    start.wait()
    try:
        with RunFolder(path).claim():
            wins.put(os.getpid())
            end.wait()
    except StoreError:
        end.wait()


def again_and_again(path, until, start, numbers, overlaps):
    start.wait()
    while time.time() < until:
        try:
            with RunFolder(path).claim() as claim:
                try:
                    os.close(os.open(path / "inside", os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    overlaps.put(1)
                    continue
                time.sleep(0.001)
                os.unlink(path / "inside")
                numbers.put(claim.number)
        except StoreError:
            pass


def drained(queue):
    values = []
    while not queue.empty():
        values.append(queue.get())
    return values


def race(target, *args):
    processes = [fork.Process(target=target, args=args) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert all(process.exitcode == 0 for process in processes), [process.exitcode for process in processes]


wins = []
for number in range(6):
    folder = path / f"dead{number}"
    folder.mkdir()
    if number % 3:
        (folder / "lease.json").write_text(lease)
    queue = fork.SimpleQueue()
    race(once, folder, fork.Barrier(PROCESSES), fork.Barrier(PROCESSES), queue)
    wins.append(len(drained(queue)))
numbers, overlaps = fork.SimpleQueue(), fork.SimpleQueue()
race(again_and_again, path / "busy", time.time() + 1.5, fork.Barrier(PROCESSES), numbers, overlaps)
print(json.dumps({"wins": wins, "numbers": sorted(drained(numbers)), "overlaps": len(drained(overlaps))}))
"""


def lease_text(**changes: Any) -> str:
    """The lease of a process that is gone."""
    lease = {"token": "t", "host": socket.gethostname(), "pid": os.getpid(), "started": "1", "job": ""}
    return json.dumps(lease | changes)


def test_of_many_processes_one_at_a_time_wins(tmp_path):
    (tmp_path / "busy").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", RACE, str(tmp_path), lease_text()], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wins"] == [1] * 6
    assert found["overlaps"] == 0
    assert len(found["numbers"]) > 10
    assert found["numbers"] == list(range(1, len(found["numbers"]) + 1))  # no attempt's number was given twice


def test_nobody_removes_the_lease_of_who_came_first(folder, monkeypatch):
    # The one process has seen the run held and is about to claim it all the same; the other judges the lease just
    # when it is given back.
    about_to_claim, go_on, ended, stop = (threading.Event() for _ in range(4))
    link, read = os.link, Lease.read
    winners = []

    def slow_link(*args: Any) -> None:
        if threading.current_thread() is one:
            about_to_claim.set()
            go_on.wait(0.3)
        link(*args)

    def slow_read(path: Path) -> Lease | None:
        if threading.current_thread() is not one and not go_on.is_set():
            path.unlink()
            found = read(path)
            go_on.set()
            ended.wait(0.3)
            return found
        return read(path)

    def claim() -> None:
        with contextlib.suppress(StoreError), folder.claim():
            winners.append("one")
            ended.set()
            stop.wait(5)

    put_lease(folder, host="node7")
    monkeypatch.setattr(os, "link", slow_link)
    monkeypatch.setattr(Lease, "read", slow_read)
    one = threading.Thread(target=claim)
    one.start()
    assert about_to_claim.wait(5)
    with contextlib.suppress(StoreError), folder.claim():
        winners.append("other")
    stop.set()
    one.join()
    assert len(winners) == 1


def put_lease(folder: RunFolder, age_s: float = 0.0, **changes: Any) -> Path:
    folder.path.mkdir(parents=True, exist_ok=True)
    path = folder.path / "lease.json"
    path.write_text(lease_text(**changes))
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


def test_lease_of_another_host_lives_by_its_heartbeat(folder):
    put_lease(folder, age_s=60, host="node7", pid=1)
    assert folder.state() == "running"
    with refused("process 1 on node7"), folder.claim():
        raise AssertionError("claimed twice")
    put_lease(folder, age_s=3600, host="node7", pid=1)
    assert folder.state() == "pending"
    with folder.claim():
        assert folder.state() == "running"


def test_process_of_the_same_number_is_not_the_owner(folder):
    put_lease(folder, pid=os.getpid(), started="1")
    assert folder.state() == "pending"
    with folder.claim():
        pass


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"token": "t"}',
        lease_text(user="x").encode(),
        lease_text(pid="x").encode(),
        lease_text(host=None).encode(),
    ],
    ids=["empty", "cut", "list", "null", "bytes", "short", "long", "pid", "host"],
)
def test_garbage_in_place_of_a_lease_is_named_and_kept(folder, content):
    path = put_lease(folder, age_s=3600)
    path.write_bytes(content)
    os.utime(path, (0, 0))
    with refused(str(path), "not a lease", "remove the file"):
        folder.state()
    with refused(str(path), "not a lease"), folder.claim():
        raise AssertionError("claimed")
    assert path.read_bytes() == content


def wait_for(condition, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def test_heart_beats_while_the_run_is_held(folder, monkeypatch):
    monkeypatch.setattr(runs, "HEARTBEAT_S", 0.005)
    path = folder.path / "lease.json"
    threads = threading.active_count()
    with folder.claim():
        os.utime(path, (0, 0))
        assert wait_for(lambda: path.stat().st_mtime > 0)
    assert threading.active_count() == threads


def test_owner_that_lost_the_run_neither_beats_nor_finishes_nor_releases(folder, monkeypatch):
    monkeypatch.setattr(runs, "HEARTBEAT_S", 0.005)
    with refused("another process took this run over"), folder.claim() as claim:
        path = put_lease(folder, age_s=3600, host="node7")
        time.sleep(0.05)
        assert path.stat().st_mtime < time.time() - 3000
        claim.finish(make_record())
    assert not folder.record_path.exists()
    assert path.read_text() == lease_text(host="node7")


# Attempts


def attempt(folder: RunFolder, error: BaseException | None = None) -> Claim:
    with contextlib.suppress(BaseException), folder.claim() as claim:
        if error is not None:
            raise error
    return claim


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RunFailed("the loss is nan", cause="nan"), "nan"),
        (RunFailed("out of memory", cause="oom"), "oom"),
        (LtbenchError("something"), "code"),
        (ValueError("wrong\nshape"), "code"),
        (AssertionError(), "code"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_error_is_written_down_and_goes_on(folder, error, cause):
    with pytest.raises(type(error)) as raised, folder.claim():
        raise error
    assert raised.value is error
    assert folder.state() == "failed"
    last = folder.last_attempt()
    assert (last["outcome"], last["cause"], last["message"]) == ("failed", cause, str(error))
    if isinstance(error, LtbenchError):
        assert last["traceback"] == ""  # the message explains itself
    else:
        assert type(error).__name__ in last["traceback"] and Path(__file__).name in last["traceback"]
    assert (last["attempt"], last["pid"], last["host"]) == (1, os.getpid(), socket.gethostname())
    assert last["started"] <= last["ended"]


def test_what_could_not_be_started_leaves_no_trace(tmp_path):
    folder = Store(tmp_path / "results").folder(make_record().spec)
    with pytest.raises(InputError), folder.claim():
        raise InputError("2 images are missing")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RunInterrupted("stopped"), SystemExit(1)], ids=repr)
def test_interrupted_run_is_preempted_not_failed(folder, error):
    with pytest.raises(type(error)), folder.claim():
        folder.checkpoint_path.write_bytes(b"where to go on")
        raise error
    assert folder.state() == "preempted"
    last = folder.last_attempt()
    assert (last["outcome"], last["cause"], last["traceback"]) == ("preempted", "interrupted", "")
    assert folder.checkpoint_path.exists()


def test_attempt_keeps_the_end_of_the_log(folder):
    with contextlib.suppress(ValueError), folder.claim():
        folder.log_path.write_bytes(b"".join(b"line %d \xff\n" % number for number in range(30)))
        raise ValueError
    tail = folder.last_attempt()["log_tail"]
    assert len(tail) == 20 and tail[-1].startswith("line 29") and tail[0].startswith("line 10")


def test_attempts_are_numbered_and_the_last_one_counts(folder):
    assert folder.last_attempt() is None
    outcomes = [ValueError("1"), KeyboardInterrupt(), None, RunFailed("4", cause="oom")]
    states = []
    for number, error in enumerate(outcomes, start=1):
        assert attempt(folder, error).number == number
        states.append(folder.state())
    assert states == ["failed", "preempted", "preempted", "failed"]
    assert names(folder.path / "attempts") == ["001.json", "002.json", "003.json", "004.json"]
    assert folder.last_attempt()["message"] == "4"


def test_number_of_an_attempt_is_not_given_again(folder):
    for text in ("first", "second"):
        attempt(folder, ValueError(text))
    (folder.path / "attempts" / "001.json").unlink()
    assert attempt(folder, ValueError("third")).number == 3
    assert [json.loads(path.read_text())["message"] for path in sorted((folder.path / "attempts").iterdir())] == [
        "second",
        "third",
    ]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_attempt_that_is_not_whole_is_named(folder, content):
    attempt(folder, ValueError("x"))
    path = folder.path / "attempts" / "001.json"
    path.write_bytes(content)
    with refused(str(path), "remove it"):
        folder.state()


# The record


LOGITS = {
    "raw": np.array([[0.1, -2.5, 3e-30], [1e30, 0.0, -0.0]], np.float32),
    "ema": np.zeros((2, 3), np.float32),
}
TARGETS = np.array([[1, 0, 0], [0, 1, 1]], np.uint8)


def finish(folder: RunFolder, logits: dict[str, np.ndarray] = LOGITS, **changes: Any) -> Record:
    with folder.claim() as claim:
        reference = claim.store_logits(logits, TARGETS).model_dump()
        record = make_record(logits=reference, attempts=claim.number, **changes)
        claim.finish(record)
    return record


def test_finished_run_is_done_and_keeps_what_it_should(folder, tmp_path):
    attempt(folder, ValueError("first"))
    folder.checkpoint_path.write_bytes(b"x")
    folder.log_path.write_text("log")
    stale = folder.path / "logits-0123456789abcdef.safetensors"
    stale.write_bytes(b"x")
    record = finish(folder)
    assert folder.state() == "done" and folder.record() == record and record.attempts == 2
    assert names(folder.path / "attempts") == ["001.json"]
    assert sorted({*names(folder.path)} - {"lock"}) == ["attempts", record.logits.file, "record.json", "run.log"]
    assert list(load_records(tmp_path)) == [record]


def test_record_is_whole_or_not_there(folder):
    with refused("record.json", "cannot be written"), folder.claim() as claim:
        folder.checkpoint_path.write_bytes(b"x")
        with full_disk():
            claim.finish(make_record())
    assert folder.record() is None
    assert folder.state() == "preempted" and folder.last_attempt()["cause"] == "disk", "the run itself is sound"
    assert folder.checkpoint_path.exists()


def test_run_that_is_done_stays_done_until_another_record_replaces_it(folder, tmp_path):
    first = finish(folder)
    other = {"raw": LOGITS["raw"] + 1}
    with pytest.raises(ValueError), folder.claim() as claim:
        claim.store_logits(other, TARGETS)
        raise ValueError
    assert folder.state() == "done" and folder.record() == first
    assert np.array_equal(load_logits(tmp_path, first)[0]["raw"], LOGITS["raw"])
    second = finish(folder, other, overall=70.0)
    assert folder.record() == second
    assert names(folder.path).count(first.logits.file) == 0
    assert np.array_equal(load_logits(tmp_path, second)[0]["raw"], other["raw"])


def test_record_that_is_not_whole_is_no_proof(folder):
    finish(folder)
    text = folder.record_path.read_text()
    for length in (0, 1, len(text) // 2, len(text) - 5):
        folder.record_path.write_text(text[:length])
        with refused(str(folder.record_path)):
            folder.state()


def test_record_of_another_run_is_no_proof(folder, tmp_path):
    other = make_record(seed=1)
    folder.path.mkdir(parents=True)
    folder.record_path.write_text(other.to_json())
    for look in (folder.state, folder.record, lambda: list(load_records(tmp_path))):
        with refused(str(folder.record_path), other.spec.folder_name, "remove the copy"):
            look()


# Finding


@pytest.fixture
def filled(tmp_path) -> tuple[Store, list[Record]]:
    records = [make_record("asl", seed) for seed in range(17)]
    return Store(write_store(tmp_path, records)), records


def test_run_is_found_by_folder_name_by_its_id_and_by_the_beginning_of_either(filled):
    store, records = filled
    for record in records[:3]:
        name, run_id = record.spec.folder_name, record.run_id
        for run in (name, name[:-4], name[: len("asl-s0-")], run_id, run_id[:12], run_id[:8], run_id[:8].upper()):
            assert store.find(run).record() == record


def test_run_that_is_not_one_is_not_found(filled):
    store, records = filled
    first = [record.run_id[0] for record in records]
    ambiguous = max(set(first), key=first.count)  # 17 runs, 16 digits
    with refused(f"{first.count(ambiguous)} runs match {ambiguous!r}", "asl-s"):
        store.find(ambiguous)
    with refused("17 runs match 'asl'", "asl-s0"):
        store.find("asl")
    for run in ("", "erm", "asl-s0-g", "g" * 12, "../runs", "*"):
        with refused(f"no finished run matches {run!r}"):
            store.find(run)


def test_every_digit_of_an_id_counts(filled):
    store, records = filled
    record = records[0]
    assert store.find(record.run_id[:20].upper()).record() == record
    for rest in ("zzz", "-", f"{int(not int(record.run_id[12], 16))}", record.run_id[12:] + "0"):
        with refused("no finished run matches"):
            store.find(record.run_id[:12] + rest)


def test_unfinished_run_is_not_found(tmp_path):
    folder = Store(tmp_path).folder(make_record().spec)
    attempt(folder, ValueError("x"))
    with refused("no finished run matches"):
        Store(tmp_path).find(folder.path.name)
    with refused("no finished run matches"):
        Store(tmp_path / "missing").find("a")


def test_records_come_sorted_by_folder(filled):
    store, _ = filled
    loaded = [record.spec.folder_name for record in load_records(store.root)]
    assert loaded == sorted(loaded) and len(loaded) == 17
    with refused("missing", "no such results folder"):
        list(load_records(store.root / "missing"))


def test_records_that_are_not_whole_are_raised_or_collected(filled):
    store, records = filled
    cut = store.folder(records[3].spec).record_path
    cut.write_text(cut.read_text()[:700])
    copy = store.root / "runs" / "copy-s0-0123456789ab"
    shutil.copytree(store.folder(records[4].spec).path, copy)
    with refused(str(cut)):
        list(load_records(store.root))
    problems: list[StoreError] = []
    loaded = list(load_records(store.root, problems))
    assert {record.run_id for record in loaded} == {record.run_id for record in records} - {records[3].run_id}
    assert len(loaded) == 16
    assert [str(problem).split(": ")[0] for problem in problems] == [str(cut), str(copy / "record.json")]
    assert f"the record of {records[4].spec.folder_name}" in str(problems[1])


def test_a_record_that_is_a_link_without_content_is_a_problem_and_not_passed_over(filled):
    store, records = filled
    path = store.folder(records[3].spec).record_path
    path.unlink()
    path.symlink_to("../../annex/objects/SHA256E-s9.json")
    problems: list[StoreError] = []
    assert len(list(load_records(store.root, problems))) == 16
    assert [str(problem) for problem in problems] == [f"{path}: cannot be read: No such file or directory"]
    folder = store.find(path.parent.name)
    for look in (folder.record, folder.state):
        with refused(str(path), "cannot be read"):
            look()


def test_only_runs_with_a_record_have_a_path(filled):
    store, records = filled
    (store.root / "runs" / "a-file").write_text("")
    (store.root / "runs" / ".asl-s0-0123456789ab.import").mkdir()
    (store.root / "runs" / ".asl-s0-0123456789ab.import" / "record.json").write_text("{")
    unfinished = store.folder(records[0].spec).record_path
    unfinished.unlink()
    assert record_paths(store.root) == sorted(store.folder(record.spec).record_path for record in records[1:])
    assert record_paths(store.root / "missing") == []


# Logits


def test_logits_come_back_bit_for_bit(folder, tmp_path):
    record = finish(folder)
    logits, targets = load_logits(tmp_path, record)
    assert set(logits) == {"raw", "ema"}
    for name, values in LOGITS.items():
        assert logits[name].dtype == np.float32 and logits[name].tobytes() == values.tobytes()
    assert targets.dtype == np.uint8 and np.array_equal(targets, TARGETS)


def test_validation_logits_are_no_weight_set(folder, tmp_path):
    validation = LOGITS["raw"][:1], TARGETS[:1]
    with folder.claim() as claim:
        reference = claim.store_logits(LOGITS, TARGETS, validation)
        claim.finish(record := make_record(logits=reference.model_dump(), attempts=claim.number))
    assert set(load_logits(tmp_path, record)[0]) == {"raw", "ema"}
    stored = read_logits(folder.path / reference.file, reference.sha256)
    for found, given in zip(stored.validation, validation, strict=True):
        assert found.dtype == given.dtype and np.array_equal(found, given)
    assert read_logits(folder.path / finish(folder).logits.file, folder.record().logits.sha256).validation is None


def test_logits_are_named_by_their_content(folder):
    with folder.claim() as claim:
        first = claim.store_logits(LOGITS, TARGETS)
        assert claim.store_logits(LOGITS, TARGETS) == first
        assert claim.store_logits(LOGITS, 1 - TARGETS) != first
    content = (folder.path / first.file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == first.sha256


def test_logits_that_are_not_the_records_are_refused(folder, tmp_path):
    record = finish(folder)
    path = folder.path / record.logits.file
    content = path.read_bytes()
    for wrong in (content[:-1], content + b"\0", content[:-1] + bytes([content[-1] ^ 1]), b""):
        path.write_bytes(wrong)
        with refused(str(path), "and the record names"):
            load_logits(tmp_path, record)
    path.unlink()
    with refused(str(path), "cannot be read"):
        load_logits(tmp_path, record)


def test_logits_that_are_no_safetensors_are_refused(folder, tmp_path):
    content = b"no tensors"
    digest = hashlib.sha256(content).hexdigest()
    record = make_record(logits={"file": f"logits-{digest[:16]}.safetensors", "sha256": digest})
    folder.path.mkdir(parents=True)
    (folder.path / record.logits.file).write_bytes(content)
    with refused(record.logits.file, "not a safetensors file"):
        load_logits(tmp_path, record)


# Checkpoints


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"weights": {"w": torch.arange(600.0)}, "step": 7, "random": torch.get_rng_state()})
    return path


def signed(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


def test_checkpoint_comes_back(checkpoint):
    state = load_checkpoint(checkpoint)
    assert state["step"] == 7 and torch.equal(state["weights"]["w"], torch.arange(600.0))
    assert torch.equal(state["random"], torch.get_rng_state())
    assert load_checkpoint(checkpoint.with_name("none.pt")) is None
    assert names(checkpoint.parent) == ["checkpoint.pt"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.99, 0.9999])
def test_truncated_checkpoint_is_refused(checkpoint, share):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(len(content) * share)])
    with refused(str(checkpoint), "truncated or damaged"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("place", [0, 100, 1500, -33, -32, -1])
def test_checkpoint_with_a_flipped_byte_is_refused(checkpoint, place):
    content = bytearray(checkpoint.read_bytes())
    content[place] ^= 0x40
    checkpoint.write_bytes(content)
    with refused(str(checkpoint), "truncated or damaged"):
        load_checkpoint(checkpoint)


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("saved", [True, False], ids=["torch", "pickle"])
def test_checkpoint_runs_no_code(checkpoint, saved):
    sprung = checkpoint.with_name("sprung")
    buffer = io.BytesIO()
    if saved:
        torch.save({"weights": Trap(sprung)}, buffer)
    else:
        pickle.dump({"weights": Trap(sprung)}, buffer, protocol=2)
    checkpoint.write_bytes(signed(buffer.getvalue()))
    with refused(str(checkpoint), "not a checkpoint"):
        load_checkpoint(checkpoint)
    assert not sprung.exists()


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04", b"\x80\x02.", pickle.dumps([1, 2], protocol=2)[:-1]])
def test_other_content_is_no_checkpoint(checkpoint, content):
    checkpoint.write_bytes(signed(content))
    with refused(str(checkpoint), "not a checkpoint"):
        load_checkpoint(checkpoint)


def test_checkpoint_that_cannot_be_read_or_written_is_named(checkpoint):
    before = checkpoint.read_bytes()
    with full_disk(), refused(str(checkpoint), "cannot be written"):
        save_checkpoint(checkpoint, {"step": 8})
    assert checkpoint.read_bytes() == before
    with refused(str(checkpoint.parent), "cannot be read"):
        load_checkpoint(checkpoint.parent)
