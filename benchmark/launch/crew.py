"""The worker processes of one slot as their launcher sees them: started when needed, replaced when they have died.

A slot has one process, or one a GPU where a run is spread over several GPUs. These processes find each other by
torchrun's variables and carry out the same order together.
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
from typing import IO, Any

from benchmark.errors import Cause, StoreError
from benchmark.launch.worker import Ending, Order
from benchmark.store.claim import give_up
from benchmark.ui.text import harmless

CHECKOUT = Path(__file__).resolve().parents[2]
# Causes of a failure that another try may avoid.
CRASHES = ("killed", "code")
# Lines of status that are kept to explain why a process died.
_KEPT_LINES = 20


@dataclass(frozen=True)
class Slot:
    """The devices and processes of one run at a time.

    name: for people. gpus: names for CUDA_VISIBLE_DEVICES, one a process; empty to leave that variable unchanged.
    processes: on this node. threads: of PyTorch in each process, None for its default. node, nodes: index of this node,
    from 0, and number of nodes of a run that is spread over several. address, port: at which its processes meet; "" and
    0 on one node.
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
        """The variables of each process, in addition to those of this one."""
        size = self.nodes * self.processes
        # Always set: this process may itself be one of several.
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

    show: called with every line of their status, from other threads. say: called with lines for the log. retries: how
    often a run is tried again after its process died or an error of the code ended it.
    """

    def __init__(self, slot: Slot, show: Callable[[str], None], say: Callable[[str], None], retries: int):
        self.slot = slot
        self._show = show
        self._say = say
        self._retries = retries
        self._processes: list[subprocess.Popen[str]] = []
        self._inputs: list[IO[str]] = []
        self._outputs: list[IO[str]] = []
        self._answers: queue.SimpleQueue[tuple[int, Ending | None]] = queue.SimpleQueue()
        self._listeners: list[threading.Thread] = []
        self._last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._stopping = False

    def carry_out(self, order: Order) -> Ending:
        """Carry out one run to its end. The death of a process is an ending too: interrupted if it had to stop."""
        before = ended_before(order)
        if before is not None:
            return before
        tries = 0
        while True:
            ending = self._try(order)
            tries += 1
            # The attempts of earlier starts of the job count too; the tries of this one may have left no attempt.
            crashes = max(tries, sum(a.get("cause") in CRASHES for a in _attempts(order)))
            if ending.cause not in CRASHES:
                return ending
            if crashes > self._retries:
                if ending.cause == "killed":
                    self._give_up(order, "killed", ending.message)
                return ending
            self._say(f"{order.run}: {ending.message}; trying again")

    def _try(self, order: Order) -> Ending:
        self._start()
        if self._stopping:  # it was asked to stop while the processes started
            self.stop()
        line = json.dumps(asdict(order)) + "\n"
        for stdin in self._inputs:
            with contextlib.suppress(OSError):  # a dead process is noticed below
                stdin.write(line)
                stdin.flush()
        endings: dict[int, Ending] = {}
        while len(endings) < len(self._processes):
            number, ending = self._answers.get()
            if ending is None:
                return self._died(number, order)
            endings[number] = ending
            if ending.outcome == "failed":
                # The other processes may wait for it forever.
                self._kill()
                if number and ending.cause:
                    self._give_up(order, ending.cause, ending.message)
                return ending
        return endings[0]

    def _died(self, number: int, order: Order) -> Ending:
        """The ending of a run whose process died without an answer."""
        code = self._processes[number].wait()
        self._kill()
        # SLURM sends these signals to every process of a job, and they kill one that does not handle them yet.
        if self._stopping or -code in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            return Ending("interrupted", "stopped before it could save itself", "interrupted")
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        if -code == signal.SIGKILL:
            how += ", as when the machine's memory runs out"
        last = f": {self._last_lines[-1]}" if self._last_lines else ""
        ending = Ending("failed", f"its process ended {how}{last}", "killed")
        with contextlib.suppress(StoreError):
            order.run_folder.note_cause("killed", ending.message)
        return ending

    def _give_up(self, order: Order, cause: Cause, message: str) -> None:
        """Write down a failure that the run's first process could not write."""
        try:
            give_up(order.run_folder, cause, message)
        except StoreError as error:
            self._say(str(error))

    def stop(self, at_once: bool = False) -> None:
        """Ask the run to save itself at the next step and end. at_once: end it now, without saving."""
        self._stopping = True
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)

    def close(self) -> None:
        """End the processes, which have no order left."""
        for stdin in self._inputs:
            with contextlib.suppress(OSError):
                stdin.close()
        for process in self._processes:
            process.wait()
        self._kill()

    def _kill(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with its own children
            process.wait()
        for listener in self._listeners:
            listener.join(timeout=5)
        for pipe in (*self._inputs, *self._outputs):
            with contextlib.suppress(OSError):
                pipe.close()
        self._processes, self._listeners, self._inputs, self._outputs = [], [], [], []
        self._answers = queue.SimpleQueue()

    def _start(self) -> None:
        if self._processes and all(process.poll() is None for process in self._processes):
            return
        self._kill()
        self._last_lines.clear()
        for number, own in enumerate(self.slot.environments()):
            process = subprocess.Popen(
                # -P: a file queue.py in the user's folder is not the module queue.
                [sys.executable, "-P", "-m", "benchmark.launch.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, encoding="utf-8", errors="replace", env=os.environ | package_path() | own,
                # Ctrl-C is for the launcher alone.
                start_new_session=True,
            )  # fmt: skip
            stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
            assert stdin is not None and stdout is not None and stderr is not None  # they are pipes
            self._processes.append(process)
            self._inputs.append(stdin)
            self._outputs += [stdout, stderr]
            for listener in (
                threading.Thread(target=self._read_answers, args=(number, stdout, self._answers), daemon=True),
                threading.Thread(target=self._read_status, args=(stderr,), daemon=True),
            ):
                listener.start()
                self._listeners.append(listener)

    def _read_answers(
        self, number: int, stdout: IO[str], answers: queue.SimpleQueue[tuple[int, Ending | None]]
    ) -> None:
        try:
            for line in stdout:
                with contextlib.suppress(ValueError, TypeError):  # a line that Python printed as it started
                    answers.put((number, Ending(**json.loads(line))))
        finally:
            answers.put((number, None))

    def _read_status(self, stderr: IO[str]) -> None:
        for line in stderr:
            line = harmless(line.rstrip())
            self._last_lines.append(line)
            with contextlib.suppress(Exception):  # such as a full disk: the process must not wait for its reader
                self._show(line)


def ended_before(order: Order) -> Ending | None:
    """The ending of a run that has failed since the decision: in an earlier start of the job, or elsewhere."""
    attempts = _attempts(order)
    if attempts and attempts[-1]["outcome"] == "failed" and not done_since(order):
        return Ending("failed", str(attempts[-1].get("message")), attempts[-1].get("cause", "code"))
    return None


def done_since(order: Order) -> bool:
    """Whether another process has made the run's record since the decision."""
    return order.run_folder.record_digest() != order.decision["replaces"]


def _attempts(order: Order) -> list[dict[str, Any]]:
    return order.run_folder.attempts.since(order.decision["attempt"])


def package_path() -> dict[str, str]:
    """The variable PYTHONPATH with which a Python process in any folder imports this package."""
    paths = [str(CHECKOUT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
