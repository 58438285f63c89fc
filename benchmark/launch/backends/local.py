"""Runs on this machine's devices: one at a time on every slot, a queue, a live display."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from benchmark.base.cache import cache_folder
from benchmark.base.processes import cores
from benchmark.base.signals import handled
from benchmark.errors import InputError, RunInterrupted
from benchmark.launch.backend import BACKENDS, DEFAULT_RETRIES, GPUS, RETRIES, Backend, BackendOptions, Launch, option
from benchmark.launch.crew import Crew, Slot
from benchmark.launch.report import Report, RunReport
from benchmark.launch.sweeps import LaunchedSweep, Sweeps
from benchmark.launch.worker import Ending, Order
from benchmark.ui.progress import Reporter, duration
from benchmark.ui.text import harmless

PLAIN_INTERVAL_S = 30.0


class LocalOptions(BackendOptions):
    """workers: the most slots. gpus: of a slot. retries: of a run that crashed, None for the default."""

    workers: int | None = option(None, "{}: runs at once.  [default: one a GPU; without a GPU 1]", "N")
    gpus: int = GPUS
    retries: int | None = RETRIES


@BACKENDS.register("local")
class Local(Backend):
    about = "one run on each GPU of this machine"
    Options = LocalOptions

    @property
    def processes(self) -> int:
        return self.options.gpus

    def launch(self, launch: Launch) -> Report:
        """Carry out the runs that are left to do in worker processes."""
        jobs = launch.decide()
        slots = local_slots(launch.device, self.options.workers, self.options.gpus)
        cache_folder()  # raises InputError without one, before any run does
        orders = launch.orders(jobs)
        launch.announce(jobs)
        sweep: LaunchedSweep | None = None
        endings: dict[str, Ending] = {}
        if orders:
            sweeps = Sweeps(launch.results)
            sweep = sweeps.write(sweeps.new_folder(), self.name, {order.run: "" for order in orders})
            retries = DEFAULT_RETRIES if self.options.retries is None else self.options.retries
            endings = Pool(slots, retries, launch.reporter).run(orders)
        ended: list[RunReport] = []
        for run, ending in endings.items():
            if ending.outcome != "interrupted":
                ended.append(RunReport(launch.results / "runs" / run, ending.outcome, ending.message))
        if len(ended) < len(orders):
            raise RunInterrupted("run the same command again to go on")
        return Report(launch.results, ended + launch.not_launched(jobs), sweep)

    @classmethod
    def stop(cls, sweep: LaunchedSweep) -> str:
        """Tell the process that launched the sweep to stop."""
        launcher = sweep.lease
        if not launcher.is_here:
            raise InputError(f"sweep {sweep.name}: runs on {launcher.host}; stop process {launcher.pid} there")
        if launcher.is_dead(0):
            raise InputError(f"sweep {sweep.name}: has ended")
        try:
            os.kill(launcher.pid, signal.SIGTERM)
        except OSError as error:
            raise InputError(f"sweep {sweep.name}: process {launcher.pid}: {error.strerror}") from None
        return f"sweep {sweep.name}: process {launcher.pid} is asked to stop; its runs save themselves"


def local_slots(device: str, workers: int | None = None, gpus: int = 1) -> list[Slot]:
    """One slot for every `gpus` of the visible GPUs.

    Without a GPU, or on the CPU: `workers` slots (1 by default) that share the cores, each with `gpus` processes.
    workers: the most slots. Raises InputError for more than there can be.
    """
    if workers is not None and workers < 1:
        raise InputError(f"--workers {workers}: give at least 1")
    if gpus < 1:
        raise InputError(f"--gpus {gpus}: give at least 1")
    if device not in ("auto", "cuda", "cpu"):
        raise InputError(f"--device {device!r}: with --cluster local, or --gpus, use auto, cuda or cpu")
    visible = [] if device == "cpu" else visible_gpus()
    if device == "cuda" and not visible:
        raise InputError("--device cuda: PyTorch sees no GPU; use --device cpu")
    if not visible:
        count = workers or 1
        threads = _share(count * gpus)
        return [Slot(f"CPU {i}" if count > 1 else "CPU", processes=gpus, threads=threads) for i in range(count)]
    most = len(visible) // gpus
    if most == 0 or (workers or 0) > most:
        asked = f"--workers {workers} with --gpus {gpus}" if workers else f"--gpus {gpus}"
        raise InputError(f"{asked}: PyTorch sees {len(visible)} GPUs; ask for fewer")
    count = workers or most
    groups = [tuple(visible[i * gpus : (i + 1) * gpus]) for i in range(count)]
    threads = _share(count * gpus)
    return [Slot(f"GPU {','.join(group)}", group, gpus, threads) for group in groups]


def _share(processes: int) -> int:
    """Threads of each process: its part of the cores, or fewer where OMP_NUM_THREADS says so."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, cores() // processes)
    return min(share, int(asked)) if asked.isdigit() and int(asked) else share


def visible_gpus() -> list[str]:
    """The GPUs that PyTorch sees: their names in CUDA_VISIBLE_DEVICES, or their numbers."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return (named or [str(i) for i in range(count)])[:count]


@dataclass
class _Board:
    """The content of the display; written by the slots' threads, read by the display's."""

    total: int
    started: float = field(default_factory=time.monotonic)
    now: dict[int, tuple[str, str]] = field(default_factory=dict)  # slot -> run, its last line of status
    endings: dict[str, Ending] = field(default_factory=dict)

    def summary(self) -> str:
        counts = Counter(ending.outcome for ending in list(self.endings.values()))
        ended, running = counts.total(), len(self.now)
        parts = [f"{counts['done']} done", f"{counts['failed']} failed", f"{running} running"]
        parts += [f"{counts[name]} {name}" for name in ("interrupted", "held") if counts[name]]
        spent = time.monotonic() - self.started
        text = f"{', '.join(parts)}, {self.total - ended - running} waiting, {duration(spent)}"
        finished = counts["done"] + counts["failed"]
        # Counted in whole runs: the progress of the running ones is not known here.
        return f"{text}, about {duration(spent / finished * (self.total - ended))} left" if finished else text


class Pool:
    """Carries out orders on slots. A run that fails never stops the others; see `Crew` for `retries`."""

    def __init__(self, slots: Sequence[Slot], retries: int, reporter: Reporter):
        self._slots = slots
        self._retries = retries
        self._reporter = reporter
        self._stopping = False
        self._crews: list[Crew] = []

    def run(self, orders: Sequence[Order]) -> dict[str, Ending]:
        """How each run ended, by its name; without those that never began.

        On Ctrl-C and SIGTERM the runs that are going on save themselves, and no other begins; a second Ctrl-C ends them
        at once.
        """
        waiting: queue.SimpleQueue[Order] = queue.SimpleQueue()
        for order in orders:
            waiting.put(order)
        board = _Board(len(orders))
        self._crews = [
            Crew(slot, partial(self._show, board, i), self._reporter.line, self._retries)
            for i, slot in enumerate(self._slots[: len(orders)])
        ]
        threads = [
            threading.Thread(target=self._serve, args=(i, crew, waiting, board), daemon=True)
            for i, crew in enumerate(self._crews)
        ]
        with handled(self._stop):
            for thread in threads:
                thread.start()
            self._watch(threads, board)
        return board.endings

    def _serve(self, number: int, crew: Crew, waiting: queue.SimpleQueue[Order], board: _Board) -> None:
        while not self._stopping:
            try:
                order = waiting.get_nowait()
            except queue.Empty:
                break
            board.now[number] = (order.run, "starting")
            try:
                ending = crew.carry_out(order)
            except Exception as error:  # the machine has no process or memory left
                ending = Ending.of_crash(error)
            del board.now[number]
            board.endings[order.run] = ending
            self._reporter.line(f"[{len(board.endings)}/{board.total}] {ending.outcome}: {order.run}: {ending.message}")
        crew.close()

    def _show(self, board: _Board, number: int, line: str) -> None:
        run = board.now.get(number)
        if run is not None:
            board.now[number] = (run[0], line)

    def _stop(self, number: int, frame: object) -> None:
        at_once = self._stopping and number == signal.SIGINT
        self._stopping = True
        for crew in self._crews:
            crew.stop(at_once)

    def _watch(self, threads: Sequence[threading.Thread], board: _Board) -> None:
        """Show the board until every thread has ended."""
        with self._reporter.picture(lambda: self._picture(board)) as is_shown:
            self._join(threads, None if is_shown else board)
        self._reporter.line(board.summary())

    def _join(self, threads: Sequence[threading.Thread], plain: _Board | None) -> None:
        """Wait for the threads. plain: a board whose summary is printed now and then, where no picture is shown."""
        shown, announced = time.monotonic(), False
        while alive := [thread for thread in threads if thread.is_alive()]:
            alive[0].join(timeout=0.2)
            if self._stopping and not announced:
                # Not in the handler: it may interrupt the console in the middle of a line.
                self._reporter.line(
                    "stopping: the runs that are going on save themselves; Ctrl-C again ends them at once"
                )
                announced = True
            if plain is not None and time.monotonic() - shown >= PLAIN_INTERVAL_S:
                shown = time.monotonic()
                self._reporter.line(plain.summary())

    def _picture(self, board: _Board) -> Group:
        table = Table(box=None, show_header=False)
        for number, (run, line) in sorted(board.now.items()):
            table.add_row(*(escape(harmless(text)) for text in (self._slots[number].name, run, line)))
        return Group(table, board.summary())
