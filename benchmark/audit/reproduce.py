"""The command that repeats a stored run."""

from __future__ import annotations

import functools
import json
import re
import shlex
from typing import Any

from benchmark.base.yamlio import parse_value
from benchmark.data.registered import settings_name
from benchmark.errors import InputError
from benchmark.spec import PROTOCOLS, Recipe, RunSpec, WeightsRef, canonical_json
from benchmark.store.records import Record

_DIGEST = re.compile(r"[0-9a-f]{64}")
# How a configuration names a local file; see `benchmark.spec.FileOrName`.
_FILE = re.compile(r"sha256:(?P<digest>[0-9a-f]{64})(?P<key>:.+)?", re.DOTALL)


def command(record: Record) -> str:
    """`ltbench run ...` for a shell: one command, from which planning makes the same run id.

    A file of weights or a dataset folder has no name and is written FILE or FOLDER; a comment at the end identifies it.
    Raises InputError when a registered dataset here cannot be read.
    """
    spec = record.spec
    dataset = settings_name(spec.dataset)
    words = ["ltbench", "run", "--method", spec.method, "--dataset", dataset or "FOLDER"]
    words += ["--protocol", spec.protocol, "--seed", str(spec.seed)]
    notes = [] if dataset else [f"dataset folder with fingerprint {spec.dataset.fingerprint}"]
    for part, missing in (_network(spec, dataset), _settings(spec)):
        words += part
        notes += missing
    if record.oracle:
        words.append("--oracle")
    if record.shared_images:
        words.append("--allow-duplicates")
    return shlex.join(words) + (f"  # {'; '.join(notes)}" if notes else "")


def _network(spec: RunSpec, dataset: str) -> tuple[list[str], list[str]]:
    """Options for backbone, weights and image size where they are not the protocol's, and notes on nameless files."""
    words, notes = [], []
    default = _default_recipe(spec.protocol, spec.method, dataset)
    if default is None or spec.recipe.backbone != default.backbone:
        words += ["--backbone", spec.recipe.backbone]
    if _is_file(spec.weights):
        words += ["--weights", "FILE"]
        notes.append(f"weights file with sha256 {spec.weights.digest}")
    elif default is None or spec.weights.name != default.weights:
        words += ["--weights", spec.weights.name]
    if default is None or spec.recipe.image_size != default.image_size:
        words += ["--image-size", str(spec.recipe.image_size)]
    return words, notes


@functools.cache
def _default_recipe(protocol: str, method: str, dataset: str) -> Recipe | None:
    """A protocol's recipe for a method; None where there is none here."""
    try:
        return PROTOCOLS.get(protocol).recipe_for(method, dataset)
    except InputError:
        return None


def _is_file(weights: WeightsRef) -> bool:
    """Whether weights came from a local file.

    Published weights have a name instead of a digest, and shipped ones a name as open_clip's, architecture:tag.
    """
    return weights.digest is not None and bool(_DIGEST.fullmatch(weights.digest)) and ":" not in weights.name


def _settings(spec: RunSpec) -> tuple[list[str], list[str]]:
    """Options for the user's changes of recipe and method, and notes on nameless files."""
    words, notes = [], []
    for key, value in spec.overrides.items():
        words += ["--epochs", str(value)] if key == "epochs" else ["--set", f"recipe.{key}={_spelt(value)}"]
    for name in spec.changed_settings:
        value = spec.config.get(name)
        file = _FILE.fullmatch(value) if isinstance(value, str) else None
        if file:
            # The record names a file by its digest; its path is not known.
            value = f"FILE.npz{file['key']}" if file["key"] else "FILE"
            notes.append(f"file of setting {name!r} with sha256 {file['digest']}")
        words += ["--set", f"{name}={_spelt(value)}"]
    return words, notes


def _spelt(value: Any) -> str:
    """A value as the command line reads it back: plain where that is enough, JSON otherwise."""
    if isinstance(value, str) and _reads_as(value, value):
        return value
    text = json.dumps(value, ensure_ascii=False)
    # JSON's own escapes of characters beyond 16 bits would be read as two.
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in text)


def _reads_as(text: str, value: Any) -> bool:
    try:
        return canonical_json(parse_value(text)) == canonical_json(value)
    except (InputError, TypeError, ValueError):  # the last two: a date, or a number that is not finite
        return False
