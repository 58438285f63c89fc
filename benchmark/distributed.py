"""One run on several processes, each with a GPU of its own (or on the CPU, with gloo).

A launcher starts the processes with the same orders, and they find each other by the variables of torchrun: RANK,
LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. The first process claims the run, logs, validates, saves, scores
the test set and writes the record. The others only train.

The record equals that of one process up to floating-point rounding, which grows over a long training:

- Every process draws the indices of the whole batch and takes its own part of them, so that each drawn image is used
  once. Parts are equal: the batch size must be a multiple of the number of processes.
- Images are augmented as in one process.
- Batch norm takes its statistics over the whole batch (`benchmark.models.synced_batch_norm`).
- Gradients are the mean over the processes (DistributedDataParallel), and so is the loss that is reported.

The gradient is therefore that of the mean of the parts' losses. For a loss that is a mean over images, this is the loss
of the whole batch. Other losses call functions of this module, which do nothing in one process: `batch_sum` for a sum
over images, `batch_mean` for a mean that enters a non-linear function or a state such as `PriorOffset`'s. A loss that
compares the images of a batch with each other would have to gather them; no method here has one.

Random draws in `training_loss`, such as dropout's masks, are made by every process for its own part, from generators
seeded by (seed, process, step). Parts do not share masks, and a resumed run repeats the draws. A method that draws
there agrees with one process in distribution only. All other draws are the same in all processes, and equal those of
one process.

A process that fails raises; the launcher then ends the others, which would wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from benchmark.errors import InputError

# The others wait for the first process while it decodes, validates and scores.
_CONTROL_TIMEOUT = timedelta(days=1)


@dataclass(frozen=True)
class Peers:
    """The processes of a run, as one of them sees them.

    rank: index of this process, from 0; local_rank: its index within its node. size: number of processes. control:
    gloo's group of all processes, for values that are not on a device.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    control: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that logs, saves and writes the record."""
        return self.rank == 0

    def part(self, batch_size: int) -> slice:
        """This process's images of a batch, whose size must pass `check_batch_size`."""
        own = batch_size // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def own_device(self, device: torch.device) -> torch.device:
        """The device of this process: its own GPU, where `device` is a GPU.

        A process sees either its own GPU or all of them. Raises InputError where there are too few.
        """
        if self.size == 1 or device.type != "cuda":
            return device
        visible = torch.cuda.device_count()
        if visible > 1 and self.local_rank >= visible:
            raise InputError(
                f"process {self.local_rank} of this node needs a GPU of its own, but PyTorch sees {visible}; use fewer "
                "processes"
            )
        return torch.device("cuda", self.local_rank if visible > 1 else 0)

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """The flags, each True for all processes where it is True for any."""
        if self.size == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(raised, dist.ReduceOp.MAX, group=self.control)
        return tuple(map(bool, raised.tolist()))

    def broadcast(self, value: Any) -> Any:
        """The value of the first process, in all processes."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control)
        return values[0]

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier(group=self.control)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over the processes, without gradient."""
        return values if self.size == 1 else summed(values) / self.size

    @contextmanager
    def starting_others(self) -> Iterator[Callable[[Any], None]]:
        """For the first process: yields a function that sends a value to the others, which wait in `broadcast`.

        Where it is never called, they receive None when the block ends, also by an error.
        """
        started = False

        def start(value: Any) -> None:
            nonlocal started
            started = True
            self.broadcast(value)

        try:
            yield start
        finally:
            if not started:
                self.broadcast(None)


ALONE = Peers()
_peers = ALONE


@contextmanager
def joined(device: torch.device) -> Iterator[Peers]:
    """The processes that torchrun's variables name, for the duration of the block; `ALONE` where they name one or none.

    device: of training; "cuda" uses NCCL, "cpu" gloo. Raises InputError for invalid variables, and when the others
    cannot be reached.
    """
    global _peers
    rank, size, local_rank = _torchrun()
    if size == 1:
        yield ALONE
        return
    own = Peers(rank, size, local_rank).own_device(device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    try:
        dist.init_process_group("nccl" if own.type == "cuda" else "gloo")
        control = dist.new_group(backend="gloo", timeout=_CONTROL_TIMEOUT)
        assert isinstance(control, dist.ProcessGroup)  # this process is in it
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"process {rank} of {size} cannot join the others at {where}: {reason}; is that address reached from here?"
        ) from None
    _peers = Peers(rank, size, local_rank, control)
    try:
        yield _peers
    finally:
        _peers = ALONE
        dist.destroy_process_group()


def _torchrun() -> tuple[int, int, int]:
    """(RANK, WORLD_SIZE, LOCAL_RANK)."""
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1":
        return 0, 1, 0
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise InputError(f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set; leave the processes to --gpus")
    try:
        rank, count, local_rank = (int(os.environ[name]) for name in names[:3])
    except ValueError:
        rank, count, local_rank = -1, 0, 0
    if not 0 <= rank < count:
        raise InputError(f"RANK {os.environ['RANK']} and WORLD_SIZE {size} name no process; leave them to --gpus")
    return rank, count, local_rank


def check_batch_size(batch_size: int, processes: int) -> None:
    """Raise InputError unless every process can have an equal part of a batch."""
    if batch_size % processes:
        able = [str(n) for n in range(1, min(batch_size, 2 * processes) + 1) if batch_size % n == 0]
        *others, last = able
        named = f"{', '.join(others)} or {last}" if others else last
        raise InputError(
            f"recipe.batch_size {batch_size} cannot be divided among {processes} processes; use --gpus {named}, or "
            "another recipe.batch_size"
        )


def batch_mean(own: torch.Tensor) -> torch.Tensor:
    """From a mean over the images of this process's part to that over the whole batch, with gradient."""
    return own if _peers.size == 1 else _Sum.apply(own) / _peers.size


def batch_sum(own: torch.Tensor) -> torch.Tensor:
    """From a sum over this process's images to a loss whose mean over the processes is the sum over the whole batch."""
    return own if _peers.size == 1 else own * _peers.size


def summed(own: torch.Tensor) -> torch.Tensor:
    """The sum over the processes, without gradient."""
    total = own.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


class _Sum(torch.autograd.Function):
    """The sum over the processes. Each process's loss depends on every summand, so gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor) -> torch.Tensor:
        return summed(own)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return summed(gradient)
