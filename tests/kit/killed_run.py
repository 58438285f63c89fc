"""One run in many processes, each of which may kill itself with SIGKILL at a moment that it was told.

Started with a dataset folder. Says where the run's folder is below a results folder, then makes one process for each
line of JSON on standard input and answers with how it ended (the exit code, -9 for SIGKILL):

    {"results": DIR, "cache": DIR}                                   to its end
    {"results": DIR, "cache": DIR, "place": "backward", "n": 3}      until the third backward pass of the process
    {"results": DIR, "cache": DIR, "after_s": 0.7}                   until it is killed from outside

PyTorch is imported once: the processes are forks of this one, which computes nothing with it.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import benchmark.data.images
import benchmark.training.inference
import benchmark.training.loop
import benchmark.training.validation
from benchmark.method import METHODS, Batch, Method, MethodConfig, Stage, Task
from benchmark.running.environment import git_state
from benchmark.running.plan import Plan, make_plan
from benchmark.store.runs import Claim
from benchmark.training.loop import Trainer
from benchmark.training.optim import EMA
from kit.runs import execute_plan

# 96 steps, 6 an epoch; half of them in either stage.
SPECIFICATION = {
    "protocol": "demo",
    "image_size": 16,
    "epochs": 16,
    "settings": {
        "recipe.batch_size": 4,
        "recipe.selection": "best-val",
        "recipe.augment": {"flip": 0.5, "crop_min_side": 0.5, "photometric": 0.5, "brightness": 0.3},
    },
}
SAVED_EVERY = 3
STAGES = (Stage("first"), Stage("second", lr_scale=0.5))


@METHODS.register("restless")
class Restless(Method):
    """Batch norm, dropout and two stages; draws from every global generator at each step and when a stage begins."""

    title = "Restless"

    def __init__(self, task: Task, config: MethodConfig):
        super().__init__(task, config)
        self.backbone = task.make_backbone()
        self.head = nn.Linear(self.backbone.feature_dim, len(task.class_names))

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        return STAGES

    def begin_stage(self, stage: Stage) -> None:
        nn.init.normal_(self.head.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(nn.functional.dropout(self.backbone(images), 0.2, self.training))

    def training_loss(self, batch: Batch) -> torch.Tensor:
        noise = 1 + 0.1 * random.random() + 0.1 * float(np.random.rand())
        return noise * nn.functional.binary_cross_entropy_with_logits(self(batch.images), batch.targets)


# What the names of these files have, also while they are temporary.
FILES = {
    "cache": r"^[0-9a-f]{64}\.([0-9a-f]*\.tmp|npy)$",
    "attempt": r"^\.?\d{3}\.json",
    "checkpoint": r"^\.?checkpoint\.pt",
    "logits": r"^\.?logits-",
    "record": r"^\.?record\.json",
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nothing() -> None:
    pass


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def nth(n: int, act: Callable[..., None]) -> Callable[..., None]:
    """A function that acts when it is called the n-th time."""
    calls = itertools.count(1)
    return lambda *args: act(*args) if next(calls) == n else None


def before(owner: Any, name: str, tick: Callable[[], None]) -> None:
    """From now on `tick` is called before each call of a function."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        tick()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def after(owner: Any, name: str, tick: Callable[[], None]) -> None:
    """The same, when the function has returned."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        tick()
        return result

    setattr(owner, name, wrapped)


def before_fsync(pattern: str, tick: Callable[[int], None]) -> None:
    original = os.fsync

    def fsync(descriptor: int) -> None:
        if re.search(pattern, Path(f"/proc/self/fd/{descriptor}").readlink().name):
            tick(descriptor)
        original(descriptor)

    os.fsync = fsync


def around_rename(pattern: str, first: Callable[[], None] = nothing, then: Callable[[], None] = nothing) -> None:
    original = Path.rename

    def rename(self: Path, target: Path) -> Path:
        meant = re.search(pattern, Path(target).name)
        if meant:
            first()
        renamed = original(self, target)
        if meant:
            then()
        return renamed

    Path.rename = rename


def cut_and_die(descriptor: int) -> None:
    """Half of the file is written."""
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    die()


def while_decoding(n: int) -> None:
    original, tick = benchmark.data.images._counted, nth(n, die)

    def counted(*args: Any) -> Iterator:
        for image in original(*args):
            tick()
            yield image

    benchmark.data.images._counted = counted


def while_scoring(n: int) -> None:
    """The n-th batch that is scored after training."""
    after(Trainer, "run", partial(before, benchmark.training.inference, "views_of", nth(n, die)))


def when_stopped(method: str, n: int) -> None:
    """Asked to stop in the n-th step, and killed when the claim ends."""
    before(Trainer, "_train_step", nth(n, interrupt))
    before(Claim, method, die)


# Each is called with a number n: the process dies there the n-th time.
PLACES: dict[str, Callable[[int], None]] = {
    "decoding": while_decoding,
    "lease-drafted": lambda n: before(os, "link", nth(n, die)),
    "lease-linked": lambda n: after(os, "link", nth(n, die)),
    "step": lambda n: before(Trainer, "_train_step", nth(n, die)),
    "backward": lambda n: after(torch.Tensor, "backward", nth(n, die)),
    "average": lambda n: before(EMA, "update", nth(n, die)),
    "stage": lambda n: before(Trainer, "_begin_stage", nth(n, die)),
    "validation": lambda n: after(benchmark.training.validation, "predict", nth(n, die)),
    "scoring": while_scoring,
    "end": partial(when_stopped, "end"),
    "release": partial(when_stopped, "release"),
}


def in_writing(pattern: str, phase: str, n: int) -> None:
    if phase == "part":
        before_fsync(pattern, nth(n, cut_and_die))
    else:
        around_rename(pattern, **{"first" if phase == "written" else "then": nth(n, die)})


for kind, phase in itertools.product(FILES, ("part", "written", "renamed")):
    PLACES[f"{kind}-{phase}"] = partial(in_writing, FILES[kind], phase)
# Not the file of an earlier attempt, which is settled first.
for phase in ("part", "written", "renamed"):
    PLACES[f"own-attempt-{phase}"] = lambda n, phase=phase: before(
        Claim, "begin", partial(in_writing, FILES["attempt"], phase, n)
    )


def save_now_and_then() -> None:
    """A checkpoint after every third step and when asked to stop, whatever the clock says."""
    save = Trainer._save

    def seldom(self: Trainer) -> None:
        if self.progress.step % SAVED_EVERY == 0 or self.runtime.stop():
            save(self)

    benchmark.training.loop.SAVE_EVERY_S, Trainer._save = 0.0, seldom


def live(plan: Plan, order: dict[str, Any]) -> None:
    """What a process does: it never returns."""
    code = 1
    try:
        os.environ["LTBENCH_CACHE"] = order["cache"]
        random.seed()  # as in a process that was not forked from the same one
        np.random.seed()
        torch.manual_seed(os.getpid())
        save_now_and_then()
        if "place" in order:
            PLACES[order["place"]](order["n"])
        execute_plan(plan, order["results"])
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    plan = make_plan("restless", sys.argv[1], **SPECIFICATION)
    git_state()  # once for all: the tree may change between two processes
    print(Path("runs") / plan.spec.folder_name, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            live(plan, order)
        if "after_s" in order:
            time.sleep(order["after_s"])
            os.kill(child, signal.SIGKILL)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
