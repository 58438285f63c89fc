"""What a method requires and what a recipe gives: the protocol chosen without being named, and refusals in one line."""

import json

import numpy as np
import pytest
from kit.checks import refused
from kit.command import ltbench
from kit.command import refused as refused_call
from kit.tiny import TINY_ARGS

from benchmark.method import METHODS
from benchmark.running.plan import make_plan


def chosen(method, **given):
    return make_plan(method, "shapes-lt", **given).spec


@pytest.mark.parametrize("method", list(METHODS))
def test_without_a_protocol_every_method_gets_one_that_fits(method):
    spec = chosen(method)
    needs_clip = METHODS.get(method).requires != "any"
    assert needs_clip or method not in ("capnet", "hp-dval", "clip-zero-shot", "linear-probe")
    assert spec.protocol == ("demo-clip" if needs_clip else "demo")
    assert spec.recipe.backbone == ("clip_demo" if needs_clip else "small_cnn")


def test_a_backbone_of_ones_own_keeps_the_recipe_for_clip():
    spec = chosen("capnet", backbone="clip_vit_b_16", weights="none")
    assert (spec.protocol, spec.recipe.backbone) == ("demo-clip", "clip_vit_b_16")
    assert chosen("linear-probe", backbone="resnet18", weights="IMAGENET1K_V1").protocol == "demo"


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_can_stand_in_the_demos_table_for_clip(method):
    spec = chosen(method, protocol="demo-clip")
    assert (spec.recipe.backbone, spec.weights.name) == ("clip_demo", "demo:shapes")


def test_other_datasets_have_a_protocol_for_clip_too(tiny):
    spec = make_plan("capnet", str(tiny), protocol="controlled-clip", weights="none", image_size=32).spec
    assert spec.recipe.backbone == "clip_vit_b_16"
    assert make_plan("clip-zero-shot", "voc-lt", weights=None).spec.weights.name == "ViT-B-16:openai"


@pytest.mark.parametrize("method", ["capnet", "hp-dval", "clip-zero-shot"])
def test_a_backbone_without_text_is_refused_for_clips_methods(method):
    message = refused(chosen, method, backbone="resnet50", weights="none")
    for part in (method, "resnet50", "clip_vit_b_16", "--protocol"):
        assert part in message
    assert "needs a CLIP backbone" in refused(chosen, method, protocol="demo")


def test_a_linear_probe_on_random_features_is_refused():
    assert "pretrained weights" in refused(chosen, "linear-probe", protocol="demo")


def test_random_weights_are_refused_in_the_paper_protocol():
    for method in ("erm", "capnet"):
        assert "'paper' is for pretrained weights" in refused(chosen, method, protocol="paper", weights="none")


def test_patch_tokens_are_needed():
    message = refused(chosen, "hp-dval", protocol="demo-clip", backbone="clip_rn50", weights="none")
    assert "patch tokens" in message and "clip_rn50" in message


@pytest.mark.parametrize(
    ("method", "setting", "words"),
    [
        ("hp-dval", "top_k=65", ["top_k is 65", "64 patches"]),
        ("capnet", "top_k=21", ["top_k is 21", "20 classes"]),
        ("cprfl", "semantics=missing.npz", ["missing.npz", "no such file"]),
        ("cprfl", "semantics=glove", ["'glove'", "ViT-B-16:openai"]),
        ("cprfl", "semantics=ViT-B-61:openai", ["ViT-B-61:openai", "did you mean"]),
        ("hp-dval", "recipe.epochs=1", ["2 stages", "recipe.epochs is 1"]),
        ("cprfl", "neg_scale=5", ["neg_scale has no effect with loss=asl", "leave one"]),
    ],
)
def test_what_does_not_fit_is_one_line_before_anything_starts(method, setting, words, tmp_path):
    done = ltbench("run", "--method", method, "--set", setting, "--results", tmp_path / "results")
    refused_call(done, *words)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("method", "settings", "idle"),
    [
        ("ltml", {"consistency": False, "consistency_weight": 0.2}, "consistency_weight"),
        ("ltml", {"compensation": False, "compensation_lr_scale": 1.0}, "compensation_lr_scale"),
        ("cprfl", {"loss": "cb-focal", "map_gamma": 0.3}, "map_gamma"),
        ("cprfl", {"vsi": False, "variant": "equations"}, "variant"),
        ("cprfl", {"vsi": False, "heads": 2}, "heads"),
        ("capnet", {"graph": "uniform", "top_k": 2}, "top_k"),
        ("capnet", {"graph": "identity", "neighbour_share": 0.3}, "neighbour_share"),
        ("capnet", {"image_tuning": "full", "adapter_width": 2}, "adapter_width"),
        ("capnet", {"map_gamma": 0.3}, "map_gamma"),
    ],
)
def test_a_setting_that_another_switches_off_is_refused_and_a_datasets_default_is_not(method, settings, idle):
    method = METHODS.get(method)
    assert f"{idle} has no effect with" in refused(method.configure, "voc-lt", settings)
    del settings[idle]
    method.configure("voc-lt", settings)


def test_embeddings_that_do_not_fit_are_one_line(tiny, tmp_path):
    file = tmp_path / "text.npz"
    np.savez(file, own=np.ones((2, 8)), own_names=np.array(["red", "geen"]))
    done = ltbench("run", "--method", "cprfl", "--dataset", tiny, *TINY_ARGS, "--set", f"semantics={file}")
    refused_call(done, "text.npz", "'green'", "did you mean 'geen'")
    np.savez(file, own=np.ones((3, 8)), own_names=np.array(["red", "green", "blue"]))
    clip = ["--protocol", "demo-clip", "--dataset", tiny, "--set", f"text_features={file}"]
    refused_call(ltbench("run", "--method", "clip-zero-shot", *clip), "8 wide", "64")


def test_class_names_that_are_longer_than_the_context(tiny):
    (tiny / "classes.txt").write_text("red\ngreen\n" + "very " * 10 + "blue\n")
    done = ltbench("run", "--method", "capnet", "--dataset", tiny, "--protocol", "demo-clip")
    refused_call(done, "very very", "24")


def test_a_sweep_over_all_methods_leaves_out_what_does_not_fit_and_says_so():
    done = ltbench("sweep", "--methods", "all", "--protocol", "demo", "--dry-run", "--json")
    fit = {name for name, method in METHODS.items() if method.requires == "any"}
    assert {row["method"] for row in json.loads(done.stdout)} == fit
    assert fit >= {"asl", "cb-focal", "cprfl", "db", "db-focal", "erm", "focal", "ltml", "rw"}
    left_out = [line for line in done.stderr.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == len(METHODS.items()) - len(fit) and "'capnet' needs a CLIP backbone" in done.stderr
    refused_call(ltbench("sweep", "--methods", "erm,capnet", "--protocol", "demo", "--dry-run"), "'capnet'")
