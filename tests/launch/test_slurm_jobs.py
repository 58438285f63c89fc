"""What can be said of SLURM jobs without a SLURM: options, walltimes, when a run is given up, what is missing."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from kit.checks import refused
from kit.command import ltbench
from kit.command import refused as refused_call
from kit.factories import make_record, write_store
from kit.paths import ROOT
from kit.tiny import TINY_ARGS
from submitit.slurm.slurm import _get_default_parameters

from benchmark.errors import RunFailed, RunInterrupted, StoreError
from benchmark.launch.backends.slurm import _LINES, _MORE, _OURS, ClusterJob, Site, minutes, site_options, submit
from benchmark.launch.crew import Slot
from benchmark.launch.sweeps import Sweeps
from benchmark.launch.worker import Order
from benchmark.store.claim import claimed
from benchmark.store.folder import RunFolder


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
    with pytest.raises(RunInterrupted), claimed(folder):
        if saved:
            folder.checkpoint_path.write_bytes(b"x")
        raise RunInterrupted("stopped")
    folder.note_cause("timeout", "the walltime of 60 minutes ended")


def test_two_attempts_without_progress_are_enough(folder):
    cut_off(folder, saved=False)
    assert job(folder)._hopeless(job(folder).orders[0]) is None
    cut_off(folder, saved=False)
    ending = job(folder)._hopeless(job(folder).orders[0])
    assert (ending.outcome, ending.cause) == ("failed", "timeout")
    assert folder.state() == "failed" and folder.attempts.last()["cause"] == "timeout"
    for word in ("no progress in 2 attempts", "the walltime of 60 minutes ended", "--slurm time=", "ltbench data"):
        assert word in folder.attempts.last()["message"]


def test_attempts_that_saved_something_may_be_as_many_as_it_takes(folder):
    for _ in range(5):
        folder.checkpoint_path.unlink(missing_ok=True)
        cut_off(folder, saved=True)
    assert job(folder)._hopeless(job(folder).orders[0]) is None


def test_attempts_before_the_sweep_do_not_count(folder):
    cut_off(folder, saved=False)
    cut_off(folder, saved=False)
    assert job(folder, attempt=3)._hopeless(job(folder, attempt=3).orders[0]) is None


def test_a_requeued_job_leaves_out_what_failed_in_it(folder):
    with pytest.raises(RunFailed), claimed(folder):
        raise RunFailed("the loss became nan", cause="nan")
    ending = job(folder)._hopeless(job(folder).orders[0])
    assert (ending.outcome, ending.message, ending.cause) == ("failed", "the loss became nan", "nan")
    assert job(folder, attempt=2)._hopeless(job(folder, attempt=2).orders[0]) is None, "the sweep tries it again"


def test_what_somebody_has_done_meanwhile_has_not_failed(folder):
    with pytest.raises(RunFailed), claimed(folder):
        raise RunFailed("the loss became nan", cause="nan")
    cut_off(folder, saved=False)
    cut_off(folder, saved=False)
    folder.record_path.write_text("a record")
    assert job(folder)._hopeless(job(folder).orders[0]) is None


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
    assert sweeps.find(sweep.name[:8]) == sweep and sweeps.jobs()["erm-s0-0123456789ab"].job == "7_0"
    path = tmp_path / "sweeps" / sweep.name / "sweep.json"
    path.write_text(json.dumps({"name": 3}))
    with pytest.raises(StoreError, match="sweep.json: not a sweep's file"):
        sweeps.all()


# --- what SLURM's commands answer -------------------------------------------------------------------------------

CASES = ROOT / "tests" / "cases" / "slurm"


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Has a shell script stand for each of SLURM's commands; returns the folder of the scripts."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def answer(**scripts: str) -> Path:
        for name, text in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)
        return folder

    answer(srun="true", scontrol="true", squeue="true", scancel=f'echo "$@" >> {tmp_path}/cancelled')
    return answer


def submitted(tmp_path: Path, runs: int = 2, **options: object) -> dict[str, str]:
    """What `submit` makes of so many runs, an array where they are several."""
    folders = [str(tmp_path / "runs" / f"erm-s{i}-0123456789ab") for i in range(runs)]
    orders = [Order({"data_root": None}, {"attempt": 1, "replaces": None}, folder, "cpu") for folder in folders]
    folder = tmp_path / "sweeps" / "20260131-120000-1a2b"
    folder.mkdir(parents=True)
    return submit(orders, folder, Site(site_options(options), 1, 256, 0, 1, 1))


def script_of(tmp_path: Path) -> str:
    [script] = (tmp_path / "sweeps").glob("*/4242_submission.sh")
    return script.read_text()


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("case", ["bare_number", "not_utf8", "preamble", "with_cluster"])
def test_the_job_that_sbatch_names_in_its_own_way(tmp_path, commands, case, runs):
    commands(sbatch=f"cat {CASES / case}.txt")
    jobs = submitted(tmp_path, runs)
    assert list(jobs.values()) == (["4242"] if runs == 1 else ["4242_0", "4242_1"])
    assert len(list((tmp_path / "sweeps").glob("*/4242*_submitted.pkl"))) == runs


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (f"cat {CASES / 'empty.txt'}", "''"),
        ("echo welcome, see job 99 for help", "see job 99 for help"),
        ("echo 7; echo 8", "7 8"),
        ("echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1", "Socket timed out"),
    ],
)
def test_where_sbatch_names_no_job_something_may_be_in_the_queue(tmp_path, commands, script, said):
    commands(sbatch=script)
    message = refused(submitted, tmp_path)
    name = "ltbench-20260131-120000-1a2b"
    for word in (said, "may be in the queue", f"squeue --name={name}", f"scancel --name={name}"):
        assert word in message
    assert "refused" not in message


def test_a_refusal_in_any_encoding_is_told(tmp_path, commands):
    commands(sbatch=r"printf 'sbatch: error: param\350tre inconnu\n' >&2; exit 1")
    assert "sbatch refused the sweep: param\ufffdtre inconnu" in refused(submitted, tmp_path)


def test_no_wckey_but_the_user_s_own(tmp_path, commands):
    commands(sbatch="echo 4242")
    submitted(tmp_path)
    assert "--wckey" not in script_of(tmp_path)
    assert "#SBATCH --job-name=ltbench-20260131-120000-1a2b" in script_of(tmp_path)
    submitted(tmp_path / "other", wckey="lab")
    assert "#SBATCH --wckey=lab\n" in script_of(tmp_path / "other")


def test_jobs_get_the_folders_of_methods(tmp_path, commands, monkeypatch):
    monkeypatch.setenv("LTBENCH_METHODS", str(tmp_path))
    commands(sbatch=f'echo "$LTBENCH_METHODS" > {tmp_path}/seen; echo 4242')
    submitted(tmp_path)
    assert (tmp_path / "seen").read_text() == f"{tmp_path}\n"
    assert "--export" not in script_of(tmp_path)  # sbatch gives a job its own variables


@pytest.mark.parametrize("value", ["module load x", ["a", "b"], 3, True])
@pytest.mark.parametrize("key", ["setup", "teardown"])
def test_lines_of_shell_are_refused_on_the_command_line(key, value):
    assert f"--slurm: {key} is lines of shell, which may be given in slurm.yaml alone" in refused(
        site_options, {key: value}
    )


@pytest.mark.parametrize("value", ["x", 7, 1.5, True])
def test_every_option_of_the_command_line_goes_into_the_script_or_is_refused(tmp_path, commands, value):
    commands(sbatch="echo 4242")
    names = (set(_get_default_parameters()) - _OURS - _LINES - {"time", "signal_delay_s"}) | _MORE
    submitted(tmp_path, **dict.fromkeys(names, value))
    for name in names:
        flag = f"#SBATCH --{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        assert f"{flag}\n" in script_of(tmp_path)


@pytest.mark.parametrize("name", ["runs-%j", "%A", "a%%b", "back\\slash", "two\nlines", "bell\a"])
def test_a_results_path_that_slurm_reads_otherwise_is_refused(tiny, tmp_path, commands, name):
    commands(sbatch="echo 4242")
    results = tmp_path / name / "results"
    args = ("--methods", "erm", "--datasets", tiny, *TINY_ARGS, "--device", "cpu", "--results", results)
    for more in ((), ("--dry-run",)):
        refused_call(ltbench("sweep", *args, "--cluster", "slurm", *more), "SLURM takes", "results folder without it")
    assert not (tmp_path / name).exists()
    assert list(tmp_path.glob("*%*")) == []


def test_the_commands_to_go_on_with_may_be_copied(tiny, tmp_path, commands):
    commands(sbatch="echo 4242")
    results = tmp_path / "it's mine; really"
    args = ("--methods", "erm", "--datasets", tiny, *TINY_ARGS, "--device", "cpu", "--results", results)
    done = ltbench("sweep", *args, "--cluster", "slurm")
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines()[1:]:
        assert shlex.split(line)[-2:] == ["--results", str(results)]


def test_status_tells_the_runs_while_slurm_does_not_answer(tmp_path, commands):
    store = write_store(tmp_path / "results", [make_record("erm")])
    [run] = [path.name for path in (store / "runs").iterdir()]
    sweeps = Sweeps(store)
    sweeps.write(sweeps.new_folder(), "slurm", {run: "7_0", "asl-s0-0123456789ab": "7_1"})
    commands(squeue="printf 'slurm_load_jobs error: \\351\\nUnable to contact slurm controller\\n' >&2; exit 1")
    done = ltbench("status", "--results", store, "--json")
    assert [(row["run"], row["state"], row["job"]) for row in json.loads(done.stdout)] == [(run, "done", "")]
    told = "SLURM's queue is not known: squeue: slurm_load_jobs error: \ufffd Unable to contact slurm controller"
    assert done.returncode == 0 and told in done.stderr and "not begun of those submitted: 1 run\n" in done.stderr
    commands(squeue=r"printf '7_1|PENDING|caf\351|0:00\n7_0|RUNNING|a|b|1:00\n7_2\n'")
    done = ltbench("status", "--results", store, "--json")
    assert [row["job"] for row in json.loads(done.stdout)] == ["7_1 PENDING (caf\ufffd)", "7_0 RUNNING 1:00"]
    assert done.stderr == ""
