"""CAPNET: where it starts, what it trains, its loss and its switches; whole runs on the demo's CLIP."""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kit.checks import refused
from kit.factories import make_recipe, make_task, unneeded
from kit.runs import execute_plan, execute_with_stops, outcome
from torch import nn

import benchmark
from benchmark.method import METHODS, Batch, Task
from benchmark.models.backbones import BACKBONES
from benchmark.models.clip import Clip, TextTower
from benchmark.models.prompts import prompts_for
from benchmark.running.plan import make_plan
from methods.capnet import CAPNET, ClassAwareDBLoss
from methods.capnet_graph import label_graph
from methods.db_focal import DistributionBalancedLoss

SIZE, DIM, TEXT_WIDTH, LAYERS, WIDTH = 32, 16, 24, 2, 32
NAMES, COUNTS, IMAGES = ("dog", "traffic_light", "cat"), (1, 4, 10), 20
KINDS = ["vit", "resnet"]
BACKBONE = {"vit": "clip_vit_b_16", "resnet": "clip_rn50"}


@functools.cache
def tokenizer():
    import open_clip

    return open_clip.SimpleTokenizer()


def small_clip(kind: str, seed: int = 0) -> Clip:
    """A CLIP of open_clip with two small random towers."""
    from open_clip.model import CLIP

    vision = {"layers": LAYERS, "width": WIDTH, "head_width": 16, "patch_size": 16, "image_size": SIZE}
    if kind == "resnet":
        vision = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "image_size": SIZE}
    text = {"context_length": 16, "vocab_size": 49408, "width": TEXT_WIDTH, "heads": 2, "layers": 2}
    torch.manual_seed(seed)
    network = CLIP(DIM, vision, text)
    network.token_embedding.weight.data.mul_(20)  # else positions drown the words and all prompts look alike
    for name, parameter in network.visual.named_parameters():
        if name.endswith("bn3.weight"):
            nn.init.ones_(parameter)  # which start at zero, so that no image would differ from another
    image = BACKBONES.get(BACKBONE[kind]).wrap(network)
    return Clip(image, TextTower(network, tokenizer()), network.logit_scale)


def task_of(clip: Clip, kind: str, **recipe) -> Task:
    fields = {"backbone": BACKBONE[kind], "batch_size": 4, "optimizer": {"name": "adam", "lr": 1e-3}}
    return make_task(
        make_recipe(**(fields | recipe)), NAMES, COUNTS, IMAGES, make_backbone=unneeded, make_clip=lambda: clip
    )


def build(kind: str = "vit", clip: Clip | None = None, recipe: dict | None = None, **settings) -> CAPNET:
    clip = clip or small_clip(kind)
    torch.manual_seed(1)
    return CAPNET(task_of(clip, kind, **(recipe or {})), CAPNET.configure("", settings))


def batch(size: int = 4) -> Batch:
    rng = torch.Generator().manual_seed(2)
    targets = torch.zeros(size, len(NAMES))
    targets[torch.arange(size), torch.arange(size) % len(NAMES)] = 1
    return Batch(torch.randn(size, 3, SIZE, SIZE, generator=rng), targets)


def tensors(module: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Every parameter and buffer with a copy of what it holds now."""
    return [(value, value.detach().clone()) for value in [*module.parameters(), *module.buffers()]]


def train(method: CAPNET, steps: int) -> None:
    optimizer = torch.optim.Adam([{"params": group.parameters} for group in method.parameter_groups()], lr=1e-2)
    method.train()
    for _ in range(steps):
        optimizer.zero_grad()
        method.training_loss(batch()).backward()
        optimizer.step()


# --- where it starts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared_context", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_as_zero_shot_clip(kind, shared_context):
    clip = small_clip(kind)
    clip.eval()
    with torch.no_grad():
        words = clip.text.encode(["a photo of a dog.", "a photo of a traffic light.", "a photo of a cat."])
        cosines = F.normalize(clip.image(batch().images), dim=1) @ F.normalize(words, dim=1).T
        logits = build(kind, clip, shared_context=shared_context).eval()(batch().images)
    assert cosines.std(dim=1).min() > 0.01
    torch.testing.assert_close(logits, 10 * cosines, rtol=1e-5, atol=1e-5)


def test_forward_is_scaled_cosine_to_classes_with_their_graph_residual():
    method = build()
    with torch.no_grad():
        method.gcn.w3.normal_()
        method.log_scale.fill_(np.log(4.0))
        text = method.clip.text.encode(prompts_for(NAMES))
        adjacency = label_graph(text)
        hidden = F.leaky_relu(adjacency @ text @ method.gcn.w1, 0.2)
        hidden = F.leaky_relu(adjacency @ hidden @ method.gcn.w2, 0.2)
        classes = F.normalize(text + adjacency @ hidden @ method.gcn.w3, dim=1)
        expected = 4 * F.normalize(method.clip.image(batch().images), dim=1) @ classes.T
        torch.testing.assert_close(method.eval()(batch().images), expected, rtol=1e-4, atol=1e-5)


def test_graph_is_of_the_fixed_prompts():
    clip = small_clip("vit")
    fixed = clip.text.encode(["a photo of a dog.", "a photo of a traffic light.", "a photo of a cat."])
    for settings in ({}, {"top_k": 2}, {"graph": "uniform"}, {"graph": "identity"}, {"neighbour_share": 0.5}):
        arguments = {{"graph": "kind"}.get(name, name): value for name, value in settings.items()}
        adjacency = build(clip=small_clip("vit"), **settings).gcn.adjacency
        torch.testing.assert_close(adjacency, label_graph(fixed, **arguments))
    assert torch.equal(build(graph="identity").gcn.adjacency, torch.eye(3))


# --- what it trains --------------------------------------------------------------------------------------------

GCN = 8 * DIM**2
ADAPTERS = {
    # An adapter: norm 2 D, down D r + r, up r D + D, scale 1; r is 1 for three classes.
    "vit": LAYERS * (2 * WIDTH + WIDTH + 1 + WIDTH + WIDTH + 1),
    "resnet": 2 * DIM,
}


@pytest.mark.parametrize("shared_context", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_trained_parameters_are_counted_by_hand(kind, shared_context):
    method = build(kind, shared_context=shared_context)
    prompts = 4 * TEXT_WIDTH * (1 if shared_context else len(NAMES))
    expected = prompts + GCN + ADAPTERS[kind] + 1  # and the temperature
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == expected
    grouped = [p for group in method.parameter_groups() for p in group.parameters]
    assert len({id(p) for p in grouped}) == len(grouped) and sum(p.numel() for p in grouped) == expected


def test_adapter_width_is_the_rules_unless_given():
    assert build().clip.image.stages.block1.adapter.down.out_features == 1
    assert build(adapter_width=6).clip.image.stages.block2.adapter.down.out_features == 6


@pytest.mark.parametrize("kind", KINDS)
def test_clip_does_not_move(kind):
    clip = small_clip(kind)
    before = tensors(clip)
    method = build(kind, clip, adapter_width=4 if kind == "vit" else None)
    train(method, 3)
    assert all(torch.equal(now, then) for now, then in before)
    frozen = {id(value) for value, _ in before}
    for name, parameter in method.named_parameters():
        assert parameter.requires_grad == (id(parameter) not in frozen), name
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert not parameter.requires_grad or parameter.grad.abs().sum() > 0, name
    names = {name for name, p in method.named_parameters() if p.requires_grad}
    assert {"prompts.context", "gcn.w1", "gcn.w2", "gcn.w3", "log_scale"} <= names
    where = ".adapter." if kind == "vit" else "scale_shift."
    assert all(where in name for name in names - {"prompts.context", "gcn.w1", "gcn.w2", "gcn.w3", "log_scale"})


def test_text_side_runs_once_a_step(monkeypatch):
    method = build()
    calls = []
    method.clip.text.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    method.training_loss(batch(8))
    assert calls == [len(NAMES)]


def test_full_tuning_trains_the_image_tower_as_the_recipe_says():
    clip = small_clip("resnet")
    text, image = tensors(clip.text), tensors(clip.image)
    method = build("resnet", clip, recipe={"frozen_stages": 2, "batch_norm": "frozen"}, image_tuning="full")
    assert isinstance(method.scale_shift, nn.Identity)
    train(method, 1)
    assert all(torch.equal(now, then) for now, then in text)
    still = {id(p) for p in clip.image.stages[:2].parameters()} | {id(b) for b in clip.image.buffers()}
    for now, then in image:
        # The bias of the keys has no influence on attention: its gradient is zero up to rounding.
        if now is not clip.image.attention.k_proj.bias:
            assert torch.equal(now, then) == (id(now) in still)
    prompts, trained_tower = 4 * TEXT_WIDTH * 3, [p for p in clip.image.parameters() if id(p) not in still]
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == prompts + GCN + 1 + sum(
        p.numel() for p in trained_tower
    )


@pytest.mark.parametrize("kind", KINDS)
def test_groups_give_the_graph_the_heads_rate_and_vectors_no_decay(kind):
    method = build(kind)
    groups = method.parameter_groups()
    for group in groups:
        for parameter in group.parameters:
            in_graph = any(parameter is p for p in method.gcn.parameters())
            assert (group.learning_rate == "head") == in_graph
            assert group.weight_decay == (None if parameter.ndim >= 2 else 0.0)
    [context_group] = [g for g in groups if any(p is method.prompts.context for p in g.parameters)]
    assert context_group.learning_rate == "backbone" and context_group.weight_decay is None


def test_scores_follow_the_weights_in_evaluation_mode():
    method = build().eval()
    images = batch().images
    with torch.no_grad():
        first = method(images)
        kept = {name: value.clone() for name, value in method.state_dict().items()}
        method.prompts.context.data.add_(torch.randn_like(method.prompts.context))  # as an EMA swap does
        moved = method(images)
        assert (moved - first).abs().max() > 1e-3
        method.load_state_dict(kept)
        assert torch.equal(method(images), first)


def test_logits_stay_float32_and_close_under_autocast():
    method = build()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = method(batch().images)
        method.training_loss(batch()).backward()
    assert mixed.dtype == torch.float32
    assert (mixed - method(batch().images)).abs().max() < 0.3  # of logits in -10..10
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


# --- the loss --------------------------------------------------------------------------------------------------


def test_class_weight_by_hand():
    # N / n = 20, 5, 2; r = 0.1 + sigmoid(0.01 N / n): sigmoid(0.2) = 0.549834, (0.05) = 0.512497, (0.02) = 0.505000.
    loss = ClassAwareDBLoss(COUNTS, IMAGES)
    expected = torch.tensor([0.649834, 0.612497, 0.605000])
    for targets in (torch.zeros(2, 3), torch.ones(2, 3)):
        torch.testing.assert_close(loss.weight(targets), expected, rtol=1e-5, atol=1e-6)


def test_class_aware_loss_by_hand():
    # Half of the images have the class: its logit bias is -log(2 - 1) = 0. At x = 0: BCE = ln 2, p_t = 1/2, focal
    # factor 2 (1/2)^2 = 1/2; r = 0.1 + sigmoid(0.02) = 0.605. Positive: r ln 2 / 2, negative: a fifth of it.
    loss = ClassAwareDBLoss([10], 20, neg_scale=5.0, reduction="none")
    value = loss(torch.zeros(2, 1), torch.tensor([[1.0], [0.0]]))
    torch.testing.assert_close(value, torch.tensor([[0.209678], [0.0419355]]), rtol=1e-4, atol=1e-6)


def test_only_the_weight_differs_from_db_focal():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    targets = batch().targets
    instance = DistributionBalancedLoss(COUNTS, IMAGES, 5.0, 0.3, reduction="none")
    ratio = ClassAwareDBLoss(COUNTS, IMAGES, 5.0, reduction="none").weight(targets) / instance.weight(targets)
    value = ClassAwareDBLoss(COUNTS, IMAGES, 5.0, reduction="none")(logits, targets)
    torch.testing.assert_close(value, ratio * instance(logits, targets))


def test_reweighting_switch_and_settings_of_the_datasets():
    by_class, by_instance = build().loss, build(reweighting="instance", map_gamma=0.4, neg_scale=3.0).loss
    assert type(by_class) is ClassAwareDBLoss and by_class.focal and by_class.neg_scale == 2.0
    assert type(by_instance) is DistributionBalancedLoss and by_instance.focal
    assert (by_instance.map_gamma, by_instance.neg_scale) == (0.4, 3.0)
    found = {name: CAPNET.configure(name, {}) for name in ("voc-lt", "coco-lt", "")}
    assert {name: (config.neg_scale, config.map_gamma) for name, config in found.items()} == {
        "voc-lt": (5.0, 0.3),
        "coco-lt": (2.0, 0.2),
        "": (2.0, 0.2),
    }


def test_training_loss_is_the_loss_of_the_logits_which_start_at_the_priors():
    method = build()
    logits = method.eval()(batch().images)
    prior = torch.log(torch.tensor(COUNTS) / (IMAGES - torch.tensor(COUNTS)))
    expected = ClassAwareDBLoss(COUNTS, IMAGES)(logits - logits.mean(dim=0) + prior, batch().targets)
    torch.testing.assert_close(method.train().training_loss(batch()), expected)
    assert {name for name, p in method.named_parameters() if p.requires_grad and "offset" in name} == set()


def test_without_the_offset_the_loss_is_that_of_the_logits():
    method = build(prior_offset=False)
    expected = ClassAwareDBLoss(COUNTS, IMAGES)(method(batch().images), batch().targets)
    torch.testing.assert_close(method.training_loss(batch()), expected)


@pytest.mark.parametrize("sampler", ["uniform", "class-aware"])
def test_samplers(sampler):
    assert CAPNET.samplers(CAPNET.configure("", {"sampler": sampler})) == (sampler,)
    assert CAPNET.samplers(CAPNET.configure("", {})) == ("uniform",)


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [0, 4])
def test_top_k_outside_the_classes_is_refused(top_k):
    assert f"top_k is {top_k}" in refused(build, top_k=top_k)


def test_adapter_widths_that_cannot_be_are_refused():
    assert "adapter_width is 2, but clip_rn50" in refused(build, "resnet", adapter_width=2)
    assert "adapter_width" in refused(CAPNET.configure, "", {"adapter_width": 0})


def test_the_row_says_that_it_is_a_reading():
    assert METHODS.get("capnet") is CAPNET
    assert "reading" in CAPNET.title and CAPNET.requires == "clip"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"top_k": 2}, {"graph": "uniform"}, {"image_tuning": "full"}])
def test_it_is_checked_on_the_meta_device(kind, settings):
    with torch.device("meta"):
        method = build(kind, **settings)
    assert method.gcn.w1.is_meta
    with torch.device("meta"):
        assert "top_k is 9" in refused(build, kind, top_k=9)


# --- whole runs on the demo's CLIP, random weights -------------------------------------------------------------

RUN = {
    "protocol": "demo-clip",
    "backbone": "clip_demo",
    "weights": "none",
    "image_size": 16,
    "epochs": 2,
    "settings": {"recipe.batch_size": 8, "recipe.optimizer.lr": 3e-3, "recipe.optimizer.head_lr_scale": 3.0},
}


def test_two_epochs_decrease_the_loss(tiny, tmp_path):
    record = benchmark.run("capnet", str(tiny), results=tmp_path / "results", **RUN)
    assert record.history[-1].loss < record.history[0].loss
    assert 0 < record.parameters.trained < record.parameters.all
    assert record.method_title == "CAPNET (reading)"


@pytest.mark.slow
def test_a_run_stopped_three_times_ends_as_an_undisturbed_one(tiny, tmp_path):
    plan = make_plan("capnet", str(tiny), **RUN)
    whole = execute_plan(plan, tmp_path / "whole")
    stopped = execute_with_stops(plan, tmp_path / "stopped", {2, 3, 5}, total=6)
    assert stopped.attempts == 4
    assert outcome(stopped) == outcome(whole)


def test_a_backbone_that_is_no_clip_is_refused(tiny):
    message = refused(functools.partial(make_plan, "capnet", str(tiny), protocol="demo"))
    assert "CLIP" in message and "capnet" in message
