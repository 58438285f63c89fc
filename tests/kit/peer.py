"""One of several processes that train together: `python -m kit.peer JOBS OUT`, with torchrun's variables.

JOBS is a JSON list of `Job`s, done one after the other; OUT/<rank>.json gets how each ended, and OUT/<rank>.pt what the
jobs of batch norm gave.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.distributed import Peers, joined
from benchmark.errors import LtbenchError
from benchmark.models.synced_batch_norm import sync_batch_norm
from benchmark.running.plan import make_plan
from benchmark.running.score import state_digest
from benchmark.training.loop import Trainer
from benchmark.training.progress import Outcome
from kit.runs import execute_plan
from kit.trainers import stopping


@dataclass(frozen=True)
class Job:
    """A run: the arguments of `plan`, and where its results go.

    stop: the steps after which the last process, and it alone, is asked to stop. calls: how often the run is called.
    """

    arguments: dict[str, Any]
    results: str
    stop: list[int] = field(default_factory=list)
    calls: int = 1


def carry_out(job: Job, peers: Peers) -> list[dict[str, Any]]:
    """How every call ended: whether it gave a record, and its error. Where it trained to the end, what this process had
    then: the history, and a digest of the weights."""
    plan = make_plan(**job.arguments)
    run = Trainer.run
    ending: dict[str, Any] = {}

    def asked(trainer: Trainer) -> bool:
        return peers.rank == peers.size - 1 and trainer.progress.step in job.stop

    def noting(self: Trainer) -> Outcome:
        outcome = run(self)
        ending["history"] = [entry.model_dump() for entry in self.progress.history]
        ending["weights"] = state_digest(self.method.state_dict())
        return outcome

    endings = []
    with stopping(asked), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run", noting)
        for call in range(job.calls):
            torch.manual_seed(1000 * call + peers.rank)  # whatever state the process is in
            ending.clear()
            try:
                ending["record"] = execute_plan(plan, job.results, device="cpu", peers=peers) is not None
            except LtbenchError as error:
                ending["error"] = f"{type(error).__name__}: {error}"
            endings.append(ending.copy())
    return endings


def normalise(inputs: torch.Tensor, coefficients: torch.Tensor, processes: int) -> dict[str, torch.Tensor]:
    """What batch norm makes of [B, C, H, W], or of this process's part of it, and the gradients of a loss that is a
    mean over the images: of the sum of the processes' losses."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(inputs.shape[1]))
    torch.nn.init.normal_(module[0].weight)
    names = list(module.state_dict())
    if processes > 1:
        sync_batch_norm(module, processes)
    assert list(module.state_dict()) == names
    x = inputs.clone().requires_grad_()
    for _ in range(2):
        y = module(x)
    (coefficients * y**3).sum(dim=(1, 2, 3)).mean().backward()
    tensors = {"y": y.detach(), "x": x.grad, "weight": module[0].weight.grad, "bias": module[0].bias.grad}
    tensors |= module[0].state_dict(prefix="state.")
    return tensors | {"eval": module.eval()(inputs).detach(), "bfloat16": module.train()(inputs.bfloat16()).detach()}


def main(jobs: Path, out: Path) -> None:
    """Join the others and do all jobs."""
    with joined(torch.device("cpu")) as peers:
        endings = [carry_out(Job(**job), peers) for job in json.loads(jobs.read_text())]
        inputs, coefficients = torch.load(out / "inputs.pt")
        part = peers.part(len(inputs))
        torch.save(normalise(inputs[part], coefficients[part], peers.size), out / f"{peers.rank}.pt")
        (out / f"{peers.rank}.json").write_text(json.dumps(endings))
        peers.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
