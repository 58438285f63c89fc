"""What only a GPU can show; skipped, and said so, where there is none."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from kit.paths import ROOT
from kit.runs import execute_plan
from kit.tiny import TINY, TINY_ARGS
from kit.trainers import stopping

import benchmark
from benchmark.data.augment import Augmenter
from benchmark.data.samplers import generator
from benchmark.errors import RunInterrupted
from benchmark.running.doctor import Place
from benchmark.running.doctor.checks import gpu
from benchmark.running.plan import make_plan
from benchmark.spec import Augment
from benchmark.store.logits import load_logits
from benchmark.store.runs import load_records

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and PyTorch sees none"),
]


def test_a_run_on_the_gpu_learns_and_says_where_it_ran(tiny, tmp_path):
    record = benchmark.run("db-focal", str(tiny), results=tmp_path, device="cuda", **(TINY | {"epochs": 30}))
    assert record.environment.device == "cuda" and record.environment.gpu == torch.cuda.get_device_name(0)
    assert record.environment.precision == "bfloat16 autocast" and record.environment.cuda
    assert record.metrics.overall > 90 and record.peak_memory_mb > 0


@pytest.mark.parametrize("method", ["ltml", "cprfl", "capnet", "hp-dval", "clip-zero-shot", "linear-probe"])
def test_every_other_method_trains_on_the_gpu(tiny, tmp_path, method):
    settings = TINY["settings"] | ({"semantics": "demo:shapes"} if method == "cprfl" else {})
    settings |= {"top_k": 10} if method == "hp-dval" else {}
    options = {"protocol": "demo-clip", "epochs": 2, "settings": settings}
    record = benchmark.run(method, str(tiny), results=tmp_path, device="cuda", **options)
    assert record.environment.device == "cuda" and record.metrics.overall > 0


def test_gpu_and_cpu_agree_without_autocast(tiny, tmp_path):
    settings = TINY["settings"] | {"recipe.amp": False}
    runs = {
        device: benchmark.run(
            "erm", str(tiny), results=tmp_path / device, device=device, **(TINY | {"epochs": 1, "settings": settings})
        )
        for device in ("cpu", "cuda")
    }
    assert runs["cpu"].run_id == runs["cuda"].run_id
    logits = [load_logits(tmp_path / device, record)[0]["raw"] for device, record in runs.items()]
    assert abs(logits[0] - logits[1]).max() < 0.05


def test_an_interrupted_run_goes_on_on_the_gpu(tiny, tmp_path):
    plan = make_plan("erm", str(tiny), **TINY)
    with stopping(), pytest.raises(RunInterrupted):
        execute_plan(plan, tmp_path, device="cuda")
    assert execute_plan(plan, tmp_path, device="cuda").attempts == 2


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")
def test_one_run_on_two_gpus_is_that_of_one(tiny, tmp_path):
    args = ["--method", "erm", "--dataset", tiny, *TINY_ARGS, "--set", "recipe.amp=false", "--device", "cuda"]
    for gpus in ("1", "2"):
        command = [sys.executable, "-m", "benchmark.cli", "run", *map(str, args), "--gpus", gpus]
        subprocess.run([*command, "--results", tmp_path / gpus], cwd=ROOT, check=True)
    [one], [two] = (list(load_records(tmp_path / gpus)) for gpus in ("1", "2"))
    assert two.environment.processes == 2 and two.run_id == one.run_id
    logits = [load_logits(tmp_path / gpus, record)[0]["raw"] for gpus, record in (("1", one), ("2", two))]
    assert abs(logits[0] - logits[1]).max() < 0.05


def test_augmentation_draws_the_same_on_every_device():
    images = torch.randint(0, 256, (8, 40, 40, 3), dtype=torch.uint8, generator=generator("images"))
    augment = Augmenter(
        Augment(flip=0.5, crop_min_side=0.8, photometric=0.5, brightness=0.1, contrast=0.5, saturation=0.5, hue=18.0),
        32,
    )
    on_cpu = augment(images, generator("draws"))
    on_gpu = augment(images.cuda(), generator("draws")).cpu()
    torch.testing.assert_close(on_cpu, on_gpu, atol=1e-3, rtol=0)


def test_the_doctor_tells_the_gpu_its_free_memory_and_bf16(tmp_path):
    found = list(gpu.check(Place(tmp_path, None)))
    assert found[0].check == "cuda" and len(found) == 1 + torch.cuda.device_count()
    assert torch.cuda.get_device_name(0) in found[1].text and "GiB free" in found[1].text and "bf16" in found[1].text
    assert found[1].verdict in ("ok", "warn")
