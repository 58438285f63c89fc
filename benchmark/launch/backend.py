"""Backends, which carry out runs: their contract, that of clusters, and the registry that finds them by module."""

from __future__ import annotations

import contextlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import Field

from benchmark.base.modules import import_package
from benchmark.errors import InputError
from benchmark.launch.report import Report, RunReport
from benchmark.launch.sweeps import LaunchedSweep, Sweeps
from benchmark.launch.worker import Order, order
from benchmark.registry import Registry, did_you_mean
from benchmark.running.rules import Rerun
from benchmark.spec import Strict, parse
from benchmark.store.runs import Store
from benchmark.ui.progress import Reporter

if TYPE_CHECKING:
    from benchmark.launch.jobs import Job
    from benchmark.running.plan import Plan

# The command line's help imports this module, so PyTorch is imported only where runs are planned or launched.


def option(default: Any, about: str, metavar: str, least: int | None = None) -> Any:
    """A field of a backend's options, as `ltbench sweep` shows it.

    about: its help; `{}` in it is replaced by the names of the backends that have the option.
    """
    return Field(default, ge=least, description=about, json_schema_extra={"metavar": metavar})


# Options that several backends have.
GPUS = option(1, "GPUs (of each node) that one run is spread over; with cpu, processes.", "N", least=1)
RETRIES = option(None, "{}: tries again of a run that crashed.  [default: 1]", "N", least=0)
DEFAULT_RETRIES = 1


class BackendOptions(Strict):
    """The options of a backend; every field is an `option`, and one of `ltbench sweep`."""


@dataclass(frozen=True)
class Launch:
    """The request to a backend.

    decide: returns the present decision of the re-run rule on every plan. device: auto, cpu, cuda or cuda:i.
    """

    plans: Sequence[Plan]
    results: Path
    rerun: Rerun
    device: str
    reporter: Reporter
    decide: Callable[[], list[Job]]

    def orders(self, jobs: Iterable[Job]) -> list[Order]:
        """The orders to a worker process for the jobs that are launched."""
        return [order(job, self.results, self.device) for job in jobs if job.decision.launch]

    def announce(self, jobs: Sequence[Job]) -> None:
        """Report what is launched and how long it will take."""
        from benchmark.launch.forecast import forecast, warnings

        for line in [*warnings(jobs), *forecast(jobs, self.results)]:
            self.reporter.line(line)

    def not_launched(self, jobs: Iterable[Job]) -> list[RunReport]:
        """Reports of the runs that the re-run rule does not launch."""
        return [self._unlaunched(job) for job in jobs if not job.decision.launch]

    def _unlaunched(self, job: Job) -> RunReport:
        folder = Store(self.results).folder(job.spec)
        match job.decision.state:
            case "done" | "stale":
                return RunReport(folder.path, "done", "before")
            case "other images":
                message = f"{folder.path}: done on other images than are here now; make it anew with --rerun stale"
                return RunReport(folder.path, "failed", message)
            case "running" | "queued":
                return RunReport(folder.path, "held")
            case "failed":
                earlier = (folder.attempts.last() or {}).get("message")
                return RunReport(folder.path, "failed", f"failed before: {earlier}; try again with --rerun failed")
        return RunReport(folder.path, "pending")


class Backend(ABC):
    """A way to carry out runs. A module of `benchmark.launch.backends` registers one, and nothing else names it.

    about: a few words for the help. Options: the options of `ltbench sweep` and `benchmark.sweep` for it.
    """

    about: ClassVar[str]
    Options: ClassVar[type[BackendOptions]] = BackendOptions

    def __init__(self, name: str, options: BackendOptions):
        self.name = name
        self.options: Any = options

    @property
    def processes(self) -> int:
        """Number of processes that carry out one run together."""
        return 1

    def check(self, plans: Iterable[Plan], device: str, results: Path) -> None:
        """Raise InputError for plans that cannot be launched; a dry run checks too."""
        from benchmark.distributed import check_batch_size

        for plan in plans:
            check_batch_size(plan.spec.recipe.batch_size, self.processes)

    @abstractmethod
    def launch(self, launch: Launch) -> Report:
        """Carry out the runs that are left to do, or submit them; a run that fails stops no other.

        Raises InputError or StoreError where nothing can be launched, RunInterrupted where it was asked to stop.
        """

    @classmethod
    def stop(cls, sweep: LaunchedSweep) -> str:
        """Stop a sweep that this backend launched; returns a line on the consequences.

        Raises InputError when it has ended, or cannot be stopped from here.
        """
        raise NotImplementedError(f"{cls.__name__} launches nothing that goes on by itself")


class Queued(Protocol):
    """A job in a cluster's queue. state: PENDING where it waits. text: its state for people."""

    @property
    def state(self) -> str: ...

    @property
    def text(self) -> str: ...


class Cluster(Backend):
    """A backend that submits runs to a scheduler, where they go on after this process has ended.

    title: the scheduler's name, for people.
    """

    title: ClassVar[str]

    @abstractmethod
    def submit(self, orders: Sequence[Order], folder: Path) -> dict[str, str]:
        """Submit runs, whose logs go into `folder`; returns name of the run -> job id. Raises InputError."""

    @classmethod
    @abstractmethod
    def queue(cls, jobs: Iterable[str]) -> Mapping[str, Queued]:
        """Id -> entry in the queue of those jobs that have not ended.

        Raises InputError when the scheduler does not answer.
        """

    @classmethod
    @abstractmethod
    def cancel(cls, jobs: Iterable[str]) -> None:
        """Cancel jobs. Raises InputError with the scheduler's message."""

    @classmethod
    @abstractmethod
    def log_name(cls, job: str) -> str:
        """Name of the file in the sweep's folder with a job's output."""

    def check(self, plans: Iterable[Plan], device: str, results: Path) -> None:
        super().check(plans, device, results)
        if device not in ("auto", "cuda", "cpu"):
            raise InputError(f"--device {device!r}: with --cluster {self.name} use auto, cuda or cpu")

    def launch(self, launch: Launch) -> Report:
        """Submit the runs that are left to do to the scheduler."""
        sweeps = Sweeps(launch.results)
        with sweeps.lock():
            jobs = launch.decide()
            orders = launch.orders(jobs)
            launch.announce(jobs)
            if not orders:
                return Report(launch.results, launch.not_launched(jobs))
            folder = sweeps.new_folder()
            ids: dict[str, str] = {}
            try:
                ids = self.submit(orders, folder)
                sweep = sweeps.write(folder, self.name, ids)
            except BaseException:
                if ids:  # no file names these jobs
                    with contextlib.suppress(InputError):
                        self.cancel(ids.values())
                shutil.rmtree(folder, ignore_errors=True)
                raise
        submitted = [RunReport(order.run_folder.path, "submitted", job=ids[order.run]) for order in orders]
        return Report(launch.results, submitted + launch.not_launched(jobs), sweep)

    @classmethod
    def stop(cls, sweep: LaunchedSweep) -> str:
        left = cls.queue(sweep.jobs.values())
        if not left:
            raise InputError(f"sweep {sweep.name}: none of its jobs is in the queue any more")
        cls.cancel(left)
        return f"sweep {sweep.name}: {len(left)} jobs cancelled; what was running goes on when it is submitted again"


def _load_backends() -> None:
    import_package("benchmark.launch.backends")


BACKENDS: Registry[type[Backend]] = Registry("cluster", Backend, _load_backends)
DEFAULT_BACKEND = "local"


def backend_names() -> list[str]:
    """The names of all backends: the default one, then the clusters, then the others."""

    def rank(name: str) -> tuple[bool, bool, str]:
        return name != DEFAULT_BACKEND, not issubclass(BACKENDS.get(name), Cluster), name

    return sorted(BACKENDS, key=rank)


def options_of_backends() -> dict[str, tuple[Any, list[str]]]:
    """The options of all backends: name -> (field, names of the backends that have it).

    Their order agrees with that of each backend.
    """
    order: list[str] = []
    found: dict[str, tuple[Any, list[str]]] = {}
    for backend in backend_names():
        position = 0
        for name, info in BACKENDS.get(backend).Options.model_fields.items():
            if name not in found:
                order.insert(position, name)
                found[name] = (info, [])
            found[name][1].append(backend)
            position = order.index(name) + 1
    return {name: found[name] for name in order}


def make_backend(name: str, given: Mapping[str, Any]) -> Backend:
    """A backend with its options.

    Raises InputError for an unknown backend, and for an option that has no effect or a wrong value.
    """
    backend = BACKENDS.get(name)
    known = options_of_backends()
    for option in given:
        if option not in known:
            raise InputError(f"unknown option {option!r}{did_you_mean(option, known)}")
        if option not in backend.Options.model_fields:
            raise InputError(f"--{option.replace('_', '-')} has no effect with --cluster {name}; leave it out")
    return backend(name, parse(backend.Options, dict(given), f"--cluster {name}"))
