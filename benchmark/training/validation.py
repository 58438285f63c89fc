"""Scores during training: the validation list, which may choose the epoch, and the calls of an observer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from benchmark.errors import RunFailed
from benchmark.evaluation import score
from benchmark.method import Method
from benchmark.spec import Recipe
from benchmark.store.records import EpochLogits
from benchmark.training.inference import predict
from benchmark.training.optim import EMA, copied_states, weight_sets
from benchmark.training.progress import Best, Progress
from benchmark.training.randomness import draws_kept_apart
from benchmark.training.setup import Runtime, TrainingData

# Called with an epoch and the names of the kept weight sets (see `weight_sets`). Its result is kept and decides nothing
# here; its time is not training time.
Observer = Callable[[int, Iterator[str]], EpochLogits]


class Validator:
    """Scores the method at the end of an epoch.

    observing_s: seconds of the observer so far.
    """

    def __init__(
        self, method: Method, recipe: Recipe, data: TrainingData, runtime: Runtime, observe: Observer | None = None
    ):
        self._method = method
        self._recipe = recipe
        self._data = data
        self._runtime = runtime
        self._observe = observe
        self.observing_s = 0.0

    def end_epoch(self, epoch: int, ema: EMA | None, progress: Progress) -> float | None:
        """The validation mAP in percent, None where it does not select the epoch; the same in all processes.

        The first process adds the best epoch and the observer's result to the progress. Raises RunFailed where no class
        has a score.
        """
        peers = self._runtime.peers
        val_overall = None
        if self._recipe.selection == "best-val":
            val_overall = peers.broadcast(self._score(ema) if peers.is_first else None)
            if peers.is_first and (progress.best is None or val_overall > progress.best.val_overall):
                progress.best = Best(epoch, val_overall, copied_states(self._method, ema))
        if self._observe is not None and peers.is_first:
            began = time.monotonic()
            # An observed run draws the same random numbers as one without an observer.
            with draws_kept_apart(self._runtime.device):
                progress.observed.append(self._observe(epoch, weight_sets(ema)))
            self.observing_s += time.monotonic() - began
        return val_overall

    def _score(self, ema: EMA | None) -> float:
        """Overall mAP, in percent, of the reported weights on the validation list."""
        validation = self._data.validation
        assert validation is not None  # checked before a run with selection best-val
        averaged = self._recipe.report == "ema"
        with ema.applied() if averaged and ema is not None else contextlib.nullcontext():
            logits = predict(
                self._method, validation.images, self._data.normalizer, self._runtime.device, self._recipe.test_time
            )
        overall = score(logits, validation.targets, self._data.groups).overall
        if overall is None:
            raise RunFailed("no class has a positive in val.txt: selection best-val cannot choose", cause="data")
        return overall
