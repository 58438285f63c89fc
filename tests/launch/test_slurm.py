"""Sweeps on a real SLURM: tests/slurm/start runs one on this machine, and .ci/run starts it."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kit.paths import ROOT
from kit.runs import outcome, wait_for
from kit.tiny import TINY_ARGS, write_tiny_dataset

from benchmark.store.folder import RunFolder
from benchmark.store.records import Record
from benchmark.store.runs import load_records

pytestmark = pytest.mark.slow

# Long enough to be interrupted on the way.
LONG = [*TINY_ARGS, "--epochs", "500", "--device", "cpu"]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """The tests' own cluster, never a site's."""
    found = ""
    if shutil.which("scontrol"):
        found = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False).stdout
    if not re.search(r"^ClusterName\s*=\s*ltbench-tests$", found, re.M):
        pytest.skip("the tests' SLURM does not run: as root on Debian, tests/slurm/start DIR and export SLURM_CONF")
    yield
    subprocess.run(["scancel", "--user=root"], check=False)


@pytest.fixture
def results(tmp_path):
    """A results folder; jobs that a failed test left behind end with it."""
    yield tmp_path / "results"
    subprocess.run(["scancel", "--user=root"], check=False)
    wait_for(lambda: not squeue(), 60, "the queue to be empty")


def ltbench(*args: object, code: int = 0) -> str:
    """Standard output of a call, as a user's shell makes it; with code 2 what it said on standard error."""
    command = [sys.executable, "-m", "benchmark.cli", *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    return done.stderr if code else done.stdout


def submit(results: Path, *args: object) -> dict[str, str]:
    """Name of the run -> job id."""
    slurm = ("--cluster", "slurm", "--device", "cpu", "--slurm", "cpus=1", "--results", results, "--json")
    text = ltbench("sweep", *args, *slurm)
    return json.loads(text)["jobs"]


def squeue() -> list[str]:
    done = subprocess.run(["squeue", "-h", "-r", "-o", "%i"], capture_output=True, text=True, check=True)
    return done.stdout.split()


def scontrol(*args: str) -> str:
    return subprocess.run(["scontrol", *args], capture_output=True, text=True, check=True).stdout


def wait_for_log(folder: RunFolder, word: str, seconds: float = 60) -> None:
    def said() -> bool:
        return folder.log_path.exists() and word in folder.log_path.read_text()

    wait_for(said, seconds, f"{word!r} in {folder.log_path}")


def wait_until_done(results: Path, runs, seconds: float = 150) -> list[Record]:
    folders = [RunFolder(results / "runs" / run) for run in runs]
    wait_for(lambda: all(folder.record_path.exists() for folder in folders), seconds, "every record")
    wait_for(lambda: not squeue(), 60, "the jobs to end")
    records = list(load_records(results))
    assert len(records) == len(folders) and all(folder.state() == "done" for folder in folders)
    return records


def attempts(folder: RunFolder) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((folder.path / "attempts").iterdir())]


@contextlib.contextmanager
def held_until_warned(folder: RunFolder):
    """What the block makes SLURM do finds the run training, however fast the machine is."""
    wait_for_log(folder, "epoch 10/")
    pid = folder.holder().pid

    def status(key: str) -> str:
        text = Path(f"/proc/{pid}/status").read_text()
        return re.search(rf"^{key}:\s*(\w+)", text, re.M)[1]

    def warned() -> bool:
        """SIGTERM waits for it; or SLURM, which sends SIGCONT first where it ends a job, has let it go."""
        with contextlib.suppress(OSError):
            pending = int(status("SigPnd"), 16) | int(status("ShdPnd"), 16)
            return status("State") != "T" or bool(pending >> (signal.SIGTERM - 1) & 1)
        return True

    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: status("State") == "T", 10, "the run to be held")
        yield
        wait_for(warned, 120, "SLURM's warning")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the long run on a tiny dataset gives when nothing happens to it: the dataset, the outcome."""
    folder = tmp_path_factory.mktemp("undisturbed")
    tiny = write_tiny_dataset(folder / "tiny")
    ltbench("run", "--method", "erm", "--dataset", tiny, *LONG, "--results", folder / "results")
    [record] = load_records(folder / "results")
    return tiny, outcome(record)


def same(record: Record, expected: dict) -> None:
    """The same computation; only where it ran differs."""
    found = outcome(record)
    assert found["environment"].pop("scheduler")["SLURM_JOB_ID"]
    assert expected["environment"]["scheduler"] == {}
    assert found == expected | {"environment": {k: v for k, v in expected["environment"].items() if k != "scheduler"}}


def test_an_array_of_runs_on_the_demo_set(results):
    jobs = submit(results, "--methods", "erm,asl", "--seeds", "0-1", "--epochs", "1", "--pack", "2")
    assert len(jobs) == 4 and len(set(jobs.values())) == 2, "four runs, two in a job"
    assert len({job.partition("_")[0] for job in jobs.values()}) == 1, "one array"
    records = wait_until_done(results, jobs, 200)
    assert {(r.spec.method, r.spec.seed) for r in records} == {("erm", 0), ("erm", 1), ("asl", 0), ("asl", 1)}
    assert all(r.environment.scheduler["SLURM_ARRAY_JOB_ID"] for r in records)
    assert submit(results, "--methods", "erm,asl", "--seeds", "0-1", "--epochs", "1") == {}, "nothing is missing"
    [row, *_] = json.loads(ltbench("status", "--results", results, "--json"))
    assert (row["state"], row["job"]) == ("done", "")
    assert "mAP" in ltbench("logs", row["run"], "--results", results)
    assert "erm" in Path(ltbench("leaderboard", "--results", results).split()[0]).read_text()


def test_requeue_in_the_middle_of_training(results, undisturbed):
    tiny, expected = undisturbed
    [(run, job)] = submit(results, "--methods", "erm", "--datasets", tiny, *LONG).items()
    folder = RunFolder(results / "runs" / run)
    with held_until_warned(folder):
        [row] = json.loads(ltbench("status", "--results", results, "--json"))
        assert row["state"] == "running" and row["job"].startswith(f"{job} RUNNING") and "epoch" in row["note"]
        scontrol("requeue", job)
    [record] = wait_until_done(results, [run])
    same(record, expected)
    [first] = attempts(folder)
    assert (first["outcome"], first["cause"], first["saved"]) == ("preempted", "interrupted", True)
    assert record.attempts == 2 and "Restarts=1" in scontrol("show", "job", job)
    assert "going on from step" in folder.log_path.read_text()


def test_preemption_by_a_more_urgent_job(results, undisturbed):
    tiny, expected = undisturbed
    [(run, job)] = submit(results, "--methods", "erm", "--datasets", tiny, *LONG).items()
    command = ["sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1"]
    with held_until_warned(RunFolder(results / "runs" / run)):
        subprocess.run(command, check=True, capture_output=True)
    [record] = wait_until_done(results, [run])
    same(record, expected)
    assert record.attempts == 2 and "Restarts=1" in scontrol("show", "job", job)


def test_a_walltime_that_ends_before_the_run_does(results, undisturbed):
    tiny, expected = undisturbed
    # SLURM counts in minutes, looks every half of one and warns early: this is the shortest walltime there is.
    walltime = ("--slurm", "time=1", "--slurm", "signal_delay_s=25")
    [(run, job)] = submit(results, "--methods", "erm", "--datasets", tiny, *LONG, *walltime).items()
    folder = RunFolder(results / "runs" / run)
    with held_until_warned(folder):
        pass  # the time goes by
    [record] = wait_until_done(results, [run], 300)
    same(record, expected)
    ended = attempts(folder)
    assert ended and all((a["cause"], a["outcome"], a["saved"]) == ("timeout", "preempted", True) for a in ended)
    # It may be warned once more while it writes the record.
    restarts = int(re.search(r"Restarts=(\d+)", scontrol("show", "job", job))[1])
    assert record.attempts == len(ended) + 1 and restarts in (len(ended), len(ended) + 1)
    assert len({a["job"] for a in ended} | {record.environment.scheduler["SLURM_JOB_ID"]}) == 1, "the same job id"


def test_cancel_saves_what_runs_and_the_sweep_goes_on_when_it_is_submitted_again(results, undisturbed):
    tiny, expected = undisturbed
    args = ("--methods", "erm", "--datasets", tiny, *LONG, "--seeds", "0-1", "--array-parallelism", "1")
    jobs = submit(results, *args)
    [sweep] = [path.name for path in (results / "sweeps").iterdir() if path.is_dir()]
    with held_until_warned(RunFolder(results / "runs" / min(jobs, key=jobs.get))):
        assert "2 jobs cancelled" in ltbench("cancel", sweep[:15], "--results", results)
    wait_for(lambda: not squeue(), 60, "the queue to be empty")
    states = [row["state"] for row in json.loads(ltbench("status", "--results", results, "--json"))]
    assert states == ["preempted"], "the other had not begun"
    assert "none of its jobs" in ltbench("cancel", sweep, "--results", results, code=2)
    assert set(submit(results, *args)) == set(jobs)
    records = wait_until_done(results, jobs)
    same(next(r for r in records if r.spec.seed == 0), expected)


def test_two_sweeps_of_the_same_plan_at_once(results, undisturbed):
    tiny, _ = undisturbed
    args = ["--methods", "erm,asl", "--datasets", str(tiny), *TINY_ARGS, "--seeds", "0-2"]
    slurm = ["--cluster", "slurm", "--device", "cpu", "--slurm", "cpus=1", "--results", str(results), "--json"]
    command = [sys.executable, "-m", "benchmark.cli", "sweep", *args, *slurm]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    texts = [process.communicate(timeout=120)[0] for process in both]
    submitted = [json.loads(text)["jobs"] for text in texts]
    assert sorted(map(len, submitted)) == [0, 6], "the second one sees what the first one has put in the queue"
    records = wait_until_done(results, submitted[0] | submitted[1])
    assert [r.attempts for r in records] == [1] * 6


def processes(*words: str) -> list[int]:
    """Numbers of the living processes whose command line has these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().decode(errors="replace").replace("\0", " ")
            if all(word in line for word in words):
                found.append(int(path.parent.name))
    return found


def test_a_run_whose_process_is_killed_is_tried_again_in_its_job(results, undisturbed):
    tiny, expected = undisturbed
    [(run, job)] = submit(results, "--methods", "erm", "--datasets", tiny, *LONG).items()
    folder = RunFolder(results / "runs" / run)
    wait_for_log(folder, "epoch 50/")
    os.kill(folder.holder().pid, signal.SIGKILL)
    [record] = wait_until_done(results, [run])
    same(record, expected)
    [first] = attempts(folder)
    assert first["cause"] == "killed" and "SIGKILL" in first["message"]
    assert "Restarts=0" in scontrol("show", "job", job) and record.attempts == 2


def test_a_job_whose_own_process_is_killed_leaves_a_run_that_goes_on(results, undisturbed):
    tiny, expected = undisturbed
    args = ("--methods", "erm", "--datasets", tiny, *LONG)
    [(run, _)] = submit(results, *args).items()
    folder = RunFolder(results / "runs" / run)
    wait_for_log(folder, "epoch 50/")
    for pid in processes("submitit.core._submit", str(results)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not squeue(), 60, "the job to end")
    assert folder.state() == "preempted"
    assert list(submit(results, *args)) == [run]
    [record] = wait_until_done(results, [run])
    same(record, expected)


@pytest.mark.parametrize("spread", [("--gpus", "2"), ("--nodes", "2")])
def test_one_run_on_two_processes_and_on_two_nodes(results, undisturbed, spread):
    tiny, _ = undisturbed
    [(run, job)] = submit(results, "--methods", "erm", "--datasets", tiny, *LONG, "--epochs", "120", *spread).items()
    folder = RunFolder(results / "runs" / run)
    with held_until_warned(folder):
        scontrol("requeue", job)
    [record] = wait_until_done(results, [run])
    assert record.environment.processes == 2 and record.attempts == 2
    assert "going on from step" in folder.log_path.read_text()


@pytest.mark.parametrize(
    ("option", "words"),
    [("partition=nowhere", "invalid partition"), ("account=nobody", "nvalid account"), ("mem=9999T", "emory")],
)
def test_what_sbatch_refuses_is_said_and_leaves_nothing(results, undisturbed, option, words):
    tiny, _ = undisturbed
    args = ("--methods", "erm", "--datasets", tiny, *TINY_ARGS, "--device", "cpu", "--results", results)
    said = ltbench("sweep", *args, "--cluster", "slurm", "--slurm", option, code=2).splitlines()[-1]
    assert said.startswith("error: sbatch refused the sweep") and words in said
    assert [path.name for path in (results / "sweeps").iterdir()] == ["lock"] and not squeue()
