"""The stored logits and labels of a run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from benchmark.base.files import read_regular
from benchmark.errors import StoreError
from benchmark.store.records import Record

# The tensors of a logits file beside those of the weight sets; see `records.LogitsFile`.
TARGETS, VALIDATION, VALIDATION_TARGETS = "targets", "validation", "validation_targets"


def load_logits(root: Path | str, record: Record) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Stored test logits and targets of a record: ({"raw": float32 [N, C], ...}, uint8 [N, C]).

    Raises StoreError when the file is missing or its digest is not the record's.
    """
    stored = read_logits(logits_path(root, record), record.logits.sha256)
    return stored.logits, stored.targets


def logits_path(root: Path | str, record: Record) -> Path:
    """Path of the stored logits of a record."""
    return Path(root) / "runs" / record.folder_name / record.logits.file


@dataclass(frozen=True)
class StoredLogits:
    """The content of a file of logits.

    logits: of the test list, weight set -> float32 [N, C]. targets: uint8 [N, C]. validation: logits of the declared
    weight set and targets [M, C] on the validation list; None where there are none.
    """

    logits: dict[str, np.ndarray]
    targets: np.ndarray
    validation: tuple[np.ndarray, np.ndarray] | None


def read_logits(path: Path, sha256: str) -> StoredLogits:
    """The file of stored logits at `path`.

    Raises StoreError when it is missing, has another digest or holds no labels.
    """
    tensors = read_tensors(path, sha256)
    if TARGETS not in tensors or (VALIDATION in tensors) != (VALIDATION_TARGETS in tensors):
        raise StoreError(f"{path}: holds no labels; run again with --rerun always")
    targets = tensors.pop(TARGETS)
    validation = (tensors.pop(VALIDATION), tensors.pop(VALIDATION_TARGETS)) if VALIDATION in tensors else None
    return StoredLogits(tensors, targets, validation)


def read_tensors(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """The tensors of a file whose digest a record names. Raises StoreError for anything else."""
    try:
        content = read_regular(path)
    except OSError as error:
        problem = f"the stored logits cannot be read: {error.strerror or error}"
        raise StoreError(f"{path}: {problem}; restore the file, or run again with --rerun always") from None
    try:
        return tensors_of(content, sha256)
    except ValueError as error:
        raise StoreError(f"{path}: {error}; run again with --rerun always") from None


def tensors_of(content: bytes, sha256: str) -> dict[str, np.ndarray]:
    """The tensors in the content of a file whose digest a record names. Raises ValueError, naming the problem."""
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise ValueError(f"its sha256 is {digest[:12]}, and the record names {sha256[:12]}")
    try:
        return load_safetensors(content)
    except (SafetensorError, ValueError, LookupError, TypeError) as error:  # the last three: a type that NumPy lacks
        raise ValueError(f"not a safetensors file of numbers ({error})") from None
