"""Valid records and stores for tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmark.records import Record
from benchmark.spec import RunSpec, deep_merge

CLASSES = {"person": 400, "car": 100, "dog": 99, "cat": 20, "sofa": 19, "sheep": 3}


def make_record(
    method: str = "erm",
    seed: int = 0,
    overall: float | None = 80.0,
    *,
    classes: Mapping[str, int] = CLASSES,
    **changes: Any,
) -> Record:
    """A valid record: head is overall + 5, medium overall, tail overall - 5, within 0 to 100.

    classes: name -> training positives; 100 and 20 divide the groups. changes: fields of the record, nested
    mappings merged key by key, e.g. `spec={"overrides": {"epochs": 3}}` or `results={"raw": {"tail": None}}`.
    """
    data = deep_merge(_record(method, seed, overall, dict(classes)), changes)
    data["run_id"] = RunSpec.model_validate_json(json.dumps(data["spec"])).run_id
    return Record.model_validate_json(json.dumps(data))


def write_store(root: Path, records: Iterable[Record]) -> Path:
    """Write `<root>/runs/<folder name>/record.json` for each record; returns `root`."""
    for record in records:
        folder = root / "runs" / record.spec.folder_name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "record.json").write_text(record.to_json(), encoding="utf-8")
    return root


def _record(method: str, seed: int, overall: float | None, classes: dict[str, int]) -> dict[str, Any]:
    groups = {name: "head" if n >= 100 else "medium" if n >= 20 else "tail" for name, n in classes.items()}
    scores = {
        group: None if overall is None else min(max(overall + shift, 0.0), 100.0)
        for group, shift in (("head", 5), ("medium", 0), ("tail", -5))
    }
    metrics = scores | {
        "overall": overall,
        "cf1": 70.0,
        "of1": 75.0,
        "per_class": {name: scores[group] for name, group in groups.items()},
    }
    return {
        "schema_version": 1,
        "spec": _spec(method, seed),
        "method_title": f"Title of {method}",
        "dataset_title": "VOC-LT",
        "groups": groups,
        "class_counts": classes,
        "num_train_images": 1142,
        "num_test_images": 4952,
        "declared": "raw",
        "results": {"raw": metrics},
        "validation": None,
        "selection": {"rule": "last", "epoch": 8},
        "history": [{"epoch": 8, "loss": 0.1, "lr": 0.01}],
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
        "data_digests": {},
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
        "protocol_version": 1,
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
