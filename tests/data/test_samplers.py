"""Samplers: pure functions of seed, epoch and count, with the class balance that they promise."""

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.data.dataset import find_dataset
from benchmark.data.samplers import SAMPLERS, generator, make_sampler
from benchmark.errors import InputError

COUNTS = [7, 1, 4, 2, 12]


@pytest.fixture
def exclusive():
    """Targets with one label an image, COUNTS[c] images of class c."""
    return np.repeat(np.eye(len(COUNTS), dtype=np.uint8), COUNTS, axis=0)


def labels_of(targets):
    return targets.argmax(axis=1)


def targets_of(dataset):
    return find_dataset(dataset).open(Path("somewhere")).splits["train"].targets


@pytest.mark.parametrize("name", list(SAMPLERS))
@pytest.mark.parametrize("count", [1, 26, 100])
def test_draws_as_many_indices_as_asked_for(name, count, exclusive):
    drawn = make_sampler(name, exclusive, 0).draw(0, count)
    assert drawn.shape == (count,) and drawn.dtype == torch.int64
    assert drawn.min() >= 0 and drawn.max() < len(exclusive)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_seed_and_epoch_decide_the_draws(name, exclusive):
    def draw(seed, epoch):
        return make_sampler(name, exclusive, seed).draw(epoch, 60).tolist()

    draws = [draw(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert draws == [draw(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert all(a != b for i, a in enumerate(draws) for b in draws[:i])


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_an_epoch_does_not_depend_on_the_epochs_before(name, exclusive):
    sampler = make_sampler(name, exclusive, 5)
    in_order = [sampler.draw(epoch, 40).tolist() for epoch in range(3)]
    assert make_sampler(name, exclusive, 5).draw(2, 40).tolist() == in_order[2]


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_fewer_draws_are_the_first_ones(name, exclusive):
    sampler = make_sampler(name, exclusive, 5)
    assert sampler.draw(1, 17).tolist() == sampler.draw(1, 90)[:17].tolist()


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_global_random_state_is_neither_used_nor_changed(name, exclusive):
    draws = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        draws.append(make_sampler(name, exclusive, 0).draw(0, 50).tolist())
        assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states
    assert draws[0] == draws[1]


def test_uniform_epoch_is_a_permutation(exclusive):
    sampler = make_sampler("uniform", exclusive, 0)
    assert sampler.epoch_length == len(exclusive)
    drawn = sampler.draw(0, sampler.epoch_length).tolist()
    assert drawn != sorted(drawn) and sorted(drawn) == list(range(len(exclusive)))


def test_uniform_passes_within_an_epoch_are_reshuffled(exclusive):
    n = len(exclusive)
    passes = make_sampler("uniform", exclusive, 0).draw(0, 3 * n).reshape(3, n)
    assert (passes.sort(dim=1).values == torch.arange(n)).all()
    assert len({tuple(one.tolist()) for one in passes}) == 3


@pytest.mark.parametrize(("dataset", "length"), [("voc-lt", 3875), ("coco-lt", 22560)])
def test_class_aware_epoch_length_is_the_published_one(dataset, length):
    assert make_sampler("class-aware", targets_of(dataset), 0).epoch_length == length


@pytest.mark.parametrize(("rows", "length"), [([[1, 1, 1]], 1), ([[1, 0], [0, 1]], 1), ([[1]], 1), ([[1, 1]] * 4, 2)])
def test_class_aware_epoch_of_very_few_images_has_a_draw(rows, length):
    """int(max_c n_c * C / 4) is 0 for the first three: an epoch without a step."""
    sampler = make_sampler("class-aware", np.array(rows, dtype=np.uint8), 0)
    assert sampler.epoch_length == length and len(sampler.draw(0, 8)) == 8


def test_class_aware_draws_runs_of_three_from_every_class_equally_often(exclusive):
    c, cycles = len(COUNTS), 20
    drawn = make_sampler("class-aware", exclusive, 3).draw(0, 3 * c * cycles)
    labels = labels_of(exclusive)[drawn.numpy()].reshape(cycles, c, 3)
    assert (labels == labels[:, :, :1]).all()
    orders = labels[:, :, 0]
    assert (np.sort(orders, axis=1) == np.arange(c)).all()
    assert len({tuple(order) for order in orders}) > 1


def test_class_aware_goes_through_a_classs_own_list_before_it_repeats(exclusive):
    drawn = make_sampler("class-aware", exclusive, 3).draw(0, 3 * len(COUNTS) * 24).numpy()
    labels = labels_of(exclusive)[drawn]
    for k, n in enumerate(COUNTS):
        passes = drawn[labels == k]
        passes = passes[: len(passes) // n * n].reshape(-1, n)
        assert (np.sort(passes, axis=1) == np.flatnonzero(labels_of(exclusive) == k)).all()
        if n > 2:
            assert any(tuple(a) != tuple(b) for a, b in pairwise(passes))


def test_class_aware_run_holds_images_of_the_class_also_with_several_labels():
    targets = targets_of("voc-lt")
    runs = make_sampler("class-aware", targets, 0).draw(0, 3 * 20 * 60).numpy().reshape(-1, 20, 3)
    shared = targets[runs].min(axis=2)  # labels that all three images of a run have, [cycles, 20, C]
    # Every cycle can be read as one run for each class, the rarest included.
    assert shared.any(axis=2).all() and shared.any(axis=1).all()


def test_class_aware_balances_the_rare_classes():
    targets = targets_of("voc-lt")
    drawn = make_sampler("class-aware", targets, 0).draw(0, 3875).numpy()
    rarest = targets.sum(axis=0).argmin()
    assert targets[drawn][:, rarest].mean() > 0.04 > 10 * targets[:, rarest].mean()


def test_unknown_sampler_suggests_the_near_one(exclusive):
    with pytest.raises(InputError, match="unknown sampler 'class_aware'; did you mean 'class-aware'"):
        make_sampler("class_aware", exclusive, 0)


def test_generators_of_other_parts_are_other_streams():
    parts = [("a", 0), ("a", 1), ("b", 0), ("a", 0, 0)]
    draws = [tuple(torch.rand(4, generator=generator(*p)).tolist()) for p in parts]
    assert len(set(draws)) == len(parts)
    assert draws[0] == tuple(torch.rand(4, generator=generator("a", 0)).tolist())


def test_a_sampler_is_added_by_its_registration_alone(exclusive, monkeypatch):
    monkeypatch.setattr(SAMPLERS, "_entries", SAMPLERS._entries | {})

    @SAMPLERS.register("backwards")
    class Backwards(type(make_sampler("uniform", exclusive, 0))):
        def draw(self, epoch, count):
            return super().draw(epoch, count).flip(0)

    drawn = make_sampler("backwards", exclusive, 0).draw(0, 9)
    assert drawn.tolist() == make_sampler("uniform", exclusive, 0).draw(0, 9).tolist()[::-1]
