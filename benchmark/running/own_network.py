"""Detects whether a method scores images by the recipe's backbone or by a network of its own.

A method with a network of its own is in a table apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

_MARK = "_ltbench_of_recipe"
Network = TypeVar("Network", bound=nn.Module)


def of_recipe(network: Network) -> Network:
    """The recipe's image network, marked as such; its modules and their copies carry the mark."""
    for module in network.modules():
        module.__dict__[_MARK] = True  # no parameter or buffer, so in no state dict
    return network


class Watch:
    """used: whether a module of the recipe's image network was called."""

    used = False


@contextmanager
def watching() -> Iterator[Watch]:
    """Watch, for the duration of the block, whether any module that `of_recipe` marked is called."""
    watch = Watch()

    def note(module: nn.Module, inputs: object) -> None:
        if _MARK in module.__dict__:
            watch.used = True
            handle.remove()  # one call is enough, and later ones cost no time

    handle = register_module_forward_pre_hook(note)
    try:
        yield watch
    finally:
        handle.remove()
