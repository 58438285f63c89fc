"""Checks of the names in a record: of its dataset, its pretrained weights, its method's version.

None of these names is part of a run's id, so an edited record is still valid. The run would then be in another table,
or under another label, than its own.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from benchmark.base.files import file_digest, split_file
from benchmark.data.dataset import DATASETS, DatasetFolder, ListsNotMade
from benchmark.errors import InputError
from benchmark.method import METHODS
from benchmark.models.backbones import BACKBONES
from benchmark.models.weights import NONE, resolve_weights, shipped_weights
from benchmark.spec import RunSpec
from benchmark.store.records import Record

_SHA256 = re.compile("[0-9a-f]{64}")


def misnamed(record: Record) -> Iterator[str]:
    """The problems of the names in a record, as far as they are known here.

    Raises InputError for a registered dataset that cannot be read.
    """
    for problem in (_of_dataset(record.spec), _of_weights(record.spec), _of_version(record.spec)):
        if problem is not None:
            yield problem


def unknown_settings(record: Record) -> str:
    """Why the method's settings cannot be compared with those of this version, empty where they can."""
    spec = record.spec
    if spec.method not in METHODS:
        return f"method {spec.method!r} is not registered here: its settings could not be compared"
    known = METHODS.get(spec.method).version
    if spec.method_version != known:
        versions = f"method {spec.method!r} has version {spec.method_version}, and {known} here"
        return f"{versions}: its settings could not be compared"
    return ""


def _of_dataset(spec: RunSpec) -> str | None:
    ref = spec.dataset
    name = _registered_names().get(ref.fingerprint, ref.name)
    if name == ref.name:
        return None
    return f"spec.dataset.name is {ref.name!r}, and these are the lists of the registered dataset {name!r}"


def _registered_names() -> dict[str, str]:
    """Fingerprint -> name of the registered dataset with these lists."""
    found = {name: _fingerprint(DATASETS.get(name)) for name in DATASETS}
    return {fingerprint: name for name, fingerprint in found.items() if fingerprint is not None}


@functools.cache
def _fingerprint(folder: DatasetFolder) -> str | None:
    try:
        return folder.open().fingerprint
    except ListsNotMade:
        return None


def _of_weights(spec: RunSpec) -> str | None:
    name, digest = spec.weights.name, spec.weights.digest
    if spec.recipe.weights != name:
        return f"spec.weights.name is {name!r}, and spec.recipe.weights {spec.recipe.weights!r}"
    if (name == NONE) != (digest is None):
        return f"spec.weights.name is {name!r}, and spec.weights.digest {digest!r}"
    if digest is None:
        return None
    shipped = shipped_weights()
    own = next((tag for tag, path in shipped.items() if digest == file_digest(path)), None)
    if own is not None and name not in (own, shipped[own].stem):
        return f"spec.weights.name is {name!r}, and these are the weights {own!r}"
    if spec.recipe.backbone not in BACKBONES:
        return None
    published = _published(spec.recipe.backbone, name, spec.recipe.image_size)
    if published is None:  # a file's name, unless the digest is that of published weights
        if _SHA256.fullmatch(digest):
            return None
        return f"spec.weights.name is {name!r}, which is not the name of the published weights {digest!r}"
    if not _is_digest(digest, published):
        return f"spec.weights.digest is {digest[:40]!r}, and weights {name!r} have {published[:40]!r}"
    return None


@functools.lru_cache(maxsize=256)
def _published(backbone: str, name: str, image_size: int) -> str | None:
    """The digest of the weights that are published under a name; None where there are none."""
    if split_file(name):
        return None
    try:
        return resolve_weights(backbone, name, image_size).ref.digest
    except InputError:
        return None


def _is_digest(digest: str, published: str) -> bool:
    """Whether a record's digest is that of published weights, in one of three forms.

    The form of planning; that of early records, without the publisher; the sha256 of a local copy, whose first digits
    end the published file's name.
    """
    file = published.rpartition("/")[2]
    digits = file.rpartition(".")[0].rpartition("-")[2]
    copy = bool(re.fullmatch("[0-9a-f]{8,}", digits)) and bool(_SHA256.fullmatch(digest)) and digest.startswith(digits)
    return digest in (published, file) or copy


def _of_version(spec: RunSpec) -> str | None:
    if spec.method not in METHODS or spec.method_version <= METHODS.get(spec.method).version:
        return None
    known = METHODS.get(spec.method).version
    return (
        f"spec.method_version is {spec.method_version}, and {spec.method!r} has no version above {known} here, so that "
        "its settings cannot be compared; update ltbench"
    )
