"""The user's input for a run as plain values: seeds, and changes of the recipe and of the method's configuration."""

from __future__ import annotations

import json
import operator
from typing import Any

from benchmark.errors import InputError
from benchmark.method import Method
from benchmark.registry import did_you_mean
from benchmark.spec import FOR_PEOPLE, Recipe, Strict, deep_merge, flatten, nested, plain_value

# Part of a track's name, so they are not listed again among the user's changes.
_TRACK_KEYS = ("backbone", "weights", "image_size")


def read_seed(value: Any) -> int:
    """A seed as Python's int. Raises InputError for anything but a whole number in range."""
    try:
        seed = operator.index(value)
    except TypeError:
        seed = -1
    if isinstance(value, bool) or not 0 <= seed < 2**31:
        raise InputError(f"seed {value} is out of range; give one from 0 to {2**31 - 1}")
    return seed


def plain(data: Any) -> Any:
    """Arguments as plain values, which can be sent to another process. Raises InputError."""
    try:
        return json.loads(json.dumps(data, default=plain_value))
    except (TypeError, ValueError) as error:
        raise InputError(f"settings are not plain data: {error}") from None


def split_settings(settings: dict[str, Any], method: type[Method]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(changes of the recipe, nested; changes of the method's configuration). Raises InputError for an unknown name."""
    recipe: dict[str, Any] = {}
    config: dict[str, Any] = {}
    recipe_keys = [f"recipe.{key}" for key in Recipe.model_fields]
    for key, value in settings.items():
        if key.startswith("recipe."):
            recipe = deep_merge(recipe, nested({key.removeprefix("recipe."): value}))
        elif key in method.Config.model_fields:
            config[key] = value
        else:
            known = [*method.Config.model_fields, *recipe_keys]
            raise InputError(f"unknown setting {key!r} for method {method.title}{did_you_mean(key, known)}")
    return recipe, config


def changed(before: Strict, after: Strict, asked: dict[str, Any]) -> dict[str, Any]:
    """The user's changes that differ from the default: dotted name -> value, with local files by their names."""
    old, new = (flatten(value.model_dump(mode="json", context=FOR_PEOPLE)) for value in (before, after))
    return {key: new[key] for key in flatten(asked) if key not in _TRACK_KEYS and new[key] != old.get(key)}
