"""Sweeps on this machine: worker processes, a queue, and everything that may go wrong with them."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kit.checks import refused
from kit.paths import ROOT
from kit.runs import execute_plan, outcome, wait_for
from kit.tiny import TINY, TINY_ARGS, write_tiny_dataset
from rich.console import Console

from benchmark.launch.backends import local as pool
from benchmark.launch.backends.local import Pool, local_slots
from benchmark.launch.crew import Slot
from benchmark.launch.jobs import decide_jobs
from benchmark.launch.worker import order
from benchmark.running.plan import make_plan
from benchmark.store.folder import RunFolder
from benchmark.store.runs import Store, load_records
from benchmark.ui.progress import Reporter

pytestmark = pytest.mark.slow

# Long enough to be stopped on the way.
EPOCHS = 600


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "benchmark.cli", *map(str, args)]


def ltbench(*args: object) -> subprocess.CompletedProcess:
    done = subprocess.run(command(*args), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert "Traceback" not in done.stderr
    return done


def sweep(tiny: Path, results: Path, *args: object) -> list[object]:
    return ["sweep", "--datasets", tiny, *TINY_ARGS, "--device", "cpu", "--results", results, *args]


def status(results: Path) -> list[dict]:
    return json.loads(ltbench("status", "--results", results, "--json").stdout)


def working(results: Path, number: int = 1) -> list[RunFolder]:
    """`number` runs that have trained for some epochs, once there are so many."""

    def begun() -> list[RunFolder]:
        logs = [log for log in results.glob("runs/*/run.log") if "epoch 5/" in log.read_text()]
        return [folder for folder in map(RunFolder, (log.parent for log in logs)) if folder.holder() is not None]

    return wait_for(lambda: found if len(found := begun()) >= number else None, 60, f"{number} runs at work")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A tiny dataset, and what the long run on it gives in this process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    tiny = write_tiny_dataset(folder / "tiny")
    record = execute_plan(make_plan("erm", str(tiny), **TINY | {"epochs": EPOCHS}), folder / "results", device="cpu")
    return tiny, outcome(record)


def test_a_queue_of_runs_on_two_slots_with_a_live_display(tiny, tmp_path):
    plans = [make_plan(method, str(tiny), seed=seed, **TINY) for method in ("erm", "asl") for seed in (0, 1)]
    orders = [order(job, tmp_path, "cpu") for job in decide_jobs(plans, tmp_path, "missing")]
    screen = io.StringIO()
    reporter = Reporter(Console(file=screen, force_terminal=True, width=150))
    endings = Pool(local_slots("cpu", workers=2), retries=0, reporter=reporter).run(orders)
    assert {ending.outcome for ending in endings.values()} == {"done"} and len(endings) == 4
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "CPU 0" in shown and "CPU 1" in shown and "2 running, 2 waiting" in shown
    assert "4 done, 0 failed, 0 running, 0 waiting" in shown and "[4/4] done: " in shown
    for plan in plans:
        folder = Store(tmp_path).folder(plan.spec)
        assert folder.state() == "done" and "epoch 2/2" in folder.log_path.read_text()
    here = execute_plan(plans[0], tmp_path / "here", device="cpu")
    there = next(r for r in load_records(tmp_path) if r.run_id == here.run_id)
    assert outcome(here) == outcome(there), "a worker process computes what this one does"


def test_a_failed_run_does_not_stop_the_others(tiny, tmp_path):
    bad = ["--set", "recipe.clip_norm=null", "--set", "recipe.optimizer.lr=1e30,1e-3"]
    done = ltbench(*sweep(tiny, tmp_path, "--methods", "erm,asl", *bad))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: 2 of 4 runs failed: ")
    rows = status(tmp_path)
    assert sorted(row["state"] for row in rows) == ["done", "done", "failed", "failed"]
    assert all(row["note"].startswith("nan: the loss became") for row in rows if row["state"] == "failed")
    done = ltbench(*sweep(tiny, tmp_path, "--methods", "erm,asl", *bad))
    assert done.returncode == 2 and "failed before" in done.stderr and "[1/" not in done.stderr, "not tried again"


def test_what_cannot_be_started_fails_with_its_cause(tiny, tmp_path):
    (tiny / "images" / "train3.png").write_text("no image")
    done = ltbench(*sweep(tiny, tmp_path / "results", "--methods", "erm", "--seeds", "0-1"))
    assert done.returncode == 2 and done.stderr.count("cannot be decoded as an image") == 3, (
        "each run, and the last line"
    )
    rows = status(tmp_path / "results")
    assert [row["state"] for row in rows] == ["failed"] * 2
    assert all(row["note"].startswith("data: ") and "train3.png" in row["note"] for row in rows)


def test_ctrl_c_saves_what_runs_and_the_same_command_goes_on(undisturbed, tmp_path):
    tiny, expected = undisturbed
    args = sweep(tiny, tmp_path, "--methods", "erm,asl,rw", "--epochs", EPOCHS, "--workers", "2")
    with subprocess.Popen(command(*args), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        working(tmp_path, 2)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "interrupted: run the same command again" in errors
    assert "Traceback" not in errors and "stopping: the runs that are going on save themselves" in errors
    rows = status(tmp_path)
    assert [row["state"] for row in rows] == ["preempted"] * 2, "the third had not begun"
    done = ltbench(*args)
    assert done.returncode == 0, done.stderr
    records = {record.spec.method: record for record in load_records(tmp_path)}
    assert outcome(records["erm"]) == expected
    assert sorted(record.attempts for record in records.values()) == [1, 2, 2]


def test_a_second_ctrl_c_ends_at_once(undisturbed, tmp_path):
    tiny, _ = undisturbed
    args = sweep(tiny, tmp_path, "--methods", "erm", "--epochs", "5000")
    with subprocess.Popen(command(*args), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        [folder] = working(tmp_path)
        os.kill(folder.holder().pid, signal.SIGSTOP)  # it cannot save itself
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130 and folder.state() == "preempted"


def test_a_killed_process_is_tried_again_and_then_given_up(undisturbed, tmp_path):
    tiny, expected = undisturbed
    args = sweep(tiny, tmp_path / "a", "--methods", "erm", "--epochs", EPOCHS, "--retries", "1")
    with subprocess.Popen(command(*args), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        [folder] = working(tmp_path / "a")
        os.kill(folder.holder().pid, signal.SIGKILL)
        errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0 and "by SIGKILL" in errors and "trying again" in errors
    [record] = load_records(tmp_path / "a")
    assert outcome(record) == expected and record.attempts == 2

    args[args.index(tmp_path / "a")] = tmp_path / "b"
    args[-1] = "0"
    with subprocess.Popen(command(*args), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        [folder] = working(tmp_path / "b")
        os.kill(folder.holder().pid, signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode == 2 and folder.state() == "failed"
    assert folder.attempts.last()["cause"] == "killed" and "SIGKILL" in folder.attempts.last()["message"]


def test_without_its_launcher_a_run_saves_itself(undisturbed, tmp_path):
    tiny, _ = undisturbed
    args = sweep(tiny, tmp_path, "--methods", "erm", "--epochs", "5000")
    with subprocess.Popen(command(*args), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        [folder] = working(tmp_path)
        process.kill()
    wait_for(lambda: folder.holder() is None, 60, "the worker to end")
    assert folder.state() == "preempted" and folder.attempts.last()["cause"] == "interrupted"
    assert folder.attempts.last()["saved"]


def test_cancel_and_logs_of_a_local_sweep(undisturbed, tmp_path):
    tiny, _ = undisturbed
    args = sweep(tiny, tmp_path, "--methods", "erm", "--epochs", "5000")  # never ends by itself
    with subprocess.Popen(command(*args), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        [folder] = working(tmp_path)
        follow = subprocess.Popen(
            command("logs", folder.path.name, "-f", "--results", tmp_path), cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        [row] = status(tmp_path)
        assert row["state"] == "running" and "epoch" in row["note"]
        held = ltbench(*args)
        assert held.returncode == 0 and "1 runs are being worked on by other processes" in held.stderr
        [name] = [path.name for path in (tmp_path / "sweeps").iterdir() if path.is_dir()]
        assert "is asked to stop" in ltbench("cancel", name[:10], "--results", tmp_path).stdout
        process.communicate(timeout=60)
    assert process.returncode == 130
    log = follow.communicate(timeout=60)[0]
    assert "epoch 5/5000" in log and log == folder.log_path.read_text()
    ended = ltbench("cancel", name, "--results", tmp_path)
    assert ended.returncode == 2 and "has ended" in ended.stderr
    unknown = ltbench("cancel", "nothing", "--results", tmp_path)
    assert unknown.returncode == 2 and "0 sweeps begin with 'nothing'; there are: " in unknown.stderr


def test_one_run_on_two_processes(tiny, tmp_path):
    args = ["--method", "erm", "--dataset", tiny, *TINY_ARGS, "--device", "cpu", "--results", tmp_path]
    done = ltbench("run", *args, "--gpus", "2", "--json")
    assert done.returncode == 0, done.stderr
    [record] = json.loads(done.stdout)
    assert record["environment"]["processes"] == 2
    uneven = ltbench("run", *args, "--gpus", "3", "--seed", "1")
    assert uneven.returncode == 2 and "cannot be divided among 3 processes" in uneven.stderr
    assert len(uneven.stderr.splitlines()) == 1


@pytest.fixture
def four_gpus(monkeypatch):
    monkeypatch.setattr(pool, "visible_gpus", lambda: ["0", "1", "4", "5"])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
    monkeypatch.delenv("OMP_NUM_THREADS")


def test_slots_share_the_gpus_and_the_cores(four_gpus, monkeypatch):
    assert local_slots("auto") == [Slot(f"GPU {i}", (i,), 1, 2) for i in ("0", "1", "4", "5")]
    assert local_slots("cuda", gpus=2) == [Slot("GPU 0,1", ("0", "1"), 2, 2), Slot("GPU 4,5", ("4", "5"), 2, 2)]
    assert local_slots("auto", workers=1) == [Slot("GPU 0", ("0",), 1, 8)]
    assert local_slots("cpu", workers=2) == [Slot(f"CPU {i}", processes=1, threads=4) for i in range(2)]
    assert local_slots("cpu", gpus=2) == [Slot("CPU", processes=2, threads=4)]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [slot.threads for slot in local_slots("auto")] == [2] * 4, "no more than its part of the cores"
    assert [slot.threads for slot in local_slots("cpu")] == [3]
    assert "sees 4 GPUs" in refused(local_slots, "auto", workers=5)
    assert "sees 4 GPUs" in refused(local_slots, "auto", gpus=8)
    assert "--workers 0" in refused(local_slots, "auto", workers=0)
    assert "'cuda:1'" in refused(local_slots, "cuda:1")


def test_each_process_of_a_slot_has_its_gpu_and_knows_the_others():
    [first, second] = Slot("x", ("4", "5"), 2, 3).environments()
    assert (first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]) == ("4", "5")
    assert (first["RANK"], second["RANK"], first["WORLD_SIZE"], first["OMP_NUM_THREADS"]) == ("0", "1", "2", "3")
    assert first["MASTER_PORT"] == second["MASTER_PORT"]
    assert Slot("x").environments() == [{"WORLD_SIZE": "1"}]
    [third] = Slot("x", node=2, nodes=3, address="node0", port=20001).environments()
    assert third == {"WORLD_SIZE": "3", "MASTER_ADDR": "node0", "MASTER_PORT": "20001", "RANK": "2", "LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cluster", "local", "--pack", "2"], "--pack has no effect with --cluster local"),
        (["--cluster", "inline", "--gpus", "2"], "--gpus has no effect with --cluster inline"),
        (["--cluster", "inline", "--retries", "0"], "--retries has no effect with --cluster inline"),
        (["--array-parallelism", "2"], "--array-parallelism has no effect with --cluster local"),
        (["--cluster", "slurm", "--device", "cuda:1"], "--device 'cuda:1'"),
        (["--cluster", "slurm", "--workers", "2"], "--workers has no effect with --cluster slurm"),
        (["--cluster", "local", "--slurm", "time=1"], "--slurm has no effect with --cluster local"),
    ],
)
def test_options_without_effect_are_refused(tiny, tmp_path, options, words):
    done = ltbench(*sweep(tiny, tmp_path / "results", "--methods", "erm", *options))
    assert done.returncode == 2 and words in done.stderr.splitlines()[-1]
    assert not (tmp_path / "results").exists()
