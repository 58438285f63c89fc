"""A network is one file that the registry finds; what the registered ones say of themselves is true."""

from __future__ import annotations

import ast
import sys
from graphlib import TopologicalSorter

import pytest
import torch
from kit.checks import refused
from kit.paths import ROOT
from safetensors.torch import save_file

import benchmark
import benchmark.models.networks
from benchmark.base.modules import import_package
from benchmark.models.backbones import BACKBONES, Architecture, build_network, make_backbone
from benchmark.models.clip import clip_architectures
from benchmark.models.weights import resolve_weights, shipped_weights

NEW_NETWORK = '''"""A network in one file."""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from benchmark.models.backbones import BACKBONES, Architecture, Backbone, WeightsSource
from benchmark.models.weight_files import LocalFile
from benchmark.spec import WeightsRef


@BACKBONES.register("two_stages")
class TwoStages(Architecture):
    """A stem and a stage, with a class head, a bias for each pixel, and weights that somebody published."""

    head = ("head.",)
    size_step = 4
    file = Path(__file__).with_name("published.pth")

    @classmethod
    def build(cls, image_size, quick_gelu):
        network = nn.Module()
        network.stem, network.stage = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 6, 1)
        network.bias = nn.Parameter(torch.zeros(image_size // 4))
        network.head = nn.Linear(6, 1000)
        return network

    @classmethod
    def wrap(cls, network):
        return Backbone(OrderedDict(stem=network.stem, stage=network.stage), 6)

    @classmethod
    def weight_names(cls):
        return ["V1"]

    @classmethod
    def published(cls, backbone, weights):
        if weights != "V1":
            return None
        ref = WeightsRef(name="V1", digest="somebody/v1", mean=(0.1,) * 3, std=(0.2,) * 3,
                         interpolation="bicubic", batch_norm="normal")
        return WeightsSource(ref, LocalFile(cls.file, ""))

    @classmethod
    def fit(cls, state, expected, image_size):
        return state | {"bias": state["bias"].repeat_interleave(len(expected["bias"]) // len(state["bias"]))}
'''


@pytest.fixture
def two_stages(tmp_path, monkeypatch):
    """The name of a network whose file lies in a folder of its own, found as the project's are."""
    (tmp_path / "two_stages.py").write_text(NEW_NETWORK)
    assert "two_stages" not in BACKBONES
    package = benchmark.models.networks
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.setattr(BACKBONES, "_entries", BACKBONES._entries.copy())
    import_package(package.__name__)
    yield "two_stages"
    del sys.modules[f"{package.__name__}.two_stages"]


def test_a_new_network_is_one_file(two_stages, tmp_path):
    backbone = make_backbone(two_stages, 16, None)
    assert backbone(torch.randn(2, 3, 16, 16)).shape == (2, 6)
    backbone.freeze(1, batch_norm=False)
    assert [p.requires_grad for p in backbone.parameters()] == [False, False, True, True]
    message = refused(make_backbone, two_stages, 18, None)
    assert message == "two_stages needs an image size that is a multiple of 4; 18 is not"

    weights = resolve_weights(two_stages, "V1", 16)
    assert (weights.ref.digest, weights.ref.interpolation, weights.is_here()) == ("somebody/v1", "bicubic", False)
    state = build_network(two_stages, 8).state_dict() | {"bias": torch.tensor([1.0, 2.0])}
    torch.save(state, tmp_path / "published.pth")
    loaded = weights.load()
    assert weights.is_here() and loaded["bias"].tolist() == [1.0, 1.0, 2.0, 2.0]
    assert set(loaded) == {key for key in state if not key.startswith("head.")}
    assert "did you mean 'V1'" in refused(resolve_weights, two_stages, "V2", 16)
    card = {"architecture": two_stages, "mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"}
    save_file(state, tmp_path / "own.safetensors", card)
    assert resolve_weights(two_stages, str(tmp_path / "own.safetensors"), 8).load()["bias"].tolist() == [1.0, 2.0]
    assert "quick_gelu" in refused(resolve_weights, two_stages, gelu_file(tmp_path, state, card), 8)


def gelu_file(folder, state, card) -> str:
    save_file(state, folder / "gelu.safetensors", card | {"quick_gelu": "true"})
    return str(folder / "gelu.safetensors")


def test_a_method_trains_on_a_new_network(two_stages, tiny, tmp_path):
    settings = {"backbone": two_stages, "weights": "none", "image_size": 16, "epochs": 1}
    record = benchmark.run("erm", str(tiny), protocol="demo", results=tmp_path / "results", **settings)
    assert record.spec.recipe.backbone == two_stages and not record.own_network


def test_a_name_that_another_network_has_is_refused(tmp_path, monkeypatch):
    assert "small_cnn" in BACKBONES
    (tmp_path / "mine.py").write_text(NEW_NETWORK.replace("two_stages", "small_cnn"))
    package = benchmark.models.networks
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    message = refused(import_package, package.__name__)
    for part in (tmp_path / "mine.py", "backbone 'small_cnn' is registered twice", "networks/small_cnn.py"):
        assert str(part) in message


@pytest.mark.parametrize("name", list(BACKBONES))
def test_an_architecture_is_a_documented_class_of_its_own(name):
    architecture = BACKBONES.get(name)
    assert issubclass(architecture, Architecture) and architecture.__doc__
    assert [other for other, found in BACKBONES.items() if found is architecture] == [name]
    step = architecture.size_step
    assert step == 1 or str(step) in refused(build_network, name, 4 * step + 1)


@pytest.mark.parametrize("name", list(clip_architectures()))
def test_what_a_clip_says_of_its_images_is_what_open_clip_does(name):
    architecture = clip_architectures()[name]
    vision = architecture.config()["vision_cfg"]
    assert architecture.pretrained_size == vision["image_size"]
    # A ResNet has no patches; its attention pooling sees a map of 1/32 of the side.
    assert architecture.size_step == (vision.get("patch_size") or 32)


def test_shipped_weights_are_files_that_their_cards_name():
    assert list(shipped_weights()) == ["demo:shapes"]
    for name, path in shipped_weights().items():
        assert path.is_file() and resolve_weights("clip_demo", name, 64).ref.name == name


def test_no_module_of_models_imports_in_a_circle():
    """Imports inside of functions count too."""
    folder = ROOT / "benchmark" / "models"
    names = {
        f"benchmark.{path.relative_to(folder.parent).with_suffix('').as_posix()}".replace("/", "."): path
        for path in folder.rglob("*.py")
    }
    arrows = {}
    for name, path in names.items():
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        asked = {node.module for node in imports} | {f"{n.module}.{alias.name}" for n in imports for alias in n.names}
        arrows[name] = asked & names.keys()
    assert arrows["benchmark.models.weights"] == {"benchmark.models.backbones", "benchmark.models.weight_files"}
    TopologicalSorter(arrows).prepare()  # raises CycleError
