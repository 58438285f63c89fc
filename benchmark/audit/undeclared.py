"""Changes that a record does not name: of its protocol's recipe, or of its method's configuration.

What a run changed decides its track and its row, and is no part of its id: whoever left it out of a record would put a
changed run among the unchanged ones.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from benchmark.data.registered import settings_name
from benchmark.errors import InputError
from benchmark.spec import PROTOCOLS, Recipe, canonical_json, deep_merge, flatten, nested, parse
from benchmark.store.records import Record


def changed_recipe(record: Record) -> str | None:
    """What differs from the protocol of this version, and is not among the changes that the record names.

    None where nothing does, and where the protocol is not registered here or has another version. Loads no methods.
    Raises InputError when a registered dataset here cannot be read.
    """
    spec = record.spec
    # The track names these three by themselves.
    own = {"backbone": spec.recipe.backbone, "weights": spec.recipe.weights, "image_size": spec.recipe.image_size}
    if spec.weights.batch_norm == "folded":
        own["batch_norm"] = "frozen"  # as planning does, whatever the protocol says
    named = canonical_json(nested(spec.overrides) | own)
    recipe = _recipe(spec.protocol, spec.protocol_version, spec.method, settings_name(spec.dataset), named)
    if recipe is None or recipe == spec.recipe:
        return None
    protocol = f"protocol {spec.protocol!r} version {spec.protocol_version}"
    if isinstance(recipe, str):
        return f"{protocol} cannot have the changes that it names ({recipe})"
    return f"{_difference(spec.recipe, recipe)} in {protocol} with the changes that it names"


@functools.lru_cache(maxsize=4096)
def _recipe(protocol: str, version: int, method: str, dataset: str, named: str) -> Recipe | str | None:
    """A protocol's recipe with changes (JSON), the reason where there is none, None where the protocol is not known."""
    if protocol not in PROTOCOLS or PROTOCOLS.get(protocol).version != version:
        return None
    try:
        base = PROTOCOLS.get(protocol).recipe_for(method, dataset)
        return parse(Recipe, deep_merge(base.model_dump(mode="json"), json.loads(named)), "recipe")
    except InputError as error:
        return str(error)


def changed_setting(record: Record) -> str | None:
    """`changed_recipe` of the method's configuration; loads the methods, and PyTorch with them."""
    spec = record.spec
    usual = _configuration(spec.method, spec.method_version, settings_name(spec.dataset))
    if usual is None:
        return None
    named = spec.changed_settings
    for name in sorted(spec.config.keys() | usual.keys()):
        if name not in named and spec.config.get(name) != usual.get(name):
            return (
                f"{name} is {spec.config.get(name)!r}, and {usual.get(name)!r} in {spec.method!r} version "
                f"{spec.method_version} with the changes that it names"
            )
    return None


@functools.lru_cache(maxsize=256)
def _configuration(method: str, version: int, dataset: str) -> Mapping[str, Any] | None:
    """A method's own configuration on a dataset; None where the method is not known."""
    from benchmark.method import METHODS  # with torch

    if method not in METHODS or METHODS.get(method).version != version:
        return None
    return METHODS.get(method).configure(dataset, {}).model_dump(mode="json")


def _difference(found: Recipe, expected: Recipe) -> str:
    """The first setting in which two recipes differ."""
    given, usual = (flatten(recipe.model_dump(mode="json")) for recipe in (found, expected))
    name = next(key for key in sorted(given.keys() | usual.keys()) if given.get(key) != usual.get(key))
    return f"recipe.{name} is {given.get(name)!r}, and {usual.get(name)!r}"
