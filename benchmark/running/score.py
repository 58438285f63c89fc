"""Scoring: from a trained method to its record."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from benchmark.data.images import CachedImages
from benchmark.evaluation import score
from benchmark.method import Method
from benchmark.running.environment import describe, peak_memory_mb
from benchmark.running.own_network import watching
from benchmark.running.plan import Plan
from benchmark.store.claim import Claim
from benchmark.store.records import (
    SCHEMA_VERSION,
    WEIGHT_SETS,
    EpochLogits,
    Metrics,
    Parameters,
    Record,
    Selection,
    Timings,
    WeightSet,
)
from benchmark.training.inference import Normalizer, predict
from benchmark.training.progress import Outcome
from benchmark.training.setup import Runtime


def make_normalizer(plan: Plan, device: torch.device) -> Normalizer:
    """The normalisation that the plan's pretrained weights need."""
    return Normalizer(plan.spec.weights.mean, plan.spec.weights.std, device)


@dataclass(frozen=True)
class Scorer:
    """Scores the images of a split with the method's current weights."""

    plan: Plan
    method: Method
    cached: dict[str, CachedImages]
    runtime: Runtime

    def logits(self, split: str, what: str) -> np.ndarray:
        """Logits of a split, float32 [N, C]. what: name of the method's current weights, for the display."""
        images, device = self.cached[split].load(), self.runtime.device
        with self.runtime.reporter.task(f"scoring {split} ({what})", len(images)) as task:
            normalizer = make_normalizer(self.plan, device)
            return predict(self.method, images, normalizer, device, self.plan.spec.recipe.test_time, task.update)

    def keep_epoch(self, claim: Claim, epoch: int, names: Iterator[str]) -> EpochLogits:
        """Store the test logits of an epoch: an `Observer` of training, which returns them to no part of it."""
        return claim.store_epoch(epoch, {name: self.logits("test", f"epoch {epoch}, {name}") for name in names})


def evaluate(scorer: Scorer, outcome: Outcome, claim: Claim, prepare_s: float, shared_images: int) -> Record:
    """Score the test set, once, with the weights that training selected. prepare_s, shared_images: of the record."""
    plan, method, runtime = scorer.plan, scorer.method, scorer.runtime
    spec, dataset = plan.spec, plan.dataset
    declared = spec.recipe.report
    started = time.monotonic()
    test = dataset.splits["test"]
    with watching() as network:
        logits = {weight_set: _logits_of(scorer, outcome, "test", weight_set) for weight_set in outcome.states}
    if not network.used:
        runtime.reporter.line(
            f"{spec.method} scores images by a network of its own and not by the recipe's {spec.recipe.backbone}: its "
            "row is in a table apart"
        )
    results: dict[WeightSet, Metrics] = {
        name: score(logits[name], test.targets, dataset.groups) for name in WEIGHT_SETS if name in logits
    }
    validation = None
    if "val" in dataset.splits:
        validation = _logits_of(scorer, outcome, "val", declared), dataset.splits["val"].targets
    # Left out where they have their defaults, so that a record reads as those from before there were these fields.
    rare: dict[str, Any] = {"oracle": outcome.observed} if outcome.observed else {}
    if not network.used:
        rare["own_network"] = True
    if dataset.supports:
        rare["episode"] = spec.seed
    if shared_images:
        rare["shared_images"] = shared_images
    return Record(
        schema_version=SCHEMA_VERSION,
        run_id=spec.run_id,
        spec=spec,
        method_title=plan.method.row_title(plan.config),
        dataset_title=dataset.card.title,
        groups=dataset.groups,
        class_counts=dict(zip(dataset.classes, dataset.class_counts.tolist(), strict=True)),
        num_train_images=len(dataset.splits["train"]),
        num_test_images=len(test),
        num_validation_images=len(validation[0]) if validation else None,
        declared=declared,
        results=results,
        validation=score(*validation, dataset.groups) if validation else None,
        selection=Selection(rule=spec.recipe.selection, epoch=outcome.selected_epoch),
        history=outcome.history,
        timings=Timings(
            prepare_s=prepare_s,
            train_s=outcome.train_s,
            evaluate_s=time.monotonic() - started,
            images_per_second=outcome.images_per_second,
        ),
        peak_memory_mb=peak_memory_mb(runtime.device),
        parameters=Parameters(all=sum(p.numel() for p in method.parameters()), trained=outcome.num_trained),
        environment=describe(plan.code_digest, runtime.device, runtime.autocasts(spec.recipe), runtime.peers.size),
        attempts=claim.number,
        data_digests={name: images.digest for name, images in scorer.cached.items()},
        model_digest=state_digest(outcome.states[declared]),
        logits=claim.store_logits(logits, test.targets, validation),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        **rare,
    )


def _logits_of(scorer: Scorer, outcome: Outcome, split: str, weight_set: str) -> np.ndarray:
    """Logits of a split, float32 [N, C], with a weight set of the trained method."""
    scorer.method.load_state_dict(outcome.states[weight_set])
    return scorer.logits(split, weight_set)


def state_digest(state: dict[str, torch.Tensor]) -> str:
    """sha256 over the names and values of a state dict on the CPU, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + b"\0" + state[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
