"""A method that scores images by a network of its own is told apart from those on the recipe's backbone."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from kit.command import ltbench
from kit.factories import make_record
from kit.runs import outcome
from kit.tiny import TINY
from torch import nn

import benchmark
from benchmark.leaderboard.tracks import Track
from benchmark.method import METHODS, Method
from benchmark.store.records import Record

pytestmark = pytest.mark.slow


class Scorer(Method):
    """Scores by the backbone that `network` gives, pooled, and a linear layer."""

    title = "Scorer"

    def __init__(self, task, config):
        super().__init__(task, config)
        self.network = self.make_network(task)
        self.head = nn.LazyLinear(len(task.class_names))
        self.head(torch.zeros(1, self.width))

    width = 128

    def forward(self, images):
        return self.head(self.network(images))

    def training_loss(self, batch):
        return nn.functional.binary_cross_entropy_with_logits(self(batch.images), batch.targets)


def convolution():
    return nn.Sequential(nn.Conv2d(3, 128, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Own(Scorer):
    def make_network(self, task):
        return convolution()


class BuiltButNotUsed(Scorer):
    def make_network(self, task):
        self.idle = task.make_backbone()
        return convolution()


class OnlyInTraining(Scorer):
    def make_network(self, task):
        self.teacher = task.make_backbone()
        return convolution()

    def training_loss(self, batch):
        return super().training_loss(batch) + self.teacher(batch.images).square().mean()


class Other(Scorer):
    def make_network(self, task):
        return task.make_other_backbone("small_cnn", "none")


class Copied(Scorer):
    def make_network(self, task):
        return copy.deepcopy(task.make_backbone())


class Unregistered(Scorer):
    """Keeps the backbone where no state dict holds it."""

    def make_network(self, task):
        backbone = task.make_backbone()
        return lambda images: backbone(images)


class Stages(Scorer):
    """Takes stages alone, without `forward` of the backbone."""

    def make_network(self, task):
        return nn.Sequential(*task.make_backbone().stages, nn.AdaptiveMaxPool2d(1), nn.Flatten())


def run(method, tiny, results, monkeypatch):
    monkeypatch.setitem(METHODS._entries, "mine", method)
    return benchmark.run("mine", str(tiny), results=results, **TINY)


@pytest.mark.parametrize("method", [Own, BuiltButNotUsed, OnlyInTraining, Other])
def test_a_network_of_ones_own_stands_apart_and_the_record_says_so(method, tiny, tmp_path, monkeypatch):
    record = run(method, tiny, tmp_path, monkeypatch)
    assert record.own_network and json.loads(record.to_json())["own_network"] is True
    erm = benchmark.run("erm", str(tiny), results=tmp_path, **TINY)
    mine, others = Track.from_record(record), Track.from_record(erm)
    assert mine != others and mine.slug != others.slug
    assert "own network of mine, its own weights" in mine.title and "small_cnn, not pretrained" in others.title
    [log] = (tmp_path / "runs" / record.folder_name).glob("*.log")
    assert "network of its own and not by the recipe's small_cnn" in log.read_text()
    assert "the method's own network, not small_cnn" in ltbench("show", record.run_id, "--results", tmp_path).stdout
    assert ltbench("leaderboard", "--results", tmp_path, "--format", "csv", "--format", "md").returncode == 0
    assert "own network of mine,its own weights" in (tmp_path / "leaderboard.csv").read_text()
    assert ltbench("verify", "--results", tmp_path).returncode == 0


@pytest.mark.parametrize("method", [Copied, Unregistered, Stages])
def test_the_recipes_backbone_is_known_in_whatever_way_it_is_used(method, tiny, tmp_path, monkeypatch):
    record = run(method, tiny, tmp_path, monkeypatch)
    assert not record.own_network and "own_network" not in record.to_json()


@pytest.mark.parametrize("method", list(METHODS))
def test_no_method_of_the_project_has_a_network_of_its_own(method, tiny, tmp_path):
    fits = METHODS.get(method).requires == "any"
    settings = {"recipe.batch_size": 8} | ({"semantics": "random"} if method == "cprfl" else {})
    given = {"protocol": "demo" if fits else "demo-clip", "image_size": 16 if fits else 64, "epochs": 2}
    assert "own_network" not in benchmark.run(method, str(tiny), results=tmp_path, settings=settings, **given).to_json()


def test_watching_changes_no_number(tiny, tmp_path, monkeypatch):
    watched = benchmark.run("erm", str(tiny), results=tmp_path / "a", **TINY)
    monkeypatch.setattr("benchmark.running.task.of_recipe", lambda network: network)
    apart = benchmark.run("erm", str(tiny), results=tmp_path / "b", **TINY)
    assert apart.own_network
    assert outcome(watched) == outcome(apart) | {"own_network": False}
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_two_methods_with_networks_of_their_own_share_no_table():
    records = [make_record(name, 0, own_network=True) for name in ("asl", "rw")]
    records += [make_record("erm", 0), make_record("focal", 0)]
    tracks = {Track.from_record(record) for record in records}
    assert {track.backbone for track in tracks} == {"resnet50", "own network of asl", "own network of rw"}
    assert len({track.slug for track in tracks}) == 3


def test_a_record_without_the_field_is_as_it_was():
    text = make_record().to_json()
    assert "own_network" not in text and Record.from_bytes(text.encode(), "there").to_json() == text
