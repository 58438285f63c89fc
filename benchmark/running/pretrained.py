"""The pretrained weights that protocols need, with those of the other networks that methods build."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmark.data.dataset import DATASETS
from benchmark.errors import InputError, Unfit
from benchmark.method import METHODS
from benchmark.models.backbones import BACKBONES
from benchmark.models.clip import clip_architectures
from benchmark.models.weights import PretrainedWeights, resolve_weights
from benchmark.running.absent import networks
from benchmark.running.plan import make_plan
from benchmark.spec import PROTOCOLS

# Side in pixels of the network that weights are held against which no recipe names.
_SIZE = 224


@dataclass(frozen=True)
class Needed:
    """Weights, and the runs that need them. users: protocol -> methods."""

    weights: PretrainedWeights
    users: dict[str, list[str]] = field(default_factory=dict)


def needed_weights(protocol: str | None, method: str | None) -> tuple[list[Needed], list[InputError]]:
    """(the weights that runs of a protocol and a method need, problems with datasets that cannot be opened here).

    protocol, method: None for all. Each method has the recipe that the protocol gives it, and its default settings for
    the datasets that use the protocol by default; for all datasets where none does. Raises InputError for unknown
    names, and where the protocol is for no such method.
    """
    protocols = list(PROTOCOLS) if protocol is None else [PROTOCOLS.get(protocol).name]
    if method is not None:
        METHODS.get(method)
    methods = list(METHODS) if method is None else [method]
    found: dict[str, Needed] = {}
    unfit: list[Unfit] = []
    problems: dict[str, InputError] = {}
    for name, user, dataset in _runs(protocols, methods):
        try:
            plan = make_plan(user, dataset, protocol=name)
        except Unfit as error:
            unfit.append(error)
            continue
        except InputError as error:
            problems[str(error)] = error
            continue
        for weights in networks(plan).values():
            users = found.setdefault(weights.name, Needed(weights)).users.setdefault(name, [])
            if user not in users:
                users.append(user)
    if not found and unfit:
        raise unfit[0]
    return sorted(found.values(), key=lambda needed: needed.weights.name), list(problems.values())


def named_weights(names: Iterable[str]) -> list[PretrainedWeights]:
    """Weights by `BACKBONE/WEIGHTS`, as `ltbench weights list` calls them. Raises InputError for an unknown name."""
    return [_named(name) for name in names]


def _named(name: str) -> PretrainedWeights:
    backbone, slash, weights = name.partition("/")
    if not slash:
        raise InputError(f"weights {name!r}: write BACKBONE/WEIGHTS, as `ltbench weights list` does")
    clip = clip_architectures().get(backbone)
    step = BACKBONES.get(backbone).size_step
    return resolve_weights(backbone, weights, clip.pretrained_size if clip else _SIZE // step * step)


def _runs(protocols: Iterable[str], methods: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(protocol, method, dataset) of runs that may need different weights.

    A method names other networks in its code or in settings that are text, which may differ between datasets. Lists
    that are made from official files may not be here, and no method has settings for these datasets.
    """
    here = {name: folder.card for name, folder in DATASETS.items() if folder.card.lists == "here"}
    for protocol in protocols:
        using = [name for name, card in here.items() if protocol in (card.protocol, card.clip_protocol)]
        for method in methods:
            seen = set()
            for dataset in using or here:
                settings = METHODS.get(method).configure(dataset, {}).model_dump()
                texts = tuple(value for value in settings.values() if isinstance(value, str))
                if texts not in seen:
                    seen.add(texts)
                    yield protocol, method, dataset
