"""Backbones, pretrained weights and the registered methods."""

import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from kit.checks import refused
from kit.factories import make_recipe, make_task
from kit.paths import ROOT, TESTS
from rich.console import Console
from safetensors.torch import save_file
from torch import nn

from benchmark.data.dataset import find_dataset
from benchmark.data.samplers import make_sampler
from benchmark.errors import InputError
from benchmark.method import METHODS, Batch
from benchmark.models.backbones import BACKBONES, WeightsSource, make_backbone
from benchmark.models.classifier import LinearClassifier
from benchmark.models.weight_files import UrlFile
from benchmark.models.weights import PretrainedWeights, resolve_weights
from benchmark.ui.progress import Reporter

RESNET_STAGES = ["stem", "layer1", "layer2", "layer3", "layer4"]
STAGES = {
    "resnet18": RESNET_STAGES,
    "resnet50": RESNET_STAGES,
    "resnet101": RESNET_STAGES,
    "mobilenet_v2": ["stem", "stage1", "stage2", "stage3", "stage4"],
    "vit_b_16": ["stem", *(f"block{i}" for i in range(1, 13))],
    "small_cnn": ["stem", "stage1", "stage2", "stage3"],
    "clip_demo": ["stem", *(f"block{i}" for i in range(1, 5))],
    "clip_rn50": RESNET_STAGES,
    "clip_vit_b_16": ["stem", *(f"block{i}" for i in range(1, 13))],
}
SIZE = 32
CARD = {"architecture": "small_cnn", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
METHOD_NAMES = ["asl", "cb-focal", "db", "db-focal", "erm", "focal", "rw"]


def images(batch=2, size=SIZE, seed=0):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def seeded(build, *args):
    torch.manual_seed(0)
    return build(*args)


@cache
def small_state():
    return seeded(make_backbone, "small_cnn", SIZE, None).stages.state_dict()


def small(**changes):
    """A state dict of small_cnn; changes: key with __ for the dots -> tensor, None for no such key."""
    state = small_state() | {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in state.items() if value is not None}


def first_key(end="weight"):
    return next(key for key in small_state() if key.endswith(end))


def changed(key, value):
    return small(**{key.replace(".", "__"): value})


def write_safetensors(path, state, **card):
    metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (CARD | card).items()}
    save_file(state, path, {key: value for key, value in metadata.items() if value != "null"})
    return path


def write_pth(path, state, **card):
    torch.save(state, path)
    path.with_name(path.name + ".yaml").write_text(json.dumps(CARD | card))
    return path


# Backbones


def test_registered_backbones():
    assert set(BACKBONES) >= set(STAGES)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet101", "mobilenet_v2", "vit_b_16"])
@pytest.mark.slow
def test_features_are_those_before_torchvisions_class_head(name):
    options = {"image_size": SIZE} if name == "vit_b_16" else {}
    network = seeded(lambda: getattr(torchvision.models, name)(weights=None, **options))
    with torch.no_grad():
        if name != "vit_b_16":
            network.train()(images(4, 64, seed=1))  # moves the running statistics off their start
        network.eval()
        backbone = make_backbone(name, SIZE, network.state_dict()).eval()
        for head in ("fc", "classifier", "heads"):
            if hasattr(network, head):
                setattr(network, head, nn.Identity())
        size = SIZE if name == "vit_b_16" else 64
        expected, found = network(images(size=size)), backbone(images(size=size))
    assert found.shape == (2, backbone.feature_dim) and found.std() > 0
    torch.testing.assert_close(found, expected)
    assert [stage for stage, _ in backbone.stages.named_children()] == STAGES[name]


def test_small_cnn_has_one_feature_vector_an_image_at_any_size():
    backbone = seeded(make_backbone, "small_cnn", 64, None).eval()
    assert [stage for stage, _ in backbone.stages.named_children()] == STAGES["small_cnn"]
    for size in (SIZE, 64):
        assert backbone(images(size=size)).shape == (2, backbone.feature_dim)


def test_state_that_is_given_decides_the_features():
    first, second = (seeded(make_backbone, "small_cnn", SIZE, small_state()).eval() for _ in range(2))
    torch.manual_seed(5)
    other = make_backbone("small_cnn", SIZE, None).eval()
    assert torch.equal(first(images()), second(images()))
    assert not torch.equal(first(images()), other(images()))


def test_vit_image_size_must_be_a_multiple_of_16():
    assert "40" in refused(make_backbone, "vit_b_16", 40, None)


def test_unknown_backbone_suggests_the_near_one():
    assert "did you mean 'resnet50'" in refused(make_backbone, "resnet_50", SIZE, None)


@pytest.mark.parametrize(
    ("name", "stages", "batch_norm"),
    [("small_cnn", 0, False), ("small_cnn", 0, True), ("small_cnn", 2, False), ("small_cnn", 2, True)]
    + [("resnet18", 2, True)],
)
def test_frozen_parts_stay_as_they_are(name, stages, batch_norm):
    backbone = make_backbone(name, SIZE, None)
    backbone.freeze(stages, batch_norm)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.train()
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], 0.1)
    backbone(images(4)).square().sum().backward()
    optimizer.step()

    frozen = tuple(f"stages.{stage}." for stage in STAGES[name][:stages])
    for stage in backbone.stages[:stages]:
        assert not any(module.training for module in stage.modules())
    for key, parameter in backbone.named_parameters():
        assert (parameter.grad is None) == key.startswith(frozen) if frozen else parameter.grad is not None
    for key, value in backbone.state_dict().items():
        statistics = key.endswith(("running_mean", "running_var", "num_batches_tracked"))
        moves = not (frozen and key.startswith(frozen)) and not (statistics and batch_norm)
        assert torch.equal(value, before[key]) != moves, key


def test_eval_and_train_reach_everything_that_is_not_frozen():
    backbone = make_backbone("small_cnn", SIZE, None)
    backbone.freeze(1, batch_norm=False)
    nn.Sequential(backbone).train()
    assert [stage.training for stage in backbone.stages] == [False, True, True, True]
    nn.Sequential(backbone).eval()
    assert not any(module.training for module in backbone.modules())


def test_every_stage_can_be_frozen_but_no_more():
    backbone = make_backbone("small_cnn", SIZE, None)
    message = refused(backbone.freeze, 5, False)
    assert [part for part in ["5", "4", *STAGES["small_cnn"]] if part not in message] == []
    backbone.freeze(4, False)
    assert not any(p.requires_grad for p in backbone.parameters())


def test_freezing_a_vits_stem_freezes_class_token_and_positions():
    with torch.device("meta"):
        backbone = make_backbone("vit_b_16", SIZE, None)
    backbone.freeze(1, False)
    stem = dict(backbone.stages.stem.named_parameters())
    assert {"class_token", "position"} <= set(stem) and not any(p.requires_grad for p in stem.values())
    assert all(p.requires_grad for p in backbone.stages.block1.parameters())


# Weights


def test_no_weights_load_nothing_and_normalise_to_plus_minus_one():
    weights = resolve_weights("small_cnn", "none", SIZE)
    assert weights.load() is None
    assert (weights.ref.digest, weights.ref.mean, weights.ref.std) == (None, (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("batch_norm", ["normal", "folded"])
@pytest.mark.parametrize("write", [write_safetensors, write_pth])
def test_local_file_brings_tensors_and_normalisation(write, batch_norm, tmp_path):
    path = tmp_path / ("w.safetensors" if write is write_safetensors else "w.pth")
    write(path, small(), batch_norm=batch_norm, interpolation="bicubic", source="a test")
    weights = resolve_weights("small_cnn", str(path), SIZE)
    ref = weights.ref
    assert (ref.name, ref.mean, ref.std) == ("w", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (ref.interpolation, ref.batch_norm) == ("bicubic", batch_norm)
    loaded = weights.load()
    assert loaded.keys() == small().keys() and all(torch.equal(loaded[key], small()[key]) for key in loaded)


def test_side_file_comes_before_metadata(tmp_path):
    path = write_safetensors(tmp_path / "w.safetensors", small())
    (tmp_path / "w.safetensors.yaml").write_text(json.dumps(CARD | {"mean": [0.9, 0.9, 0.9]}))
    assert resolve_weights("small_cnn", str(path), SIZE).ref.mean == (0.9, 0.9, 0.9)


def test_digest_is_the_files_sha256_whatever_its_name(tmp_path):
    first = write_safetensors(tmp_path / "a.safetensors", small())
    copy = Path(shutil.copy(first, tmp_path / "b.safetensors"))
    other = write_safetensors(tmp_path / "c.safetensors", changed(first_key(), small()[first_key()] + 1))
    digests = [resolve_weights("small_cnn", str(path), SIZE).ref.digest for path in (first, copy, other)]
    assert digests[0] == digests[1] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert digests[2] != digests[0]


def test_class_head_is_ignored(tmp_path):
    state = seeded(torchvision.models.mobilenet_v2).state_dict()
    path = write_pth(tmp_path / "w.pth", state, architecture="mobilenet_v2")
    loaded = resolve_weights("mobilenet_v2", str(path), SIZE).load()
    assert {key for key in state if key not in loaded} == {"classifier.1.weight", "classifier.1.bias"}


def test_batch_counters_may_be_missing(tmp_path):
    state = {key: value for key, value in small().items() if not key.endswith("num_batches_tracked")}
    loaded = resolve_weights("small_cnn", str(write_pth(tmp_path / "w.pth", state)), SIZE).load()
    assert loaded.keys() == state.keys() < small().keys()
    make_backbone("small_cnn", SIZE, loaded)


@pytest.mark.parametrize("write", [write_safetensors, write_pth])
@pytest.mark.parametrize("problem", ["missing", "unexpected", "shape", "nan", "infinite"])
def test_tensors_that_do_not_fit_are_named(problem, write, tmp_path):
    key = "surprise.weight" if problem == "unexpected" else first_key()
    value = torch.zeros(2) if problem == "unexpected" else small()[key].clone()
    if problem in ("nan", "infinite"):
        value.view(-1)[3] = float(problem[:3])
    state = changed(key, {"missing": None, "shape": value[:-1].clone()}.get(problem, value))
    path = write(tmp_path / ("w.safetensors" if write is write_safetensors else "w.pth"), state)
    message = refused(resolve_weights("small_cnn", str(path), SIZE).load)
    assert str(path) in message and key in message
    if problem == "shape":
        assert str(list(value.shape)) in message and str(list(value[:-1].shape)) in message


def test_many_missing_tensors_are_counted(tmp_path):
    message = refused(resolve_weights("small_cnn", str(write_pth(tmp_path / "w.pth", {})), SIZE).load)
    counted = [key for key in small() if not key.endswith("num_batches_tracked")]
    assert f"and {len(counted) - 3} more" in message


def test_weights_of_another_architecture_are_named(tmp_path):
    path = write_safetensors(tmp_path / "w.safetensors", small(), architecture="resnet50")
    message = refused(resolve_weights, "small_cnn", str(path), SIZE)
    assert [part for part in [str(path), "'resnet50'", "'small_cnn'"] if part not in message] == []


@pytest.mark.parametrize("keep", [0, 4, 100, -5])
def test_truncated_safetensors_are_refused(keep, tmp_path):
    path = write_safetensors(tmp_path / "w.safetensors", small())
    path.write_bytes(path.read_bytes()[:keep])
    assert str(path) in refused(resolve_weights, "small_cnn", str(path), SIZE)
    (tmp_path / "w.safetensors.yaml").write_text(json.dumps(CARD))
    assert str(path) in refused(resolve_weights("small_cnn", str(path), SIZE).load)


@pytest.mark.parametrize("damage", ["empty", "text", "half", "start", "last bytes missing"])
def test_damaged_pth_is_refused(damage, tmp_path):
    path = write_pth(tmp_path / "w.pth", small())
    data = path.read_bytes()
    broken = {"empty": b"", "text": b"weights\n", "half": data[: len(data) // 2], "start": data[:7]}
    path.write_bytes(broken.get(damage, data[:-20]))
    assert str(path) in refused(resolve_weights("small_cnn", str(path), SIZE).load)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "sprung")


def test_pickle_with_an_object_is_refused_and_not_run(tmp_path):
    path = write_pth(tmp_path / "w.pth", {"stem": Trap(tmp_path / "sprung")})
    assert str(path) in refused(resolve_weights("small_cnn", str(path), SIZE).load)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}, "epoch": 3}])
def test_file_that_is_no_state_dict_says_what_to_save(content, tmp_path):
    path = write_pth(tmp_path / "w.pth", content)
    assert "state_dict()" in refused(resolve_weights("small_cnn", str(path), SIZE).load)


@pytest.mark.parametrize("key", ["architecture", "mean", "std"])
def test_metadata_that_is_missing_is_asked_for(key, tmp_path):
    path = write_safetensors(tmp_path / "w.safetensors", small(), **{key: None})
    message = refused(resolve_weights, "small_cnn", str(path), SIZE)
    assert [part for part in [str(path), key, "w.safetensors.yaml"] if part not in message] == []


def test_pth_without_side_file_says_how_to_write_it(tmp_path):
    torch.save(small(), tmp_path / "w.pth")
    message = refused(resolve_weights, "small_cnn", str(tmp_path / "w.pth"), SIZE)
    assert [part for part in ["architecture", "mean", "std", "w.pth.yaml"] if part not in message] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("mean", [0.5, 0.5]), ("std", [0.5, 0.0, 0.5]), ("mean", ["a", "b", "c"]), ("interpolation", "nearest")],
)
@pytest.mark.parametrize("write", [write_safetensors, write_pth])
def test_wrong_metadata_is_named(key, value, write, tmp_path):
    path = write(tmp_path / ("w.safetensors" if write is write_safetensors else "w.pth"), small(), **{key: value})
    message = refused(resolve_weights, "small_cnn", str(path), SIZE)
    assert str(path) in message and key in message


def test_missing_weights_file_is_named(tmp_path):
    assert str(tmp_path / "no.pth") in refused(resolve_weights, "small_cnn", str(tmp_path / "no.pth"), SIZE)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "resnet101", "mobilenet_v2", "vit_b_16"])
def test_torchvision_name_brings_imagenets_normalisation(backbone):
    ref = resolve_weights(backbone, "IMAGENET1K_V1", 224).ref
    assert (ref.mean, ref.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (ref.name, ref.batch_norm) == ("IMAGENET1K_V1", "normal")
    assert ref.digest.startswith(f"torchvision/{backbone}-") and ref.digest.endswith(".pth")


def test_interpolation_is_the_published_one():
    assert resolve_weights("vit_b_16", "IMAGENET1K_SWAG_E2E_V1", 384).ref.interpolation == "bicubic"
    assert resolve_weights("vit_b_16", "IMAGENET1K_V1", 224).ref.interpolation == "bilinear"


def test_unknown_torchvision_name_lists_the_known_ones():
    message = refused(resolve_weights, "resnet50", "imagenet1k_v1", 224)
    assert [part for part in ["'imagenet1k_v1'", "resnet50", "IMAGENET1K_V1", "none"] if part not in message] == []
    assert "none" in refused(resolve_weights, "small_cnn", "IMAGENET1K_V1", 64)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch's folder of downloaded weights, empty, and a proxy at which nobody listens."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1:9")
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_without_network_the_message_says_which_file_to_put_where(hub):
    message = refused(resolve_weights("resnet50", "IMAGENET1K_V1", 224).load)
    expected = [
        "resnet50/IMAGENET1K_V1",
        "https://download.pytorch.org/models/resnet50-0676ba61.pth (sha256 0676ba61...)",
        str(hub / "resnet50-0676ba61.pth"),
        "ltbench weights fetch resnet50/IMAGENET1K_V1",
        "--weights",
        "cannot be reached",
    ]
    assert [part for part in expected if part not in message] == []


def test_other_file_under_a_published_name_is_refused(hub):
    hub.mkdir(parents=True)
    torch.save({}, hub / "resnet50-0676ba61.pth")
    message = refused(resolve_weights("resnet50", "IMAGENET1K_V1", 224).load)
    assert str(hub / "resnet50-0676ba61.pth") in message and "sha256" in message


def test_published_file_that_was_put_there_is_read(hub):
    state = seeded(torchvision.models.mobilenet_v2).state_dict()
    hub.mkdir(parents=True)
    torch.save(state, hub / "new.pth")
    digits = hashlib.sha256((hub / "new.pth").read_bytes()).hexdigest()[:8]
    (hub / "new.pth").rename(hub / f"mobilenet_v2-{digits}.pth")
    published = UrlFile("https://nowhere.invalid/w", hub / f"mobilenet_v2-{digits}.pth", digits)
    ref = resolve_weights("mobilenet_v2", "IMAGENET1K_V1", SIZE).ref
    loaded = PretrainedWeights(WeightsSource(ref, published), "mobilenet_v2", SIZE).load()
    assert torch.equal(loaded["features.0.0.weight"], state["features.0.0.weight"])


def vit_file(path, positions):
    """A ViT's weights for 32 pixels, all zero but the position embedding, in a small file."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in torchvision.models.vit_b_16(image_size=32).state_dict().items()}
    state = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    return write_pth(path, state | {"encoder.pos_embedding": positions}, architecture="vit_b_16")


def test_vit_positions_are_interpolated_to_the_image_size(tmp_path):
    grid = torch.tensor([[[0.0, 1.0], [0.0, 1.0]], [[2.0, 2.0], [5.0, 5.0]]]).reshape(2, 4).T  # rises in x; in y
    positions = torch.full((1, 5, 768), 3.0)
    positions[0, 1:, :2] = grid
    positions[0, 0, :2] = torch.tensor([7.0, -7.0])
    path = str(vit_file(tmp_path / "w.pth", positions))

    same = resolve_weights("vit_b_16", path, 32).load()["encoder.pos_embedding"]
    assert torch.equal(same, positions)
    larger = resolve_weights("vit_b_16", path, 48).load()["encoder.pos_embedding"]
    assert larger.shape == (1, 10, 768)
    assert torch.equal(larger[0, 0], positions[0, 0])
    torch.testing.assert_close(larger[0, 1:, 2:], torch.full((9, 766), 3.0))
    x, y = larger[0, 1:, 0].reshape(3, 3), larger[0, 1:, 1].reshape(3, 3)
    torch.testing.assert_close(x, torch.tensor([0.0, 0.5, 1.0]).expand(3, 3))
    torch.testing.assert_close(y, torch.tensor([2.0, 3.5, 5.0])[:, None].expand(3, 3))


def test_vit_positions_that_are_no_square_grid_are_named(tmp_path):
    path = vit_file(tmp_path / "w.pth", torch.zeros(1, 7, 768))
    assert "encoder.pos_embedding is [1, 7, 768]" in refused(resolve_weights("vit_b_16", str(path), 32).load)


@pytest.mark.parametrize("write", [write_safetensors, write_pth])
@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("mean", [123.675, 116.28, 103.53], "divide"),
        ("std", [58.395, 57.12, 57.375], "divide"),
        ("mean", [0.5, -0.1, 0.5], "[0, 1]"),
        ("mean", [0.5, float("nan"), 0.5], "number"),
        ("std", [0.2, 1e-4, 0.2], "1/256"),
        ("std", [0.2, 1.5, 0.2], "divide"),
        ("std", [0.2, float("inf"), 0.2], "number"),
        ("mean", 0.5, "array"),
        ("batch_norm", "merged", "folded"),
        ("quick_gelu", True, "small_cnn"),
        ("architecture", "small cnn\n", "architecture"),
    ],
)
def test_metadata_out_of_bounds_is_refused(key, value, told, write, tmp_path):
    path = write(tmp_path / ("w.safetensors" if write is write_safetensors else "w.pth"), small(), **{key: value})
    message = refused(resolve_weights, "small_cnn", str(path), SIZE)
    assert str(path) in message and key in message and told in message


def test_a_card_of_pixels_up_to_255_is_refused(tmp_path):
    torch.save({}, tmp_path / "w.pth")
    shutil.copy(ROOT / "tests" / "cases" / "weights" / "card_0_255.yaml", tmp_path / "w.pth.yaml")
    message = refused(resolve_weights, "mobilenet_v2", str(tmp_path / "w.pth"), SIZE)
    assert "mean.0: mean is of RGB in [0, 1]" in message and "123.675" in message and "w.pth.yaml" in message


@pytest.mark.parametrize("std", [1.0, 1 / 255])
def test_networks_that_see_0_to_1_or_0_to_255_are_taken(std, tmp_path):
    path = write_pth(tmp_path / "w.pth", small(), mean=[0.0, 0.0, 1.0], std=[std] * 3)
    assert resolve_weights("small_cnn", str(path), SIZE).ref.std == (std,) * 3


def test_a_card_that_names_an_unknown_backbone_names_the_near_one(tmp_path):
    path = write_pth(tmp_path / "w.pth", small(), architecture="small-cnn")
    assert "did you mean 'small_cnn'" in refused(resolve_weights, "resnet18", str(path), SIZE)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int64", "bool", "complex64"])
def test_tensors_that_are_no_floats_are_refused(kind, tmp_path):
    value = small()[first_key()]
    path = write_pth(tmp_path / "w.pth", changed(first_key(), value.to(getattr(torch, kind))))
    message = refused(resolve_weights("small_cnn", str(path), SIZE).load)
    assert f"{first_key()} is {kind}" in message and str(path) in message


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64", "float8_e4m3fn"])
def test_floats_of_any_width_are_read_as_float32(kind, tmp_path):
    state = {key: value.to(getattr(torch, kind)) if "weight" in key else value for key, value in small().items()}
    loaded = resolve_weights("small_cnn", str(write_pth(tmp_path / "w.pth", state)), SIZE).load()
    assert all(torch.equal(loaded[key], state[key].to(small()[key].dtype)) for key in state)


def test_a_value_beyond_float32_is_refused(tmp_path):
    path = write_pth(tmp_path / "w.pth", changed(first_key(), small()[first_key()].double() + 1e300))
    assert "not finite" in refused(resolve_weights("small_cnn", str(path), SIZE).load)


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "model.", "_orig_mod.", "_orig_mod.module.net."])
@pytest.mark.parametrize("write", [write_safetensors, write_pth])
def test_a_wrappers_prefix_is_left_out_and_said(prefix, write, tmp_path):
    state = {prefix + key: value for key, value in small().items()}
    path = write(tmp_path / ("w.safetensors" if write is write_safetensors else "w.pth"), state)
    console = Console(file=io.StringIO(), width=10_000)
    loaded = resolve_weights("small_cnn", str(path), SIZE).load(Reporter(console))
    told = console.file.getvalue().splitlines()
    assert loaded.keys() == small().keys() and all(torch.equal(loaded[key], small()[key]) for key in loaded)
    assert len(told) == 1 and repr(prefix) in told[0] and str(path) in told[0]


def test_a_class_head_is_left_out_behind_a_prefix_and_beside_one(tmp_path):
    state = seeded(torchvision.models.mobilenet_v2).state_dict()
    trunk = {key for key in state if not key.startswith("classifier.")}
    for name, wrapped in {
        "all": {f"module.{key}": value for key, value in state.items()},
        "beside": {f"backbone.{key}" if key in trunk else key: value for key, value in state.items()},
    }.items():
        path = write_pth(tmp_path / f"{name}.pth", wrapped, architecture="mobilenet_v2")
        assert resolve_weights("mobilenet_v2", str(path), SIZE).load().keys() == trunk


def test_a_prefix_that_not_all_names_share_is_named(tmp_path):
    state = {f"module.{key}": value for key, value in small().items()} | {"n_averaged": torch.tensor(3)}
    message = refused(resolve_weights("small_cnn", str(write_pth(tmp_path / "w.pth", state)), SIZE).load)
    assert "'module.'" in message and "n_averaged" in message


ODD = {
    "number as a name": lambda: small() | {7: torch.zeros(2)},
    "no dimension": lambda: changed(first_key(), torch.tensor(1.0)),
    "sparse": lambda: changed(first_key(), small()[first_key()].flatten(1).to_sparse()),
    "no values": lambda: changed(first_key(), small()[first_key()].to("meta")),
    "line break in a name": lambda: small() | {"a\nb\x1b[31m": torch.zeros(2)},
    "endless name": lambda: small() | {"a." * 100_000: torch.zeros(2)},
    "module": lambda: nn.Linear(2, 2),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_files_end_in_one_line(kind, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(ODD[kind](), path)
    path.with_name("w.pth.yaml").write_text(json.dumps(CARD))
    message = refused(resolve_weights("small_cnn", str(path), SIZE).load)
    assert str(path) in message and message.isprintable() and len(message) < 500


@pytest.mark.parametrize("write", [write_safetensors, write_pth])
def test_damaged_bytes_end_in_one_line_or_in_the_tensors_of_the_network(write, tmp_path):
    path = write(tmp_path / ("w.safetensors" if write is write_safetensors else "w.pth"), small())
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        # Where a file says what it holds: at its beginning and at its end.
        place = int(rng.integers(0, 3000)) * int(rng.choice([1, -1]))
        damage = [
            lambda at: whole[:at] + bytes([rng.integers(256)]) + whole[at + 1 :],
            lambda at: whole[:at] + whole[at + 7 :],
            lambda at: whole[:at] + rng.bytes(9) + whole[at:],
            lambda at: whole[:at],
        ][rng.integers(4)]
        path.write_bytes(damage(place % len(whole)))
        try:
            loaded = resolve_weights("small_cnn", str(path), SIZE).load()
        except InputError as error:
            assert str(path) in str(error) and str(error).isprintable() and len(str(error)) < 1000
        else:
            make_backbone("small_cnn", SIZE, loaded)
            assert all(value.shape == small()[key].shape and value.isfinite().all() for key, value in loaded.items())


@pytest.mark.parametrize("shape", [(), (5,), (0, 768), (1, 5, 768), (3, 768)])
@pytest.mark.parametrize("backbone", ["vit_b_16", "clip_vit_b_16"])
def test_odd_position_embeddings_are_named(backbone, shape, tmp_path):
    key = {"vit_b_16": "encoder.pos_embedding", "clip_vit_b_16": "visual.positional_embedding"}[backbone]
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in BACKBONES.get(backbone).build(48, False).state_dict().items()}
    state = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    path = write_pth(tmp_path / "w.pth", state | {key: torch.zeros(shape)}, architecture=backbone)
    if backbone == "vit_b_16" and len(shape) == 3:
        assert resolve_weights(backbone, str(path), 48).load()[key].shape == (1, 10, 768)  # fits, interpolated
    else:
        assert f"{key} is {list(shape)}" in refused(resolve_weights(backbone, str(path), 48).load)


@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 5000, "[1e999, 0.5, 0.5]", '{"a": 1}', "\x00"])
def test_odd_metadata_ends_in_one_line(value, tmp_path):
    path = write_safetensors(tmp_path / "w.safetensors", small(), mean=value)
    message = refused(resolve_weights, "small_cnn", str(path), SIZE)
    assert "mean" in message and len(message) < 1000


@pytest.mark.parametrize("name", ["a" * 5000 + ".pth", "x/" * 3000 + "w.safetensors", "nul\0byte.pth"])
def test_a_path_that_no_file_can_have_ends_in_one_line(name):
    message = refused(resolve_weights, "small_cnn", name, SIZE)
    assert "no such weights file" in message and len(message) < 500 and message.isprintable()


# Methods


def task_of(frozen_stages=0, **recipe):
    recipe = make_recipe(frozen_stages=frozen_stages, **recipe)
    return make_task(recipe, ("a", "b", "c", "d"), (30, 20, 10, 2))


def make_batch(seed=0):
    targets = torch.eye(4).repeat(2, 1)
    targets[4:, 0] = 1
    return Batch(images(8, seed=seed), targets)


def make_method(name, task, dataset="own", **config):
    method = METHODS.get(name)
    config = method.configure(dataset, config)
    return seeded(method, task, config).train(), config


def test_registered_methods():
    assert set(METHOD_NAMES) <= set(METHODS)


@pytest.mark.parametrize("changes", [{}, {"frozen_stages": 2, "neck": 16, "dropout": 0.5}], ids=["plain", "neck"])
@pytest.mark.parametrize("name", METHOD_NAMES)
def test_loss_reaches_every_trained_parameter(name, changes):
    method, config = make_method(name, task_of(**changes))
    batches = [make_batch(i) for i, _ in enumerate(method.samplers(config))]
    loss = method.training_loss(*batches)
    assert loss.shape == () and loss.dtype == torch.float32 and loss.isfinite() and loss > 0
    loss.backward()
    dead = [key for key, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert set(dead) <= {"network.neck.0.bias"}  # which the batch norm behind it takes away
    assert all(p.grad is None for p in method.parameters() if not p.requires_grad)
    assert method(images(3)).shape == (3, 4)


def test_the_neck_is_linear_batch_norm_dropout_linear():
    torch.manual_seed(0)
    backbone = make_backbone("small_cnn", 32, None)
    backbone.freeze(2, batch_norm=True)
    network = LinearClassifier(backbone, num_classes=5, neck=256, dropout=0.5).train()
    linear, norm = network.neck
    # Kaiming-normal, fan out: variance 2 / 256; behind a neck the classifier starts at normal(0, 0.01).
    assert linear.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.05)
    assert network.classifier.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not linear.bias.any() and not network.classifier.bias.any()
    assert norm.training and not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))
    network.dropout.eval()
    pictures = images(8)
    features = network.neck[0](backbone(pictures))
    centred = features - features.mean(0)
    neck = centred / (features.var(0, correction=0) + norm.eps).sqrt()
    torch.testing.assert_close(network(pictures), neck @ network.classifier.weight.T, rtol=1e-4, atol=1e-5)
    assert (neck < 0).any()  # no activation
    assert norm.running_mean.any()
    network.eval()
    once, twice = network(pictures), torch.cat([network(pictures[:3]), network(pictures[3:])])
    torch.testing.assert_close(once, twice)  # scoring does not depend on the batch


def test_without_a_neck_the_classifier_starts_as_it_did():
    torch.manual_seed(0)
    backbone = make_backbone("small_cnn", 32, None)
    state = torch.get_rng_state()
    network = LinearClassifier(backbone, num_classes=5, neck=None, dropout=0.5)
    torch.set_rng_state(state)
    assert torch.equal(network.classifier.weight, nn.Linear(backbone.feature_dim, 5).weight)
    assert {name.partition(".")[0] for name in network.state_dict()} == {"backbone", "classifier"}


@pytest.mark.parametrize("frozen_stages", [0, 2, 4])
@pytest.mark.parametrize("name", METHOD_NAMES)
def test_parameter_groups_hold_every_trained_parameter_once(name, frozen_stages):
    method, _ = make_method(name, task_of(frozen_stages))
    groups = {group.learning_rate: group.parameters for group in method.parameter_groups()}
    grouped = [id(p) for parameters in groups.values() for p in parameters]
    assert sorted(grouped) == sorted(id(p) for p in method.parameters() if p.requires_grad)
    classifier = {id(p) for p in method.network.classifier.parameters()}
    assert {id(p) for p in groups["head"]} == classifier
    assert bool(groups["backbone"]) == (frozen_stages < 4)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_loss_falls_when_a_batch_is_learned(name):
    method, config = make_method(name, task_of())
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], 1e-3)
    losses = []
    for _ in range(8):
        loss = method.training_loss(*[make_batch() for _ in method.samplers(config)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_samplers_are_the_published_ones(name):
    method = METHODS.get(name)
    expected = "class-aware" if name in ("db", "db-focal") else "uniform"
    assert method.samplers(method.configure("voc-lt", {})) == (expected,)
    assert make_sampler(expected, np.eye(4, dtype=np.uint8), 0).epoch_length > 0


@pytest.mark.parametrize("name", ["db", "db-focal"])
def test_distribution_balanced_losses_can_sample_uniformly(name):
    method = METHODS.get(name)
    assert method.samplers(method.configure("own", {"sampler": "uniform"})) == ("uniform",)


@pytest.mark.parametrize(
    ("name", "dataset", "expected"),
    [
        ("db-focal", "voc-lt", {"neg_scale": 5.0, "map_gamma": 0.3, "loss_weight": 1.0}),
        ("db-focal", "coco-lt", {"neg_scale": 2.0, "map_gamma": 0.2, "loss_weight": 1.0}),
        ("db-focal", "own", {"neg_scale": 2.0, "map_gamma": 0.2}),
        ("db", "voc-lt", {"neg_scale": 5.0, "map_gamma": 0.3, "loss_weight": 0.5}),
        ("db", "coco-lt", {"neg_scale": 2.0, "map_gamma": 0.2, "loss_weight": 0.5}),
        ("cb-focal", "voc-lt", {"neg_scale": 5.0, "beta": 0.9, "loss_weight": 10.0}),
        ("cb-focal", "coco-lt", {"neg_scale": 2.0, "beta": 0.9, "loss_weight": 10.0}),
        ("focal", "voc-lt", {"gamma": 2.0, "balance": 2.0}),
        ("asl", "voc-lt", {"gamma_neg": 4.0, "gamma_pos": 0.0, "margin": 0.05, "detach_focusing": True}),
        ("erm", "voc-lt", {}),
        ("rw", "voc-lt", {}),
    ],
)
def test_defaults_are_the_published_ones(name, dataset, expected):
    config = METHODS.get(name).configure(dataset, {}).model_dump()
    assert {key: config[key] for key in expected} == expected


def test_settings_of_the_user_come_before_the_datasets():
    config = METHODS.get("db-focal").configure("voc-lt", {"map_gamma": 0.1})
    assert (config.neg_scale, config.map_gamma) == (5.0, 0.1)


def test_dataset_defaults_reach_the_loss():
    logits, targets = torch.zeros(4, 4), torch.eye(4)
    losses = [make_method("db-focal", task_of(), dataset)[0].loss(logits, targets) for dataset in ("voc-lt", "own")]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_unknown_setting_is_named(name):
    method = METHODS.get(name)
    message = refused(method.configure, "voc-lt", {"neg_scal": 1.0})
    assert method.title in message and "'neg_scal'" in message
    assert ("did you mean 'neg_scale'" in message) == ("neg_scale" in method.Config.model_fields)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [("db-focal", "neg_scale", 0), ("db", "sampler", "random"), ("asl", "margin", 2.0), ("focal", "gamma", "two")],
)
def test_wrong_setting_is_named(name, setting, value):
    message = refused(METHODS.get(name).configure, "own", {setting: value})
    assert setting in message and repr(value) in message


def test_methods_work_on_voc_lts_counts():
    dataset = find_dataset("voc-lt").open(Path("somewhere"))
    counts, task = dataset.class_counts, task_of()
    task = dataclasses.replace(task, class_names=dataset.classes, class_counts=tuple(counts.tolist()), num_images=1142)
    targets = torch.from_numpy(dataset.splits["train"].targets[:8]).float()
    for name in METHOD_NAMES:
        method, _ = make_method(name, task, "voc-lt")
        assert method.training_loss(Batch(images(8), targets)).isfinite(), name


NEW_METHOD = '''"""Hinge: a method in one file."""

import torch

from benchmark.method import METHODS, LossMethod


class HingeLoss(torch.nn.Module):
    def forward(self, logits, targets):
        return (1 - (2 * targets - 1) * logits).clamp(min=0).mean()


@METHODS.register("hinge")
class Hinge(LossMethod):
    """Mean hinge loss; uniform sampling."""

    title = "Hinge"

    def make_loss(self, task, config):
        return HingeLoss()
'''
TRAIN_IT = """
import sys
from pathlib import Path
import benchmark.base.method_files
benchmark.base.method_files.FOLDER = Path(sys.argv[1])
import torch
from benchmark.method import METHODS
from test_models import make_batch, make_method, task_of

method, config = make_method("hinge", task_of())
optimizer = torch.optim.SGD([{"params": group.parameters} for group in method.parameter_groups()], 0.1)
before = method.training_loss(make_batch())
before.backward()
optimizer.step()
assert method.training_loss(make_batch()) < before
print(",".join(METHODS), method.title, config.model_dump(), method.samplers(config))
"""


@pytest.mark.slow
def test_new_method_is_one_short_file_that_the_registry_finds(tmp_path):
    assert len(NEW_METHOD.splitlines()) <= 25
    folder = shutil.copytree(ROOT / "methods", tmp_path / "methods")
    (folder / "hinge.py").write_text(NEW_METHOD)
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_IT, folder],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}{os.pathsep}{TESTS / 'models'}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    names, rest = done.stdout.strip().split(" ", 1)
    assert set(names.split(",")) >= {*METHOD_NAMES, "hinge"}
    assert rest == "Hinge {} ('uniform',)"
