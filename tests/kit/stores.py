"""A store of real tiny runs for tests, and what somebody may do to a run of it afterwards."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from benchmark.data import registered as splits
from benchmark.data.dataset import DATASETS, DatasetFolder
from benchmark.evaluation import f1_scores
from benchmark.running.plan import make_plan
from benchmark.spec import deep_merge
from benchmark.store.folder import RunFolder
from benchmark.store.records import Record
from kit.factories import _means
from kit.runs import execute_plan
from kit.tiny import TINY, write_tiny_dataset


def make_store(folder: Path) -> Path:
    """`<folder>/results`: erm with the logits of every epoch, erm with another seed, asl; on `<folder>/tiny`."""
    tiny = str(write_tiny_dataset(folder / "tiny"))
    for method, changes in (("erm", {"oracle": True}), ("erm", {"seed": 1}), ("asl", {})):
        execute_plan(make_plan(method, tiny, **TINY, **changes), folder / "results")
    return folder / "results"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A store that no test changes."""
    return make_store(tmp_path_factory.mktemp("made"))


@pytest.fixture
def store(made, tmp_path) -> Path:
    """A copy of it, for one test."""
    return shutil.copytree(made, tmp_path / "results")


def run_of(store: Path, prefix: str = "erm-s0") -> RunFolder:
    [path] = (store / "runs").glob(f"{prefix}-*")
    return RunFolder(path)


class Registered(DatasetFolder):
    """A registered dataset with the fingerprint that its runs have, which were made when it was not."""

    def _is_registered(self, dataset, data_root):
        return False


def register_tiny(monkeypatch, folder: Path) -> None:
    """Make a dataset folder the registered dataset `tiny` for a test."""
    assert "voc-lt" in DATASETS
    monkeypatch.setitem(DATASETS._entries, "tiny", Registered("tiny", folder))
    # Read anew at every call: the folder is another one in the next test.
    monkeypatch.setattr(splits, "_opened", splits._opened.__wrapped__)


def edit_record(folder: RunFolder, **changes: Any) -> None:
    """Merge changes into a record; the means and the run id follow, so that the record is valid."""
    data = deep_merge(json.loads(folder.record_path.read_text()), changes)
    for metrics in filter(None, (*data["results"].values(), data["validation"])):
        metrics |= _means(metrics["per_class"], data["groups"])
    folder.record_path.write_text(json.dumps(data))
    Record.from_file(folder.record_path)


def edit_tensors(folder: RunFolder, change: Callable[[dict[str, np.ndarray]], object], epoch: int = 0) -> Path:
    """Change the stored tensors (those of an epoch where one is given) and have the record name the new file."""
    data = json.loads(folder.record_path.read_text())
    part = data["oracle"][epoch - 1] if epoch else data["logits"]
    path = folder.path / part["file"]
    tensors = {name: values.copy() for name, values in load_file(path).items()}
    change(tensors)
    content = save(tensors)
    path.unlink()
    part["sha256"] = hashlib.sha256(content).hexdigest()
    part["file"] = part["file"].replace(path.stem.rpartition("-")[2], part["sha256"][:16])
    (folder.path / part["file"]).write_bytes(content)
    folder.record_path.write_text(json.dumps(data))
    return folder.path / part["file"]


def as_first_version(folder: RunFolder) -> None:
    """Make a run one of schema 1: with CF1 and OF1 at a sigmoid of 0.5, without validation logits."""
    edit_tensors(folder, lambda tensors: [tensors.pop(name) for name in ("validation", "validation_targets")])
    data = json.loads(folder.record_path.read_text())
    tensors = load_file(folder.path / data["logits"]["file"])
    for name, metrics in data["results"].items():
        cf1, of1 = f1_scores(tensors[name] >= 0, tensors["targets"])
        metrics |= {"cf1": 100 * cf1, "of1": 100 * of1}
    del data["num_validation_images"]
    data |= {"schema_version": 1, "validation": None}
    folder.record_path.write_text(json.dumps(data))
    Record.from_file(folder.record_path)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
