"""Scoring: from a trained method to its record."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch

from benchmark.data.images import CachedImages
from benchmark.evaluation import score
from benchmark.method import Method
from benchmark.running.environment import describe, peak_memory_mb
from benchmark.running.own_network import watching
from benchmark.running.plan import Plan
from benchmark.store.records import SCHEMA_VERSION, EpochLogits, Parameters, Record, Selection, Timings
from benchmark.store.runs import Claim
from benchmark.training.inference import Normalizer, predict
from benchmark.training.loop import Trainer
from benchmark.training.progress import Outcome
from benchmark.ui.progress import Reporter


def make_normalizer(work: Plan, device: torch.device) -> Normalizer:
    return Normalizer(work.spec.weights.mean, work.spec.weights.std, device)


@dataclass(frozen=True)
class Scorer:
    """Scores images of a split with the method as it is."""

    work: Plan
    method: Method
    cached: dict[str, CachedImages]
    device: torch.device
    reporter: Reporter

    def logits(self, split: str, what: str) -> np.ndarray:
        """float32 [N, C]."""
        images = self.cached[split].load()
        with self.reporter.task(f"scoring {split} ({what})", len(images)) as task:
            normalizer = make_normalizer(self.work, self.device)
            return predict(self.method, images, normalizer, self.device, self.work.spec.recipe.test_time, task.update)

    def keep_epoch(self, claim: Claim, epoch: int, weight_sets: Iterator[str]) -> EpochLogits:
        """Store the test logits of an epoch: nothing that trains hears of them."""
        return claim.store_epoch(epoch, {name: self.logits("test", f"epoch {epoch}, {name}") for name in weight_sets})


def evaluate(
    work: Plan,
    trainer: Trainer,
    outcome: Outcome,
    cached: dict[str, CachedImages],
    scorer: Scorer,
    claim: Claim,
    prepare_s: float,
) -> Record:
    """Score the test set, once, with the weights that training selected."""
    spec, dataset, method = work.spec, work.dataset, trainer.method
    declared = spec.recipe.report
    started = time.monotonic()

    def logits_of(split: str, weight_set: str) -> np.ndarray:
        method.load_state_dict(outcome.states[weight_set])
        return scorer.logits(split, weight_set)

    test = dataset.splits["test"]
    with watching() as network:
        logits = {weight_set: logits_of("test", weight_set) for weight_set in outcome.states}
    if not network.used:
        scorer.reporter.line(
            f"{spec.method} scores images by a network of its own and not by the recipe's {spec.recipe.backbone}: its "
            "row stands in a table apart"
        )
    results = {name: score(values, test.targets, dataset.groups) for name, values in logits.items()}
    validation = None
    if "val" in dataset.splits:
        validation = logits_of("val", declared), dataset.splits["val"].targets
    return Record(
        schema_version=SCHEMA_VERSION,
        run_id=spec.run_id,
        spec=spec,
        method_title=work.method.row_title(work.config),
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
        peak_memory_mb=peak_memory_mb(scorer.device),
        parameters=Parameters(
            all=sum(p.numel() for p in method.parameters()),
            trained=outcome.num_trained,
        ),
        environment=describe(
            work.method, scorer.device, trainer.runtime.autocasts(spec.recipe), trainer.runtime.peers.size
        ),
        attempts=claim.number,
        data_digests={name: images.digest for name, images in cached.items()},
        model_digest=state_digest(outcome.states[declared]),
        logits=claim.store_logits(logits, test.targets, validation),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        # A record without them reads as those before there could be any.
        **({"oracle": outcome.observed} if outcome.observed else {}),
        **({} if network.used else {"own_network": True}),
    )


def state_digest(state: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + b"\0" + state[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
