"""LTML: its loss by hand, what each part trains, its two ways of averaging, and whole runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kit.checks import refused
from kit.factories import make_recipe, make_task
from kit.runs import execute_plan, execute_with_stops, outcome
from kit.tiny import TINY

import benchmark
from benchmark.method import METHODS, Batch, Task
from benchmark.running.plan import make_plan
from methods.ltml import LTML, CompensatedLoss, LTMLConfig

SIZE = 32


def task_of(backbone="small_cnn", **recipe) -> Task:
    return make_task(make_recipe(backbone=backbone, **recipe), ("a", "b", "c"), (30, 20, 2))


def make_method(task=None, **config) -> LTML:
    torch.manual_seed(0)
    return LTML(task or task_of(), LTMLConfig(**config)).train()


def make_batch(seed: int) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    targets = torch.eye(3)[torch.randint(3, (8,), generator=rng)]
    return Batch(torch.randn(8, 3, SIZE, SIZE, generator=rng), targets)


def gradients(method: LTML, uniform: Batch, balanced: Batch) -> dict[str, torch.Tensor | None]:
    method.zero_grad()
    method.training_loss(uniform, balanced).backward()
    return {name: None if p.grad is None else p.grad.clone() for name, p in method.named_parameters()}


def reached(found: dict[str, torch.Tensor | None], prefix: str) -> set[bool]:
    """Whether the parameters under a prefix have a gradient: {True}, {False} or both."""
    return {grad is not None and bool(grad.any()) for name, grad in found.items() if name.startswith(prefix)}


# --- the loss --------------------------------------------------------------------------------------------------

LOGITS = np.array([[0.5, -1.0, 2.0], [-0.3, 0.0, 1.5]])
TARGETS = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])


def classification_by_hand(logits, targets, s_pos=1.0, m_pos=0.0, s_neg=1.0, m_neg=0.0):
    """-(1/C) sum_c w_c [y log sigma(s+ x + m+) + (1 - y) log(1 - sigma(s- x + m-))], mean over the batch."""
    rho = np.array([30, 20, 2]) / 40
    total = 0.0
    for i in range(logits.shape[0]):
        for c in range(3):
            if targets[i, c]:
                p = 1 / (1 + np.exp(-(np.broadcast_to(s_pos, 3)[c] * logits[i, c] + np.broadcast_to(m_pos, 3)[c])))
                total -= np.exp(1 - rho[c]) * np.log(p) / 3
            else:
                p = 1 / (1 + np.exp(-(np.broadcast_to(s_neg, 3)[c] * logits[i, c] + np.broadcast_to(m_neg, 3)[c])))
                total -= np.exp(rho[c]) * np.log(1 - p) / 3
    return total / logits.shape[0]


def test_classification_loss_by_hand():
    loss = CompensatedLoss((30, 20, 2), 40)
    found = loss(torch.tensor(LOGITS).float(), torch.tensor(TARGETS).float())
    assert found.item() == pytest.approx(classification_by_hand(LOGITS, TARGETS), rel=1e-6)
    # One decision in full: p = sigmoid(0) = 1/2, n = 20 of 40: ln 2 * exp(1/2), positive or negative alike.
    each = CompensatedLoss((20,), 40)(torch.zeros(1, 1), torch.ones(1, 1))
    assert each.item() == pytest.approx(0.6931472 * 1.6487213, rel=1e-6)


def test_compensation_scales_and_shifts_by_label_and_class():
    values = {"s_pos": [1.5, 0.5, 2.0], "m_pos": [0.1, -0.2, 0.3], "s_neg": [0.7, 1.2, 0.9], "m_neg": [-1.0, 0.4, 0.2]}
    loss = CompensatedLoss((30, 20, 2), 40)
    with torch.no_grad():
        loss.positive_scale.copy_(torch.tensor(values["s_pos"]))
        loss.positive_shift.copy_(torch.tensor(values["m_pos"]))
        loss.negative_scale.copy_(torch.tensor(values["s_neg"]))
        loss.negative_shift.copy_(torch.tensor(values["m_neg"]))
    found = loss(torch.tensor(LOGITS).float(), torch.tensor(TARGETS).float())
    expected = classification_by_hand(LOGITS, TARGETS, **values)
    assert found.item() == pytest.approx(expected, rel=1e-6)
    assert expected != pytest.approx(classification_by_hand(LOGITS, TARGETS), rel=0.01)


def outputs(method: LTML, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Both branches' logits of a batch, float64."""
    with torch.no_grad():
        features = method.trunk(batch.images)
        found = method.uniform_branch(features), method.rebalanced_branch(features)
    return tuple(logits.numpy().astype(np.float64) for logits in found)


@pytest.mark.parametrize("consistency", [True, False])
@pytest.mark.parametrize("compensation", [True, False])
@pytest.mark.parametrize("weight", [0.1, 0.7])
def test_training_loss_by_hand(consistency, compensation, weight):
    method = make_method(consistency=consistency, compensation=compensation, consistency_weight=weight)
    changed = {}
    if compensation:
        changed = {"s_pos": 1.3, "m_neg": 0.4}
        with torch.no_grad():
            method.loss.positive_scale.fill_(1.3)
            method.loss.negative_shift.fill_(0.4)
    uniform, balanced = make_batch(1), make_batch(2)
    method.backbone.freeze(0, batch_norm=True)  # so that neither pass moves a statistic
    method.rebalanced.freeze(0, batch_norm=True)
    u, u_crossed = outputs(method, uniform)
    r_crossed, r = outputs(method, balanced)
    expected = classification_by_hand(u, uniform.targets.numpy(), **changed)
    expected += classification_by_hand(r, balanced.targets.numpy(), **changed)
    if consistency:
        expected += weight * (((u - u_crossed) ** 2).mean() + ((r - r_crossed) ** 2).mean())
    assert method.training_loss(uniform, balanced).item() == pytest.approx(expected, rel=1e-5)


# --- what is trained -------------------------------------------------------------------------------------------


def test_without_consistency_no_branch_learns_from_the_others_batch():
    method = make_method(consistency=False, compensation=False)
    first = gradients(method, make_batch(1), make_batch(2))
    other_uniform = gradients(method, make_batch(3), make_batch(2))
    other_balanced = gradients(method, make_batch(1), make_batch(4))
    for name, grad in first.items():
        if name.startswith(("rebalanced.", "rebalanced_head.")):
            assert torch.equal(grad, other_uniform[name]) and not torch.equal(grad, other_balanced[name]), name
        elif name.startswith(("uniform_head.", "backbone.stages.stage3.")):
            assert torch.equal(grad, other_balanced[name]) and not torch.equal(grad, other_uniform[name]), name
        else:
            assert not torch.equal(grad, other_uniform[name]) and not torch.equal(grad, other_balanced[name]), name


def test_crossed_outputs_get_the_consistency_gradient_alone():
    """The head's bias sees d L / d logits summed over the batch: of the other batch only 2 lambda (g - f) / (B C)."""
    method = make_method(consistency=True, compensation=False, consistency_weight=0.5)
    method.backbone.freeze(0, batch_norm=True)
    method.rebalanced.freeze(0, batch_norm=True)
    uniform, balanced = make_batch(1), make_batch(2)
    together = gradients(method, uniform, balanced)["rebalanced_head.bias"].numpy()
    rho = np.array([30, 20, 2]) / 40
    f, g = outputs(method, balanced)
    y = balanced.targets.numpy()
    own = np.where(y > 0, np.exp(1 - rho), np.exp(rho)) * (1 / (1 + np.exp(-g)) - y) / y.size
    own = own + 0.5 * 2 * (g - f) / y.size
    f, g = outputs(method, uniform)
    crossed = 0.5 * 2 * (g - f) / y.size
    np.testing.assert_allclose(together, (own + crossed).sum(axis=0), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("compensation", [True, False])
@pytest.mark.parametrize("consistency", [True, False])
def test_gradient_reaches_every_part(consistency, compensation):
    method = make_method(consistency=consistency, compensation=compensation)
    found = gradients(method, make_batch(1), make_batch(2))
    assert reached(found, "") == {True}
    names = {name.partition(".")[0] for name in found}
    assert names == {"backbone", "rebalanced", "uniform_head", "rebalanced_head"} | (
        {"loss"} if compensation else set()
    )
    assert sum(p.numel() for p in method.loss.parameters()) == (12 if compensation else 0)


def test_frozen_parts_hold_in_both_branches():
    method = make_method(task_of(frozen_stages=4, batch_norm="frozen"))
    before = {name: value.clone() for name, value in method.state_dict().items()}
    found = gradients(method, make_batch(1), make_batch(2))
    assert reached(found, "backbone.") == reached(found, "rebalanced.") == {False}
    assert reached(found, "uniform_head.") == reached(found, "rebalanced_head.") == {True}
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_frozen_batch_norm_holds_in_both_branches_and_moving_ones_move_in_both():
    for batch_norm, moves in [("frozen", False), ("train", True)]:
        method = make_method(task_of(batch_norm=batch_norm))
        before = {name: value.clone() for name, value in method.state_dict().items() if "running" in name}
        method.training_loss(make_batch(1), make_batch(2))
        for name, value in before.items():
            assert torch.equal(method.state_dict()[name], value) != moves, name
        assert {name.partition(".")[0] for name in before} == {"backbone", "rebalanced"}


@pytest.mark.parametrize("backbone", ["small_cnn", "mobilenet_v2", "resnet18", "vit_b_16", "clip_demo"])
@pytest.mark.slow
def test_branches_start_from_one_last_stage_and_different_heads(backbone):
    method = make_method(task_of(backbone)).eval()
    last = method.backbone.stages[-1].state_dict()
    copied = method.rebalanced.stages[-1].state_dict()
    assert last.keys() == copied.keys() and all(torch.equal(last[key], copied[key]) for key in last)
    assert not {id(p) for p in method.backbone.parameters()} & {id(p) for p in method.rebalanced.parameters()}
    assert not torch.equal(method.uniform_head.weight, method.rebalanced_head.weight)
    images = make_batch(1).images[:2]
    with torch.no_grad():
        features = method.trunk(images)
        own = method.backbone.pool(method.backbone.stages[-1](features))
        torch.testing.assert_close(method.rebalanced(features), own)
        torch.testing.assert_close(own, method.backbone(images))
        assert method(images).shape == (2, 3)


def test_neck_and_dropout_of_the_recipe_are_not_used():
    plain, asked = make_method(), make_method(task_of(neck=16, dropout=0.9))
    assert [name for name, _ in plain.named_modules()] == [name for name, _ in asked.named_modules()]
    images = make_batch(1).images
    assert torch.equal(plain(images), asked(images))


def test_parameter_groups_hold_everything_once_and_spare_the_compensation():
    method = make_method()
    groups = method.parameter_groups()
    grouped = [id(p) for group in groups for p in group.parameters]
    assert sorted(grouped) == sorted(id(p) for p in method.parameters())
    spared = {id(p) for group in groups if group.weight_decay == 0.0 for p in group.parameters}
    assert spared == {id(p) for p in method.loss.parameters()}
    assert all(group.weight_decay is None for group in groups if id(group.parameters[0]) not in spared)
    head = {id(p) for group in groups if group.learning_rate == "head" for p in group.parameters}
    parts = (method.uniform_head, method.rebalanced_head, method.loss)
    assert head == {id(p) for part in parts for p in part.parameters()}


@pytest.mark.parametrize(
    ("optimizer", "given", "expected"),
    [("sgd", {}, 1.0), ("adamw", {}, 0.01), ("adamw", {"compensation_lr_scale": 0.5}, 0.5)],
)
def test_under_adam_the_compensation_learns_slowly(optimizer, given, expected):
    method = make_method(task_of(optimizer={"name": optimizer, "lr": 0.01}), **given)
    compensation = {id(p) for p in method.loss.parameters()}
    for group in method.parameter_groups():
        assert group.lr_scale == (expected if id(group.parameters[0]) in compensation else 1.0)


def test_samplers_and_defaults():
    config = LTML.configure("voc-lt", {})
    assert LTML.samplers(config) == ("uniform", "class-aware")
    assert config.model_dump() == {
        "consistency": True,
        "compensation": True,
        "consistency_weight": 0.1,
        "compensation_lr_scale": None,
        "inference": "logits",
    }
    assert METHODS.get("ltml") is LTML
    assert "inference" in refused(LTML.configure, "own", {"inference": "max"})


def test_the_method_can_be_built_without_memory():
    with torch.device("meta"):
        method = make_method()
    assert method.uniform_head.weight.is_meta


# --- inference -------------------------------------------------------------------------------------------------


def with_logits(method: LTML, first: list[list[float]], second: list[list[float]]) -> torch.Tensor:
    """What the method predicts when its branches give these logits."""
    method.uniform_branch = lambda features: torch.tensor(first)
    method.rebalanced_branch = lambda features: torch.tensor(second)
    with torch.no_grad():
        return method.eval()(torch.zeros(1, 3, SIZE, SIZE))


def test_logits_are_averaged_without_the_compensation():
    method = make_method()
    with torch.no_grad():
        for parameter in method.loss.parameters():
            parameter.fill_(17.0)
    assert with_logits(method, [[1.0, -2.0, 60.0]], [[3.0, 0.0, -60.0]]).tolist() == [[2.0, -1.0, 0.0]]


def test_mean_probability_by_hand_as_a_logit():
    found = with_logits(make_method(inference="sigmoid"), [[0.0, 2.0, -1.0]], [[0.0, -2.0, 3.0]])
    # sigma(0) = 1/2; sigma(2) + sigma(-2) = 1; (sigma(-1) + sigma(3)) / 2 = (0.268941 + 0.952574) / 2 = 0.610758.
    expected = [[0.0, 0.0, np.log(0.610758 / 0.389242)]]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_mean_probability_does_not_saturate():
    found = with_logits(
        make_method(inference="sigmoid"),
        [[60.0, 61.0, -60.0], [60.0, 100.0, -100.0]],
        [[60.0, 61.0, -61.0], [50.0, 60.0, -60.0]],
    )
    # 1 - p is the mean of exp(-a) and exp(-b) far out: for 60 and 50 it is exp(-50) (1 + exp(-10)) / 2.
    expected = [
        [60.0, 61.0, np.log((np.exp(-60) + np.exp(-61)) / 2)],
        [50 + np.log(2) - np.log1p(np.exp(-10)), 60 + np.log(2), -60 - np.log(2)],
    ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


# --- whole runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"consistency": False, "compensation": False, "inference": "sigmoid"}])
@pytest.mark.slow
def test_training_decreases_the_loss(tiny, tmp_path, settings):
    run = TINY | {"settings": TINY["settings"] | settings, "epochs": 8}
    record = benchmark.run("ltml", str(tiny), results=tmp_path / "results", **run)
    assert record.history[-1].loss < record.history[0].loss
    assert record.parameters.trained == record.parameters.all


def test_an_interrupted_run_ends_as_an_undisturbed_one(tiny, tmp_path):
    plan = make_plan("ltml", str(tiny), **TINY)
    whole = execute_plan(plan, tmp_path / "whole")
    assert outcome(execute_with_stops(plan, tmp_path / "stopped", {4}, total=6)) == outcome(whole)
