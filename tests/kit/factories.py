"""Valid records, stores, recipes and tasks for tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import save as save_safetensors

from benchmark.evaluation import numbers_again
from benchmark.leaderboard.samples import Sample
from benchmark.leaderboard.stats.resampling import REPLICATES
from benchmark.method import METHODS, Task
from benchmark.models.backbones import make_backbone
from benchmark.spec import Recipe, RunSpec, deep_merge, nested, parse
from benchmark.store.records import GROUPS, SCHEMA_VERSION, Record

CLASSES = {"person": 400, "car": 100, "dog": 99, "cat": 20, "sofa": 19, "sheep": 3}


def make_record(
    method: str = "erm",
    seed: int = 0,
    overall: float | None = 80.0,
    *,
    classes: Mapping[str, int] = CLASSES,
    **changes: Any,
) -> Record:
    """A valid record: head classes score overall + 5, medium overall, tail overall - 5, less near 0 and 100.

    classes: name -> training positives; 100 and 20 divide the groups. changes: fields of the record, nested
    mappings merged key by key, e.g. `spec={"overrides": {"epochs": 3}}` or
    `results={"raw": {"per_class": {"sheep": None}}}`. What follows from other fields is derived: the means from
    `per_class` (so `overall` comes out as given where head and tail have as many classes), what belongs to the schema
    version (F1 at a sigmoid of 0.5 in the first, 40 validation images in others that were validated), the recipe and
    the configuration from what was changed in them, its epochs from the history, the declared weights, the selection
    and the history from the recipe, the run id from the specification.
    """
    spec = deep_merge(_spec(method, seed), changes.pop("spec", {}))
    if changes.get("history"):
        spec["recipe"]["epochs"] = len(changes["history"])
    spec["recipe"] = deep_merge(spec["recipe"], nested(spec["overrides"]))
    spec["config"] = deep_merge(nested(spec["config_overrides"]), spec["config"])
    data = deep_merge(_record(spec, overall, dict(classes)), changes)
    if data["schema_version"] > 1 and data["validation"]:
        data.setdefault("num_validation_images", 40)
        data["data_digests"].setdefault("val", "b" * 64)
    for metrics in [*data["results"].values(), *([data["validation"]] if data["validation"] else [])]:
        metrics |= _means(metrics["per_class"], data["groups"])
        if data["schema_version"] == 1:
            metrics |= {"cf1": 70.0, "of1": 75.0} | metrics
    data["run_id"] = RunSpec.model_validate_json(json.dumps(spec)).run_id
    return Record.model_validate_json(json.dumps(data))


def make_sample(record: Record, seed: int = 0) -> Sample:
    """A sample of a record: its own scores, NaN for missing ones, and replicates that scatter around them, sd 1.

    The noise of two runs is independent; another seed draws it anew. What stands beside the metric is the same for all;
    there is no threshold.
    """
    metrics = record.metrics
    values = np.array([metrics.overall, *(getattr(metrics, group) for group in GROUPS)], dtype=np.float64)
    rng = np.random.default_rng([seed, int(record.run_id[:16], 16)])
    noise = rng.standard_normal((len(values), 1 + REPLICATES))
    noise[:, 0] = 0
    beside = {"cf1_top3": 40.0, "of1_top3": 45.0, "ap_std": 20.0, "micro_ap": 65.0, "lrap": 85.0, "ece": 3.0}
    return Sample((values[:, None] + noise).astype(np.float32), labels={"targets": "f" * 64}, secondary=beside)


def edited(record: Record, **changes: Any) -> str:
    """The text of record.json with `changes` merged in and nothing derived anew: most of them do not hold together."""
    return json.dumps(deep_merge(json.loads(record.to_json()), changes), indent=1)


def write_store(root: Path, records: Iterable[Record]) -> Path:
    """Write `<root>/runs/<folder name>/record.json` for each record; returns `root`."""
    for record in records:
        folder = root / "runs" / record.spec.folder_name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "record.json").write_text(record.to_json(), encoding="utf-8")
    return root


def _means(per_class: Mapping[str, float | None], groups: Mapping[str, str]) -> dict[str, float | None]:
    def mean(*members: str) -> float | None:
        known = [value for name, value in per_class.items() if value is not None and groups[name] in members]
        return sum(known) / len(known) if known else None

    names = ("head", "medium", "tail")
    return {"overall": mean(*names)} | {name: mean(name) for name in names}


def _record(spec: dict[str, Any], overall: float | None, classes: dict[str, int]) -> dict[str, Any]:
    groups = {name: "head" if n >= 100 else "medium" if n >= 20 else "tail" for name, n in classes.items()}
    step = 0.0 if overall is None else min(5.0, overall, 100.0 - overall)
    scores = {
        group: None if overall is None else overall + shift
        for group, shift in (("head", step), ("medium", 0.0), ("tail", -step))
    }
    recipe = spec["recipe"]
    declared, epochs = recipe.get("report", "raw"), recipe["epochs"]
    metrics = {"per_class": {name: scores[group] for name, group in groups.items()}}
    return {
        "schema_version": SCHEMA_VERSION,
        "spec": spec,
        "method_title": f"Title of {spec['method']}",
        "dataset_title": "VOC-LT",
        "groups": groups,
        "class_counts": classes,
        "num_train_images": 1142,
        "num_test_images": 4952,
        "declared": declared,
        "results": {declared: metrics},
        "validation": None,
        "selection": {"rule": recipe.get("selection", "last"), "epoch": epochs},
        "history": [{"epoch": epoch, "loss": 0.1, "lr": 0.01} for epoch in range(1, epochs + 1)],
        "timings": {"prepare_s": 1.0, "train_s": 60.0, "evaluate_s": 2.0, "images_per_second": 150.0},
        "peak_memory_mb": 512.0,
        "parameters": {"all": 25_600_000, "trained": 23_500_000},
        "environment": {
            "code_digest": "c" * 64,
            "git_commit": None,
            "git_dirty": None,
            "python": "3.11",
            "packages": {},
            "device": "cpu",
            "gpu": None,
            "cuda": None,
            "precision": "float32",
            "host": "node1",
            "cpu_threads": 2,
            "scheduler": {},
        },
        "attempts": 1,
        "data_digests": {"train": "a" * 64, "test": "c" * 64},
        "model_digest": "d" * 64,
        "logits": {"file": "logits-0123456789abcdef.safetensors", "sha256": "e" * 64},
        "finished": "2025-01-01T00:00:00+00:00",
    }


def _spec(method: str, seed: int) -> dict[str, Any]:
    return {
        "method": method,
        "method_version": 1,
        "config": {},
        "dataset": {"name": "voc-lt", "fingerprint": "a" * 64},
        "protocol": "controlled",
        "protocol_version": 7,  # not the registered one, whose recipe this is not
        "recipe": {
            "backbone": "resnet50",
            "weights": "IMAGENET1K_V1",
            "image_size": 224,
            "epochs": 8,
            "batch_size": 32,
            "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
            "schedule": {"name": "cosine"},
        },
        "weights": {
            "name": "IMAGENET1K_V1",
            "digest": "resnet50-0676ba61.pth",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "interpolation": "bilinear",
            "batch_norm": "normal",
        },
        "overrides": {},
        "config_overrides": {},
        "seed": seed,
    }


def make_recipe(**changes: Any) -> Recipe:
    """A recipe for the small CNN from scratch, 32 pixels, plain SGD; changes: its fields."""
    fields = {
        "backbone": "small_cnn",
        "weights": "none",
        "image_size": 32,
        "epochs": 1,
        "batch_size": 8,
        "optimizer": {"name": "sgd", "lr": 0.01},
        "schedule": {"name": "constant"},
    }
    return parse(Recipe, fields | changes, "recipe")


def unneeded(*args: Any) -> None:
    """A factory of a task that the method under test must not use."""
    pytest.fail("the method asked for a network that it does not need")


def make_task(
    recipe: Recipe, class_names: tuple[str, ...], class_counts: tuple[int, ...], num_images: int = 40, **factories: Any
) -> Task:
    """A task of random networks. factories: fields of `Task`; asking for another than the backbone fails the test."""

    def backbone():
        built = make_backbone(recipe.backbone, recipe.image_size, None)
        built.freeze(recipe.frozen_stages, recipe.batch_norm == "frozen")
        return built

    given = dict.fromkeys(("make_clip", "make_text_tower", "make_other_backbone"), unneeded)
    return Task(class_names, class_counts, num_images, recipe, **({"make_backbone": backbone} | given | factories))


class Scored(NamedTuple):
    """A record and the content of the logits file that it names, of which its scores are."""

    record: Record
    content: bytes


def make_scored(
    method: str = "erm",
    seed: int = 0,
    skill: float = 2.0,
    *,
    classes: Mapping[str, int] = CLASSES,
    images: int = 60,
    validation: int = 0,
    **changes: Any,
) -> Scored:
    """A record whose scores are those of logits, and their file; of a dataset that is not registered.

    skill: by how much the logits of positives are higher, in standard deviations. validation: number of validation
    images, whose logits are stored too. changes: as for `make_record`. The labels are the same for all with as many
    images and classes.
    """
    targets = _labels(images, len(classes))
    rng = np.random.default_rng([*method.encode(), seed])

    def logits_of(targets: np.ndarray) -> np.ndarray:
        return (rng.normal(size=targets.shape) + skill * targets).astype(np.float32)

    tensors = {"targets": targets, "raw": logits_of(targets)}
    given: dict[str, Any] = {"results": {"raw": _scores(tensors["raw"], targets, classes, changes)}}
    if validation:
        labels = _labels(validation, len(classes))
        tensors |= {"validation": logits_of(labels), "validation_targets": labels}
        given |= {"validation": _scores(tensors["validation"], labels, classes, changes)}
        given |= {"num_validation_images": validation}
    content = save_safetensors(tensors)
    digest = hashlib.sha256(content).hexdigest()
    config = METHODS.get(method).configure("", {}).model_dump(mode="json")
    given |= {
        "num_test_images": images,
        "logits": {"file": f"logits-{digest[:16]}.safetensors", "sha256": digest},
        "spec": {"dataset": {"name": "made-up"}, "config": config},
    }
    return Scored(make_record(method, seed, classes=classes, **deep_merge(given, changes)), content)


def _scores(
    logits: np.ndarray, targets: np.ndarray, classes: Mapping[str, int], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """What a record of the schema version that is asked for has of logits, but for what follows from it."""
    first = make_record(classes=classes, schema_version=changes.get("schema_version", SCHEMA_VERSION))
    numbers = numbers_again(first.metrics.numbers(), logits, targets, first.groups)
    per_class = {name: numbers[f"per_class.{name}"] for name in classes}
    return {"per_class": per_class} | {name: numbers[name] for name in ("cf1", "of1") if name in numbers}


def _labels(images: int, classes: int) -> np.ndarray:
    rng = np.random.default_rng(images)
    labels = (rng.random((images, classes)) < 0.3).astype(np.uint8)
    labels[:2] = [[0] * classes, [1] * classes]
    return labels


def write_scored(root: Path, runs: Iterable[Scored]) -> Path:
    """`write_store` with the logits of each record beside it; returns `root`."""
    for record, content in runs:
        write_store(root, [record])
        (root / "runs" / record.folder_name / record.logits.file).write_bytes(content)
    return root
