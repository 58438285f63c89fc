"""The pretrained weights that the protocols name: whether they are here."""

from __future__ import annotations

from collections.abc import Iterator

from benchmark.errors import InputError
from benchmark.models.weights import NONE, resolve_weights
from benchmark.running.doctor.finding import Finding, Place
from benchmark.spec import PROTOCOLS, Protocol, Recipe

PLACE = 7


def check(place: Place) -> Iterator[Finding]:
    """A line for each weights of a backbone, with the protocols that name them."""
    users: dict[tuple[str, str], list[str]] = {}
    sizes: dict[tuple[str, str], int] = {}
    for name, protocol in PROTOCOLS.items():
        for recipe in _recipes(protocol):
            if recipe.weights != NONE:
                key = recipe.backbone, recipe.weights
                sizes.setdefault(key, recipe.image_size)
                users.setdefault(key, []).append(name)
    for (backbone, weights), names in users.items():
        yield _weights(backbone, weights, sizes[backbone, weights], ", ".join(dict.fromkeys(names)))


def _recipes(protocol: Protocol) -> Iterator[Recipe]:
    if not protocol.listed_methods_only:
        yield protocol.recipe
    for method in protocol.methods:
        yield protocol.recipe_for(method)


def _weights(backbone: str, weights: str, image_size: int, users: str) -> Finding:
    check, text = "weights", f"{weights} of {backbone} ({users})"
    try:
        if resolve_weights(backbone, weights, image_size).is_here():
            return Finding(check, "ok", text)
    except InputError as error:
        return Finding(check, "warn", f"{text}: {error}")
    remedy = f"ltbench weights fetch {backbone}/{weights}, where there is a network"
    return Finding(check, "warn", f"{text}: not here", remedy)
