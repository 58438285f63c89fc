"""The worker processes of one slot as their launcher sees them: started when needed, replaced when they have died.

A slot has one process, or one a GPU where a run is spread over several: these find each other by torchrun's variables
and carry out the same order together.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import StoreError
from benchmark.launch.worker import Ending, Order
from benchmark.store.claim import give_up
from benchmark.ui.text import harmless

CHECKOUT = Path(__file__).resolve().parents[2]
# What may go well when it is tried again.
CRASHES = ("killed", "code")


@dataclass(frozen=True)
class Slot:
    """Where one run at a time is trained.

    name: for people. gpus: what CUDA_VISIBLE_DEVICES names them, one a process; empty to leave it as it is.
    processes: of this node. threads: of PyTorch in each, None for its own choice. node, nodes: of a run that is spread
    over several nodes, counted from 0. address, port: where its processes meet; "" and 0 on one node.
    """

    name: str
    gpus: tuple[str, ...] = ()
    processes: int = 1
    threads: int | None = None
    node: int = 0
    nodes: int = 1
    address: str = ""
    port: int = 0

    def environments(self) -> list[dict[str, str]]:
        """The variables of each process, above those of this one."""
        size = self.nodes * self.processes
        # Always: this process may itself have been started as one of several.
        shared = {"WORLD_SIZE": str(size)}
        if self.threads is not None:
            shared["OMP_NUM_THREADS"] = str(self.threads)
        if size > 1:
            shared |= {
                "MASTER_ADDR": self.address or "127.0.0.1",
                "MASTER_PORT": str(self.port or _free_port()),
            }
        environments = []
        for i in range(self.processes):
            own = {"CUDA_VISIBLE_DEVICES": self.gpus[i]} if self.gpus else {}
            if size > 1:
                own |= {"RANK": str(self.node * self.processes + i), "LOCAL_RANK": str(i)}
            environments.append(shared | own)
        return environments


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Crew:
    """The processes of a slot.

    show: called with every line of their status, from other threads. say: with what is to be kept, too. retries: how
    often a run is tried again whose process died, or that ended in an error of the code.
    """

    def __init__(self, slot: Slot, show: Callable[[str], None], say: Callable[[str], None], retries: int):
        self.slot = slot
        self._show = show
        self._say = say
        self._retries = retries
        self._processes: list[subprocess.Popen] = []
        self._answers: queue.SimpleQueue[tuple[int, Ending | None]] = queue.SimpleQueue()
        self._listeners: list[threading.Thread] = []
        self._last_words: deque[str] = deque(maxlen=20)
        self._stopping = False

    def carry_out(self, order: Order) -> Ending:
        """One run, to its end. A process that dies is an ending too: interrupted when it was asked to stop."""
        before = ended_before(order)
        if before is not None:
            return before
        tries = 0
        while True:
            ending = self._try(order)
            tries += 1
            # Also of an earlier start of the job; and those that could not write that they were.
            crashes = max(tries, sum(a.get("cause") in CRASHES for a in _attempts(order)))
            if ending.cause not in CRASHES:
                return ending
            if crashes > self._retries:
                if ending.cause == "killed":
                    self._give_up(order, ending)
                return ending
            self._say(f"{order.run}: {ending.message}; trying again")

    def _try(self, order: Order) -> Ending:
        self._start()
        if self._stopping:  # asked to while the processes started
            self.stop()
        line = json.dumps(asdict(order)) + "\n"
        for process in self._processes:
            with contextlib.suppress(OSError):  # its death is an answer
                process.stdin.write(line)
                process.stdin.flush()
        endings: dict[int, Ending] = {}
        while len(endings) < len(self._processes):
            number, ending = self._answers.get()
            if ending is None:
                return self._died(number, order)
            endings[number] = ending
            if ending.outcome == "failed":
                # The others may wait for it for ever.
                self._kill()
                if number and ending.cause:
                    self._give_up(order, ending)
                return ending
        return endings[0]

    def _died(self, number: int, order: Order) -> Ending:
        """What it means that a process died without an answer."""
        code = self._processes[number].wait()
        self._kill()
        # Before it can handle a signal it dies of it: SLURM sends these to every process of a job.
        if self._stopping or -code in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            return Ending("interrupted", "stopped before it could save itself", "interrupted")
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        if -code == signal.SIGKILL:
            how += ", as when the machine's memory runs out"
        word = f": {self._last_words[-1]}" if self._last_words else ""
        ending = Ending("failed", f"its process ended {how}{word}", "killed")
        with contextlib.suppress(StoreError):
            order.run_folder.note_cause("killed", ending.message)
        return ending

    def _give_up(self, order: Order, ending: Ending) -> None:
        """Write down what the process that kept the books could not."""
        try:
            give_up(order.run_folder, ending.cause, ending.message)
        except StoreError as error:
            self._say(str(error))

    def stop(self, at_once: bool = False) -> None:
        """Ask the run to save itself at the next step and to end; or end it at once, without saving."""
        self._stopping = True
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)

    def close(self) -> None:
        """End the processes, which have no order any more."""
        for process in self._processes:
            with contextlib.suppress(OSError):
                process.stdin.close()
        for process in self._processes:
            process.wait()
        self._kill()

    def _kill(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what it has started
            process.wait()
        for listener in self._listeners:
            listener.join(timeout=5)
        for process in self._processes:
            for pipe in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(OSError):
                    pipe.close()
        self._processes, self._listeners = [], []
        self._answers = queue.SimpleQueue()

    def _start(self) -> None:
        if self._processes and all(process.poll() is None for process in self._processes):
            return
        self._kill()
        self._last_words.clear()
        for number, own in enumerate(self.slot.environments()):
            process = subprocess.Popen(
                # -P: a file queue.py in the user's folder is not the module queue.
                [sys.executable, "-P", "-m", "benchmark.launch.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, encoding="utf-8", errors="replace", env=os.environ | package_path() | own,
                # Ctrl-C is for the launcher alone.
                start_new_session=True,
            )  # fmt: skip
            self._processes.append(process)
            for listen in (self._hear_answers, self._hear_status):
                thread = threading.Thread(target=listen, args=(number, process, self._answers), daemon=True)
                thread.start()
                self._listeners.append(thread)

    def _hear_answers(self, number: int, process: subprocess.Popen, answers: queue.SimpleQueue) -> None:
        try:
            for line in process.stdout:
                with contextlib.suppress(ValueError, TypeError):  # what Python printed as it started
                    answers.put((number, Ending(**json.loads(line))))
        finally:
            answers.put((number, None))

    def _hear_status(self, number: int, process: subprocess.Popen, answers: queue.SimpleQueue) -> None:
        for line in process.stderr:
            line = harmless(line.rstrip())
            self._last_words.append(line)
            with contextlib.suppress(Exception):  # a full disk under the log: the process must not wait for its reader
                self._show(line)


def ended_before(order: Order) -> Ending | None:
    """How a run ended that failed after it was decided to launch it: in an earlier start of the job, or elsewhere."""
    attempts = _attempts(order)
    if attempts and attempts[-1]["outcome"] == "failed" and not done_since(order):
        return Ending("failed", str(attempts[-1].get("message")), attempts[-1].get("cause", "code"))
    return None


def done_since(order: Order) -> bool:
    """Whether somebody has made the run's record after it was decided to launch it."""
    return order.run_folder.record_digest() != order.decision["replaces"]


def _attempts(order: Order) -> list[dict[str, Any]]:
    return order.run_folder.attempts.since(order.decision["attempt"])


def package_path() -> dict[str, str]:
    """The variable by which a Python in any folder finds this very package."""
    paths = [str(CHECKOUT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
