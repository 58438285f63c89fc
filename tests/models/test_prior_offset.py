"""Logits that start at the class priors."""

import copy

import pytest
import torch

from benchmark.models.prior_offset import PriorOffset

FIRST = torch.tensor([[4.0, 3.0], [2.0, 5.0]])


def test_the_first_batch_means_the_prior_by_hand():
    # n / (N - n) is 1 / 4 and 1; the means are 3 and 4.
    found = PriorOffset((20, 50), 100)(FIRST)
    expected = FIRST + torch.tensor([-1.3862944 - 3, 0.0 - 4])
    torch.testing.assert_close(found, expected)
    assert torch.sigmoid(found[:, 1]).mean().item() == pytest.approx(0.5)


def test_later_batches_get_the_same_offset_also_after_a_restart():
    offset = PriorOffset((20, 50), 100)
    offset(FIRST)
    restarted = PriorOffset((20, 50), 100)
    restarted.load_state_dict(copy.deepcopy(offset.state_dict()))
    other = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    for module in (offset, restarted):
        torch.testing.assert_close(module(other) - other, (module(FIRST) - FIRST)[:1].expand(5, 2))
        assert (module(FIRST) - FIRST)[0].tolist() == pytest.approx([-4.3862944, -4.0])


def test_scoring_before_training_changes_nothing():
    offset = PriorOffset((20, 50), 100).eval()
    assert torch.equal(offset(FIRST), FIRST)
    training = offset.train()(FIRST)
    assert torch.equal(offset.eval()(FIRST), training)


def test_the_gradient_passes_unchanged_and_nothing_is_trained():
    offset = PriorOffset((20, 50), 100)
    logits = FIRST.clone().requires_grad_()
    (offset(logits) * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert logits.grad.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert list(offset.parameters()) == []
