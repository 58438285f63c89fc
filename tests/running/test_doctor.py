"""`ltbench doctor`: a verdict and a remedy for what is wrong, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from kit.command import ltbench
from kit.disks import SmallDisk, mounted

from benchmark.base.modules import import_package
from benchmark.method import METHODS, _load_methods
from benchmark.registry import Registry
from benchmark.running.doctor import Place, all_checks, checks, examine
from benchmark.running.doctor.checks import cluster, data, folders, gpu, machine


@pytest.fixture
def tools(tmp_path, monkeypatch) -> Path:
    """A folder of programs, alone on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def found(module, results: Path, data_root: Path | None = None) -> list:
    return list(module.check(Place(results, data_root)))


def of(findings: list, check: str) -> list:
    return [finding for finding in findings if finding.check == check]


def verdicts(findings: list) -> list[str]:
    return [finding.verdict for finding in findings]


@pytest.mark.slow
def test_the_report_has_a_line_for_everything(tmp_path, tools):
    done = ltbench("doctor", "--results", tmp_path / "results", "--json")
    found = json.loads(done.stdout)
    checked = {finding["check"] for finding in found}
    assert checked >= {
        "python", "ltbench", "torch", "torchvision", "timm", "methods", "cuda", "cores", "memory", "results", "cache",
        "slurm", "data voc-lt", "data shapes-lt", "weights",
    }  # fmt: skip
    assert done.returncode == ("bad" in {finding["verdict"] for finding in found})
    assert all(finding["remedy"] for finding in found if finding["verdict"] == "warn" and finding["check"] != "weights")
    assert not (tmp_path / "results").exists(), "nothing is left behind"
    told = ltbench("doctor", "--results", tmp_path / "results").stdout
    assert told.splitlines()[0].startswith("ok    python") and told.splitlines()[-1].endswith(("warning", "warnings"))


def test_a_folder_that_works_is_left_as_it_was(tmp_path):
    results = tmp_path / "a" / "b"
    assert verdicts(found(folders, results)) == ["ok", "ok"]
    assert list(tmp_path.iterdir()) == []
    results.mkdir(parents=True)
    [line, _] = found(folders, results)
    assert line.text.startswith(f"{results}, ") and list(results.iterdir()) == []


def test_a_results_folder_that_can_only_be_read(tmp_path):
    (tmp_path / "store").mkdir()
    with mounted(tmp_path / "bound", "--bind", str(tmp_path / "store")) as results:
        subprocess.run(["mount", "-o", "remount,ro,bind", results], check=True)
        [line] = of(found(folders, results / "runs"), "results")
    assert line.verdict == "bad" and "Read-only file system" in line.text and "--results" in line.remedy


@pytest.mark.parametrize(("leave", "verdict"), [(0, "bad"), (1 << 20, "warn")])
def test_a_full_disk(tmp_path, monkeypatch, leave, verdict):
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=16m", "tmpfs") as path:
        SmallDisk(path).fill(leave)
        monkeypatch.setenv("LTBENCH_CACHE", str(path / "cache"))
        lines = found(folders, path / "results")
        assert verdicts(lines) == [verdict, verdict] and {entry.name for entry in path.iterdir()} == {"filler"}
    assert ("No space left" in lines[0].text) == (verdict == "bad")


def test_a_file_in_place_of_a_folder(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "file" / "cache"))
    lines = found(folders, tmp_path / "file")
    assert verdicts(lines) == ["bad", "bad"] and all(f"{tmp_path / 'file'} is not a folder" in x.text for x in lines)
    done = ltbench("doctor", "--results", tmp_path / "file")
    assert done.returncode == 1 and "is not a folder" in done.stdout


def test_a_file_system_without_links_and_locks(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path))
    lines = found(folders, tmp_path)
    assert verdicts(of(lines, "results")) == ["bad", "bad"] and verdicts(of(lines, "cache")) == ["warn", "warn"]
    assert {line.text.rpartition(" has no ")[2] for line in lines} == {"hard links", "locks"}


def test_no_home(tmp_path, monkeypatch):
    for name in ("LTBENCH_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    [line] = of(found(folders, tmp_path), "cache")
    assert line.verdict == "bad" and "LTBENCH_CACHE" in line.text


def test_a_data_root_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("LTBENCH_DATA", str(tmp_path / "none"))
    lines = found(data, tmp_path)
    [root] = of(lines, "data root")
    assert root.verdict == "bad" and "LTBENCH_DATA" in root.text
    [voc] = of(lines, "data voc-lt")
    assert voc.verdict == "warn" and "all 8,094 missing" in voc.text and voc.remedy == "ltbench data prepare voc-lt"
    assert verdicts(of(found(data, tmp_path, tmp_path), "data root")) == ["ok"]


def test_a_folder_of_methods_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("LTBENCH_METHODS", str(tmp_path / "none"))
    monkeypatch.setattr(
        "benchmark.running.doctor.checks.software.METHODS", Registry("method", METHODS._base, _load_methods)
    )
    found = json.loads(ltbench("doctor", "--results", tmp_path, "--json").stdout)
    [line] = [one for one in found if one["check"] == "methods"]
    assert line["verdict"] == "bad" and str(tmp_path / "none") in line["text"]


def test_slurm(tmp_path, tools):
    [line] = found(cluster, tmp_path)
    assert line.verdict == "ok" and "none" in line.text
    for name in ("sbatch", "srun", "scontrol"):
        program(tools / name, "exit 0")
    program(tools / "sinfo", "echo 'gpu*|up|2-00:00:00|4|gpu:a100:8'; echo 'old|down|infinite|1|(null)'")
    lines = found(cluster, tmp_path)
    assert verdicts(lines) == ["ok", "warn"] and lines[0].text == "gpu* up, 2-00:00:00, 4 nodes, gres gpu:a100:8"
    program(tools / "sinfo", "printf 'one\\nsinfo: error: Unable to contact slurm controller\\n' >&2; exit 1")
    [line] = found(cluster, tmp_path)
    assert line.verdict == "warn" and line.text == "sinfo: error: Unable to contact slurm controller" and line.remedy


def test_an_nvidia_driver_that_pytorch_cannot_use(tmp_path, tools):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    if not gpu._DRIVER.exists():
        assert verdicts(found(gpu, tmp_path)) == ["ok"]
    program(tools / "nvidia-smi", "exit 0")
    [line] = found(gpu, tmp_path)
    assert line.verdict == "bad" and "NVIDIA driver" in line.text and line.remedy


def test_limits_of_control_groups(tmp_path, monkeypatch):
    """Both versions, as the kernel writes them; the lowest limit on the way to the root counts."""
    inner = tmp_path / "job" / "step"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("5\n")
    (tmp_path / "job" / "memory.max").write_text(f"{3 * 2**30}\n")
    (tmp_path / "job" / "memory.current").write_text(f"{2**30}\n")
    (tmp_path / "job" / "cpu.max").write_text("150000 100000\n")
    monkeypatch.setattr(machine, "_cgroups", lambda controller: [inner, tmp_path / "job", tmp_path])
    assert machine._left_in_cgroup() == 2 * 2**30 and machine._core_quota() == 1.5
    memory = machine._memory()
    assert memory.verdict == "warn" and "2.0 GiB are left below the limit" in memory.text
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    assert machine._cores().verdict == "warn" and "OMP_NUM_THREADS=1" in machine._cores().remedy


def test_a_check_that_fails_is_a_finding(tmp_path, monkeypatch):
    """And a check is one file."""
    (tmp_path / "broken.py").write_text("PLACE = 99\n\ndef check(place):\n    raise RuntimeError('two\\nlines')\n")
    monkeypatch.setattr(checks, "__path__", [*checks.__path__, str(tmp_path)])
    assert len(import_package(checks.__name__)) == 8
    [finding] = examine(all_checks()[-1], Place(tmp_path, None))
    assert (finding.check, finding.verdict) == ("broken", "warn") and "RuntimeError: two lines" in finding.text
    done = ltbench("doctor", "--results", tmp_path)
    assert "the check itself failed" in done.stdout and done.returncode in (0, 1)
