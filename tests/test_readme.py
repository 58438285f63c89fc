"""The README's commands, run in a fresh copy of the repository as a newcomer has it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from kit.paths import ROOT

from benchmark.launch.backends.slurm import site_options
from benchmark.launch.product import load_sweep
from benchmark.method import ENTRY_POINTS

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text(encoding="utf-8")
METHODS = (ROOT / "methods" / "README.md").read_text(encoding="utf-8")
LEADERBOARD = (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8")


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, flags=re.M | re.S)


def commands(page: str = README) -> list[str]:
    lines = [line for block in blocks("sh", page) for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("source ")]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """The repository's files without history, caches or results of one's own, and this environment as its .venv."""
    target = tmp_path_factory.mktemp("clone") / "ltbench"
    ignored = shutil.ignore_patterns(".git", ".venv", "local", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, target, ignore=ignored)
    (target / ".venv").mkdir()
    (target / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    return target


def call(clone: Path, command: list[str]) -> subprocess.CompletedProcess:
    # PYTHONPATH: the copy's own code, not that of the checkout that .venv was installed from.
    path = f"{clone / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(clone), "PATH": path}
    # Nothing of a make that these tests may run under; and one thread, as conftest says: beside other tests the threads
    # of one run wait for each other longer than they compute.
    environment = {k: v for k, v in environment.items() if k not in ("MAKEFLAGS", "ARGS")}
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=600, check=False)


def make(clone: Path, *args: str) -> subprocess.CompletedProcess:
    # -o: the environment is there; installing it anew is what CI has just done.
    return call(clone, ["make", "-o", ".venv/installed", "-o", ".venv/installed-dev", *args])


def test_the_first_commands_of_the_readme_are_make_bench_and_make_test():
    assert commands()[:2] == ["make bench METHOD=cprfl", "make test"]


def test_make_bench_trains_prints_a_table_and_writes_the_leaderboard(clone):
    done = make(clone, *shlex.split(commands()[0])[1:])
    assert done.returncode == 0, done.stderr
    assert "cprfl" in done.stdout and "Tail" in done.stdout
    assert "shapes-lt" in (clone / "results" / "local" / "leaderboard.md").read_text()
    again = make(clone, "bench", "METHOD=cprfl")
    assert again.returncode == 0 and "done before" in again.stderr


def test_make_test_runs_pytest(clone):
    done = make(clone, "-n", "test")
    assert done.returncode == 0 and ".venv/bin/python -m pytest" in done.stdout


# What these commands need is not in a clone: own files, the photographs of VOC and COCO, a network.
ELSEWHERE = ("path/to/folder", "birds", "/data", "pip install")


@pytest.mark.parametrize("command", [c for c in commands()[2:] if not any(words in c for words in ELSEWHERE)])
def test_every_other_command_of_the_readme_works(clone, command):
    """As printed, but for one epoch a stage and one seed where it trains."""
    words = shlex.split(command)
    if words[1] in ("run", "sweep"):
        words += ["--epochs", "2" if "hp-dval" in words else "1"]
        words = [word if words[i - 1] != "--seeds" else "0" for i, word in enumerate(words)]
    done = call(clone, words)
    assert done.returncode == 0, done.stderr


def test_the_commands_on_photographs_work(clone, voc_mini, tmp_path):
    """From VOC 2012 on disk to a row, in one epoch."""
    given = [c for c in commands() if "voc-mini-lt" in c and "ltbench" in c]
    for command in given:
        words = shlex.split(command.replace("/datasets/VOC", str(voc_mini)).replace("/data", str(tmp_path / "root")))
        done = call(clone, [*words, *(["--epochs", "1"] if "run" in words else [])])
        assert done.returncode == 0, done.stderr
    assert [command.split()[1] for command in given] == ["data", "run"] and "VOC-mini-LT" in done.stdout
    assert (tmp_path / "root" / "VOCdevkit" / "VOC2012" / "JPEGImages").is_symlink()


@pytest.mark.parametrize("command", [c for c in commands(LEADERBOARD) if c not in commands()])
def test_every_other_command_of_the_leaderboard_page_works(clone, command):
    """As printed, but with a run that there is."""
    [run] = [path.name for path in (clone / "results" / "runs").glob("erm-s0-*")][:1]
    words = [word.replace("erm-s0-1a2b3c4d5e6f", run) for word in shlex.split(command)]
    words += ["--results", "results"] if "export" in words else []
    done = call(clone, words)
    assert done.returncode == 0, done.stderr
    if "import" in words:
        assert f"imported: {run}" in done.stdout and (clone / "results" / "local" / "runs" / run).exists()


def test_the_sweep_file_is_one(clone):
    [text] = blocks("yaml")
    (clone / "sweep.yaml").write_text(text)
    done = call(clone, ["ltbench", "sweep", "--file", "sweep.yaml", "--dry-run"])
    assert done.returncode == 0 and "30 of 30 runs to launch" in done.stdout, done.stderr


def test_the_files_of_the_cluster_page_are_what_they_say(clone, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    [site] = re.findall(r"^```yaml\n(.*?)^```$", page, flags=re.M | re.S)
    example, sweep = re.findall(r"^cat > (?:slurm|sweep).yaml <<'YAML'\n(.*?)^YAML$", page, flags=re.M | re.S)
    monkeypatch.chdir(tmp_path)
    Path("slurm.yaml").write_text(site)
    assert site_options({})["time"] == 12 * 60 and site_options({})["setup"] == ["module load cuda/12.4"]
    Path("slurm.yaml").write_text(example)
    assert site_options({"time": "0-6"})["gres"] == "gpu:a100:1"
    Path("sweep.yaml").write_text(sweep)
    assert load_sweep(Path("sweep.yaml"))["methods"]["asl"] == {"gamma_neg": [2, 4]}
    known = re.findall(r"--[a-z-]+", call(clone, ["ltbench", "sweep", "--help"]).stdout)
    known += ["--dataset", "--watch", "--requeue", "--gres", "--mem"]  # of data, of status, of sbatch
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page)) <= set(known)


def test_the_methods_example_is_found_and_trains(clone):
    [code] = [block for block in blocks("python") if "METHODS.register" in block]
    assert len(code.splitlines()) <= 25
    (clone / re.search(r"# (methods/\w+\.py)", code).group(1)).write_text(code)
    done = make(clone, "bench", "METHOD=brier", "ARGS=--epochs 1")
    assert done.returncode == 0, done.stderr
    assert "brier" in done.stdout


def test_the_methods_example_works_in_a_folder_elsewhere(clone, tmp_path):
    """The commands of methods/README.md with a folder's name."""
    [code] = [block for block in blocks("python") if "METHODS.register" in block]
    (clone / "methods" / "brier.py").unlink(missing_ok=True)
    (tmp_path / "brier.py").write_text(code)
    train, show = [c.replace("path/to/folder", str(tmp_path)) for c in commands(METHODS) if "path/to/folder" in c]
    done = call(clone, shlex.split(train))
    assert done.returncode == 0 and "brier" in done.stdout, done.stderr
    done = call(clone, ["sh", "-c", show])
    assert done.returncode == 0 and f"Brier, version 1, {tmp_path / 'brier.py'}" in done.stdout, done.stderr
    [entry] = blocks("toml", METHODS)
    assert list(tomllib.loads(entry)["project"]["entry-points"]) == [ENTRY_POINTS]


def test_a_method_and_a_protocol_of_ones_own_break_no_test(clone):
    """Of those that look at all that is registered."""
    [code] = [block for block in blocks("python") if "METHODS.register" in block]
    (clone / re.search(r"# (methods/\w+\.py)", code).group(1)).write_text(code)
    protocols = clone / "benchmark" / "protocols"
    own = (protocols / "demo.yaml").read_text().replace("name: demo\n", "name: own\n")
    (protocols / "own.yaml").write_text(own)
    names = ("test_registry", "test_spec", "running/test_requirements", "launch/test_sweep")
    tests = [f"tests/{name}.py" for name in names]
    tests += ["tests/leaderboard/test_published.py", "tests/cli/test_cli.py::test_lists_name_what_is_registered"]
    done = call(clone, [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests])
    (protocols / "own.yaml").unlink()
    assert done.returncode == 0, done.stdout


def test_the_python_example_runs(clone):
    [code] = [block for block in blocks("python") if "benchmark.run(" in block]
    code = code.replace("seed=0)", "seed=0, epochs=1)")
    done = call(clone, [sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    mine = list((clone / "results" / "local" / "runs").glob("*/record.json"))
    assert len(done.stdout.splitlines()) == 1 + len(mine)


def test_the_python_example_of_a_sweep_runs(clone):
    [code] = [block for block in blocks("python") if "benchmark.sweep(" in block]
    code = code.replace("epochs=25", "epochs=1")
    done = call(clone, [sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    totals, *runs, summary = done.stdout.splitlines()
    assert totals == "{'done': 4}" and [line.split()[0] for line in runs] == ["done"] * 4
    assert " 0 faults, " in summary and done.stderr == ""


def test_the_frame_example_prints_a_row_for_each_method(clone):
    [code] = [block for block in blocks("python") if "benchmark.results(" in block]
    done = call(clone, [sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["overall", "tail", "lrap", "train_s"]
    assert {"erm", "db-focal", "cprfl (variant=equations)"} <= {re.split(r"  +", line)[0] for line in lines}


def test_make_help_lists_the_targets(clone):
    done = make(clone, "help")
    for target in ("bench", "sweep", "status", "leaderboard", "data", "test", "lint"):
        assert f"make {target} " in done.stdout
    for variable in ("METHOD", "DATASET", "PROTOCOL", "SEEDS", "BACKBONE", "CLUSTER", "ARGS"):
        assert f"{variable}=" in done.stdout
    for target in ("status", "data"):
        assert make(clone, target).returncode == 0
    sweep = make(clone, "sweep", "METHOD=erm,rw", "ARGS=--dry-run")
    assert sweep.returncode == 0 and "2 runs to launch" in sweep.stdout


def test_make_names_a_python_that_is_too_old(clone, tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = call(clone, ["make", f"PYTHON={old}", "-B", ".venv/bin/python"])
    assert done.returncode == 2 and "not Python 3.11 or newer" in done.stderr
