"""SLURM: no other module runs its commands or reads the variables that it sets for a job."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import InputError

_ANSWER_S = 60
# Shorter where a person waits for a report on other things too.
_REPORT_ANSWER_S = 15
# Shorter for leases: a lease is kept while SLURM does not answer, and is asked about often.
_LEASE_ANSWER_S = 30
# One answer is used this long, for all leases that are checked together.
_LEASE_ANSWER_LASTS_S = 10
_DEFAULT_LARGEST_ARRAY = 1000  # SLURM's own default
_CANCELLED_AT_ONCE = 500  # the length of a command line is limited
# The variables of its job that a record keeps.
_RECORDED = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_CLUSTER_NAME")


# The job that this process is in.


def job_id() -> str:
    """Id of the job that this process belongs to; "" without a job."""
    return os.environ.get("SLURM_JOB_ID", "")


def job_restarts() -> str:
    """How often the job was requeued, as SLURM writes it."""
    return os.environ.get("SLURM_RESTART_COUNT", "0")


def job_cpus() -> int | None:
    """Processor cores of each task of the job; None where SLURM does not say."""
    cpus = os.environ.get("SLURM_CPUS_PER_TASK")
    return int(cpus) if cpus else None


def job_nodes() -> tuple[int, int]:
    """(index of this node within the job, from 0; number of the job's nodes)."""
    return int(os.environ.get("SLURM_NODEID", 0)), int(os.environ.get("SLURM_NNODES", 1))


def job_facts() -> dict[str, str]:
    """The facts of the job that a record keeps: variable -> value; empty without a job."""
    return {name: os.environ[name] for name in _RECORDED if name in os.environ}


def site_variables() -> dict[str, str]:
    """The variables that the user or the site sets: the path of SLURM's configuration, and defaults of sbatch."""
    return {key: value for key, value in os.environ.items() if key == "SLURM_CONF" or key.startswith("SBATCH_")}


# Its commands.


def check_tools() -> None:
    """Raise InputError where sbatch, srun or scontrol is not installed."""
    for tool in ("sbatch", "srun", "scontrol"):
        if shutil.which(tool) is None:
            raise InputError(f"no SLURM found: {tool} is not on the PATH; use --cluster local or inline")


def sbatch(script: Path) -> subprocess.CompletedProcess[str]:
    """Submit a batch script. Returns sbatch's answer, in any encoding. Raises OSError."""
    return _run(["sbatch", str(script)], None)


def largest_array() -> int:
    """The most elements that a job array may have here; SLURM's default when it does not answer."""
    try:
        answer = _ask(["scontrol", "show", "config"]).stdout
    except InputError:
        answer = ""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer, re.M)
    return max(1, int(found[1]) - 1) if found else _DEFAULT_LARGEST_ARRAY


def partitions() -> list[str]:
    """The partitions as sinfo tells them: name (* marks the default), state, time limit, nodes, GPUs.

    Empty without SLURM. Raises InputError when SLURM does not answer.
    """
    if shutil.which("sinfo") is None:
        return []
    done = _ask(["sinfo", "--noheader", "--format=%P|%a|%l|%D|%G"], _REPORT_ANSWER_S)
    if done.returncode != 0:
        told = done.stderr.strip().splitlines() or ["no answer"]
        raise InputError(f"sinfo: {told[-1].removeprefix('sinfo: ')}")
    lines = [line.strip().split("|", 4) for line in done.stdout.splitlines() if line.count("|") >= 4]
    return [f"{name} {state}, {limit}, {nodes} nodes, gres {gres}" for name, state, limit, nodes, gres in lines]


@dataclass(frozen=True)
class Queued:
    """A job in the queue: SLURM's state, the reason why it waits, how long it has run."""

    state: str
    reason: str
    elapsed: str

    @property
    def text(self) -> str:
        """State and reason, or state and elapsed time."""
        return f"{self.state} ({self.reason})" if self.state == "PENDING" else f"{self.state} {self.elapsed}"


def queue(job_ids: Iterable[str]) -> dict[str, Queued]:
    """Id -> entry in the queue of those jobs that have not ended; empty without SLURM.

    Raises InputError when SLURM does not answer.
    """
    wanted = set(job_ids)
    if not wanted or shutil.which("squeue") is None:
        return {}
    # All jobs of the user: squeue refuses a list of ids with one that SLURM no longer knows.
    done = _ask(["squeue", "--noheader", "--array", "--me", "--format=%i|%T|%r|%M"])
    if done.returncode != 0:
        raise InputError(f"squeue: {' '.join(done.stderr.split()) or 'no answer'}; try again later")
    found = {}
    for line in done.stdout.splitlines():
        facts = line.strip().split("|")
        if len(facts) >= 4 and facts[0] in wanted:
            found[facts[0]] = Queued(facts[1], "|".join(facts[2:-1]), facts[-1])
    return found


def cancel(job_ids: Iterable[str]) -> None:
    """Cancel jobs. Raises InputError with scancel's message."""
    if shutil.which("scancel") is None:
        raise InputError("no SLURM found: scancel is not on the PATH")
    ids = sorted(job_ids)
    for i in range(0, len(ids), _CANCELLED_AT_ONCE):
        done = _ask(["scancel", *ids[i : i + _CANCELLED_AT_ONCE]])
        if done.returncode != 0:
            raise InputError(f"scancel: {done.stderr.strip()}")


def may_go_on(job: str) -> bool:
    """Whether a job, of any user, may still be running or queued.

    True when SLURM does not answer, False where there is no SLURM.
    """
    if shutil.which("squeue") is None:
        return False
    known = _jobs_in_queue(round(time.monotonic() / _LEASE_ANSWER_LASTS_S))
    return known is None or job in known


@functools.lru_cache(maxsize=1)
def _jobs_in_queue(period: int) -> set[str] | None:
    """Ids of all jobs that have not ended; None when SLURM does not answer. period: for the cache alone."""
    try:
        done = _run(["squeue", "--noheader", "--all", "--array", "--format=%A"], _LEASE_ANSWER_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return set(done.stdout.split()) if done.returncode == 0 else None


def _ask(command: list[str], timeout_s: float = _ANSWER_S) -> subprocess.CompletedProcess[str]:
    """The completed command. Raises InputError when it does not answer or cannot be run."""
    try:
        return _run(command, timeout_s)
    except subprocess.TimeoutExpired:
        raise InputError(f"{command[0]}: no answer in {timeout_s:g} s; try again later") from None
    except OSError as error:
        raise InputError(f"{command[0]}: {error.strerror or error}") from None


def _run(command: list[str], timeout_s: float | None) -> subprocess.CompletedProcess[str]:
    """Run a command whose output may have any encoding, as sites change SLURM's. Raises OSError and TimeoutExpired."""
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=timeout_s
    )
