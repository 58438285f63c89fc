"""The process that carries out runs for a launcher, one after the other: `python -m benchmark.launch.worker`.

Orders come in on standard input, a JSON object a line; how each ended goes out on standard output, likewise; status
for people goes to standard error. When the input ends, the launcher is gone or has nothing more: a run that is going on
then saves itself at the next step.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":
    # Before anything slow is imported. Ctrl-C reaches every process of a terminal, SLURM's warning every process of a
    # job: what they mean is for the launcher to decide, who sends SIGTERM.
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
from benchmark.store.runs import RunFolder

if TYPE_CHECKING:
    from benchmark.distributed import Peers
    from benchmark.launch.product import Job

# PyTorch is imported where a run is carried out: who only gives orders does without it.


@dataclass(frozen=True)
class Order:
    """A run to carry out.

    request, decision: of `benchmark.running.execute`, as plain values. folder: the run's, as the launcher planned it;
    where the request leads to another one it is refused.
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
    folder = (results / "runs" / job.spec.folder_name).absolute()
    return Order(job.work.request, asdict(job.decision), str(folder), device)


@dataclass(frozen=True)
class Ending:
    """How a run ended. held: another process is at work on it."""

    outcome: Literal["done", "failed", "interrupted", "held"]
    message: str
    cause: Cause | None = None

    @classmethod
    def of_crash(cls, error: Exception) -> Ending:
        """The ending of a run that an unforeseen error stopped."""
        return cls("failed", f"{type(error).__name__}: {error}", "code")


class Team:
    """This process and those that carry out the same orders with it, from the first order to the last."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._peers: Peers | None = None

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def peers(self, device: str) -> Peers:
        """The processes; they meet when they are first asked for. Raises InputError when they do not."""
        from benchmark.distributed import joined
        from benchmark.running.environment import resolve_device

        if self._peers is None:
            self._peers = self._stack.enter_context(joined(resolve_device(device)))
        return self._peers


class _Unheard(io.TextIOBase):
    """Standard error, whether or not the launcher still reads it: without one a run saves itself before it ends."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
        return len(text)


def fulfil(order: Order, team: Team) -> Ending:
    """Carry out one run in this process; whatever goes wrong is an ending.

    What cannot even be started is noted as a failed attempt too: nobody may be there to read the message.
    """
    from rich.console import Console

    from benchmark.running.execute import execute, summary
    from benchmark.running.plan import make_plan
    from benchmark.running.rerun import Decision
    from benchmark.ui.progress import Reporter

    folder = order.run_folder
    first = folder.next_attempt()
    try:
        peers = team.peers(order.device)
    except InputError as error:
        # Of this machine, not of the run: elsewhere it may go well.
        return Ending("failed", str(error))
    try:
        root = order.request["data_root"]
        work = make_plan(**order.request | {"data_root": root and Path(root)})
        if work.spec.folder_name != order.run:
            raise InputError(
                f"{order.run}: lists, images, weights or settings have changed since the sweep was planned"
            )
        reporter = Reporter(Console(file=_Unheard(), width=10_000, force_terminal=False))
        record = execute(work, Decision(**order.decision), folder, order.device, reporter, peers)
        return Ending("done", summary(record.metrics) if record else "")
    except RunInterrupted as error:
        return Ending("interrupted", str(error), "interrupted")
    except RunHeld as error:
        return Ending("held", str(error))
    except RunFailed as error:
        return Ending("failed", str(error), error.cause)
    except InputError as error:
        with contextlib.suppress(StoreError):
            folder.give_up("data", str(error))
        return Ending("failed", str(error), "data")
    except LtbenchError as error:
        return Ending("failed", str(error), "disk")
    except Exception as error:
        traceback.print_exc()
        if folder.next_attempt() == first:  # before there was a claim that could keep it
            with contextlib.suppress(type(error), StoreError), folder.claim():
                raise
        return Ending.of_crash(error)


def main() -> None:
    """Carry out orders until there are no more."""
    # As the launcher reads them, whatever the locale says; its standard error has a reader of any text.
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what some library prints is no answer
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
            if alone.is_set():  # nobody wants it any more
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
