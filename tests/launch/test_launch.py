"""Sweeps from Python, and backends that are one file."""

import json
import subprocess
import sys

import pytest
from kit.checks import refused
from kit.command import Done, ltbench
from kit.factories import make_scored, write_scored
from kit.paths import kit_environment
from kit.tiny import TINY

import benchmark
from benchmark.launch.backend import backend_names, make_backend, options_of_backends

pytestmark = pytest.mark.slow

AXES = {"protocols" if name == "protocol" else name: value for name, value in TINY.items()}


def test_a_sweep_from_python_reports_every_run_and_prints_nothing(tiny, tmp_path, capfd):
    first = benchmark.sweep("erm", str(tiny), **AXES, results=tmp_path, device="cpu", backend="inline")
    assert [(run.state, run.path.parent) for run in first.runs] == [("done", tmp_path / "runs")]
    assert first.runs[0].message.startswith("mAP overall ")
    more = {"settings": AXES["settings"] | {"recipe.clip_norm": None, "recipe.optimizer.lr": [1e30, 1e-3]}}
    report = benchmark.sweep(["erm", "asl"], str(tiny), **AXES | more, results=str(tmp_path), retries=0)
    assert report.totals == {"failed": 2, "done": 2} and str(report) == "4 runs: 2 failed, 2 done"
    assert all("the loss became" in run.message for run in report.of_state("failed"))
    assert [record.spec.method for record in report.records()] == ["erm", "asl"]
    assert {run.path for run in report.runs} == {tmp_path / "runs" / run for run in report.sweep.jobs}
    again = benchmark.sweep(["erm", "asl"], str(tiny), **AXES | more, results=tmp_path)
    assert again.totals == {"failed": 2, "done": 2} and again.sweep is None
    assert {run.message.partition(":")[0] for run in again.runs} == {"before", "failed before"}
    assert capfd.readouterr() == ("", "")


def test_a_report_tells_what_was_not_launched_and_what_did_not_fit(tiny, tmp_path):
    report = benchmark.sweep("all", str(tiny), **AXES, results=tmp_path, rerun="never")
    assert set(report.totals) == {"pending"} and not tmp_path.joinpath("runs").exists()
    assert any("capnet" in str(unfit) for unfit in report.left_out)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"backend": "slrum"}, "unknown cluster 'slrum'; did you mean 'slurm'"),
        ({"rerun": "stail"}, "unknown re-run rule 'stail'; did you mean 'stale'"),
        ({"wokers": 2}, "unknown option 'wokers'; did you mean 'workers'"),
        ({"pack": 2}, "--pack has no effect with --cluster local; leave it out"),
        ({"gpus": 0}, "--cluster local: gpus: Input should be greater than or equal to 1 (found 0)"),
        ({"gpus": 3}, "cannot be divided among 3 processes"),
        ({"backend": "slurm", "device": "cuda:1"}, "--device 'cuda:1': with --cluster slurm use auto, cuda or cpu"),
        ({"seeds": "0-"}, "seeds '0-'"),
    ],
)
def test_what_cannot_be_launched_is_refused(tiny, tmp_path, given, words):
    arguments = {"methods": "erm", "datasets": str(tiny), "results": tmp_path / "results"} | AXES | given
    assert words in refused(lambda: benchmark.sweep(**arguments))
    assert not (tmp_path / "results").exists()


def test_a_store_is_verified_from_python(tmp_path):
    store = write_scored(tmp_path / "store", [make_scored("erm"), make_scored("asl")])
    assert benchmark.verify(str(store)).summary.startswith("2 records: 2 scored again, 0 faults")


# --- backends ---------------------------------------------------------------------------------------------------


def test_backends_and_their_options_are_found_in_an_order_of_their_own():
    assert backend_names() == ["local", "slurm", "inline"]
    options = {name: backends for name, (_, backends) in options_of_backends().items()}
    for backend in backend_names():
        own = [name for name, backends in options.items() if backend in backends]
        assert own == list(type(make_backend(backend, {})).Options.model_fields)


BACKEND = '''
"""Runs on a cluster that keeps its queue in a file."""

from pathlib import Path

from benchmark.errors import InputError
from benchmark.launch.backend import BACKENDS, GPUS, BackendOptions, Cluster, option

QUEUE = Path("queue.txt")


class Waiting:
    state = "PENDING"
    text = "PENDING (asleep)"


class PaperOptions(BackendOptions):
    gpus: int = GPUS
    paper: dict[str, str] = option({}, "{}: colour ...", "KEY=VALUE")
    drawer: str | None = option(None, "{}: where its jobs wait.", "D")


@BACKENDS.register("paper")
class Paper(Cluster):
    about = "a drawer"
    title = "Paper"
    Options = PaperOptions

    def check(self, plans, device, results):
        super().check(plans, device, results)
        if unknown := set(self.options.paper) - {"colour"}:
            raise InputError(f"--paper: unknown option {min(unknown)!r}")

    def submit(self, orders, folder):
        ids = {order.run: f"{self.options.drawer}-{i}" for i, order in enumerate(orders)}
        QUEUE.write_text("\\n".join(ids.values()))
        return ids

    @classmethod
    def queue(cls, jobs):
        waiting = QUEUE.read_text().split() if QUEUE.exists() else []
        return {job: Waiting() for job in jobs if job in waiting}

    @classmethod
    def cancel(cls, jobs):
        QUEUE.write_text("")

    @classmethod
    def log_name(cls, job):
        return f"{job}.out"
'''

# Calls the command in one process, which knows another folder of backends: to import PyTorch takes seconds.
SERVER = """
import json, sys
from pathlib import Path
import benchmark.launch.backends
benchmark.launch.backends.__path__.append("found")
from kit.command import ltbench

for line in sys.stdin:
    done = ltbench(*json.loads(line), folder=Path.cwd())
    print(json.dumps([done.returncode, done.stdout, done.stderr]), flush=True)
"""


def test_a_cluster_is_one_file(tiny, tmp_path):
    """One in a folder of its own, which stands for a new file in benchmark/launch/backends."""
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "paper.py").write_text(BACKEND)
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], cwd=tmp_path, env=kit_environment(), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def call(*args: object) -> Done:
        server.stdin.write(json.dumps([str(arg) for arg in args]) + "\n")
        server.stdin.flush()
        return Done(*json.loads(server.stdout.readline()))

    told = call("sweep", "--help").stdout
    assert "--cluster <local|paper|slurm|inline>" in told and "paper: a drawer" in told
    assert "paper: where its jobs wait." in told and "--paper KEY=VALUE" in told
    tiny_run = ("sweep", "--methods", "erm", "--datasets", tiny, "--weights", "none", "--backbone", "small_cnn")
    done = call(*tiny_run, "--cluster", "paper", "--paper", "size=a4")
    assert (done.returncode, done.stderr) == (2, "error: --paper: unknown option 'size'\n")
    done = call(*tiny_run, "--drawer", "top")
    assert done.stderr == "error: --drawer has no effect with --cluster local; leave it out\n"
    done = call(*tiny_run, "--cluster", "paper", "--drawer", "top", "--seeds", "0-1", "--json")
    submitted = json.loads(done.stdout)
    assert submitted["cluster"] == "paper" and sorted(submitted["jobs"].values()) == ["top-0", "top-1"], done.stderr
    rows = json.loads(call("status", "--json").stdout)
    assert [(row["state"], row["job"]) for row in rows] == [
        ("pending", "top-0 PENDING (asleep)"), ("pending", "top-1 PENDING (asleep)"),
    ]  # fmt: skip
    assert "it has not begun" not in (said := call("logs", rows[0]["run"])).stderr and "top-" in said.stderr
    again = call(*tiny_run, "--cluster", "paper", "--seeds", "0-1")
    assert "0 of 2 runs to launch (2 queued)" in again.stderr
    (tmp_path / "results/local/sweeps" / submitted["name"] / "top-0.out").write_text("hello\n")
    assert "hello\n" in {call("logs", row["run"]).stdout for row in rows}
    assert "2 jobs cancelled" in call("cancel", submitted["name"]).stdout
    assert json.loads(call("status", "--json").stdout) == []
    server.communicate()
    without = ltbench("cancel", submitted["name"], folder=tmp_path)
    assert without.stderr.startswith("error: unknown cluster 'paper'")
