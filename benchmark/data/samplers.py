"""Samplers: which training images an epoch draws, in which order.

A sampler is a pure function of (seed, epoch, number of draws), so an interrupted run goes on from the step number
alone. To add one, register a class here; protocols and methods name it.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod

import numpy as np
import torch

from benchmark.registry import Registry

RUN_LENGTH = 3  # consecutive images of a class in class-aware sampling


def generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded by a hash of `parts`, so that different purposes have independent streams."""
    return torch.Generator().manual_seed(_seed_of(*parts))


class Sampler(ABC):
    """Draws indices of training images. targets: {0, 1} [N, C]."""

    def __init__(self, targets: np.ndarray, seed: int):
        self._targets = targets
        self._seed = seed

    @property
    @abstractmethod
    def epoch_length(self) -> int:
        """The sampler's own number of draws an epoch."""

    @abstractmethod
    def draw(self, epoch: int, count: int) -> torch.Tensor:
        """Indices of `count` images for an epoch, int64 [count]."""


SAMPLERS: Registry[type[Sampler]] = Registry("sampler", Sampler)


@SAMPLERS.register("uniform")
class UniformSampler(Sampler):
    """Every image once in shuffled order, then again in a new order where more draws are asked for."""

    @property
    def epoch_length(self) -> int:
        return len(self._targets)

    def draw(self, epoch: int, count: int) -> torch.Tensor:
        rng = generator("uniform", self._seed, epoch)
        n = len(self._targets)
        passes = [torch.randperm(n, generator=rng) for _ in range(-(-count // n))]
        return torch.cat(passes)[:count]


@SAMPLERS.register("class-aware")
class ClassAwareSampler(Sampler):
    """Every class with equal probability (Shen et al., ECCV 2016; DB-loss repository).

    It goes through the classes in shuffled order and takes 3 consecutive images of each from the class's own shuffled
    list; each list starts again in a new order at its end. An epoch has int(max_c n_c * C / 4) draws, at least one.
    Unlike the repository, each epoch starts from newly shuffled lists, and the run's seed decides their order, not 0.
    """

    def __init__(self, targets: np.ndarray, seed: int):
        super().__init__(targets, seed)
        self._images_of = [np.flatnonzero(column) for column in targets.T]

    @property
    def epoch_length(self) -> int:
        return max(1, int(max(map(len, self._images_of)) * len(self._images_of) / 4))

    def draw(self, epoch: int, count: int) -> torch.Tensor:
        rng = np.random.Generator(np.random.PCG64(_seed_of("class-aware", self._seed, epoch)))
        classes = _Cycle(np.arange(len(self._images_of)), rng)
        images = [_Cycle(own, rng) for own in self._images_of]
        drawn: list[int] = []
        while len(drawn) < count:
            own = images[classes.next()]
            drawn.extend(own.next() for _ in range(RUN_LENGTH))
        return torch.tensor(drawn[:count])


def _seed_of(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "little") >> 1


class _Cycle:
    """Items in shuffled order, reshuffled after each pass."""

    def __init__(self, items: np.ndarray, rng: np.random.Generator):
        self._items, self._rng, self._at = items, rng, len(items)
        self._order = items

    def next(self) -> int:
        if self._at == len(self._items):
            self._order, self._at = self._rng.permutation(self._items), 0
        self._at += 1
        return int(self._order[self._at - 1])


def make_sampler(name: str, targets: np.ndarray, seed: int) -> Sampler:
    """A sampler by name. Raises InputError, with the near names, for an unknown one."""
    return SAMPLERS.get(name)(targets, seed)
