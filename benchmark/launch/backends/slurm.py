"""Runs on a SLURM cluster, through submitit: job arrays whose elements carry out one run each, or a few."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import _get_default_parameters

from benchmark.base import scheduler
from benchmark.base.yamlio import load_yaml
from benchmark.errors import InputError, RunInterrupted, StoreError
from benchmark.launch.backend import BACKENDS, DEFAULT_RETRIES, GPUS, RETRIES, BackendOptions, Cluster, option
from benchmark.launch.crew import Crew, Slot, done_since, ended_before, package_path
from benchmark.launch.worker import Ending, Order
from benchmark.registry import did_you_mean
from benchmark.store.claim import cut_off, give_up
from benchmark.ui.text import harmless

if TYPE_CHECKING:
    from benchmark.running.plan import Plan

SITE_FILE = Path("slurm.yaml")
DEFAULT_MINUTES = 60
# Seconds before the end at which SLURM warns a job: enough for a step of training and a checkpoint.
WARNING_S = 90
# Seconds of these for writing the job's own state and requesting the requeue.
_REQUEUE_S = 10
# Options that the sweep sets itself.
_OURS = {"array_parallelism", "job_name", "nodes", "ntasks_per_node", "num_gpus", "srun_args", "use_srun"}
_OURS |= {"stderr_to_stdout", "additional_parameters"}
# Options of sbatch that submitit passes on without knowing them.
_MORE = {"begin", "licenses", "nice", "prefer", "reservation", "tmp"}
_SPELLINGS = {"memory": "mem", "cpus": "cpus_per_task", "walltime": "time"}
# Lines of the batch script: for the site's file, not for a command line.
_LINES = {"setup", "teardown"}
_ASKS_FOR_GPUS = {"gres", "gpus_per_node", "gpus_per_task"}
# submitit's limit of requeues is never reached: `ClusterJob` stops a run without progress.
_MOST_TIMEOUTS = 1000
IDLE_ATTEMPTS = 2
# Elements of an array at once.
DEFAULT_PARALLELISM = 256


class SlurmOptions(BackendOptions):
    """gpus: of each node of a run. nodes: of one run. retries: of a run that crashed, None for the default.

    slurm: options of sbatch. pack: runs in an element. array_parallelism: elements at once, None for the default.
    """

    gpus: int = GPUS
    nodes: int = option(1, "{}: nodes that one run is spread over.", "M", least=1)
    retries: int | None = RETRIES
    slurm: dict[str, Any] = option({}, "{}: partition, account, qos, gres, constraint, time, memory ...", "KEY=VALUE")
    pack: int = option(1, "{}: runs in one job, one after the other.", "K", least=1)
    array_parallelism: int | None = option(None, "{}: jobs at once.  [default: 256]", "N", least=1)


@BACKENDS.register("slurm")
class Slurm(Cluster):
    about = "a cluster"
    title = "SLURM"
    Options = SlurmOptions

    @property
    def processes(self) -> int:
        return self.options.gpus * self.options.nodes

    def check(self, plans: Iterable[Plan], device: str, results: Path) -> None:
        super().check(plans, device, results)
        _ = self.site  # raises InputError
        check_folder(results)

    @functools.cached_property
    def site(self) -> Site:
        """The options of submission. Raises InputError for an option that sbatch does not have."""
        given = self.options
        return Site(
            site_options(given.slurm),
            given.pack,
            given.array_parallelism or DEFAULT_PARALLELISM,
            DEFAULT_RETRIES if given.retries is None else given.retries,
            given.gpus,
            given.nodes,
        )

    def submit(self, orders: Sequence[Order], folder: Path) -> dict[str, str]:
        return submit(orders, folder, self.site)

    @classmethod
    def queue(cls, jobs: Iterable[str]) -> dict[str, scheduler.Queued]:
        return scheduler.queue(jobs)

    @classmethod
    def cancel(cls, jobs: Iterable[str]) -> None:
        scheduler.cancel(jobs)

    @classmethod
    def log_name(cls, job: str) -> str:
        return f"{job}_0_log.out"  # as submitit names it


class ClusterJob:
    """One element of an array: its runs, one after the other, each in worker processes.

    The progress of the runs is in their folders alone, so the same object serves the first start and one after a
    requeue. minutes: the walltime. warning_s: seconds before its end at which SLURM's signal arrives.
    """

    def __init__(self, orders: Sequence[Order], retries: int, gpus: int, minutes: int, warning_s: int):
        self.orders = list(orders)
        self.retries = retries
        self.gpus = gpus
        self.minutes = minutes
        self.warning_s = warning_s
        self._thread: threading.Thread | None = None

    def __call__(self) -> None:
        """Raises RuntimeError, which SLURM shows as a failed job, when a run failed."""
        slot = self._slot()
        # On several nodes no node tries again alone: SLURM ends the job when one of them fails.
        retries = self.retries if slot.nodes == 1 else 0
        self._began = time.monotonic()
        self._endings: list[Ending] = []
        self._crew = Crew(slot, _print, _print, retries)
        # submitit ignores SIGTERM, the only warning of scancel, requeue and preemption.
        signal.signal(signal.SIGTERM, lambda number, frame: self._crew.stop())
        # In a thread: the handler of SLURM's warning interrupts the main one, and waits for the run to save itself.
        self._thread = threading.Thread(target=self._carry_out_all, daemon=True)
        self._thread.start()
        while self._thread.is_alive():
            self._thread.join(timeout=1)
        if any(ending.outcome == "interrupted" for ending in self._endings):
            if slot.node:
                return
            raise SystemExit("interrupted: the run goes on when the job is requeued, or the sweep submitted again")
        failed = [ending.message for ending in self._endings if ending.outcome == "failed"]
        if failed or len(self._endings) < len(self.orders):
            raise RuntimeError(f"{len(failed)} of {len(self.orders)} runs failed: {' '.join(failed[:1])}")

    def _carry_out_all(self) -> None:
        for order in self.orders:
            try:
                ending = self._carry_out(order)
            except Exception as error:
                ending = Ending.of_crash(error)
            self._endings.append(ending)
            _print(f"{ending.outcome}: {order.run}: {ending.message}")
            if ending.outcome == "interrupted":
                return
        self._crew.close()

    def _carry_out(self, order: Order) -> Ending:
        folder = order.run_folder
        if self._crew.slot.node:
            return ended_before(order) or self._crew.carry_out(order)
        if folder.holder() is None:
            folder.note_cause("killed", "its job ended without a message")
        hopeless = self._hopeless(order)
        if hopeless:
            return hopeless
        attempt = folder.attempts.next_number()
        ending = self._crew.carry_out(order)
        if ending.outcome == "interrupted" and folder.attempts.next_number() == attempt:
            cut_off(folder, "the job ended before the run began")
        return ending

    def _hopeless(self, order: Order) -> Ending | None:
        """The ending of a run that failed in an earlier start of this job, or makes no progress; None for others."""
        folder = order.run_folder
        idle = folder.attempts.idle(since=order.decision["attempt"])
        if len(idle) < IDLE_ATTEMPTS or folder.holder() is not None or done_since(order):
            return ended_before(order)
        cause = idle[0].get("cause", "killed")
        message = (
            f"no progress in {len(idle)} attempts: each ended before anything was saved ({idle[0].get('message')}); "
            "give more time with --slurm time=, or fill the image cache first with ltbench data prepare"
        )
        give_up(folder, cause, message)
        return Ending("failed", message, cause)

    def _slot(self) -> Slot:
        cpus = scheduler.job_cpus()
        threads = max(1, cpus // self.gpus) if cpus is not None else None
        node, nodes = scheduler.job_nodes()
        if nodes * self.gpus == 1:
            return Slot("job", threads=threads)
        names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        gpus = tuple(names[: self.gpus]) if self.gpus > 1 else ()
        return Slot(
            "job",
            gpus,
            self.gpus,
            threads,
            node=node,
            nodes=nodes,
            address=submitit.JobEnvironment().hostnames[0] if nodes > 1 else "",
            # The same on every node, and different for other jobs of a node.
            port=10_000 + int(scheduler.job_id()) % 20_000 if nodes > 1 else 0,
        )

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit when SLURM warns of the end, before it asks for the requeue: the run saves itself."""
        if self._thread is not None:  # otherwise no run has begun
            self._crew.stop()
            self._thread.join(timeout=self.warning_s - _REQUEUE_S)
            if self._thread.is_alive():
                self._crew.stop(at_once=True)
                self._thread.join(timeout=_REQUEUE_S / 2)
            self._note_timeout()
        again = ClusterJob(self.orders, self.retries, self.gpus, self.minutes, self.warning_s)
        return submitit.helpers.DelayedSubmission(again)

    def _note_timeout(self) -> None:
        # SLURM may warn up to a minute early.
        if time.monotonic() - self._began < self.minutes * 60 - self.warning_s - 60:
            return
        for order, ending in zip(self.orders, self._endings, strict=False):
            if ending.outcome == "interrupted":
                with contextlib.suppress(StoreError):  # the requeue matters more than the note
                    order.run_folder.note_cause("timeout", f"the walltime of {self.minutes} minutes ended")


def _print(line: str) -> None:
    with contextlib.suppress(OSError):  # a full disk under the job's log is not the run's fault
        encoding = sys.stdout.encoding or "utf-8"
        print(harmless(line).encode(encoding, "replace").decode(encoding), flush=True)


@dataclass(frozen=True)
class Site:
    """How to submit.

    options: of sbatch, by submitit's names. pack: runs in an element. parallelism: elements at once. nodes: of one run.
    gpus: of each node of a run, with a process for each.
    """

    options: dict[str, Any]
    pack: int
    parallelism: int
    retries: int
    gpus: int
    nodes: int


def site_options(given: dict[str, Any]) -> dict[str, Any]:
    """The given options over the site's defaults, from the file that LTBENCH_SLURM names or `slurm.yaml` here.

    Raises InputError for an option that sbatch does not have, with the near names, or one that is the sweep's to set.
    """
    named = os.environ.get("LTBENCH_SLURM")
    path = Path(named) if named else SITE_FILE
    defaults = load_yaml(path) if named or path.exists() else {}
    allowed = (set(_get_default_parameters()) - _OURS) | _MORE
    options: dict[str, Any] = {}
    for source, values in ((str(path), defaults), ("--slurm", given)):
        for key, value in values.items():
            name = key.replace("-", "_")
            name = _SPELLINGS.get(name, name)
            if name in _OURS:
                raise InputError(f"{source}: {key} is set by the sweep; leave it out")
            if name in _LINES and source == "--slurm":
                raise InputError(f"--slurm: {key} is lines of shell, which may be given in {SITE_FILE} alone")
            if name not in allowed:
                raise InputError(f"{source}: unknown option {key!r}{did_you_mean(name, {*allowed, *_SPELLINGS})}")
            options[name] = _checked(source, key, value, lines=name in _LINES)
    options = {name: value for name, value in options.items() if value is not False}
    options["time"] = minutes(options.get("time", DEFAULT_MINUTES))
    warning_s = options.setdefault("signal_delay_s", WARNING_S)
    if type(warning_s) is not int or warning_s < 2 * _REQUEUE_S:
        raise InputError(f"signal_delay_s {warning_s!r}: give seconds, at least {2 * _REQUEUE_S}")
    if options["time"] * 60 <= warning_s:
        raise InputError(
            f"time: {options['time']} minutes are no more than signal_delay_s, the {warning_s} s that a run has to "
            "save itself; give more time"
        )
    return options


def _checked(source: str, key: str, value: Any, lines: bool) -> Any:
    """A value that is safe in a batch script, where a line break would begin a new line."""
    if lines and not isinstance(value, list):
        raise InputError(f"{source}: {key} is a list of lines, found {value!r}")
    for part in value if lines else [value]:
        if type(part) not in (str, int, float, bool) or not str(part).strip() or not str(part).isprintable():
            raise InputError(f"{source}: {key}: {part!r} is not a value on one line")
    return value


def minutes(value: Any) -> int:
    """A walltime as sbatch reads it (60, 30:00, 2:00:00, 1-12, 1-12:30) -> minutes, rounded up. Raises InputError."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", str(value), re.ASCII)
    if not match or value is True:
        raise InputError(f"time {value!r}: write minutes, 2:00:00 or days-hours")
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


def check_folder(folder: Path) -> None:
    """Raise InputError for a folder whose path SLURM or submitit would misread.

    `%j` and the like are patterns, a backslash switches them off, and a line break ends a line of the batch script.
    """
    path = str(folder.absolute())
    odd = [char for char in path if char in "%\\" or not char.isprintable()]
    if odd:
        raise InputError(
            f"{path!r}: SLURM takes {odd[0]!r} in the path of a log for something else; choose a results folder "
            "without it"
        )


class _Executor(submitit.SlurmExecutor):
    """submitit's executor, but for reading sbatch's answer: sites change its text, in any encoding."""

    def _internal_process_submissions(
        self, delayed_submissions: list[submitit.helpers.DelayedSubmission]
    ) -> list[submitit.SlurmJob]:
        """As submitit's, whose arrays would be submitted by an executor of its own class."""
        pickles = []
        for delayed in delayed_submissions:
            pickles.append(self.folder / f"{uuid.uuid4().hex}.pkl")
            delayed.set_timeout(self.parameters["time"], self.max_num_timeout)
            delayed.dump(pickles[-1])
        count = len(delayed_submissions)
        one = copy.copy(self)
        one.parameters = self.parameters | ({"map_count": count} if count > 1 else {})
        first = one._submit_command(self._submitit_command_str)
        jobs = [first]
        if count > 1:
            tasks = list(range(first.num_tasks))
            jobs = [submitit.SlurmJob(self.folder, f"{first.job_id}_{i}", tasks) for i in range(count)]
        for job, pickle in zip(jobs, pickles, strict=True):
            job.paths.move_temporary_file(pickle, "submitted_pickle")
        return jobs

    def _submit_command(self, command: str) -> submitit.SlurmJob:
        """Raises FailedSubmissionError when sbatch refuses, _Unclear when its answer leaves that open."""
        script = self.folder / f".submission_file_{uuid.uuid4().hex}.sh"
        script.write_text(self._make_submission_file_text(command, ""), encoding="utf-8")
        done = scheduler.sbatch(script)
        # After a timeout SLURM may still have accepted the job.
        if done.returncode and not re.search("timed out", done.stderr, re.I):
            raise FailedSubmissionError(done.stderr.strip() or f"exit code {done.returncode}")
        job_id = None if done.returncode else job_id_of(done.stdout)
        if job_id is None:
            raise _Unclear(" ".join((done.stderr if done.returncode else done.stdout + done.stderr).split()))
        job: submitit.SlurmJob[Any] = submitit.SlurmJob(self.folder, job_id, list(range(self._num_tasks())))
        job.paths.move_temporary_file(script, "submission_file", keep_as_symlink=True)
        return job


class _Unclear(Exception):
    """An answer of sbatch that leaves open whether something is in the queue."""


def job_id_of(answer: str) -> str | None:
    """The job that sbatch's standard output names; None where it names none, or several.

    `Submitted batch job 1`, `1` or `1;cluster`, on a line of its own.
    """
    lines = [line.strip() for line in answer.splitlines()]
    for pattern in (r"Submitted batch job (\d+)(?: on cluster \S+)?", r"(\d+)(?:;\S*)?"):
        found = {match[1] for line in lines if (match := re.fullmatch(pattern, line, re.ASCII))}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def submit(orders: Sequence[Order], folder: Path, site: Site) -> dict[str, str]:
    """Submit the runs as arrays, logs in `folder`; returns name of the run -> job id, such as `123_4`.

    The caller may exit at once. Raises InputError when there is no SLURM; when it refuses, with its message; when its
    answer leaves that open, with the way to find jobs that may be in the queue.
    """
    scheduler.check_tools()
    check_folder(folder)
    known = set(_get_default_parameters())
    named = {key: value for key, value in site.options.items() if key in known}
    more = {key: value for key, value in site.options.items() if key not in known}
    if orders[0].device != "cpu" and not _ASKS_FOR_GPUS & set(named):
        named["gpus_per_node"] = site.gpus
    # -P: no file of the user's folder is imported as a module.
    executor = _Executor(folder.absolute(), max_num_timeout=_MOST_TIMEOUTS, python=f"{shlex.quote(sys.executable)} -P")
    packs = [orders[i : i + site.pack] for i in range(0, len(orders), site.pack)]
    jobs = [
        ClusterJob(pack, site.retries, site.gpus, site.options["time"], site.options["signal_delay_s"])
        for pack in packs
    ]
    ids: dict[str, str] = {}
    name = f"ltbench-{folder.name}"
    most = scheduler.largest_array()
    with _outside_of_a_job():
        try:
            executor.update_parameters(
                **{"wckey": None} | named,
                nodes=site.nodes,
                ntasks_per_node=1,
                job_name=name,
                array_parallelism=site.parallelism,
                stderr_to_stdout=True,
                srun_args=["--kill-on-bad-exit=1"] if site.nodes > 1 else None,
                additional_parameters={"requeue": True} | more,
            )
            for i in range(0, len(jobs), most):
                with executor.batch():
                    elements = [executor.submit(job) for job in jobs[i : i + most]]
                for pack, element in zip(packs[i : i + most], elements, strict=True):
                    ids |= {order.run: element.job_id for order in pack}
        except BaseException as error:
            withdraw(ids)
            perhaps = (
                f"the runs may be in the queue all the same, where they would fail; squeue --name={name} shows them, "
                f"scancel --name={name} cancels them"
            )
            if isinstance(error, _Unclear):
                raise InputError(f"sbatch answered {str(error)[:500]!r}, which names no job: {perhaps}") from None
            if isinstance(error, KeyboardInterrupt):
                raise RunInterrupted(f"while sbatch was running: {perhaps}") from None
            if not isinstance(error, FailedJobError | FailedSubmissionError | subprocess.SubprocessError | OSError):
                raise
            said = _last_line(error)
            hint = "; --device cpu asks for no GPU" if re.search("gres|gpu", said, re.I) else ""
            raise InputError(f"sbatch refused the sweep: {said}; see --slurm and {SITE_FILE}{hint}") from None
    return ids


def withdraw(ids: dict[str, str]) -> None:
    """Cancel submitted jobs that no file will name, if possible."""
    if ids:
        with contextlib.suppress(InputError):
            scheduler.cancel(ids.values())


@contextlib.contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """The environment without the variables of a job that this process may be in.

    The path of SLURM's configuration and the user's defaults for sbatch stay.
    """
    kept = scheduler.site_variables()
    with submitit.helpers.clean_env():
        before = os.environ.get("PYTHONPATH")
        os.environ.update(kept | package_path())
        try:
            yield
        finally:
            os.environ.pop("PYTHONPATH")
            if before is not None:
                os.environ["PYTHONPATH"] = before


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    refused = [line for line in lines if "error:" in line and "Batch job submission" not in line]
    return (refused or lines or [type(error).__name__])[-1].removeprefix("sbatch: error: ")
