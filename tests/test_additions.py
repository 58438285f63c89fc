"""One file is all that an addition takes. Here: a dataset and a protocol; the other kinds beside their rooms:

a method (models/test_models.py, methods/test_method_files.py), a sampler (data/test_samplers.py), a network
(models/test_networks.py), a column, a statistic and an export (leaderboard/test_frame.py), a picture
(leaderboard/test_plots.py), a cluster (launch/test_launch.py) and a check of the doctor (running/test_doctor.py).
"""

from __future__ import annotations

import shutil

import yaml
from kit.paths import ROOT
from kit.runs import execute_plan
from kit.tiny import TINY, write_tiny_dataset

from benchmark import spec
from benchmark.data import dataset
from benchmark.running.plan import make_plan


def test_a_dataset_is_one_folder(tmp_path, monkeypatch):
    folder = write_tiny_dataset(tmp_path / "splits" / "tiny")
    (folder / "dataset.yaml").write_text("title: Tiny\nprotocol: demo\nimages: dataset-folder\n")
    monkeypatch.setattr(dataset, "SPLITS_FOLDER", tmp_path / "splits")
    monkeypatch.setattr(dataset.DATASETS, "_entries", {})
    monkeypatch.setattr(dataset.DATASETS, "_load", dataset._load_datasets)
    assert list(dataset.DATASETS) == ["tiny"]
    plan = make_plan("erm", "tiny", **{**TINY, "protocol": None})
    assert (plan.spec.dataset.name, plan.spec.protocol) == ("tiny", "demo")
    assert execute_plan(plan, tmp_path / "results").dataset_title == "Tiny"


def test_a_protocol_is_one_file(tmp_path, monkeypatch, tiny):
    shutil.copytree(ROOT / "benchmark" / "protocols", tmp_path / "protocols")
    own = yaml.safe_load((tmp_path / "protocols" / "demo.yaml").read_text()) | {"name": "own"}
    own["recipe"]["epochs"] = 1
    (tmp_path / "protocols" / "own.yaml").write_text(yaml.safe_dump(own))
    monkeypatch.setattr(spec, "__file__", str(tmp_path / "spec.py"))
    before = list(spec.PROTOCOLS)
    monkeypatch.setattr(spec.PROTOCOLS, "_entries", {})
    monkeypatch.setattr(spec.PROTOCOLS, "_load", spec._load_protocols)
    assert sorted([*before, "own"]) == list(spec.PROTOCOLS)
    plan = make_plan("erm", str(tiny), protocol="own", image_size=16)
    assert (plan.spec.protocol, plan.spec.recipe.epochs) == ("own", 1)
