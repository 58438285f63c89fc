"""The environment of a run: code, packages, device."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import platform
import resource
import socket
import subprocess
import sys
from pathlib import Path

import torch

from benchmark.base import scheduler
from benchmark.errors import InputError
from benchmark.store.records import Environment

CHECKOUT = Path(__file__).resolve().parents[2]
_PACKAGES = ("torch", "torchvision", "open_clip_torch", "timm", "numpy", "pillow", "safetensors")


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:i` as a device. Raises InputError for another name or a missing GPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:0")
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise InputError(f"device {name!r} is not there: PyTorch sees {count} GPUs; use --device cpu or another")
        device = torch.device("cuda", device.index or 0)
    return device


def describe(code_digest: str, device: torch.device, amp: bool, processes: int = 1) -> Environment:
    """The environment of a run, for its record."""
    commit, dirty = git_state()
    cuda = device.type == "cuda"
    return Environment(
        code_digest=code_digest,
        git_commit=commit,
        git_dirty=dirty,
        python=platform.python_version(),
        packages={name: importlib.metadata.version(name) for name in _PACKAGES},
        device=device.type,
        gpu=torch.cuda.get_device_name(device) if cuda else None,
        cuda=torch.version.cuda if cuda else None,
        precision="bfloat16 autocast" if amp else "float32",
        host=socket.gethostname(),
        cpu_threads=torch.get_num_threads(),
        scheduler=scheduler.job_facts(),
        # Left out for one process, so that the record reads as those from before there could be several.
        **({"processes": processes} if processes > 1 else {}),
    )


@functools.cache
def git_state() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the harness's own checkout (not of the caller's folder); None outside one."""

    def git(*args: str) -> str | None:
        command = ["git", "-C", str(CHECKOUT), *args]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed package may lie inside another repository: only the project's own checkout counts.
    if git("rev-parse", "--show-prefix") != "" or not (CHECKOUT / "pyproject.toml").exists():
        return None, None
    # New results do not make the checkout dirty: only changes of code and lists count.
    changes = git("status", "--porcelain", "--", "benchmark", "methods", "splits", "pyproject.toml")
    return git("rev-parse", "HEAD"), None if changes is None else bool(changes)


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak, so that a run does not report that of an earlier run in the same process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        # Linux: 5 resets the peak resident size; elsewhere the peak remains that of the process.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory in MiB since `reset_peak_memory`: allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
