"""One run on two processes: the record is that of one process, up to rounding, and nothing hangs when it fails."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit.checks import refused
from kit.paths import kit_environment
from kit.peer import Job, normalise
from kit.runs import execute_plan, outcome
from kit.tiny import TINY, write_tiny_dataset

import benchmark.distributed
from benchmark.data.samplers import generator
from benchmark.distributed import ALONE, Peers, batch_mean, batch_sum, check_batch_size, joined
from benchmark.method import Batch, Method, MethodConfig, Stage
from benchmark.running.plan import make_plan
from benchmark.spec import Recipe, parse
from benchmark.store.claim import claimed
from benchmark.store.logits import load_logits
from benchmark.store.records import Record
from benchmark.store.runs import Store
from benchmark.training.inference import Normalizer
from benchmark.training.loop import Trainer
from benchmark.training.randomness import own_draws
from benchmark.training.setup import ImageSet, Runtime, TrainingConfig, TrainingData
from benchmark.ui.progress import Reporter

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CPRFL = {"semantics": "demo:shapes", "dim": 32, "heads": 2, "head_dim": 16, "mlp_dim": 32}
# Runs whose record is that of one process. Training makes differences grow: a few steps of SGD leave them small, while
# Adam makes a whole step of a gradient that is zero but for rounding.
SGD = {"recipe.optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}}
SLOWLY = {"recipe.optimizer.lr": 0.002}
SAME: dict[str, dict[str, Any]] = {
    "erm": {},
    "erm, chosen by validation": {"recipe.selection": "best-val", "recipe.augment.photometric": 0.5},
    "ltml": SLOWLY,
    "cprfl": CPRFL | {"dropout": 0.0},
    "asl, summed": {"reduction": "sum", "recipe.optimizer.lr": 2e-4},
    "capnet": SLOWLY,
    "hp-dval": {"top_k": 4} | SLOWLY,
    "hp-dval, released": {"top_k": 4, "variant": "released-code"} | SLOWLY,
    "linear-probe": {},
}
ON_CLIP = ("capnet", "hp-dval", "linear-probe")
# Runs with random draws, as an undisturbed run and as one that is stopped on the way.
DRAWING: dict[str, dict[str, Any]] = {
    "erm": {"recipe.dropout": 0.5, "recipe.selection": "best-val"},
    "cprfl": CPRFL | {"dropout": 0.3},
    "hp-dval": {"top_k": 4},
}


def arguments(tiny: Path, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `plan` for a run of 3 epochs of 3 steps."""
    method = name.partition(",")[0]
    settings = TINY["settings"] | settings
    clip = {"protocol": "demo-clip", "image_size": 32} if method in ON_CLIP else {}
    return TINY | {"method": method, "dataset": str(tiny), "epochs": 3, "settings": settings} | clip


@dataclass(frozen=True)
class Crew:
    """What two processes left. endings: of each job by its name, for each process how every call ended."""

    folder: Path
    jobs: dict[str, Job]
    endings: dict[str, list[list[dict[str, Any]]]]

    def record(self, name: str) -> Record:
        """The record of a job."""
        job = self.jobs[name]
        return Store(job.results).folder(make_plan(**job.arguments).spec).record()


def start(jobs: list[Job], folder: Path) -> list[list[list[dict[str, Any]]]]:
    """Two processes that do all jobs; for each process and each job how every call ended."""
    (folder / "jobs.json").write_text(json.dumps([asdict(job) for job in jobs]))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "kit.peer", str(folder / "jobs.json"), str(folder)]
    processes = [
        subprocess.Popen(command, env=kit_environment() | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def crew(tmp_path_factory) -> Crew:
    """All jobs of this module: to start processes takes longer than what they do."""
    folder = tmp_path_factory.mktemp("crew")
    tiny = write_tiny_dataset(folder / "tiny")

    def job(name: str, settings: dict[str, Any], results: str, **how: Any) -> Job:
        return Job(arguments(tiny, name, settings), str(folder / results), **how)

    jobs = {f"same: {name}": job(name, SGD | settings, "same") for name, settings in SAME.items()}
    jobs["again"] = job("erm", SGD, "same")
    for name, settings in DRAWING.items():
        jobs[f"whole: {name}"] = job(name, settings, "whole")
        jobs[f"stopped: {name}"] = job(name, settings, "stopped", stop=[2, 6, 7], calls=4)
    jobs["left"] = job("erm", SGD, "left", stop=[4])
    jobs["nan"] = job("erm", {"recipe.optimizer.lr": 1e30, "recipe.clip_norm": None}, "failed")
    jobs["indivisible"] = job("erm", {"recipe.batch_size": 9}, "failed")
    jobs["held"] = job("erm", {"recipe.optimizer.lr": 0.003}, "failed")
    inputs, coefficients = (torch.randn(6, 5, 4, 3, generator=generator(name)) for name in ("inputs", "coefficients"))
    torch.save((3 * inputs + 100, coefficients), folder / "inputs.pt")
    held = Store(jobs["held"].results).folder(make_plan(**jobs["held"].arguments).spec)
    with claimed(held) as claim:
        both = start(list(jobs.values()), folder)
        claim.withdraw()
    return Crew(folder, jobs, {name: [of_one[i] for of_one in both] for i, name in enumerate(jobs)})


# --- the record is that of one process -------------------------------------------------------------------------


def assert_close(together: Record, alone: Record, results: Path, alone_results: Path) -> None:
    """Two records say the same up to rounding."""
    assert together.run_id == alone.run_id and together.parameters == alone.parameters
    assert together.selection == alone.selection and together.data_digests == alone.data_digests
    for a, b in zip(together.history, alone.history, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-4)
        assert a.model_dump(exclude={"loss", "val_overall"}) == b.model_dump(exclude={"loss", "val_overall"})
        assert (a.val_overall is None) == (b.val_overall is None)
        assert a.val_overall is None or a.val_overall == pytest.approx(b.val_overall, abs=1e-6)
    for name, metrics in alone.results.items():
        assert together.results[name].per_class == pytest.approx(metrics.per_class, abs=1e-6)
        assert together.results[name].overall == pytest.approx(metrics.overall, abs=1e-6)
    (own, targets), (other, same) = load_logits(results, together), load_logits(alone_results, alone)
    assert np.array_equal(targets, same) and set(own) == set(other)
    for name, logits in own.items():
        np.testing.assert_allclose(logits, other[name], rtol=1e-3, atol=1e-3 * np.abs(other[name]).max())


@pytest.mark.parametrize("name", SAME)
def test_the_record_of_two_processes_is_that_of_one(crew, tmp_path, name):
    job = crew.jobs[f"same: {name}"]
    alone = execute_plan(make_plan(**job.arguments), tmp_path)
    record = crew.record(f"same: {name}")
    assert_close(record, alone, Path(job.results), tmp_path)
    assert record.environment.processes == 2 and alone.environment.processes == 1
    assert '"processes"' not in alone.to_json()


@pytest.mark.parametrize("name", [*(f"same: {name}" for name in SAME), *(f"whole: {name}" for name in DRAWING)])
def test_both_processes_end_with_the_same_weights_and_the_first_one_keeps_the_books(crew, name):
    [[first], [second]] = crew.endings[name]
    assert first["record"] and not second["record"]
    assert first["weights"] == second["weights"]
    assert first["history"] == second["history"] == crew.record(name).model_dump()["history"]


def test_the_best_epoch_on_the_validation_list_is_scored(crew):
    record = crew.record("whole: erm")
    by_epoch = [entry.val_overall for entry in record.history]
    assert record.selection.epoch == 1 + by_epoch.index(max(by_epoch))
    assert record.validation.overall == pytest.approx(max(by_epoch))


class Pixels(Method):
    """Needs no network: its batches are what the test looks at."""

    title = "Pixels"

    def __init__(self):
        super().__init__(None, MethodConfig())
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.weight * images.flatten(1)[:, :3]

    def training_loss(self, *batches: Batch) -> torch.Tensor:
        return self.weight.sum()


IMAGES = np.random.default_rng(0).integers(0, 256, (30, 20, 20, 3), dtype=np.uint8)


def pixel_trainer(peers: Peers) -> Trainer:
    """30 images, each of a class of its own, in batches of 12 from two samplers."""
    recipe = {
        "backbone": "none",
        "weights": "none",
        "image_size": 16,
        "epochs": 2,
        "batch_size": 12,
        "optimizer": {"name": "sgd", "lr": 1.0},
        "schedule": {"name": "constant"},
        "augment": {"crop_min_side": 0.8, "photometric": 0.5, "hue": 9.0, "cutout": 0.3, "rand_augment": 2},
    }
    return Trainer(
        Pixels(),
        TrainingConfig(parse(Recipe, recipe, "recipe"), ("uniform", "class-aware"), (Stage(),), seed=0),
        TrainingData(
            ImageSet(IMAGES, np.eye(30, dtype=np.uint8)),
            None,
            {"a": "head"},
            Normalizer((0.4, 0.5, 0.6), (0.2, 0.2, 0.2), CPU),
        ),
        Runtime(CPU, Reporter(), peers),
    )


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_each_drawn_image_is_used_once_and_augmented_as_in_one_process(processes):
    def batches(peers: Peers) -> list[Batch]:
        trainer = pixel_trainer(peers)
        return [batch for step in range(trainer.table.total_steps) for batch in trainer.batches.of_step(step)]

    whole = batches(ALONE)
    parts = [batches(Peers(rank, processes)) for rank in range(processes)]
    for batch, *own in zip(whole, *parts, strict=True):
        assert torch.equal(batch.images, torch.cat([part.images for part in own]))
        assert torch.equal(batch.targets, torch.cat([part.targets for part in own]))
    drawn = torch.cat([batch.targets for batch in whole[: 2 * 3 : 2]]).argmax(dim=1)
    assert set(drawn.tolist()) == set(range(30)), "an epoch of uniform sampling shows every image"


def test_draws_of_a_step_are_the_process_s_own_and_leave_the_others_as_they_were():
    def draw(rank: int, step: int) -> tuple[float, ...]:
        torch.manual_seed(5)
        with own_draws(0, step, Peers(rank, 2), CPU):
            own = torch.rand(1).item(), random.random(), float(np.random.rand())
        assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(5)))
        return own

    found = [draw(rank, step) for rank in range(2) for step in range(2)]
    assert len({value for values in found for value in values}) == 12
    assert draw(1, 1) == found[3]


def test_batch_norm_is_that_of_the_whole_batch(crew):
    inputs, coefficients = torch.load(crew.folder / "inputs.pt")
    whole = normalise(inputs, coefficients, 1)
    parts = [torch.load(crew.folder / f"{rank}.pt") for rank in range(2)]
    for name in ("y", "eval"):
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), whole[name], rtol=1e-5, atol=2e-5)
    # The loss of the whole batch is the mean of the processes'.
    torch.testing.assert_close(torch.cat([part["x"] for part in parts]) / 2, whole["x"], rtol=1e-4, atol=2e-5)
    for name in ("weight", "bias"):
        torch.testing.assert_close((parts[0][name] + parts[1][name]) / 2, whole[name], rtol=1e-4, atol=1e-4)
    halved = torch.cat([part["bfloat16"] for part in parts])
    assert halved.dtype == whole["bfloat16"].dtype == torch.bfloat16
    torch.testing.assert_close(halved, whole["bfloat16"])
    states = [name for name in whole if name.startswith("state.")]
    assert len(states) == 5
    for name in states:
        assert torch.equal(parts[0][name], parts[1][name])
        torch.testing.assert_close(parts[0][name], whole[name], rtol=1e-5, atol=1e-5)


# --- runs that end otherwise -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DRAWING)
def test_a_run_of_two_processes_that_was_stopped_ends_as_an_undisturbed_one(crew, name):
    for endings in crew.endings[f"stopped: {name}"]:
        stops = [ending["error"].partition(";")[0] for ending in endings[:-1]]
        assert stops == [f"RunInterrupted: stopped at step {step} of 9" for step in (2, 6, 7)]
    whole, stopped = crew.record(f"whole: {name}"), crew.record(f"stopped: {name}")
    assert stopped.attempts == 4
    assert outcome(stopped) == outcome(whole)


def test_one_process_goes_on_from_what_two_have_saved(crew, tmp_path):
    job = crew.jobs["left"]
    assert all("stopped at step 4" in ending["error"] for [ending] in crew.endings["left"])
    record = execute_plan(make_plan(**job.arguments), job.results)
    assert record.attempts == 2
    assert_close(record, execute_plan(make_plan(**job.arguments), tmp_path), Path(job.results), tmp_path)


def test_a_run_that_was_done_before_is_not_done_again(crew):
    assert crew.endings["again"] == [[{"record": True}], [{"record": False}]]


def test_a_loss_that_is_not_finite_fails_every_process(crew):
    [[first], [second]] = crew.endings["nan"]
    assert first == second and "RunFailed: the loss became" in first["error"]


def test_a_run_that_cannot_begin_ends_every_process(crew):
    [[first], [second]] = crew.endings["held"]
    assert "the run is being worked on" in first["error"] and second == {"record": False}
    [[first], [second]] = crew.endings["indivisible"]
    assert "recipe.batch_size 9 cannot be divided among 2 processes" in first["error"] and second == {"record": False}


def test_a_batch_that_cannot_be_divided_is_refused_with_what_can_be():
    assert "cannot be divided among 3 processes; use --gpus 1, 2 or 4" in refused(check_batch_size, 32, 3)
    assert "use --gpus 1, or" in refused(check_batch_size, 1, 2)
    check_batch_size(32, 4)


# --- joining ---------------------------------------------------------------------------------------------------


def test_alone_there_is_nothing_to_share(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    values = torch.rand(3)
    with joined(CPU) as peers:
        assert peers is ALONE and peers.is_first and peers.part(8) == slice(0, 8)
        assert peers.agree(True, False) == (True, False) and peers.broadcast("a") == "a"
        assert peers.mean(values) is values and batch_mean(values) is values and batch_sum(values) is values
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set"),
        ({"RANK": "2"}, "RANK 2 and WORLD_SIZE 2 name no process"),
        ({"RANK": "first"}, "RANK first and WORLD_SIZE 2 name no process"),
        ({"MASTER_PORT": "nowhere"}, "process 0 of 2 cannot join the others at 127.0.0.1:nowhere"),
    ],
)
def test_variables_that_make_no_sense_are_refused(monkeypatch, variables, message):
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    sound = dict(zip(names, ("0", "2", "0", "127.0.0.1", "29500"), strict=True))
    given = variables if "WORLD_SIZE" in variables else sound | variables
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    def join() -> None:
        with joined(CPU):
            pytest.fail("joined")

    assert message in refused(join)
    assert benchmark.distributed._peers is ALONE


def test_every_process_has_a_gpu_of_its_own(monkeypatch):
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert Peers(5, 8, 1).own_device(cuda) == torch.device("cuda", 1)
    assert Peers(0, 1, 0).own_device(torch.device("cuda", 3)) == torch.device("cuda", 3)
    assert Peers(5, 8, 1).own_device(CPU) == CPU
    assert "PyTorch sees 4; use fewer processes" in refused(Peers(4, 8, 4).own_device, cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert Peers(5, 8, 1).own_device(cuda) == torch.device("cuda", 0)
