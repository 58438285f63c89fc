"""Changes that a record does not name: of its protocol's recipe, or of its method's configuration.

A run's changes decide its track and its row, and are not part of its id. Left out of a record, they would put a changed
run among the unchanged ones.
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
    """A setting that differs from the protocol of this version without being among the changes that the record names.

    None where there is none, and where the protocol is not registered here or has another version. Loads no methods.
    Raises InputError when a registered dataset here cannot be read.
    """
    spec = record.spec
    # The track names these three.
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
    """A protocol's recipe with changes (JSON); the reason where they are invalid; None for an unknown protocol."""
    if protocol not in PROTOCOLS or PROTOCOLS.get(protocol).version != version:
        return None
    try:
        base = PROTOCOLS.get(protocol).recipe_for(method, dataset)
        return parse(Recipe, deep_merge(base.model_dump(mode="json"), json.loads(named)), "recipe")
    except InputError as error:
        return str(error)


def changed_setting(record: Record) -> str | None:
    """As `changed_recipe`, for the method's configuration; loads the methods, and PyTorch with them."""
    spec = record.spec
    default = _configuration(spec.method, spec.method_version, settings_name(spec.dataset))
    if default is None:
        return None
    named = spec.changed_settings
    for name in sorted(spec.config.keys() | default.keys()):
        if name not in named and spec.config.get(name) != default.get(name):
            return (
                f"{name} is {spec.config.get(name)!r}, and {default.get(name)!r} in {spec.method!r} version "
                f"{spec.method_version} with the changes that it names"
            )
    return None


@functools.lru_cache(maxsize=256)
def _configuration(method: str, version: int, dataset: str) -> Mapping[str, Any] | None:
    """A method's default configuration on a dataset; None where the method is not known."""
    from benchmark.method import METHODS  # with torch

    if method not in METHODS or METHODS.get(method).version != version:
        return None
    return METHODS.get(method).configure(dataset, {}).model_dump(mode="json")


def _difference(found: Recipe, expected: Recipe) -> str:
    """The first setting in which two recipes differ."""
    given, other = (flatten(recipe.model_dump(mode="json")) for recipe in (found, expected))
    name = next(key for key in sorted(given.keys() | other.keys()) if given.get(key) != other.get(key))
    return f"recipe.{name} is {given.get(name)!r}, and {other.get(name)!r}"
