"""What can be said of SLURM jobs without a SLURM: options, walltimes, when a run is given up, what is missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY_ARGS, refused

from benchmark.errors import RunFailed, RunInterrupted, StoreError
from benchmark.launch.crew import Slot
from benchmark.launch.slurm import ClusterJob, minutes, site_options
from benchmark.launch.sweeps import Sweeps
from benchmark.launch.worker import Order
from benchmark.store import RunFolder


@pytest.mark.parametrize(
    ("text", "expected"),
    [(60, 60), ("90", 90), ("30:00", 30), ("0:30", 1), ("2:00:00", 120), ("1-12", 2160), ("1-12:30", 2190)],
)
def test_walltimes_as_sbatch_reads_them(text, expected):
    assert minutes(text) == expected


@pytest.mark.parametrize("text", ["", "1h", "-5", 0, "0:00", True, 1.5, "1:2:3:4", [60]])
def test_other_walltimes_are_refused(text):
    assert repr(text) in refused(minutes, text)


def test_options_are_those_given_above_the_site_s(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert site_options({}) == {"time": 60, "signal_delay_s": 90}
    Path("slurm.yaml").write_text("partition: gpu\ntime: 4:00:00\nsetup: [module load cuda]\nreservation: lab\n")
    assert site_options({"partition": "long", "memory": "32G", "exclusive": False}) == {
        "partition": "long", "time": 240, "setup": ["module load cuda"], "reservation": "lab", "mem": "32G",
        "signal_delay_s": 90,
    }  # fmt: skip
    (tmp_path / "other.yaml").write_text("account: lab\n")
    monkeypatch.setenv("LTBENCH_SLURM", str(tmp_path / "other.yaml"))
    assert site_options({})["account"] == "lab"
    monkeypatch.setenv("LTBENCH_SLURM", str(tmp_path / "none.yaml"))
    assert "none.yaml" in refused(site_options, {})
    monkeypatch.delenv("LTBENCH_SLURM")
    assert "--slurm: setup" in refused(site_options, {"setup": ["rm -rf x"]}), "the site's file alone has lines to run"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partiton: gpu", "slurm.yaml: unknown option 'partiton'; did you mean 'partition'"),
        ("array-parallelism: 4", "slurm.yaml: array-parallelism is set by the sweep"),
        ("nodes: 2", "slurm.yaml: nodes is set by the sweep"),
        ("time: soon", "'soon'"),
        ("signal_delay_s: 5", "signal_delay_s 5"),
        ("time: 1", "1 minutes are no more than signal_delay_s"),
        ("comment: |\n  a\n  touch x", "comment: 'a\\ntouch x\\n' is not a value on one line"),
        ("gres: {gpu: 1}", "gres: {'gpu': 1} is not a value on one line"),
        ("partition:", "partition: None is not a value"),
        ("setup: module load cuda", "setup is a list of lines"),
        ("partition: [", "slurm.yaml"),
        ("- partition", "slurm.yaml"),
    ],
)
def test_a_wrong_site_file_is_told(tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    Path("slurm.yaml").write_text(text + "\n")
    assert words in refused(site_options, {})


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs" / "erm-s0-0123456789ab")


def job(folder: RunFolder, attempt: int = 1) -> ClusterJob:
    order = Order({"data_root": None}, {"attempt": attempt, "replaces": None}, str(folder.path), "cpu")
    return ClusterJob([order], retries=0, gpus=1, minutes=60, warning_s=90)


def cut_off(folder: RunFolder, saved: bool) -> None:
    with pytest.raises(RunInterrupted), folder.claim():
        if saved:
            folder.checkpoint_path.write_bytes(b"x")
        raise RunInterrupted("stopped")
    folder.settle("timeout", "the walltime of 60 minutes ended")


def test_two_attempts_without_progress_are_enough(folder):
    cut_off(folder, saved=False)
    assert job(folder)._comes_to_nothing(job(folder).orders[0]) is None
    cut_off(folder, saved=False)
    ending = job(folder)._comes_to_nothing(job(folder).orders[0])
    assert (ending.outcome, ending.cause) == ("failed", "timeout")
    assert folder.state() == "failed" and folder.last_attempt()["cause"] == "timeout"
    for word in ("no progress in 2 attempts", "the walltime of 60 minutes ended", "--slurm time=", "ltbench data"):
        assert word in folder.last_attempt()["message"]


def test_attempts_that_saved_something_may_be_as_many_as_it_takes(folder):
    for _ in range(5):
        folder.checkpoint_path.unlink(missing_ok=True)
        cut_off(folder, saved=True)
    assert job(folder)._comes_to_nothing(job(folder).orders[0]) is None


def test_attempts_before_the_sweep_do_not_count(folder):
    cut_off(folder, saved=False)
    cut_off(folder, saved=False)
    assert job(folder, attempt=3)._comes_to_nothing(job(folder, attempt=3).orders[0]) is None


def test_a_requeued_job_leaves_out_what_failed_in_it(folder):
    with pytest.raises(RunFailed), folder.claim():
        raise RunFailed("the loss became nan", cause="nan")
    ending = job(folder)._comes_to_nothing(job(folder).orders[0])
    assert (ending.outcome, ending.message, ending.cause) == ("failed", "the loss became nan", "nan")
    assert job(folder, attempt=2)._comes_to_nothing(job(folder, attempt=2).orders[0]) is None, (
        "the sweep tries it again"
    )


def test_what_somebody_has_done_meanwhile_has_not_failed(folder):
    with pytest.raises(RunFailed), folder.claim():
        raise RunFailed("the loss became nan", cause="nan")
    cut_off(folder, saved=False)
    cut_off(folder, saved=False)
    folder.record_path.write_text("a record")
    assert job(folder)._comes_to_nothing(job(folder).orders[0]) is None


def test_the_processes_of_a_job_know_their_place(monkeypatch, folder):
    one = job(folder)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert one._slot() == Slot("job", threads=8)
    one.gpus = 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert one._slot() == Slot("job", ("2", "3"), 2, 4)


def test_without_slurm_that_is_said(tiny, tmp_path):
    args = ["sweep", "--methods", "erm", "--datasets", tiny, *TINY_ARGS, "--results", tmp_path / "results"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.cli", *map(str, args), "--cluster", "slurm"],
        cwd=ROOT, env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: no SLURM found: sbatch is not on the PATH")


def test_a_damaged_sweep_file_is_named(tmp_path):
    sweeps = Sweeps(tmp_path)
    with sweeps.lock():
        sweep = sweeps.write(sweeps.new_folder(), "slurm", {"erm-s0-0123456789ab": "7_0"})
    assert sweeps.find(sweep.name[:8]) == sweep and sweeps.job_ids() == {"erm-s0-0123456789ab": "7_0"}
    path = tmp_path / "sweeps" / sweep.name / "sweep.json"
    path.write_text(json.dumps({"name": 3}))
    with pytest.raises(StoreError, match="sweep.json: not a sweep's file"):
        sweeps.all()
