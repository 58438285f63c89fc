"""Checkpoints: a stopped run goes on from its own checkpoint, and from no other.

A file has PyTorch's format, followed by its sha256; a file with another sha256 is not loaded.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmark.base.atomic import write_atomically
from benchmark.base.files import read_regular
from benchmark.errors import StoreError
from benchmark.method import Method
from benchmark.store.records import EpochLog, EpochLogits
from benchmark.training.checkpoint_checks import check_progress, check_tensors
from benchmark.training.progress import Best, Progress
from benchmark.training.randomness import random_states, restore_random_states
from benchmark.training.setup import Runtime, Saving
from benchmark.training.stages import StageTraining, Timetable

_DIGEST_BYTES = 32


class Checkpoint:
    """The checkpoint of a run: written by the first process, read by all.

    selection: the recipe's rule for the epoch. observed: whether the run has an observer; a checkpoint must then hold
    its results of all epochs.
    """

    def __init__(self, saving: Saving, table: Timetable, selection: str, observed: bool, runtime: Runtime):
        self._path = saving.path
        self._table = table
        self._selection = selection
        self._observed = observed
        self._runtime = runtime
        self._made_by = {
            "run": saving.run_id,
            "code": saving.code_digest,
            "device": runtime.device.type,
            "images": saving.data_digest,
        }

    def save(self, progress: Progress, method: Method, stage: StageTraining) -> None:
        """Replace the checkpoint. Raises StoreError, and then keeps the older one."""
        state = {
            "made_by": self._made_by,
            "stage": progress.stage,
            "step": progress.step,
            "train_s": progress.train_s,
            "epoch_loss": progress.epoch_loss,
            "history": [entry.model_dump() for entry in progress.history],
            "best": None if progress.best is None else vars(progress.best),
            "observed": [entry.model_dump() for entry in progress.observed],
            "method": method.state_dict(),
            "optimizer": stage.optimizer.state_dict(),
            "ema": stage.ema.state() if stage.ema else None,
            "rng": random_states(self._runtime.device),
        }
        save_checkpoint(self._path, state)

    def load(self) -> dict[str, Any] | None:
        """The state to go on from, None to start anew; the first process decides, and reports why.

        Raises StoreError for a file that is damaged or does not fit this run, and when this process reads another file
        than the first process.
        """
        state = self._own(load_checkpoint(self._path))
        step = None if state is None else state["step"]
        first = self._runtime.peers.broadcast(step)
        if first is None:
            return None
        if step != first:
            raise StoreError(
                f"{self._path}: process {self._runtime.peers.rank} reads a checkpoint of step {step}, the first "
                f"process one of step {first}; the results folder must be the same for all"
            )
        return state

    def restore(self, state: dict[str, Any], method: Method, stage: StageTraining) -> Progress:
        """Load a state into the method, its stage, which has begun, and the random generators.

        Raises StoreError when the state does not fit them.
        """
        device = self._runtime.device
        with self._refused():
            check_tensors(state, method, stage, device)
        method.load_state_dict(state["method"])
        stage.optimizer.load_state_dict(state["optimizer"])
        if stage.ema:
            stage.ema.restore(state["ema"])
        # Last, as the calls above may draw random numbers.
        with self._refused():
            restore_random_states(state["rng"], device)
        best = state["best"] if self._runtime.peers.is_first else None
        return Progress(
            stage=state["stage"],
            step=state["step"],
            train_s=state["train_s"],
            epoch_loss=state["epoch_loss"],
            history=[EpochLog(**entry) for entry in state["history"]],
            best=None if best is None else Best(best["epoch"], best["val_overall"], best["states"]),
            observed=[EpochLogits(**entry) for entry in state["observed"]] if self._observed else [],
        )

    def _own(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        """The state where this run can go on from it; otherwise None, and the reason is reported."""
        if state is None:
            return None
        say = self._runtime.reporter.line
        if state.get("made_by") != self._made_by:
            # Going on would mix two computations in one result.
            say("the checkpoint is another run's, or of other code, another device or other images")
            say("starting anew")
            return None
        with self._refused():
            check_progress(state, self._table, self._selection)
        if self._observed and not self._has_every_epoch(state):
            say("the checkpoint was made without keeping the logits of every epoch; starting anew")
            return None
        return state

    def _has_every_epoch(self, state: dict[str, Any]) -> bool:
        """Whether a state has the observer's results for all epochs of the last stage so far."""
        first = self._table.first_step(len(self._table.stages) - 1)
        epochs = max(0, state["step"] - first) // self._table.steps_per_epoch
        return len(state["observed"]) == epochs

    @contextmanager
    def _refused(self) -> Iterator[None]:
        """Report an error of the block as a StoreError of one line."""
        try:
            yield
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise StoreError(
                f"{self._path}: not a checkpoint of this run ({reason}); remove it, or start anew with --rerun always"
            ) from None


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint by rename. Raises StoreError, and then keeps the older one."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write_atomically(path, content + hashlib.sha256(content).digest())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """A checkpoint's state on the CPU, None where there is no file. Raises StoreError for a damaged file."""
    try:
        content = read_regular(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from None
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise StoreError(
            f"{path}: the checkpoint is truncated or damaged; remove it, or start anew with --rerun always"
        )
    try:
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise almost any error
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise StoreError(f"{path}: not a checkpoint of this version ({reason}); remove it") from None
    if not isinstance(state, dict):
        raise StoreError(f"{path}: not a checkpoint of this version (it holds a {type(state).__name__}); remove it")
    return state
