"""Text embeddings of the classes from a file: CLIP's, GloVe's or any others."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmark.base.files import is_file, split_file
from benchmark.errors import InputError
from benchmark.registry import did_you_mean

NAMES = "_names"


def is_embeddings_file(reference: str) -> bool:
    """Whether a value names a file for `load_embeddings`: `FILE.npz` or `FILE.npz:KEY`."""
    found = split_file(reference)
    return found is not None and found[0].suffix == ".npz"


def load_embeddings(reference: str, class_names: Sequence[str]) -> torch.Tensor:
    """One vector for each class, in class order, float32 [C, m], as stored.

    reference: `FILE.npz`, with pairs of arrays KEY [n, m], the vectors, and KEY_names [n], their names; the pair that
        names every class is taken. `FILE.npz:KEY` takes that pair.
    class_names: looked up letter by letter.

    Raises InputError when the file is missing, damaged, or holds objects; when no pair names every class; when several
    do and their vectors differ; when vectors are not finite numbers [n, m].
    """
    path, key = split_file(reference) or (Path(reference), "")
    arrays = _read(path)
    pairs = sorted(name for name in arrays if name + NAMES in arrays)
    if not pairs:
        raise InputError(f"{path}: no pair of arrays NAME and NAME{NAMES} in it (it has: {', '.join(arrays)})")
    if key:
        if key not in pairs:
            raise InputError(f"{path}: no embeddings {key!r}{did_you_mean(key, pairs)}")
        pairs = [key]
    names = {pair: _names(arrays[pair + NAMES], f"{path}: {pair}{NAMES}") for pair in pairs}
    missing = {pair: [name for name in class_names if name not in names[pair]] for pair in pairs}
    complete = [pair for pair in pairs if not missing[pair]]
    if not complete:
        nearest = min(pairs, key=lambda pair: len(missing[pair]))
        absent, known = missing[nearest], names[nearest]
        raise InputError(
            f"{path}: {nearest} lacks {len(absent)} of {len(class_names)} classes, first "
            f"{absent[0]!r}{did_you_mean(absent[0], known)}; give a file with a vector for every class"
        )
    found = []
    for pair in complete:
        vectors = _vectors(arrays[pair], len(names[pair]), f"{path}: {pair}")
        found.append(vectors[[names[pair][name] for name in class_names]])
    if not all(np.array_equal(found[0], other) for other in found[1:]):
        raise InputError(f"{path}: {', '.join(complete)} name every class and differ; choose with {path.name}:KEY")
    return torch.from_numpy(found[0])


def expect_width(embeddings: torch.Tensor, width: int, reference: str) -> torch.Tensor:
    """The embeddings [C, m]. Raises InputError unless m is the width of the image tower's features."""
    if embeddings.shape[1] != width:
        raise InputError(
            f"{reference}: embeddings are {embeddings.shape[1]} wide, the image tower gives {width}; "
            "give embeddings of the same CLIP's text tower"
        )
    return embeddings


def _read(path: Path) -> dict[str, np.ndarray]:
    if not is_file(path):
        raise InputError(f"{path}: no such file; give a .npz file of text embeddings")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # a damaged archive can end in almost any error
        objects = "allow_pickle" in str(error) and zipfile.is_zipfile(path)
        reason = "it holds Python objects" if objects else type(error).__name__
        raise InputError(f"{path}: not a whole .npz file of plain arrays ({reason}); write it anew") from None


def _names(array: np.ndarray, where: str) -> dict[str, int]:
    if array.ndim != 1 or array.dtype.kind != "U":
        raise InputError(f"{where} is {array.dtype} {list(array.shape)}; it must be a list of strings")
    names = {str(name): row for row, name in enumerate(array)}
    if len(names) != len(array):
        raise InputError(f"{where} has a name twice; each needs one vector")
    return names


def _vectors(array: np.ndarray, count: int, where: str) -> np.ndarray:
    if array.dtype.kind != "f" or array.ndim != 2 or len(array) != count or not array.shape[1]:
        raise InputError(
            f"{where} is {array.dtype} {list(array.shape)}; it must be floats, a row for each of {count} names"
        )
    with np.errstate(over="ignore"):  # too large for float32: infinite, and refused below
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"{where} has values that are not finite; write the file anew")
    return array
