"""The runs of a results folder that are in the queues of clusters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import InputError
from benchmark.launch.backend import BACKENDS, Cluster
from benchmark.launch.sweeps import SubmittedJob, Sweeps

WAITING = "PENDING"


@dataclass(frozen=True)
class QueuedRun:
    """A run whose job is in a queue. text: the job's state for people."""

    job: str
    state: str
    text: str


class NoAnswer(InputError):
    """A scheduler does not answer. title: its name."""

    def __init__(self, error: InputError, title: str):
        super().__init__(str(error))
        self.title = title


def queued(jobs: Mapping[str, SubmittedJob]) -> dict[str, QueuedRun]:
    """The runs whose jobs have not ended, by name. Raises NoAnswer."""
    ids: dict[str, list[str]] = defaultdict(list)
    for submitted in jobs.values():
        ids[submitted.cluster].append(submitted.job)
    known = {}
    for name, jobs_there in ids.items():
        cluster = _cluster(name)
        try:
            known[name] = cluster.queue(jobs_there)
        except InputError as error:
            raise NoAnswer(error, cluster.title) from None
    return {
        run: QueuedRun(submitted.job, found.state, found.text)
        for run, submitted in jobs.items()
        if (found := known[submitted.cluster].get(submitted.job))
    }


def queued_of(results: Path, runs: Container[str]) -> dict[str, QueuedRun]:
    """As `queued`, for some runs of a results folder. Raises StoreError too, where the sweeps cannot be read."""
    return queued({run: job for run, job in Sweeps(results).jobs().items() if run in runs})


def job_log(submitted: SubmittedJob) -> Path | None:
    """The file with a job's output; None where there is none."""
    log = submitted.folder / _cluster(submitted.cluster).log_name(submitted.job)
    return log if log.exists() else None


def _cluster(name: str) -> type[Cluster]:
    """A cluster by its name. Raises InputError where none is registered, for example after its file was removed."""
    found = BACKENDS.get(name)
    if not issubclass(found, Cluster):
        raise InputError(f"--cluster {name} has no queue")
    return found
