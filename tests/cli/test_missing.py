"""What a dry run says of images and weights that are not on this machine."""

from __future__ import annotations

import json

import huggingface_hub.constants
import pytest
import torch
from kit.command import ltbench

from benchmark.models.networks.clip import published
from benchmark.models.weights import resolve_weights


@pytest.fixture(autouse=True)
def no_caches(tmp_path, monkeypatch):
    """Folders of published weights that are empty; their paths."""
    hub, torchvision = tmp_path / "hub", tmp_path / "torch"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(torchvision))
    return hub, torchvision


def missing(*args) -> list[str]:
    done = ltbench(*args, "--dry-run", "--json")
    assert done.returncode == 0 and json.loads(done.stdout), done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("missing: ")]


def test_images_and_weights_are_named_once_those_of_other_networks_too():
    methods = ["--methods", "erm,rw,cprfl", "--datasets", "voc-lt", "--protocol", "paper", "--seeds", "0-2"]
    found = missing("sweep", *methods)
    expected = [
        "dataset 'voc-lt' needs its images",
        "weights IMAGENET1K_V1 (resnet50) are not here",
        "weights IMAGENET1K_V1 (resnet101) are not here",
        "weights RN50:openai (text tower for cprfl) are not here",
    ]
    assert [part for part, line in zip(expected, found, strict=True) if part not in line] == []
    names = ["resnet50/IMAGENET1K_V1", "resnet101/IMAGENET1K_V1", "clip_rn50/RN50:openai"]
    assert [name for name, line in zip(names, found[1:], strict=True) if f"weights fetch {name}`" not in line] == []


def test_each_setting_has_needs_of_its_own():
    axes = ["--methods", "cprfl", "--datasets", "voc-lt", "--protocol", "paper"]
    found = missing("sweep", *axes, "--set", "semantics=random,ViT-B-16:openai")
    assert ["text tower" in line for line in found] == [False, False, True] and "ViT-B-16:openai" in found[-1]


def test_what_the_project_brings_is_not_missing():
    assert missing("sweep", "--methods", "erm,cprfl", "--protocols", "demo,demo-clip") == []


def test_weights_are_here_once_their_file_is(no_caches):
    hub, torchvision = no_caches
    weights = resolve_weights("resnet18", "IMAGENET1K_V1", 64)
    assert not weights.is_here()
    (torchvision / "checkpoints").mkdir(parents=True)
    (torchvision / "checkpoints" / weights.ref.digest.partition("/")[2]).touch()
    assert weights.is_here()
    clip = resolve_weights("clip_vit_b_16", "ViT-B-16:openai", 224)
    assert not clip.is_here()
    repository = published("ViT-B-16", "openai")["hf_hub"].rstrip("/")
    snapshot = hub / f"models--{repository.replace('/', '--')}"
    (snapshot / "refs").mkdir(parents=True)
    (snapshot / "refs" / "main").write_text("0" * 40)
    (snapshot / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (snapshot / "snapshots" / ("0" * 40) / "open_clip_model.safetensors").touch()
    assert clip.is_here()
