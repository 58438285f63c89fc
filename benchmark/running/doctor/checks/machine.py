"""Processor cores and memory that this process may use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmark.base.processes import cores
from benchmark.running.doctor.finding import Finding, Place

PLACE = 3
_LEAST_MEMORY = 4 * 2**30  # bytes: PyTorch, a network, and 1 GB of decoded images
_CGROUPS = Path("/sys/fs/cgroup")


def check(place: Place) -> Iterator[Finding]:
    yield _cores()
    yield _memory()


def _cores() -> Finding:
    mine, threads, quota = cores(), torch.get_num_threads(), _core_quota()
    text = f"{mine} of {os.cpu_count()} may be used, {threads} threads a run"
    if quota is not None and quota < mine:
        text += f", limited to the time of {quota:g}"
    usable = min(mine, quota or mine)
    if threads > max(1, usable):
        return Finding("cores", "warn", text, f"set OMP_NUM_THREADS={max(1, int(usable))}: threads wait for each other")
    return Finding("cores", "ok", text)


def _memory() -> Finding:
    known = {"machine": _available(), "cgroup": _left_in_cgroup()}
    found = {name: left for name, left in known.items() if left is not None}
    if not found:
        return Finding("memory", "warn", "how much is free cannot be told here")
    where = min(found, key=lambda name: found[name])
    text = f"{found[where] / 2**30:.1f} GiB are left" + (" below the limit of this job" if where == "cgroup" else "")
    if found[where] < _LEAST_MEMORY:
        return Finding("memory", "warn", text, "end other programs, or ask the cluster for more (--mem)")
    return Finding("memory", "ok", text)


def _available() -> int | None:
    """Bytes that the machine has left."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _left_in_cgroup() -> int | None:
    """Bytes below the lowest limit of this process's control groups, of version 2 or 1."""
    left = []
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        for folder in _cgroups("memory"):
            with contextlib.suppress(OSError, ValueError):  # ValueError: no limit is the word `max`
                bound = int((folder / limit).read_text(encoding="ascii"))
                left.append(bound - int((folder / used).read_text(encoding="ascii")))
    return max(0, min(left)) if left else None


def _core_quota() -> float | None:
    """Cores whose time this process's control groups allow."""
    quotas = []
    for folder in _cgroups("cpu"):
        with contextlib.suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            quotas.append(int(quota) / int(period))
        with contextlib.suppress(OSError, ValueError):
            quota, period = ((folder / f"cpu.cfs_{of}_us").read_text(encoding="ascii") for of in ("quota", "period"))
            quotas += [int(quota) / int(period)] if int(quota) > 0 else []
    return min(quotas, default=None)


def _cgroups(controller: str) -> list[Path]:
    """The folders of this process's control groups and of those that contain them."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            root = _CGROUPS / controller if controllers else _CGROUPS
            inner = root / path.lstrip("/")
            found += [inner, *(folder for folder in inner.parents if folder.is_relative_to(root))]
    return found
