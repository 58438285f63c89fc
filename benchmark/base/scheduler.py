"""SLURM: the only module that runs its commands, or reads the variables that it sets for a job."""

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
# Without an answer, who judges a lease leaves it alone: that may be asked for often, so it waits less.
_LEASE_ANSWER_S = 30
# For so long one answer serves all leases that are judged together.
_LEASE_ANSWER_LASTS_S = 10
_DEFAULT_LARGEST_ARRAY = 1000  # SLURM's own
_CANCELLED_AT_ONCE = 500  # a command line is not endless
# What a record keeps of its job.
_RECORDED = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_CLUSTER_NAME")


# The job that this process is in.


def job_id() -> str:
    """Id of the job that this process is in, "" where it is in none."""
    return os.environ.get("SLURM_JOB_ID", "")


def job_restarts() -> str:
    """How often the job had been requeued when it started, as SLURM writes it."""
    return os.environ.get("SLURM_RESTART_COUNT", "0")


def job_cpus() -> int | None:
    """Processor cores of each task of the job, None where it names none."""
    cpus = os.environ.get("SLURM_CPUS_PER_TASK")
    return int(cpus) if cpus else None


def job_nodes() -> tuple[int, int]:
    """(number of this node within the job, from 0; number of its nodes)."""
    return int(os.environ.get("SLURM_NODEID", 0)), int(os.environ.get("SLURM_NNODES", 1))


def job_facts() -> dict[str, str]:
    """What a record keeps of the job: variable -> value; empty where this process is in none."""
    return {name: os.environ[name] for name in _RECORDED if name in os.environ}


def site_variables() -> dict[str, str]:
    """The variables that are the user's or the site's and no job's: where SLURM's configuration is, and defaults for
    sbatch."""
    return {key: value for key, value in os.environ.items() if key == "SLURM_CONF" or key.startswith("SBATCH_")}


# Its commands.


def check_tools() -> None:
    """Raise InputError where sbatch, srun or scontrol is not installed."""
    for tool in ("sbatch", "srun", "scontrol"):
        if shutil.which(tool) is None:
            raise InputError(f"no SLURM found: {tool} is not on the PATH; use --cluster local or inline")


def sbatch(script: Path) -> subprocess.CompletedProcess[str]:
    """Hand in a batch script; what sbatch answered, whatever its encoding. Raises OSError."""
    return _run(["sbatch", str(script)], None)


def largest_array() -> int:
    """Elements that one array may have here; SLURM's own default when it does not say."""
    try:
        said = _ask(["scontrol", "show", "config"]).stdout
    except InputError:
        said = ""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", said, re.M)
    return max(1, int(found[1]) - 1) if found else _DEFAULT_LARGEST_ARRAY


@dataclass(frozen=True)
class Queued:
    """A job as the queue knows it: SLURM's state, the reason why it waits, how long it has run."""

    state: str
    reason: str
    elapsed: str

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.state} ({self.reason})" if self.state == "PENDING" else f"{self.state} {self.elapsed}"


def queue(job_ids: Iterable[str]) -> dict[str, Queued]:
    """What squeue says of jobs that have not ended; nothing where there is no SLURM. Raises InputError when SLURM does
    not answer."""
    wanted = set(job_ids)
    if not wanted or shutil.which("squeue") is None:
        return {}
    # All of the user's: a list of jobs is refused when SLURM has forgotten one of them.
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
    """Whether a job, of any user, has not ended as far as SLURM says. Without an answer it may go on; where there is no
    SLURM it does not."""
    if shutil.which("squeue") is None:
        return False
    known = _jobs_in_queue(round(time.monotonic() / _LEASE_ANSWER_LASTS_S))
    return known is None or job in known


@functools.lru_cache(maxsize=1)
def _jobs_in_queue(now: int) -> set[str] | None:
    """Ids of all jobs that have not ended; None when SLURM does not answer."""
    try:
        done = _run(["squeue", "--noheader", "--all", "--array", "--format=%A"], _LEASE_ANSWER_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return set(done.stdout.split()) if done.returncode == 0 else None


def _ask(command: list[str]) -> subprocess.CompletedProcess[str]:
    """What a command answered. Raises InputError when there is no answer."""
    try:
        return _run(command, _ANSWER_S)
    except subprocess.TimeoutExpired:
        raise InputError(f"{command[0]}: no answer in {_ANSWER_S} s; try again later") from None
    except OSError as error:
        raise InputError(f"{command[0]}: {error.strerror or error}") from None


def _run(command: list[str], timeout_s: float | None) -> subprocess.CompletedProcess[str]:
    """Sites have their own ways to say things, in any encoding. Raises OSError and TimeoutExpired."""
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=timeout_s
    )
