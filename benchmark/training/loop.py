"""The one training loop. It is given training images (and validation images); no test image can reach it."""

from __future__ import annotations

import bisect
import itertools
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.data.augment import Augmenter
from benchmark.data.samplers import generator, make_sampler
from benchmark.distributed import ALONE, Peers
from benchmark.errors import RunFailed, RunInterrupted, StoreError
from benchmark.evaluation import score
from benchmark.method import Batch, Method, Stage
from benchmark.spec import Recipe
from benchmark.store.records import EpochLog, EpochLogits, Group
from benchmark.training.checkpoint import check_alike, check_optimizer, load_checkpoint, save_checkpoint
from benchmark.training.inference import Normalizer, map_images, predict
from benchmark.training.stages import StageTraining, epochs_per_stage
from benchmark.ui.progress import Reporter

# Reading a loss from the GPU waits for it: look every so many steps. On the CPU it costs nothing.
_CUDA_CHECK_STEPS = 16


@dataclass(frozen=True)
class ImageSet:
    """images uint8 [N, S, S, 3]; targets {0, 1} [N, C]."""

    images: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What training leaves: the state dicts of each kept weight set at the selected epoch, and how it got there.

    selected_epoch: counted from 1; 0 where nothing was trained. num_trained: parameters that any stage trained.
    observed: what `observe` returned, an epoch each.
    """

    states: dict[str, dict[str, torch.Tensor]]
    selected_epoch: int
    history: list[EpochLog]
    observed: list[EpochLogits]
    num_trained: int
    train_s: float
    images_per_second: float


class Trainer:
    """Trains one method.

    samplers: names, one batch of each is drawn a step. stages: in order; none trains nothing. Steps and epochs are
    counted through the run. validation: as `TestTime.decoded_size` says. seed: the run's.
    checkpoint: where to save and to look for an unfinished run; None to keep none. run_id, code_digest, data_digest: of
    the run, of the code that trains and of the training images, so that a checkpoint is never continued by another run
    or with others. stop: asked at every step; True saves a checkpoint and raises RunInterrupted. peers: the processes
    that train together; the first alone needs `validation` and `observe`, writes the checkpoint and holds the selected
    epoch, and a stop asked of any is one of all.

    observe: called with each epoch of the last stage and the names of the kept weight sets, during each of which the
    method holds that set's weights. What it returns is kept and decides nothing here; its time is not training time.
    """

    def __init__(
        self,
        method: Method,
        recipe: Recipe,
        samplers: tuple[str, ...],
        stages: tuple[Stage, ...],
        train: ImageSet,
        validation: ImageSet | None,
        groups: dict[str, Group],
        normalizer: Normalizer,
        seed: int,
        device: torch.device,
        reporter: Reporter,
        checkpoint: Path | None = None,
        run_id: str = "",
        code_digest: str = "",
        data_digest: str = "",
        checkpoint_every_s: float = 60.0,
        stop: Callable[[], bool] = lambda: False,
        peers: Peers = ALONE,
        observe: Callable[[int, Iterator[str]], EpochLogits] | None = None,
    ):
        self.method = method.to(device, memory_format=torch.channels_last)
        self.recipe = recipe
        self.stages = stages
        self.train = train
        self.validation = validation
        self.groups = groups
        self.normalizer = normalizer
        self.seed = seed
        self.device = device
        self.reporter = reporter
        self.checkpoint = checkpoint
        self.run_id = run_id
        self.code_digest = code_digest
        self.data_digest = data_digest
        self.checkpoint_every_s = checkpoint_every_s
        self.stop = stop
        self.peers = peers
        self.observe = observe

        # What batches hold rows of; features are made when training begins.
        self.inputs = _place(train.images, device) if method.trains_on == "images" else None
        self.targets = torch.from_numpy(train.targets.astype(np.float32)).to(device)
        self.samplers = [make_sampler(name, train.targets, seed) for name in samplers]
        draws = len(train.targets)
        if recipe.epoch_length == "sampler":
            draws = max(sampler.epoch_length for sampler in self.samplers)
        # Whole batches only: an epoch draws a few images more rather than give batch norm a remainder.
        self.steps_per_epoch = math.ceil(draws / recipe.batch_size)
        self.ends = [n * self.steps_per_epoch for n in itertools.accumulate(epochs_per_stage(stages, recipe.epochs))]
        self.total_steps = self.ends[-1] if stages else 0
        self.augment = Augmenter(recipe.augment, recipe.image_size)
        self.stage: StageTraining | None = None
        self.stage_index = -1

        self.step = 0
        self.train_s = 0.0
        self.history: list[EpochLog] = []
        self.epoch_loss = 0.0
        self.best: dict[str, Any] | None = None
        self.observed: list[EpochLogits] = []
        self._observing_s = 0.0
        self._unread: list[torch.Tensor] = []
        self._drawn: list[torch.Tensor] = []
        self._drawn_epoch = -1
        self._trained: dict[int, torch.nn.Parameter] = {}
        self._lr = 0.0
        self._last_loss: float | None = None

    def run(self) -> Outcome:
        """Train to the end, from the checkpoint if there is one.

        Raises RunFailed when the loss is not finite, RunInterrupted when asked to stop, StoreError
        when the checkpoint is damaged or cannot be written.
        """
        if not self.stages:
            return self._outcome()
        clock = time.monotonic()
        if self._resume():
            self.reporter.line(f"going on from step {self.step} of {self.total_steps}")
        else:
            self._begin_stage(0)
        started_at = self.step
        began = saved = time.monotonic()
        with self.reporter.task("training", self.total_steps) as task:
            while self.step < self.total_steps:
                self._train_step()
                if self.step % self.steps_per_epoch == 0:
                    self._end_epoch()
                if self.step == self.stage.end < self.total_steps:
                    self._hand_over()
                now = time.monotonic()
                stop, due = self.peers.agree(bool(self.stop()), now - saved >= self.checkpoint_every_s)
                if stop or due:
                    self._save(self.train_s + now - clock - self._observing_s)
                    saved = now
                    if stop:
                        raise RunInterrupted(f"stopped at step {self.step} of {self.total_steps}; run again to go on")
                task.update(self.step, self._facts(now - began, started_at))
        self.train_s += time.monotonic() - clock - self._observing_s
        self._save(self.train_s)
        return self._outcome()

    def _facts(self, seconds: float, started_at: int) -> str:
        speed = (self.step - started_at) * self.recipe.batch_size * len(self.samplers) / max(seconds, 1e-9)
        loss = f"loss {self._last_loss:.4f}, " if self._last_loss is not None else ""
        return f"{loss}lr {self._lr:.2e}, {speed:.0f} images/s"

    def _begin_stage(self, index: int) -> None:
        first = self.ends[index - 1] if index else 0
        self.stage = StageTraining(
            self.method,
            self.stages[index],
            self.recipe,
            first,
            self.ends[index],
            self.steps_per_epoch,
            self.device,
            self.peers,
        )
        self.stage_index = index
        self._trained |= {id(p): p for p in self.stage.trained}
        if self.inputs is None:
            self.inputs = self._features()

    def _features(self) -> torch.Tensor:
        """The method's features of all training images, on the device."""
        with self.reporter.task("features", len(self.train.images)) as task:
            return map_images(
                lambda x: self.method.features(self.normalizer(x)),
                self.method,
                self.train.images,
                self.device,
                task.update,
            )

    def _hand_over(self) -> None:
        """What the recipe reports of this stage becomes the start of the next."""
        if self.recipe.report == "ema":
            self.stage.ema.swap()
        self._begin_stage(self.stage_index + 1)

    def _train_step(self) -> None:
        epoch, position = divmod(self.step, self.steps_per_epoch)
        self.stage.set_lr(self.step)
        self._lr = self.stage.lr(self.step)
        batches = [self._batch(i, epoch, position) for i in range(len(self.samplers))]
        self.method.train()
        with self._own_draws(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            loss = self.stage.training_loss(*batches)
        self.method.zero_grad(set_to_none=True)  # also of what only an earlier stage trained
        loss.backward()
        if self.recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.stage.trained, self.recipe.clip_norm)
        self.stage.optimizer.step()
        if self.stage.ema is not None:
            self.stage.ema.update()
        self.step += 1
        self._unread.append(loss.detach())
        if self.device.type == "cpu" or len(self._unread) == _CUDA_CHECK_STEPS:
            self._read_losses()

    @contextmanager
    def _own_draws(self) -> Iterator[None]:
        """The global generators are this process's and this step's for the block, and go on as before after it."""
        if self.peers.size == 1:
            yield
            return
        shared = _random_states(self.device)
        seed_everything(generator("draws", self.seed, self.peers.rank, self.step).initial_seed() % 2**32)
        yield
        _restore_random_states(shared, self.device)

    @property
    def amp(self) -> bool:
        """Whether training runs under bfloat16 autocast."""
        return self.recipe.amp and self.device.type == "cuda"

    def _batch(self, sampler: int, epoch: int, position: int) -> Batch:
        indices = self._epoch_indices(sampler, epoch)
        size = self.recipe.batch_size
        chosen = indices[position * size : (position + 1) * size]
        part = self.peers.part(size)
        inputs = self.inputs[chosen.to(self.inputs.device)].to(self.device, non_blocking=True)
        if self.method.trains_on == "images":
            rng = generator("augment", self.seed, sampler, self.step)
            # Every process augments the whole batch, of which it trains on a part: an image's parameters depend on its
            # place in the batch. That costs little beside a network's passes over the part.
            inputs = self.normalizer(self.augment(inputs, rng)[part])
        else:
            inputs = inputs[part]
        return Batch(inputs, self.targets[chosen[part].to(self.device)])

    def _epoch_indices(self, sampler: int, epoch: int) -> torch.Tensor:
        if self._drawn_epoch != epoch:
            count = self.steps_per_epoch * self.recipe.batch_size
            self._drawn = [s.draw(epoch, count) for s in self.samplers]
            self._drawn_epoch = epoch
        return self._drawn[sampler]

    def _read_losses(self) -> None:
        if not self._unread:
            return
        losses = self.peers.mean(torch.stack(self._unread)).tolist()
        first = self.step - len(losses)
        self._unread = []
        for i, loss in enumerate(losses):
            if not math.isfinite(loss):
                step = first + i
                lr = self.stage.lr(step)
                raise RunFailed(
                    f"the loss became {loss} at step {step + 1} (epoch {step // self.steps_per_epoch + 1}, "
                    f"learning rate {lr:.3g}); use a lower recipe.optimizer.lr or set recipe.clip_norm",
                    cause="nan",
                )
            self.epoch_loss += loss
            self._last_loss = loss

    def _end_epoch(self) -> None:
        self._read_losses()
        epoch = self.step // self.steps_per_epoch
        val_overall = None
        # Only the last stage's weights are those of the whole method.
        if self.recipe.selection == "best-val" and self.stage.end == self.total_steps:
            val_overall = self.peers.tell(self._validate() if self.peers.is_first else None)
            if self.peers.is_first and (self.best is None or val_overall > self.best["val_overall"]):
                self.best = {"epoch": epoch, "val_overall": val_overall, "states": self._states()}
        if self.observe is not None and self.peers.is_first and self.stage.end == self.total_steps:
            self._observe(epoch)
        mean_loss, self.epoch_loss = self.epoch_loss / self.steps_per_epoch, 0.0
        name = self.stage.name
        self.history.append(EpochLog(epoch=epoch, loss=mean_loss, lr=self._lr, val_overall=val_overall, stage=name))
        stage = f" ({name})" if len(self.stages) > 1 else ""
        val = "" if val_overall is None else f", val mAP {val_overall:.2f}"
        self.reporter.line(f"epoch {epoch}/{self.recipe.epochs}{stage}: loss {mean_loss:.4f}, lr {self._lr:.2e}{val}")

    def _observe(self, epoch: int) -> None:
        began = time.monotonic()
        # Whatever is drawn while looking on, training goes on as if nobody had looked.
        shared = _random_states(self.device)
        self.observed.append(self.observe(epoch, self._weight_sets()))
        _restore_random_states(shared, self.device)
        self._observing_s += time.monotonic() - began

    def _weight_sets(self) -> Iterator[str]:
        """The names of the kept weight sets; until the next is asked for, the method holds that set's weights."""
        yield "raw"
        if self.stage.ema is not None:
            self.stage.ema.swap()
            try:
                yield "ema"
            finally:
                self.stage.ema.swap()

    def _validate(self) -> float:
        """Overall mAP, in percent, of the reported weights on the validation list."""
        averaged = self.recipe.report == "ema"
        if averaged:
            self.stage.ema.swap()
        try:
            logits = predict(self.method, self.validation.images, self.normalizer, self.device, self.recipe.test_time)
        finally:
            if averaged:
                self.stage.ema.swap()
        overall = score(logits, self.validation.targets, self.groups).overall
        if overall is None:
            raise RunFailed("no class has a positive in val.txt: selection best-val cannot choose", cause="data")
        return overall

    def _states(self) -> dict[str, dict[str, torch.Tensor]]:
        if self.stage is None:  # nothing was trained, so nothing differs
            state = _copy(self.method.state_dict())
            return {"raw": state} | ({"ema": state} if self.recipe.ema_decay is not None else {})
        return {name: _copy(self.method.state_dict()) for name in self._weight_sets()}

    def _outcome(self) -> Outcome:
        best = self.best or {"epoch": self.step // self.steps_per_epoch, "states": self._states()}
        images = self.total_steps * self.recipe.batch_size * len(self.samplers)
        return Outcome(
            states=best["states"],
            selected_epoch=best["epoch"],
            history=self.history,
            observed=self.observed,
            num_trained=sum(p.numel() for p in self.method.parameters() if id(p) in self._trained),
            train_s=self.train_s,
            images_per_second=images / max(self.train_s, 1e-9),
        )

    def _save(self, train_s: float) -> None:
        if self.checkpoint is None:
            return
        self._read_losses()
        if not self.peers.is_first:
            return
        state = {
            "made_by": self._made_by(),
            "stage": self.stage_index,
            "step": self.step,
            "train_s": train_s,
            "history": [entry.model_dump() for entry in self.history],
            "epoch_loss": self.epoch_loss,
            "method": self.method.state_dict(),
            "optimizer": self.stage.optimizer.state_dict(),
            "ema": self.stage.ema.state() if self.stage.ema else None,
            "best": self.best,
            "observed": [entry.model_dump() for entry in self.observed],
            "rng": _random_states(self.device),
        }
        save_checkpoint(self.checkpoint, state)

    def _made_by(self) -> dict[str, str]:
        return {
            "run": self.run_id,
            "code": self.code_digest,
            "device": self.device.type,
            "images": self.data_digest,
        }

    def _resume(self) -> bool:
        state = load_checkpoint(self.checkpoint) if self.checkpoint else None
        if state is not None:
            state.setdefault("made_by", None)
        if state is not None and state["made_by"] != self._made_by():
            # Going on would mix two computations in one result.
            self.reporter.line("the checkpoint is another run's, or of other code, another device or other images")
            self.reporter.line("starting anew")
            state = None
        if state is not None:
            with self._own_checkpoint():
                self._check_progress(state)
        if state is not None and self.observe is not None and not self._was_observed(state):
            self.reporter.line("the checkpoint was made without keeping the logits of every epoch; starting anew")
            state = None
        if not self._all_read(state):
            return False
        for index in range(state["stage"] + 1):
            self._begin_stage(index)
        with self._own_checkpoint():
            self._check_tensors(state)
        self.step, self.train_s = state["step"], state["train_s"]
        self.epoch_loss = state["epoch_loss"]
        self.best = state["best"] if self.peers.is_first else None
        self.history = [EpochLog(**entry) for entry in state["history"]]
        if self.observe is not None:
            self.observed = [EpochLogits(**entry) for entry in state["observed"]]
        self.method.load_state_dict(state["method"])
        self.stage.optimizer.load_state_dict(state["optimizer"])
        if self.stage.ema:
            self.stage.ema.restore(state["ema"])
        # Last: to begin a stage may draw random numbers.
        with self._own_checkpoint():
            _restore_random_states(state["rng"], self.device)
        return True

    @contextmanager
    def _own_checkpoint(self) -> Iterator[None]:
        """What does not fit the run, in one line: nobody trains on with it."""
        try:
            yield
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise StoreError(
                f"{self.checkpoint}: not a checkpoint of this run ({reason}); remove it, or start anew with --rerun "
                "always"
            ) from None

    def _check_progress(self, state: dict[str, Any]) -> None:
        """Raise ValueError unless stage, step and what was noted of the epochs can be those of this run."""
        stage, step, epochs = state.get("stage"), state.get("step"), 0
        if type(stage) is not int or not 0 <= stage < len(self.stages):
            raise ValueError(f"stage is {stage!r}, of {len(self.stages)}")
        first = self.ends[stage - 1] if stage else 0
        if type(step) is not int or not first <= step <= self.ends[stage]:
            raise ValueError(f"step is {step!r}, and stage {stage} has those from {first} to {self.ends[stage]}")
        for name in ("train_s", "epoch_loss"):
            value = state.get(name)
            if type(value) is not float or not math.isfinite(value) or (name == "train_s" and value < 0):
                raise ValueError(f"{name} is {value!r}")
        history = [EpochLog(**entry) for entry in state["history"]]
        epochs = step // self.steps_per_epoch
        ends = [self.stages[bisect.bisect(self.ends, n * self.steps_per_epoch)].name for n in range(epochs)]
        if [(entry.epoch, entry.stage) for entry in history] != list(enumerate(ends, 1)):
            raise ValueError(f"history does not tell of the {epochs} epochs up to step {step}, one after the other")
        for entry in state["observed"]:
            EpochLogits(**entry)
        best, values = state["best"], [entry for entry in history if entry.val_overall is not None]
        if (best is not None) != bool(values) or (values and self.recipe.selection != "best-val"):
            raise ValueError("best and history disagree on whether epochs were validated")
        if best is not None:
            if not isinstance(best, dict):
                raise TypeError(f"best is a {type(best).__name__}")
            chosen = max(values, key=lambda entry: entry.val_overall)  # the first of equal ones, as in training
            if (best["epoch"], best["val_overall"]) != (chosen.epoch, chosen.val_overall):
                raise ValueError(f"best is not epoch {chosen.epoch}, which history has as the best")

    def _check_tensors(self, state: dict[str, Any]) -> None:
        """Raise ValueError unless all tensors have the form of those that training goes on with."""
        method = _copy(self.method.state_dict())
        check_alike(state["method"], self.method.state_dict(), "method")
        check_alike(state["ema"], self.stage.ema.state() if self.stage.ema else None, "ema")
        own = _random_states(self.device)
        check_alike(state["rng"], own, "rng")
        for kind in ("python", "numpy"):  # the generator that it is a state of
            if state["rng"][kind][0] != own[kind][0]:
                raise ValueError(f"rng.{kind} is of {state['rng'][kind][0]!r}, not {own[kind][0]!r}")
        check_optimizer(state["optimizer"], self.stage.optimizer)
        if state["best"] is not None:
            check_alike(state["best"]["states"], dict.fromkeys(self._weight_sets(), method), "best.states")

    def _all_read(self, state: dict[str, Any] | None) -> bool:
        """Whether there is a state to go on from; the first process decides. Raises StoreError when this process does
        not read the first one's."""
        step = None if state is None else state["step"]
        first = self.peers.tell(step)
        if first is not None and step != first:
            raise StoreError(
                f"{self.checkpoint}: process {self.peers.rank} reads a checkpoint of step {step}, the first process "
                f"one of step {first}; the results folder must be the same for all"
            )
        return first is not None

    def _was_observed(self, state: dict[str, Any]) -> bool:
        """Whether a checkpoint comes with what `observe` returned for every epoch up to it."""
        before = self.ends[-2] if len(self.ends) > 1 else 0
        epochs = max(0, state["step"] - before) // self.steps_per_epoch
        return len(state.get("observed", [])) == epochs


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch (all devices): a method may draw from any of them."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _random_states(device: torch.device) -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def _restore_random_states(states: dict[str, Any], device: torch.device) -> None:
    random.setstate(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


def _copy(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def _place(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """The images on the GPU when they take less than half of its free memory, else memory-mapped on the CPU."""
    tensor = torch.from_numpy(images)
    if device.type == "cuda" and tensor.nbytes < torch.cuda.mem_get_info(device)[0] / 2:
        return tensor.to(device)
    return tensor
