"""CPRFL: its head against the reference's numbers, what is trained, every switch, and whole runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from kit.checks import refused
from kit.factories import make_recipe, make_task
from kit.paths import TESTS
from kit.runs import execute_plan, execute_with_stops, outcome
from kit.tiny import TINY

import benchmark
from benchmark.method import METHODS, Batch, Task
from benchmark.running.plan import make_plan
from methods.asl import AsymmetricLoss
from methods.cprfl import CPRFL, CategoryPromptHead, CPRFLConfig, EquationsLayer, ReleasedLayer

GOLDEN = np.load(TESTS / "golden" / "cprfl_head.npz")
LAYER = np.load(TESTS / "golden" / "cprfl_layer.npz")
LOSSES = np.load(TESTS / "golden" / "losses.npz")
SIZE = 32
SMALL = {"dim": 16, "heads": 2, "head_dim": 8, "mlp_dim": 24}


# --- the head --------------------------------------------------------------------------------------------------


def golden(name: str) -> torch.Tensor:
    return torch.from_numpy(GOLDEN[name])


def agree(found: torch.Tensor, file, name: str) -> None:
    """To 1e-5 of the array's largest value."""
    np.testing.assert_allclose(found, file[name], rtol=0, atol=1e-5 * np.abs(file[name]).max(), err_msg=name)


@pytest.fixture
def reference() -> CategoryPromptHead:
    """The head with the weights of the released code, in evaluation mode."""
    layer = ReleasedLayer(32, heads=4, head_dim=8, mlp_dim=48, dropout=0.1)
    head = CategoryPromptHead(40, golden("text_embeddings_W"), dim=32, interaction=layer)
    names = {
        "project.weight": "proj.weight",
        "project.bias": "proj.bias",
        "prompt.0.weight": "pi.w1",
        "prompt.0.bias": "pi.b1",
        "prompt.2.weight": "pi.w2",
        "prompt.2.bias": "pi.b2",
        "interaction.attention.norm.weight": "attn.norm.weight",
        "interaction.attention.norm.bias": "attn.norm.bias",
        "interaction.attention.qkv.weight": "attn.qkv.weight",
        "interaction.attention.out.weight": "attn.out.weight",
        "interaction.attention.out.bias": "attn.out.bias",
        "interaction.mlp.norm.weight": "ffn.norm.weight",
        "interaction.mlp.norm.bias": "ffn.norm.bias",
        "interaction.mlp.hidden.weight": "ffn.w1",
        "interaction.mlp.hidden.bias": "ffn.b1",
        "interaction.mlp.out.weight": "ffn.w2",
        "interaction.mlp.out.bias": "ffn.b2",
    }
    state = {ours: golden(theirs) for ours, theirs in names.items()}
    head.load_state_dict(state | {"embeddings": golden("text_embeddings_W")})
    return head.eval()


def test_prompts_features_and_logits_match_the_reference(reference):
    with torch.no_grad():
        prompts = reference.prompts()
        refined = reference.refined(golden("feature_map"), prompts)
        logits = reference(golden("feature_map"))
    agree(prompts, GOLDEN, "expected.prompts_P")
    agree(refined, GOLDEN, "expected.category_features")
    agree(logits, GOLDEN, "expected.logits")


def layer_golden(name: str) -> torch.Tensor:
    return torch.from_numpy(LAYER[name])


def head_of(layer: torch.nn.Module, names: dict[str, str]) -> CategoryPromptHead:
    """A head around a layer, with the weights of `cprfl_layer.npz`; names: ours -> the file's, within the layer."""
    head = CategoryPromptHead(20, layer_golden("text_embeddings"), dim=16, interaction=layer)
    shared = ("project", "prompt.0", "prompt.2")
    names = {f"interaction.{ours}": theirs for ours, theirs in names.items()}
    names |= {f"{part}.{kind}": f"{part}.{kind}" for part in shared for kind in ("weight", "bias")}
    head.load_state_dict({ours: layer_golden(theirs) for ours, theirs in names.items()} | {
        "embeddings": layer_golden("text_embeddings")
    })  # fmt: skip
    return head.eval()


def test_values_and_gradients_of_the_released_layer_match_the_reference():
    parts = ("attention.norm", "attention.out", "mlp.norm", "mlp.hidden", "mlp.out")
    names = [f"{part}.{kind}" for part in parts for kind in ("weight", "bias")] + ["attention.qkv.weight"]
    layer = ReleasedLayer(16, int(LAYER["heads"]), int(LAYER["head_dim"]), mlp_dim=24, dropout=0.1)
    head = head_of(layer, {name: name for name in names})
    feature_map = layer_golden("feature_map").requires_grad_()
    head.embeddings.requires_grad_()
    prompts = head.prompts()
    refined = head.refined(feature_map, prompts)
    logits = head(feature_map)
    loss = AsymmetricLoss(gamma_neg=4, gamma_pos=0, margin=0.05, reduction="mean")(logits, layer_golden("targets"))
    loss.backward()
    expected = {
        "released.prompts": prompts,
        "released.category_features": refined,
        "released.logits": logits,
        "released.asl_mean": loss,
        "grad.text_embeddings": head.embeddings.grad,
        "grad.feature_map": feature_map.grad,
    }
    own = {name.removeprefix("interaction."): parameter.grad for name, parameter in head.named_parameters()}
    expected |= {f"grad.{name}": gradient for name, gradient in own.items()}
    assert {name for name in LAYER.files if name.startswith(("released.", "grad."))} == expected.keys()
    for name, found in expected.items():
        agree(found.detach(), LAYER, name)


def test_the_equations_to_the_letter_match_the_reference():
    names = {"query.weight": "equations.Wq", "key.weight": "equations.Wk", "value.weight": "equations.Wv"}
    names |= {f"{part}.{kind}": f"mlp.{part}.{kind}" for part in ("hidden", "out") for kind in ("weight", "bias")}
    head = head_of(EquationsLayer(16, mlp_dim=24), names)
    feature_map = layer_golden("feature_map")
    with torch.no_grad():
        refined = head.refined(feature_map, head.prompts())
        logits = head(feature_map)
        again = head.train()(feature_map)
    agree(refined, LAYER, "equations.category_features")
    agree(logits, LAYER, "equations.logits")
    assert torch.equal(logits, again)  # nothing is dropped


def test_both_paths_carry_a_gradient_to_the_prompt_network(reference):
    feature_map, weight = golden("feature_map"), reference.prompt[2].weight

    def gradient(logits: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(logits.square().mean(), weight)[0]

    prompts = reference.prompts()
    refined = reference.refined(feature_map, prompts)
    whole = gradient(reference(feature_map))
    through_product = gradient((refined.detach() * prompts).sum(-1))
    through_transformer = gradient((reference.refined(feature_map, reference.prompts()) * prompts.detach()).sum(-1))
    for path in (through_product, through_transformer):
        assert path.norm() > 0.05 * whole.norm()
        assert (whole - path).norm() > 0.05 * whole.norm()
    torch.testing.assert_close(through_product + through_transformer, whole)


def test_without_interaction_the_pooled_features_are_compared():
    rng = np.random.default_rng(0)
    w, features = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=(2, 4, 3, 3)).astype(np.float32)
    head = CategoryPromptHead(4, torch.from_numpy(w), dim=6, interaction=None, prompt_mlp=False)
    assert {name for name, _ in head.named_parameters()} == {
        "project.weight", "project.bias", "prompt.weight", "prompt.bias"
    }  # fmt: skip
    state = {name: value.numpy() for name, value in head.state_dict().items()}
    prompts = w @ state["prompt.weight"].T + state["prompt.bias"]
    pooled = features.mean(axis=(2, 3)) @ state["project.weight"].T + state["project.bias"]
    with torch.no_grad():
        found = head(torch.from_numpy(features))
    np.testing.assert_allclose(found, pooled @ prompts.T, rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_only(reference):
    with torch.no_grad():
        assert torch.equal(reference(golden("feature_map")), reference(golden("feature_map")))
        reference.train()
        assert not torch.equal(reference(golden("feature_map")), reference(golden("feature_map")))
        torch.testing.assert_close(reference.prompts(), golden("expected.prompts_P"), rtol=1e-4, atol=1e-5)


# --- the method ------------------------------------------------------------------------------------------------


class TextTower(torch.nn.Module):
    """Stands for CLIP's: [i + 1, 0, ..., 0, 1] for prompt i; counts how often it is asked."""

    def __init__(self):
        super().__init__()
        self.asked: list[list[str]] = []

    def encode(self, prompts):
        self.asked.append(list(prompts))
        features = torch.zeros(len(prompts), 8)
        features[:, 0], features[:, -1] = torch.arange(1, len(prompts) + 1), 1
        return features


def task_of(text_tower: TextTower | None = None, **recipe) -> Task:
    recipe = make_recipe(**({"optimizer": {"name": "adamw", "lr": 0.01}} | recipe))
    return make_task(recipe, ("cat", "dining_table", "dog"), (30, 20, 2), make_text_tower=lambda reference: text_tower)


def make_method(task: Task | None = None, seed: int = 0, **config) -> CPRFL:
    torch.manual_seed(seed)
    return CPRFL(task or task_of(), CPRFLConfig(**({"semantics": "random"} | SMALL | config))).train()


def make_batch(seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    targets = torch.eye(3)[torch.randint(3, (8,), generator=rng)]
    return Batch(torch.randn(8, 3, SIZE, SIZE, generator=rng), targets)


def test_text_tower_runs_once_before_training_and_is_dropped():
    tower = TextTower()
    method = make_method(task_of(tower), semantics="some:clip")
    assert tower.asked == [["a photo of a cat.", "a photo of a dining table.", "a photo of a dog."]]
    for seed in range(2):
        method.training_loss(make_batch(seed)).backward()
    method.eval()(make_batch().images)
    assert len(tower.asked) == 1
    assert not any(isinstance(module, TextTower) for module in method.modules())
    directions = np.array([[1, 1], [2, 1], [3, 1]]) / np.sqrt([[2], [5], [10]])
    # Of root mean square 1: of length sqrt(8).
    np.testing.assert_allclose(method.head.embeddings[:, [0, -1]], directions * np.sqrt(8), rtol=1e-6)


def test_random_embeddings_are_vectors_of_the_seed():
    first, again, other = (make_method(seed=seed).head.embeddings for seed in (0, 0, 1))
    assert first.shape == (3, 300) and torch.equal(first, again) and not torch.equal(first, other)
    torch.testing.assert_close(first.square().mean(dim=1), torch.ones(3))


def test_embeddings_of_a_file_are_matched_by_name_and_scaled(tmp_path):
    vectors = np.array([[0.0, 2.0], [3.0, 4.0], [5.0, 0.0], [1.0, 1.0]], dtype=np.float32)
    np.savez(tmp_path / "t.npz", words=vectors, words_names=np.array(["dog", "cat", "dining_table", "cow"]))
    method = make_method(semantics=str(tmp_path / "t.npz"))
    expected = 2**0.5 * np.array([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(method.head.embeddings, expected, rtol=1e-6)


@pytest.mark.parametrize("backbone", ["small_cnn", "clip_demo"])
@pytest.mark.parametrize("switches", [{}, {"vsi": False}, {"pi": False}, {"vsi": False, "pi": False}])
def test_gradient_reaches_what_is_trained_and_no_embedding(switches, backbone):
    method = make_method(task_of(backbone=backbone), **switches)
    before = method.head.embeddings.clone()
    optimizer = torch.optim.AdamW(method.parameters(), 0.1)
    method.training_loss(make_batch()).backward()
    dead = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == [name for name, p in method.named_parameters() if not p.requires_grad]
    assert set(dead) <= {"backbone.projection", "backbone.norm.weight", "backbone.norm.bias"}  # CLIP's pooling
    optimizer.step()
    assert torch.equal(method.head.embeddings, before) and not method.head.embeddings.requires_grad
    names = {name for name, _ in method.head.named_parameters()}
    assert ("interaction.attention.qkv.weight" in names) == switches.get("vsi", True)
    assert ("prompt.2.weight" in names) == switches.get("pi", True)


def test_each_variant_has_its_layer():
    layers = {variant: make_method(variant=variant).head.interaction for variant in ("released", "equations")}
    assert type(make_method().head.interaction) is type(layers["released"]) is ReleasedLayer
    assert type(layers["equations"]) is EquationsLayer
    assert layers["equations"].hidden.weight.shape == (SMALL["mlp_dim"], SMALL["dim"])


@pytest.mark.parametrize("setting", ["heads", "head_dim", "dropout"])
def test_what_the_equations_do_not_have_cannot_be_set_with_them(setting):
    message = refused(CPRFL.configure, "voc-lt", {"variant": "equations", setting: 1 if setting != "dropout" else 0.5})
    assert f"setting {setting} has no effect with variant=equations" in message


def test_frozen_stages_stay():
    method = make_method(task_of(frozen_stages=4, batch_norm="frozen"))
    method.training_loss(make_batch()).backward()
    assert all(p.grad is None for p in method.backbone.parameters())
    assert all(p.grad is not None for p in method.head.parameters())


def test_weight_decay_spares_vectors():
    method = make_method()
    groups = method.parameter_groups()
    grouped = [id(p) for group in groups for p in group.parameters]
    assert sorted(grouped) == sorted(id(p) for p in method.parameters())
    for group in groups:
        assert {p.ndim > 1 for p in group.parameters} == {group.weight_decay is None}
        assert group.weight_decay in (None, 0.0)
    head = {id(p) for group in groups if group.learning_rate == "head" for p in group.parameters}
    assert head == {id(p) for p in method.head.parameters()}


def voc_loss(name: str) -> torch.nn.Module:
    counts, images = LOSSES["voc.class_counts"].tolist(), int(LOSSES["voc.num_train_images"])
    task = task_of()
    task = Task(tuple(map(str, range(20))), tuple(counts), images, task.recipe, task.make_backbone, None, None, None)
    config = CPRFL.configure("voc-lt", SMALL | {"semantics": "random", "loss": name})
    return CPRFL(task, config).loss


def test_every_loss_has_the_references_value():
    logits, targets = torch.from_numpy(LOSSES["voc.logits"]), torch.from_numpy(LOSSES["voc.targets"])
    x, y = LOSSES["voc.logits"].astype(np.float64), LOSSES["voc.targets"]
    bce = (np.logaddexp(0, x) - x * y).mean()
    expected = {
        "asl": LOSSES["voc.asl_g4_0_m05.focusing_detached.sum"] / y.size,
        "bce": bce,
        "soft-margin": bce,
        "cb-focal": LOSSES["voc.cb_focal.mean"],
        "db": LOSSES["voc.db_nofocal.mean"],
        "db-focal": LOSSES["voc.db_focal.mean"],
    }
    for name, value in expected.items():
        assert voc_loss(name)(logits, targets).item() == pytest.approx(float(value), rel=1e-5), name
    logits.requires_grad_()
    voc_loss("asl")(logits, targets).backward()
    reference = LOSSES["voc.asl_g4_0_m05.focusing_detached.grad"] / y.size
    np.testing.assert_allclose(logits.grad, reference, rtol=1e-5, atol=1e-9)


def test_defaults_are_the_published_ones():
    config = CPRFL.configure("coco-lt", {})
    assert (config.dim, config.heads, config.head_dim, config.mlp_dim, config.dropout) == (2048, 8, 512, 2048, 0.1)
    assert (config.semantics, config.loss, config.vsi, config.pi) == ("RN50:openai", "asl", True, True)
    assert (config.neg_scale, config.map_gamma, config.variant) == (2.0, 0.2, "released")
    voc = CPRFL.configure("voc-lt", {})
    assert (voc.neg_scale, voc.map_gamma) == (5.0, 0.3)
    assert CPRFL.configure("shapes-lt", {}).semantics == "demo:shapes"
    assert CPRFL.samplers(config) == ("uniform",) and METHODS.get("cprfl") is CPRFL
    layer = ReleasedLayer(config.dim, config.heads, config.head_dim, config.mlp_dim, config.dropout)
    assert layer.attention.qkv.weight.shape == (3 * 4096, 2048) and layer.mlp.hidden.weight.shape == (2048, 2048)
    head = CategoryPromptHead(2048, torch.zeros(20, 512), config.dim, layer)
    assert head.prompt[0].weight.shape == (1024, 512)
    assert CPRFL.version == 2


def test_unknown_semantics_say_what_there_is():
    message = refused(make_method, semantics="glove")
    assert [part for part in ["'glove'", "random", "ViT-B-16:openai", ".npz"] if part not in message] == []


def test_the_method_can_be_built_without_memory():
    with torch.device("meta"):
        for loss in ("asl", "db-focal", "cb-focal"):
            assert make_method(loss=loss).head.project.weight.is_meta


# --- whole runs ------------------------------------------------------------------------------------------------


@pytest.fixture
def text(tmp_path) -> str:
    vectors = np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32)
    np.savez(tmp_path / "text.npz", words=vectors, words_names=np.array(["blue", "red", "green", "grey"]))
    return str(tmp_path / "text.npz")


def specification(settings: dict) -> dict:
    small = SMALL if settings.get("vsi", True) else {"dim": SMALL["dim"]}
    if settings.get("variant") == "equations":
        small = {name: SMALL[name] for name in ("dim", "mlp_dim")}
    return TINY | {"settings": TINY["settings"] | small | settings}


@pytest.mark.parametrize(
    "settings",
    [{}, {"variant": "equations"}, {"vsi": False, "pi": False}]
    + [{"loss": loss} for loss in ("bce", "soft-margin", "cb-focal", "db", "db-focal")],
)
@pytest.mark.slow
def test_training_decreases_the_loss(tiny, tmp_path, settings):
    run = specification({"semantics": "random"} | settings) | {"epochs": 8}
    record = benchmark.run("cprfl", str(tiny), results=tmp_path / "results", **run)
    assert record.history[-1].loss < record.history[0].loss
    assert record.parameters.trained == record.parameters.all


def test_an_interrupted_run_ends_as_an_undisturbed_one(tiny, tmp_path):
    plan = make_plan("cprfl", str(tiny), **specification({"semantics": "random"}))
    whole = execute_plan(plan, tmp_path / "whole")
    assert outcome(execute_with_stops(plan, tmp_path / "stopped", {4}, total=6)) == outcome(whole)


def test_a_runs_id_holds_the_files_content_not_its_path(tiny, tmp_path, text):
    (tmp_path / "elsewhere").mkdir()
    copy = shutil.copy(text, tmp_path / "elsewhere" / "copy.npz")
    first = benchmark.run("cprfl", str(tiny), results=tmp_path / "results", **specification({"semantics": text}))
    other = make_plan("cprfl", str(tiny), **specification({"semantics": str(copy)}))
    keyed = make_plan("cprfl", str(tiny), **specification({"semantics": f"{text}:words"}))
    assert first.run_id == other.spec.run_id != keyed.spec.run_id
    assert str(tmp_path) not in json.dumps(other.spec.identity()) and str(tmp_path) not in first.to_json()
    assert keyed.spec.config["semantics"] == other.spec.config["semantics"] + ":words"


def test_what_is_wrong_with_the_file_is_said_before_a_run_starts(tiny, tmp_path, text):
    with np.load(text) as file:
        np.savez(text, words=file["words"][:2], words_names=file["words_names"][:2])
    message = refused(make_plan, "cprfl", str(tiny), **specification({"semantics": text}))
    assert text in message and "'green'" in message
    Path(text).unlink()
    assert "no such file" in refused(make_plan, "cprfl", str(tiny), **specification({"semantics": text}))
