"""The training loop. It gets the training images and the validation images, and never a test image."""

from __future__ import annotations

import math
import time

import torch

from benchmark.errors import RunFailed, RunInterrupted
from benchmark.method import Method
from benchmark.store.records import EpochLog
from benchmark.training.batches import Batches
from benchmark.training.checkpoint import Checkpoint
from benchmark.training.optim import copied_state, copied_states
from benchmark.training.progress import Outcome, Progress
from benchmark.training.randomness import own_draws
from benchmark.training.setup import Runtime, Saving, TrainingConfig, TrainingData
from benchmark.training.stages import StageTraining, Timetable, moved
from benchmark.training.validation import Observer, Validator

SAVE_EVERY_S = 60.0
# Steps between two readings of the loss from a GPU, as reading waits for it. On the CPU reading costs nothing.
_CUDA_CHECK_STEPS = 16


class Trainer:
    """Trains one method. saving: None to keep no checkpoint. observe: see `Observer`."""

    def __init__(
        self,
        method: Method,
        config: TrainingConfig,
        data: TrainingData,
        runtime: Runtime,
        saving: Saving | None = None,
        observe: Observer | None = None,
    ):
        recipe = config.recipe
        self.method = moved(method, runtime.device)
        self.config = config
        self.runtime = runtime
        self.batches = Batches(data, config, method.trains_on == "images", runtime)
        self.table = Timetable.of(config.stages, recipe.epochs, self.batches.steps_per_epoch)
        self.validator = Validator(method, recipe, data, runtime, observe)
        self.checkpoint: Checkpoint | None = None
        if saving is not None:
            self.checkpoint = Checkpoint(saving, self.table, recipe.selection, observe is not None, runtime)
        self.progress = Progress()
        self._stage: StageTraining | None = None
        self._trained: dict[int, torch.nn.Parameter] = {}
        self._unread: list[torch.Tensor] = []
        self._last_loss: float | None = None
        self._lr = 0.0

    @property
    def stage(self) -> StageTraining:
        """The stage that is trained now."""
        assert self._stage is not None  # `run` begins the first one
        return self._stage

    def run(self) -> Outcome:
        """Train to the end, from the checkpoint if there is one.

        Raises RunFailed when the loss is not finite, RunInterrupted when asked to stop, StoreError when the checkpoint
        is damaged or cannot be written.
        """
        if not self.config.stages:
            return self._outcome()
        began = time.monotonic()
        self._begin()
        self._clock = began - self.progress.train_s
        self._saved = self._shown = time.monotonic()
        self._first_step = self.progress.step
        with self.runtime.reporter.task("training", self.table.total_steps) as task:
            while self.progress.step < self.table.total_steps:
                self._train_step()
                if self.progress.step % self.table.steps_per_epoch == 0:
                    self._end_epoch()
                if self.progress.step == self.stage.end < self.table.total_steps:
                    self._next_stage()
                self._save_or_stop()
                task.update(self.progress.step, self._facts())
        self._save()
        return self._outcome()

    def _begin(self) -> None:
        """Begin with the first stage, or where the checkpoint ends."""
        state = None if self.checkpoint is None else self.checkpoint.load()
        if self.checkpoint is None or state is None:
            self._begin_stage(0)
            return
        for index in range(state["stage"] + 1):
            self._begin_stage(index)
        self.progress = self.checkpoint.restore(state, self.method, self.stage)
        self.runtime.reporter.line(f"going on from step {self.progress.step} of {self.table.total_steps}")

    def _begin_stage(self, index: int) -> None:
        self._stage = StageTraining(self.method, index, self.table, self.config.recipe, self.runtime)
        self.progress.stage = index
        self._trained |= {id(p): p for p in self.stage.trained}
        self.batches.compute_features(self.method)

    def _next_stage(self) -> None:
        """Begin the next stage on the weights of this one that the recipe reports."""
        if self.config.recipe.report == "ema":
            assert self.stage.ema is not None  # the recipe has an `ema_decay`
            self.stage.ema.swap()
        self._begin_stage(self.progress.stage + 1)

    def _train_step(self) -> None:
        step, recipe, device = self.progress.step, self.config.recipe, self.runtime.device
        self.stage.set_lr(step)
        self._lr = self.stage.lr(step)
        batches = self.batches.of_step(step)
        self.method.train()
        with (
            own_draws(self.config.seed, step, self.runtime.peers, device),
            torch.autocast(device.type, torch.bfloat16, enabled=self.runtime.autocasts(recipe)),
        ):
            loss = self.stage.training_loss(*batches)
        self.method.zero_grad(set_to_none=True)  # also of parameters that only an earlier stage trained
        loss.backward()
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.stage.trained, recipe.clip_norm)
        self.stage.optimizer.step()
        if self.stage.ema is not None:
            self.stage.ema.update()
        self.progress.step += 1
        self._unread.append(loss.detach())
        if device.type == "cpu" or len(self._unread) == _CUDA_CHECK_STEPS:
            self._read_losses()

    def _read_losses(self) -> None:
        """Add the unread losses to the epoch's; all processes read at the same steps.

        Raises RunFailed for one that is not finite.
        """
        if not self._unread:
            return
        losses = self.runtime.peers.mean(torch.stack(self._unread)).tolist()
        first = self.progress.step - len(losses)
        self._unread = []
        for step, loss in enumerate(losses, first):
            if not math.isfinite(loss):
                raise RunFailed(
                    f"the loss became {loss} at step {step + 1} (epoch {step // self.table.steps_per_epoch + 1}, "
                    f"learning rate {self.stage.lr(step):.3g}); use a lower recipe.optimizer.lr or set "
                    "recipe.clip_norm",
                    cause="nan",
                )
            self.progress.epoch_loss += loss
            self._last_loss = loss

    def _end_epoch(self) -> None:
        self._read_losses()
        progress, stage, lr = self.progress, self.stage.name, self._lr
        epoch = progress.step // self.table.steps_per_epoch
        val_overall = None
        if self.stage.end == self.table.total_steps:  # earlier stages' weights are not those of the finished method
            val_overall = self.validator.end_epoch(epoch, self.stage.ema, progress)
        loss, progress.epoch_loss = progress.epoch_loss / self.table.steps_per_epoch, 0.0
        progress.history.append(EpochLog(epoch=epoch, loss=loss, lr=lr, val_overall=val_overall, stage=stage))
        of_stage = f" ({stage})" if len(self.table.stages) > 1 else ""
        val = "" if val_overall is None else f", val mAP {val_overall:.2f}"
        self.runtime.reporter.line(
            f"epoch {epoch}/{self.config.recipe.epochs}{of_stage}: loss {loss:.4f}, lr {lr:.2e}{val}"
        )

    def _save_or_stop(self) -> None:
        """Save every SAVE_EVERY_S seconds, and when a process is asked to stop.

        Then raises RunInterrupted in all processes.
        """
        now = time.monotonic()
        stop, due = self.runtime.peers.agree(bool(self.runtime.stop()), now - self._saved >= SAVE_EVERY_S)
        if stop or due:
            self._save()
            self._saved = now
        if stop:
            step, total = self.progress.step, self.table.total_steps
            raise RunInterrupted(f"stopped at step {step} of {total}; run again to go on")

    def _save(self) -> None:
        self._read_losses()
        self.progress.train_s = time.monotonic() - self._clock - self.validator.observing_s
        if self.checkpoint is not None and self.runtime.peers.is_first:
            self.checkpoint.save(self.progress, self.method, self.stage)

    def _facts(self) -> str:
        """The text of the progress bar after a step."""
        images = (self.progress.step - self._first_step) * self.batches.images_per_step
        speed = images / max(time.monotonic() - self._shown, 1e-9)
        loss = f"loss {self._last_loss:.4f}, " if self._last_loss is not None else ""
        return f"{loss}lr {self._lr:.2e}, {speed:.0f} images/s"

    def _outcome(self) -> Outcome:
        progress = self.progress
        if progress.best is not None:
            epoch, states = progress.best.epoch, progress.best.states
        else:
            epoch, states = progress.step // self.table.steps_per_epoch, self._states()
        return Outcome(
            states=states,
            selected_epoch=epoch,
            history=progress.history,
            observed=progress.observed,
            num_trained=sum(p.numel() for p in self.method.parameters() if id(p) in self._trained),
            train_s=progress.train_s,
            images_per_second=self.table.total_steps * self.batches.images_per_step / max(progress.train_s, 1e-9),
        )

    def _states(self) -> dict[str, dict[str, torch.Tensor]]:
        """The kept weight sets as they are now."""
        if self._stage is not None:
            return copied_states(self.method, self._stage.ema)
        state = copied_state(self.method)  # nothing was trained, so raw and EMA are the same
        return {"raw": state} | ({"ema": state} if self.config.recipe.ema_decay is not None else {})
