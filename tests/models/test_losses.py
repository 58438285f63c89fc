"""The losses against the reference implementations' numbers, and the properties that all of them share."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from kit.paths import TESTS

from benchmark.data.dataset import find_dataset
from benchmark.errors import InputError
from benchmark.models.losses import counts_tensor
from benchmark.models.prior_offset import PriorOffset
from methods.asl import AsymmetricLoss
from methods.cb_focal import ClassBalancedFocalLoss
from methods.db_focal import DistributionBalancedLoss
from methods.focal import FocalLoss
from methods.ltml import CompensatedLoss
from methods.rw import ReweightedBCELoss

GOLDEN = np.load(TESTS / "golden" / "losses.npz")
NEG_SCALE, MAP_GAMMA = {"voc": 5.0, "coco": 2.0}, {"voc": 0.3, "coco": 0.2}
ASL = [(4, 0, 5), (4, 1, 5), (2, 0, 0)]
CASES = ["db_focal", "db_nofocal", "cb_focal", "rw_sqrt_inverse"] + [
    f"asl_g{neg}_{pos}_m{margin:02d}.focusing_{where}" for neg, pos, margin in ASL for where in ("detached", "in_graph")
]


def make(name: str, dataset: str, **kwargs):
    counts = GOLDEN[f"{dataset}.class_counts"]
    n = int(GOLDEN[f"{dataset}.num_train_images"])
    if name == "db_focal":
        return DistributionBalancedLoss(counts, n, NEG_SCALE[dataset], MAP_GAMMA[dataset], **kwargs)
    if name == "db_nofocal":
        return DistributionBalancedLoss(
            counts, n, NEG_SCALE[dataset], MAP_GAMMA[dataset], focal=False, loss_weight=0.5, **kwargs
        )
    if name == "cb_focal":
        return ClassBalancedFocalLoss(counts, n, 0.9, NEG_SCALE[dataset], loss_weight=10.0, **kwargs)
    if name == "rw_sqrt_inverse":
        return ReweightedBCELoss(counts, n, **kwargs)
    exponents, where = name.removeprefix("asl_g").split(".focusing_")
    neg, pos, margin = exponents.split("_")
    return AsymmetricLoss(float(neg), float(pos), int(margin[1:]) / 100, where == "detached", **kwargs)


def golden_inputs(dataset: str) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.tensor(GOLDEN[f"{dataset}.logits"], requires_grad=True)
    return logits, torch.tensor(GOLDEN[f"{dataset}.targets"])


@pytest.mark.parametrize("dataset", ["voc", "coco"])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_match_the_reference(name, dataset):
    reduction = "sum" if name.startswith("asl") else "mean"
    logits, targets = golden_inputs(dataset)
    value = make(name, dataset, reduction=reduction)(logits, targets)
    value.backward()
    assert value.item() == pytest.approx(float(GOLDEN[f"{dataset}.{name}.{reduction}"]), rel=1e-5)
    np.testing.assert_allclose(logits.grad.numpy(), GOLDEN[f"{dataset}.{name}.grad"], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("dataset", ["voc", "coco"])
@pytest.mark.parametrize("name", ["db_focal", "cb_focal"])
def test_elementwise_values_match_the_reference(name, dataset):
    logits, targets = golden_inputs(dataset)
    values = make(name, dataset, reduction="none")(logits, targets).detach().numpy()
    np.testing.assert_allclose(values, GOLDEN[f"{dataset}.{name}.elementwise"], rtol=1e-5, atol=1e-9)


def test_focal_loss_by_hand():
    # p = sigmoid(0) = 1/2: BCE = ln 2, focal = 2 * (1/2)^2 * ln 2 = ln 2 / 2, positive or negative alike.
    loss = FocalLoss(gamma=2.0, balance=2.0, reduction="none")(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(loss, torch.full((1, 2), np.log(2) / 2, dtype=torch.float32))
    # p_t = sigmoid(2) = 0.880797: BCE = 0.126928, focal = 2 * 0.119203^2 * 0.126928 = 0.00360709.
    assert FocalLoss()(torch.tensor([[2.0]]), torch.ones(1, 1)).item() == pytest.approx(0.00360709, rel=1e-4)


def test_focal_with_gamma_zero_is_bce():
    logits, targets = golden_inputs("voc")
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(FocalLoss(gamma=0.0, balance=1.0)(logits, targets), expected)


def test_smoothing_weight_by_hand():
    # n = (1, 4), both positive: rho = (1, 1/4) / (1 + 1/4) = (0.8, 0.2); r = 0.1 + sigmoid(10 (rho - 0.3)).
    weight = DistributionBalancedLoss([1, 4], 10, map_gamma=0.3).weight(torch.tensor([[1.0, 1.0]]))
    expected = 0.1 + 1 / (1 + np.exp(-10 * (np.array([[0.8, 0.2]]) - 0.3)))
    np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-6)


ALL = [*CASES, "focal"]


def any_loss(name: str, **kwargs):
    return FocalLoss(**kwargs) if name == "focal" else make(name, "voc", **kwargs)


@pytest.mark.parametrize("name", ALL)
def test_reductions_weight_and_inputs(name):
    logits, targets = golden_inputs("voc")
    before = logits.detach().clone(), targets.clone()
    each = any_loss(name, reduction="none")(logits, targets)
    assert each.shape == logits.shape
    torch.testing.assert_close(any_loss(name, reduction="mean")(logits, targets), each.mean())
    torch.testing.assert_close(any_loss(name, reduction="sum")(logits, targets), each.sum())
    assert torch.equal(logits, before[0]) and torch.equal(targets, before[1]), "the loss changed its inputs"


@pytest.mark.parametrize("name", ["focal", "rw_sqrt_inverse", "asl_g4_0_m05.focusing_detached"])
def test_loss_weight_multiplies(name):
    logits, targets = golden_inputs("voc")
    torch.testing.assert_close(
        any_loss(name, loss_weight=3.0)(logits, targets), 3 * any_loss(name, loss_weight=1.0)(logits, targets)
    )


@pytest.mark.parametrize("name", ALL)
def test_extreme_logits_and_unlabelled_images_stay_finite(name):
    logits = torch.tensor([[1e4, -1e4] * 10, [30.0, -30.0] * 10], requires_grad=True)
    loss = any_loss(name)(logits, torch.zeros(2, 20))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_asl_works_in_float32_under_autocast():
    logits, targets = golden_inputs("voc")
    half = AsymmetricLoss()(logits.bfloat16(), targets)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, AsymmetricLoss()(logits.bfloat16().float(), targets))


@pytest.mark.parametrize("beta", [0.9, 0.999, 0.9999999, 0.99999999, 1 - 1e-12, float(np.nextafter(1, 0))])
def test_class_balanced_weights_keep_their_digits_however_near_beta_is_to_1(beta):
    counts = [1, 2, 3, 50, 1000, 2**24 + 1]
    found = ClassBalancedFocalLoss(counts, 2**24 + 2, beta).class_weight
    # 1 / (1 + beta + ... + beta^(n - 1)), in exact fractions for small n; by expm1 where the sum is long.
    exact = [1 / sum(Fraction(beta) ** k for k in range(n)) for n in counts[:3]]
    exact += [(1 - beta) / -math.expm1(n * math.log(beta)) for n in counts[3:]]
    assert found.dtype == torch.float32 and found[0] == pytest.approx(1.0, abs=2e-7)
    np.testing.assert_allclose(found.numpy(), [float(value) for value in exact], rtol=5e-7)


@pytest.mark.parametrize("name", ["shapes-lt", "voc-lt", "coco-lt"])
def test_what_class_counts_give_is_to_the_bit_what_published_runs_had(name):
    """Which computed it in float32."""
    dataset = find_dataset(name).open(Path("somewhere"))
    counts, images = torch.tensor(dataset.class_counts, dtype=torch.float32), len(dataset.splits["train"])
    task = dataset.class_counts.tolist(), images
    for neg_scale in NEG_SCALE.values():
        loss = ClassBalancedFocalLoss(*task, neg_scale=neg_scale)
        assert torch.equal(loss.class_weight, (1 - 0.9) / (1 - 0.9**counts))
        assert torch.equal(loss.bias, -torch.log(images / counts - 1) * 0.05 / neg_scale)
        assert torch.equal(loss.counts, counts)
    assert torch.equal(ReweightedBCELoss(*task).weight, (images / counts).sqrt())
    assert torch.equal(CompensatedLoss(*task).positive_weight, torch.exp(1 - counts / images))
    assert torch.equal(PriorOffset(*task).prior, torch.log(counts / (images - counts)))


@pytest.mark.parametrize("images", [2**24 + 2, 10**9])
def test_a_class_in_almost_every_image_keeps_its_bias(images):
    """In float32 N / n is 1 there: a bias of minus infinity."""
    counts = [images - 1, images - 3, 1]
    log_odds = np.log([(images - n) / n for n in counts])
    loss = DistributionBalancedLoss(counts, images, neg_scale=2.0)
    np.testing.assert_allclose(loss.bias.numpy(), -log_odds * 0.05 / 2.0, rtol=1e-6)
    np.testing.assert_allclose(PriorOffset(counts, images).prior.numpy(), -log_odds, rtol=1e-6)


def test_counts_are_compared_as_they_are():
    counts_tensor([2**24 + 1], 2**24 + 1)
    with pytest.raises(InputError, match="class counts"):  # as float32 the two are equal
        counts_tensor([2**24 + 1], 2**24)


def test_a_class_in_every_image_and_a_class_in_none_are_refused():
    with pytest.raises(InputError, match="class number 1 is in every training image"):
        DistributionBalancedLoss([3, 10], 10)
    with pytest.raises(InputError, match="class counts"):
        ReweightedBCELoss([0, 10], 10)
