"""A sweep on a SLURM cluster, through submitit: arrays whose elements carry out one run, or a few, each."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import _get_default_parameters

from benchmark.errors import InputError
from benchmark.launch.crew import Crew, Slot
from benchmark.launch.worker import Ending, Order
from benchmark.registry import did_you_mean
from benchmark.store import RunFolder
from benchmark.yamlio import load_yaml

SITE_FILE = Path("slurm.yaml")
DEFAULT_MINUTES = 60
# Seconds before the end at which SLURM warns a job: a step of training and a checkpoint must fit.
WARNING_S = 90
# What writing the job's own state and asking for the requeue may take of these.
_REQUEUE_S = 10
# What the sweep decides itself.
_OURS = {"array_parallelism", "job_name", "nodes", "ntasks_per_node", "num_gpus", "srun_args", "use_srun", "wckey"}
_OURS |= {"stderr_to_stdout", "additional_parameters"}
# Options of sbatch that submitit passes on without knowing them.
_MORE = {"begin", "licenses", "nice", "prefer", "reservation", "tmp"}
_SPELLINGS = {"memory": "mem", "cpus": "cpus_per_task", "walltime": "time"}
_ASKS_FOR_GPUS = {"gres", "gpus_per_node", "gpus_per_task"}
# Each end of the walltime is answered by a requeue; ours is the rule that stops it, see `ClusterJob`.
_MOST_TIMEOUTS = 1000
IDLE_ATTEMPTS = 2


class ClusterJob:
    """What one element of an array does: its runs, one after the other, each in processes of their own.

    It holds no state: how far its runs have come stands in their folders, so the same object is right for the first
    start and for one after a requeue. minutes: the walltime. warning_s: before its end, SLURM's signal comes.
    """

    def __init__(self, orders: Sequence[Order], retries: int, gpus: int, minutes: int, warning_s: int):
        self.orders = list(orders)
        self.retries = retries
        self.gpus = gpus
        self.minutes = minutes
        self.warning_s = warning_s

    def __call__(self) -> None:
        """Raises RuntimeError, which SLURM shows as a failed job, when a run failed."""
        self._began = time.monotonic()
        self._crew = Crew(self._slot(), lambda line: print(line, flush=True), self.retries)
        self._endings: list[Ending] = []
        # submitit ignores SIGTERM, which is all the warning that scancel, requeue and preemption give.
        signal.signal(signal.SIGTERM, lambda number, frame: self._crew.stop())
        # A thread: the handler of SLURM's warning interrupts this one, and waits for the run to save itself.
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        while self._thread.is_alive():
            self._thread.join(timeout=1)
        outcomes = [ending.outcome for ending in self._endings]
        if "interrupted" in outcomes:
            raise SystemExit("interrupted: the run goes on when the job is requeued, or the sweep submitted again")
        failed = [ending.message for ending in self._endings if ending.outcome == "failed"]
        if failed:
            raise RuntimeError(f"{len(failed)} of {len(self.orders)} runs failed: {failed[0]}")

    def _work(self) -> None:
        for order in self.orders:
            ending = self._before(order) or self._crew.carry_out(order)
            print(f"{ending.outcome}: {order.run}: {ending.message}", flush=True)
            self._endings.append(ending)
            if ending.outcome == "interrupted":
                return
        self._crew.close()

    def _before(self, order: Order) -> Ending | None:
        """The ending of a run that failed in an earlier start of this job, or that comes to nothing."""
        folder, first = RunFolder(Path(order.folder)), order.decision["attempt"]
        last = folder.last_attempt()
        if last and last.get("attempt", 0) >= first and last["outcome"] == "failed":
            return Ending("failed", last["message"], last["cause"])
        idle = folder.idle_attempts(since=first)
        if len(idle) < IDLE_ATTEMPTS or folder.holder() is not None:
            return None
        message = (
            f"no progress in {len(idle)} attempts: each ended before anything was saved ({idle[0]['message']}); give "
            "more time with --slurm time=, or fill the image cache first with ltbench data"
        )
        if not self._slot().node:
            folder.give_up(idle[0]["cause"], message)
        return Ending("failed", message, idle[0]["cause"])

    def _slot(self) -> Slot:
        cpus = os.environ.get("SLURM_CPUS_PER_TASK")
        threads = max(1, int(cpus) // self.gpus) if cpus else None
        nodes = int(os.environ.get("SLURM_NNODES", 1))
        if nodes * self.gpus == 1:
            return Slot("job", threads=threads)
        names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        gpus = tuple(names[: self.gpus]) if self.gpus > 1 else ()
        return Slot(
            "job",
            gpus,
            self.gpus,
            threads,
            node=int(os.environ.get("SLURM_NODEID", 0)),
            nodes=nodes,
            address=submitit.JobEnvironment().hostnames[0] if nodes > 1 else "",
            # The same on every node, another for every job of a node.
            port=20_000 + int(os.environ["SLURM_JOB_ID"]) % 20_000 if nodes > 1 else 0,
        )

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit when SLURM warns of the end, before it asks for the requeue: the run saves itself."""
        left = self.warning_s - _REQUEUE_S
        self._crew.stop()
        self._thread.join(timeout=left)
        if self._thread.is_alive():
            self._crew.stop(at_once=True)
            self._thread.join(timeout=_REQUEUE_S / 2)
        # SLURM may warn up to a minute early.
        if time.monotonic() - self._began >= self.minutes * 60 - self.warning_s - 60:
            for order, ending in zip(self.orders, self._endings, strict=False):
                if ending.outcome == "interrupted":
                    RunFolder(Path(order.folder)).settle("timeout", f"the walltime of {self.minutes} minutes ended")
        again = ClusterJob(self.orders, self.retries, self.gpus, self.minutes, self.warning_s)
        return submitit.helpers.DelayedSubmission(again)


@dataclass(frozen=True)
class Site:
    """How to submit.

    options: of sbatch, by submitit's names. pack: runs in an element. parallelism: elements at once. nodes: of one run.
    gpus: of each node of a run, with a process for each.
    """

    options: dict[str, Any]
    pack: int = 1
    parallelism: int = 256
    retries: int = 1
    gpus: int = 1
    nodes: int = 1


def site_options(given: dict[str, Any]) -> dict[str, Any]:
    """What was given, above the site's defaults: the file that LTBENCH_SLURM names, or `slurm.yaml` here.

    Raises InputError for an option that sbatch does not have, with the near names, or one that is the sweep's to set.
    """
    named = os.environ.get("LTBENCH_SLURM")
    path = Path(named) if named else SITE_FILE
    defaults = load_yaml(path) if named or path.exists() else {}
    allowed = (set(_get_default_parameters()) - _OURS) | _MORE
    options = {}
    for source, values in ((str(path), defaults), ("--slurm", given)):
        for key, value in values.items():
            name = key.replace("-", "_")
            name = _SPELLINGS.get(name, name)
            if name in _OURS:
                raise InputError(f"{source}: {key} is set by the sweep; leave it out")
            if name not in allowed:
                raise InputError(f"{source}: unknown option {key!r}{did_you_mean(name, {*allowed, *_SPELLINGS})}")
            options[name] = value
    options["time"] = minutes(options.get("time", DEFAULT_MINUTES))
    options.setdefault("signal_delay_s", WARNING_S)
    if type(options["signal_delay_s"]) is not int or options["signal_delay_s"] < 2 * _REQUEUE_S:
        raise InputError(f"signal_delay_s {options['signal_delay_s']!r}: give seconds, at least {2 * _REQUEUE_S}")
    return options


def minutes(value: Any) -> int:
    """A walltime as sbatch reads it (60, 30:00, 2:00:00, 1-12, 1-12:30) -> minutes, rounded up. Raises InputError."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", str(value), re.ASCII)
    if not match or value is True:
        raise InputError(f"time {value!r}: write minutes, 2:00:00 (in YAML with quotes) or days-hours")
    days, *rest = match.groups()
    numbers = [int(part) for part in rest if part is not None]
    if days is not None:
        hours, mins, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) < 3:
        hours, mins, seconds = 0, *(*numbers, 0)[:2]
    else:
        hours, mins, seconds = numbers
    total = -(-(int(days or 0) * 86400 + hours * 3600 + mins * 60 + seconds) // 60)
    if total < 1:
        raise InputError(f"time {value!r}: give at least a minute")
    return total


def submit(orders: Sequence[Order], folder: Path, site: Site) -> dict[str, str]:
    """Submit the runs as arrays, logs in `folder`; returns name of the run -> job id, such as `123_4`.

    The caller may exit at once. Raises InputError when there is no SLURM or when it refuses, with its message.
    """
    if shutil.which("sbatch") is None:
        raise InputError("no SLURM found: sbatch is not on the PATH; use --cluster local or inline")
    known = set(_get_default_parameters())
    named = {key: value for key, value in site.options.items() if key in known}
    more = {key: value for key, value in site.options.items() if key not in known}
    if orders[0].device != "cpu" and not _ASKS_FOR_GPUS & set(named):
        named["gpus_per_node"] = site.gpus
    executor = submitit.SlurmExecutor(folder, max_num_timeout=_MOST_TIMEOUTS)
    packs = [orders[i : i + site.pack] for i in range(0, len(orders), site.pack)]
    jobs = [
        ClusterJob(pack, site.retries, site.gpus, site.options["time"], site.options["signal_delay_s"])
        for pack in packs
    ]
    ids: dict[str, str] = {}
    most = _largest_array()
    with _outside_of_a_job():
        try:
            executor.update_parameters(
                **named,
                nodes=site.nodes,
                ntasks_per_node=1,
                job_name="ltbench",
                array_parallelism=site.parallelism,
                stderr_to_stdout=True,
                additional_parameters={"requeue": True} | more,
            )
            for i in range(0, len(jobs), most):
                with executor.batch():
                    elements = [executor.submit(job) for job in jobs[i : i + most]]
                for pack, element in zip(packs[i : i + most], elements, strict=True):
                    ids |= {order.run: element.job_id for order in pack}
        except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
            if ids:
                cancel(ids.values())
            raise InputError(f"sbatch refused the sweep: {_last_line(error)}; see --slurm and {SITE_FILE}") from None
    return ids


@contextlib.contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """The environment without the variables of a job that this process may be in; with where SLURM's configuration is,
    and the user's own defaults for sbatch."""
    kept = {key: value for key, value in os.environ.items() if key == "SLURM_CONF" or key.startswith("SBATCH_")}
    with submitit.helpers.clean_env():
        os.environ.update(kept)
        yield


def _largest_array() -> int:
    """Elements that one array may have here; SLURM's own default when it does not say."""
    done = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False, timeout=60)
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", done.stdout, re.M)
    return int(found[1]) - 1 if found else 1000


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    refused = [line for line in lines if "error:" in line and "Batch job submission" not in line]
    return (refused or lines or [type(error).__name__])[-1].removeprefix("sbatch: error: ")


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
    try:
        done = subprocess.run(
            ["squeue", "--noheader", "--array", "--me", "--format=%i|%T|%r|%M"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise InputError("squeue: no answer in 60 s; try again later") from None
    if done.returncode != 0:
        raise InputError(f"squeue: {done.stderr.strip() or 'no answer'}; try again later")
    found = {}
    for line in done.stdout.splitlines():
        job_id, *facts = line.strip().split("|")
        if job_id in wanted:
            found[job_id] = Queued(*facts)
    return found


def cancel(job_ids: Iterable[str]) -> None:
    """Cancel jobs. Raises InputError with scancel's message."""
    if shutil.which("scancel") is None:
        raise InputError("no SLURM found: scancel is not on the PATH")
    done = subprocess.run(["scancel", *sorted(job_ids)], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise InputError(f"scancel: {done.stderr.strip()}")
