"""Every registered method at the size that its published recipe names: it can move.

Random weights and one small batch; a small demo hides what only a wide network does. A method whose logits start far
from 0 has saturated sigmoids, and one without a gradient stays where it is for ever.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.data.dataset import DATASETS
from benchmark.method import Batch, Method
from benchmark.running.plan import make_plan
from benchmark.running.task import make_task
from benchmark.spec import PROTOCOLS
from benchmark.training.randomness import seed_everything
from methods.cprfl import ReleasedLayer

pytestmark = pytest.mark.slow

DATASET = "voc-lt"
IMAGES = 2
LARGEST_MEAN_LOGIT = 10.0
SMALLEST_GRADIENT = 1e-3
PUBLISHED = sorted(PROTOCOLS.get("paper").methods)
# What a method has besides its default: the layer of CPRFL's paper, the other readings of HP-DVAL.
VARIANTS = [
    ("cprfl", {"variant": "equations"}),
    ("cprfl", {"semantics": "random"}),
    ("hp-dval", {"variant": "released-code"}),
    ("hp-dval", {"student_init": "imagenet"}),
]


@pytest.fixture(scope="module")
def text_like(tmp_path_factory) -> str:
    """A file of embeddings as CLIP's text tower gives them: of one direction for the most part (cosines of 0.8)."""
    rng = np.random.default_rng(0)
    names = DATASETS.get(DATASET).open().classes
    vectors = np.sqrt(0.8) * rng.normal(size=(1, 1024)) + np.sqrt(0.2) * rng.normal(size=(len(names), 1024))
    path = tmp_path_factory.mktemp("text") / "text.npz"
    np.savez(path, words=vectors.astype(np.float32), words_names=np.array(names))
    return str(path)


def build(name: str, settings: dict[str, Any]) -> tuple[Method, Any]:
    """A method as its published recipe has it, but for the weights, which are random; and its plan."""
    plan = make_plan(name, DATASET, protocol="paper", settings=settings)
    seed_everything(0)
    task = make_task(plan.spec.recipe, plan.dataset, plan.spec.weights, None, load=False)
    return plan.method(task, plan.config), plan


def first_steps(method: Method, plan: Any) -> list[tuple[float, float]]:
    """(mean logit, norm of the gradient of what is trained) at the start of each stage."""
    size = plan.spec.recipe.image_size
    images = torch.randn(IMAGES, 3, size, size)
    targets = torch.from_numpy(plan.dataset.splits["train"].targets[:IMAGES]).float()
    found = []
    for stage in method.stages(plan.config):
        method.begin_stage(stage)
        inputs = images
        if method.trains_on == "features":
            with torch.no_grad():
                inputs = method.eval().features(images)
        with torch.no_grad():
            logits = method.train()(images)
        method.zero_grad(set_to_none=True)
        method.training_loss(*[Batch(inputs, targets) for _ in method.samplers(plan.config)]).backward()
        trained = [p for group in method.parameter_groups() for p in group.parameters]
        norms = [p.grad.norm() for p in trained if p.grad is not None]
        found.append((logits.mean().item(), torch.stack(norms).norm().item()))
    return found


def can_move(mean_logit: float, gradient: float) -> bool:
    return abs(mean_logit) <= LARGEST_MEAN_LOGIT and gradient > SMALLEST_GRADIENT


def with_text(name: str, settings: dict[str, Any], text: str) -> dict[str, Any]:
    return {"semantics": text} | settings if name == "cprfl" else settings


@pytest.mark.parametrize(("name", "settings"), [*((name, {}) for name in PUBLISHED), *VARIANTS], ids=str)
def test_a_method_can_move_at_its_published_size(name, settings, text_like):
    method, plan = build(name, with_text(name, settings, text_like))
    found = first_steps(method, plan)
    assert len(found) == len(method.stages(plan.config)) and (found or name == "clip-zero-shot")
    assert [step for step in found if not can_move(*step)] == []


class Residual(ReleasedLayer):
    """The layer with residual connections, which neither paper nor code of CPRFL has."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        for part in self:
            tokens = tokens + part(tokens)
        return tokens


def test_a_method_that_cannot_move_is_found(text_like):
    method, plan = build("cprfl", {"semantics": text_like})
    config = plan.config
    method.head.interaction = Residual(config.dim, config.heads, config.head_dim, config.mlp_dim, config.dropout)
    [(mean_logit, gradient)] = first_steps(method, plan)
    assert mean_logit > LARGEST_MEAN_LOGIT and gradient < SMALLEST_GRADIENT


def test_cprfl_starts_near_zero_on_clips_own_text_embeddings(photos):
    method, plan = build("cprfl", {"semantics": f"{Path(photos) / 'clip_vit_b16_text.npz'}:voc"})
    [(mean_logit, gradient)] = first_steps(method, plan)
    assert abs(mean_logit) < 5 and gradient > 1
