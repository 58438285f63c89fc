"""The process that carries out runs for a launcher, one after the other: `python -m benchmark.launch.worker`.

Orders are read from standard input, a JSON object a line. Their endings are written to standard output in the same
form, and status for people to standard error. When the input ends, the launcher has ended or has no more orders: a run
that is going on then saves itself at the next step.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":
    # Before the slow imports. Ctrl-C reaches every process of a terminal, SLURM's warning every process of a job. The
    # launcher alone reacts to them, and sends SIGTERM.
    for _name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, _name), signal.SIG_IGN)

import contextlib
import io
import json
import os
import queue
import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmark.errors import Cause, InputError, LtbenchError, RunFailed, RunHeld, RunInterrupted, StoreError
from benchmark.store.claim import claimed, give_up
from benchmark.store.folder import RunFolder

if TYPE_CHECKING:
    from benchmark.distributed import Peers
    from benchmark.launch.jobs import Job

# PyTorch is imported where a run is carried out: a launcher, which only writes orders, does without it.


@dataclass(frozen=True)
class Order:
    """A run to carry out.

    request, decision: a plan's request and a `Decision`, as plain values. folder: the run's, as the launcher planned
    it; an order whose request gives another folder is refused.
    """

    request: dict[str, Any]
    decision: dict[str, Any]
    folder: str
    device: str

    @property
    def run_folder(self) -> RunFolder:
        """The run's folder."""
        return RunFolder(Path(self.folder))

    @property
    def run(self) -> str:
        """The name of the run's folder."""
        return Path(self.folder).name


def order(job: Job, results: Path, device: str) -> Order:
    """The order for a job of a sweep."""
    folder = (results / "runs" / job.run).absolute()
    return Order(job.plan.request, asdict(job.decision), str(folder), device)


@dataclass(frozen=True)
class Ending:
    """How a run ended. held: another process holds it."""

    outcome: Literal["done", "failed", "interrupted", "held"]
    message: str
    cause: Cause | None = None

    @classmethod
    def of_crash(cls, error: Exception) -> Ending:
        """The ending of a run that an unforeseen error stopped."""
        return cls("failed", f"{type(error).__name__}: {error}", "code")


class Team:
    """This process and the others that carry out the same orders with it, from the first order to the last."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._peers: Peers | None = None

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def peers(self, device: str) -> Peers:
        """The processes, which connect at the first call. Raises InputError when they cannot."""
        from benchmark.distributed import joined
        from benchmark.running.environment import resolve_device

        if self._peers is None:
            self._peers = self._stack.enter_context(joined(resolve_device(device)))
        return self._peers


class _LossyStderr(io.TextIOBase):
    """Standard error, without an error when the launcher no longer reads it: the run must still save itself."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
        return len(text)


def fulfil(order: Order, team: Team) -> Ending:
    """Carry out one run in this process; every error is an ending.

    A run that cannot be started leaves a failed attempt too, since the message may have no reader.
    """
    from rich.console import Console

    from benchmark.running.execute import execute, summary
    from benchmark.running.plan import make_plan
    from benchmark.running.rerun import Decision
    from benchmark.ui.progress import Reporter

    folder = order.run_folder
    first = folder.attempts.next_number()
    try:
        peers = team.peers(order.device)
    except InputError as error:
        # An error of this machine, not of the run: elsewhere it may succeed.
        return Ending("failed", str(error))
    try:
        root = order.request["data_root"]
        planned = make_plan(**order.request | {"data_root": root and Path(root)})
        if planned.spec.folder_name != order.run:
            raise InputError(
                f"{order.run}: lists, images, weights or settings have changed since the sweep was planned"
            )
        console = Console(
            file=_LossyStderr(),  # type: ignore[arg-type]  # rich only writes and flushes
            width=10_000,
            force_terminal=False,
        )
        record = execute(planned, Decision(**order.decision), folder, order.device, Reporter(console), peers)
        return Ending("done", summary(record.metrics) if record else "")
    except RunInterrupted as error:
        return Ending("interrupted", str(error), "interrupted")
    except RunHeld as error:
        return Ending("held", str(error))
    except RunFailed as error:
        return Ending("failed", str(error), error.cause)
    except InputError as error:
        with contextlib.suppress(StoreError):
            give_up(folder, "data", str(error))
        return Ending("failed", str(error), "data")
    except LtbenchError as error:
        return Ending("failed", str(error), "disk")
    except Exception as error:
        traceback.print_exc()
        if folder.attempts.next_number() == first:  # it failed before a claim could write its attempt
            with contextlib.suppress(type(error), StoreError), claimed(folder):
                raise
        return Ending.of_crash(error)


def main() -> None:
    """Carry out orders until there are no more."""
    # The launcher reads UTF-8, in every locale.
    assert isinstance(sys.stderr, io.TextIOWrapper)
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the prints of a library are no answers
    orders: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    busy, alone = threading.Event(), threading.Event()

    def read() -> None:
        for line in sys.stdin:
            orders.put(line)
        alone.set()
        orders.put(None)
        if busy.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=read, daemon=True, name="orders").start()
    with Team() as team:
        while (line := orders.get()) is not None:
            busy.set()
            if alone.is_set():  # the launcher has ended
                return
            ending = fulfil(Order(**json.loads(line)), team)
            busy.clear()
            with contextlib.suppress(BrokenPipeError):
                answers.write(json.dumps(asdict(ending)) + "\n")
                answers.flush()
            if ending.outcome == "failed":
                return  # memory or a device may be in any state: the launcher starts another process


if __name__ == "__main__":
    main()
