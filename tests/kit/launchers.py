"""Many processes that walk one list of runs, each run a few milliseconds of work.

    python -m kit.launchers DATASET RESULTS LOG PROCESSES RUNS

Every run whose training really begins appends its seed to LOG. PyTorch is imported once: the processes are forks.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

import torch
from torch import nn

from benchmark.errors import StoreError
from benchmark.method import METHODS, Batch, Method, MethodConfig, Stage, Task
from benchmark.running.environment import git_state
from benchmark.running.plan import Plan, make_plan
from benchmark.training.loop import Trainer
from kit.runs import execute_plan


@METHODS.register("trivial")
class Trivial(Method):
    """A random linear layer on the mean colour: nothing is trained."""

    title = "Trivial"

    def __init__(self, task: Task, config: MethodConfig):
        super().__init__(task, config)
        self.head = nn.Linear(3, len(task.class_names))

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        return ()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.mean(dim=(2, 3)))

    def training_loss(self, batch: Batch) -> torch.Tensor:
        raise NotImplementedError("nothing is trained")


def count_beginnings(log: Path) -> None:
    original = Trainer.run

    def counted(self: Trainer):
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{self.config.seed}\n".encode())
        os.close(descriptor)
        return original(self)

    Trainer.run = counted


def walk(plans: list[Plan], results: Path) -> None:
    """All runs in the same order as everybody; those that others hold again, until every one has its record."""
    while plans:
        held = []
        for plan in plans:
            try:
                execute_plan(plan, results)
            except StoreError as error:
                if "is being worked on" not in str(error):
                    raise
                held.append(plan)
        plans = held
        time.sleep(0.01)


def main() -> None:
    dataset, results, log, processes, runs = sys.argv[1:]
    settings = {"recipe.ema_decay": None, "recipe.report": "raw"}
    plans = [
        make_plan("trivial", dataset, protocol="demo", image_size=16, epochs=1, seed=seed, settings=settings)
        for seed in range(int(runs))
    ]
    git_state()  # once for all
    count_beginnings(Path(log))
    children = []
    for _ in range(int(processes)):
        child = os.fork()
        if child:
            children.append(child)
            continue
        code = 1
        try:
            walk(plans, Path(results))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    sys.exit(any(statuses))


if __name__ == "__main__":
    main()
