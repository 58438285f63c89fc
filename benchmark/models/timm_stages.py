"""A network of timm as a backbone: divided into stages where its features are a chain of modules.

timm's networks have `forward_features` and `forward_head` in common. One pass on PyTorch's meta device shows which
modules `forward_features` calls, and where each one's input is the output of the one before and nothing else: there the
network can be divided without changing what it computes. The stages are then timm's own groups of layers.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmark.errors import InputError
from benchmark.models.backbones import Backbone

# A network of timm: a module with forward_features, forward_head and group_matcher, for which timm has no type.
Network = Any


class TimmBackbone(Backbone):
    """A network of timm without its class head.

    network: as timm makes it with num_classes=0; what is left of it without the modules of the other stages becomes the
    stem. shell: another one on the meta device, which becomes the pooling.

    Raises InputError for a network that has no map of features.
    """

    def __init__(self, network: nn.Module, shell: Network, image_size: int):
        facts = _trace(shell, image_size)
        stages: OrderedDict[str, nn.Module] = OrderedDict(stem=_Features(network))
        for number, names in enumerate(facts.stages, 1):
            stages[f"stage{number}"] = nn.Sequential(*(network.get_submodule(name) for name in names))
        super().__init__(stages, facts.map_dim, facts.feature_dim)
        self.layout = facts.layout
        self.head: Network = _head(shell, network, facts.head)
        for name in facts.taken:
            network.set_submodule(name, _Absent())

    @property
    def _name(self) -> str:
        return type(self.head).__name__

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """Output of the last stage -> [B, D], as timm pools for a classifier."""
        return self.head.forward_head(features, pre_logits=True)

    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        return _as_map(self.stages(images), self.layout)

    def freeze(self, num_stages: int, batch_norm: bool) -> None:
        if num_stages and len(self.stages) == 1:
            raise InputError(f"frozen_stages: {self._name} of timm cannot be divided into stages; use 0")
        super().freeze(num_stages, batch_norm)

    def branch(self) -> Backbone:
        """See `Backbone.branch`. Raises InputError where the network is not divided."""
        if len(self.stages) == 1:
            raise InputError(f"it copies the last stage, but {self._name} of timm cannot be divided into stages")
        return super().branch()


class _Features(nn.Module):
    """The first stage: what `forward_features` does before and beside the modules that were taken out."""

    def __init__(self, network: Network):
        super().__init__()
        self.network: Network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network.forward_features(images)


class _Absent(nn.Module):
    """What stands for a module that was taken out; the arguments beside the features are None."""

    def forward(self, features: torch.Tensor, *args: None, **kwargs: None) -> torch.Tensor:
        return features


@dataclass(frozen=True)
class _Layout:
    """The layout of features: [B, M, h, w], with `channels_last` [B, h, w, M], or tokens [B, prefix + h * w, M]."""

    channels_last: bool
    prefix: int


@dataclass(frozen=True)
class _Facts:
    """The facts about a network's passes, with modules by their names.

    stages: those after the stem. head: the children that pool. taken: what the stem lacks.
    """

    stages: list[list[str]]
    head: list[str]
    taken: list[str]
    layout: _Layout
    map_dim: int
    feature_dim: int


@dataclass(frozen=True)
class _Call:
    """One call of a module. given: its input, None where there are several."""

    name: str
    given: object
    result: object


def _trace(network: Network, image_size: int) -> _Facts:
    """The facts about a network on the meta device, which computes nothing."""
    network.eval()
    images = torch.empty(2, 3, image_size, image_size, device="meta")
    with torch.no_grad():
        calls, features = _calls(dict(_parts(network)), network.forward_features, images)
        every = {name: module for name, module in network.named_modules() if name}
        pooling, pooled = _calls(every, network.forward_head, features, pre_logits=True)
    layout = _Layout(getattr(network, "output_fmt", "NCHW") == "NHWC", getattr(network, "num_prefix_tokens", 0))
    if not isinstance(features, torch.Tensor) or not isinstance(pooled, torch.Tensor) or pooled.ndim != 2:
        raise InputError(f"{type(network).__name__} of timm has no single map of features; use another network")
    used = {call.name.partition(".")[0] for call in calls}
    head = list(dict.fromkeys(call.name.partition(".")[0] for call in pooling))
    stages = _stages(network, calls, features, head)
    taken = [*(name for names in stages for name in names), *(name for name in head if name not in used)]
    map_dim = _as_map(features, layout).shape[1]
    return _Facts(stages, head, taken, layout, map_dim, pooled.shape[1])


def _calls(
    modules: dict[str, nn.Module], function: Callable[..., Any], *args: Any, **kwargs: Any
) -> tuple[list[_Call], Any]:
    """The calls of modules by a function, in their order, and its result."""
    calls: list[_Call] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, kwargs: dict, result: object) -> None:
            more = [value for value in (*args[1:], *kwargs.values()) if value is not None]
            calls.append(_Call(name, args[0] if args and not more else None, result))

        return hook

    handles = [module.register_forward_hook(note(name), with_kwargs=True) for name, module in modules.items()]
    try:
        return calls, function(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()


def _parts(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The children of a network, and instead of a plain sequence or list its parts."""
    for name, child in module.named_children():
        if type(child) in (nn.Sequential, nn.ModuleList):
            yield from _parts(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def _stages(network: Network, calls: list[_Call], features: torch.Tensor, head: list[str]) -> list[list[str]]:
    """The modules of each stage after the stem: the groups of timm in the chain that ends in the features.

    Empty where a group lies partly outside the chain, so that there is no border between it and others.
    """
    chain, groups = _chain(calls, features), _groups(network)
    of_module = {name: {groups[key] for key in groups if key.startswith(f"{name}.")} for name in chain}
    inside = (*(f"{name}." for name in chain), *(f"{name}." for name in head))
    level = max((group for key, group in groups.items() if not key.startswith(inside)), default=0)
    stages: list[list[str]] = []
    for name in chain:
        own = of_module[name]
        if len(own) > 1 or min(own, default=level) < level:
            return []
        if max(own, default=level) > level:
            stages.append([])
            level = max(own)
        if stages:
            stages[-1].append(name)
    return stages


def _groups(network: Network) -> dict[str, int]:
    """Parameter -> the number of timm's coarse group of layers; all of them one where timm has none.

    The last norm is of no group in some networks: it joins the last.
    """
    from timm.models import group_parameters

    try:
        matcher = network.group_matcher(coarse=True)
    except (AttributeError, AssertionError):  # timm's signs that it has none
        return {name: 0 for name, _ in network.named_parameters()}
    # timm gives what is of no group the largest number: so does this parameter get it.
    network.register_parameter("of_no_group", nn.Parameter(torch.empty(0)))
    groups: dict[str, int] = group_parameters(network, matcher, reverse=True)
    none = groups.pop("of_no_group")
    last = max((group for group in groups.values() if group != none), default=none)
    return {name: min(group, last) for name, group in groups.items()}


def _chain(calls: list[_Call], features: torch.Tensor) -> list[str]:
    """The last modules, each of which is called once and gets the output of the one before, in their order."""
    counts = Counter(call.name for call in calls)
    names: list[str] = []
    wanted: object = features
    for call in reversed(calls):
        if call.result is not wanted or call.given is None or counts[call.name] > 1:
            break
        names.append(call.name)
        wanted = call.given
    return names[::-1]


def _head(shell: Network, network: nn.Module, names: list[str]) -> Network:
    """`shell` with the children of `network` that pool, and without any other parameter."""
    for name, _ in list(shell.named_children()):
        setattr(shell, name, getattr(network, name) if name in names else nn.Identity())
    for name, _ in [*shell.named_parameters(recurse=False), *shell.named_buffers(recurse=False)]:
        delattr(shell, name)
    return shell.train()


def _as_map(features: torch.Tensor, layout: _Layout) -> torch.Tensor:
    """Features in a layout -> [B, M, h, w]. Raises InputError for tokens that are not of a square grid, and for a class
    token alone."""
    if features.ndim == 3:
        patches = features[:, layout.prefix :].transpose(1, 2)
        if features.shape[1] == 1:
            raise InputError("a network of timm gives a single token, which is no map of features; use another network")
        side = math.isqrt(patches.shape[2])
        if side * side != patches.shape[2]:
            raise InputError(f"{patches.shape[2]} tokens of a network of timm are not of a square grid; use another")
        return patches.unflatten(2, (side, side))
    return features.permute(0, 3, 1, 2) if layout.channels_last else features
