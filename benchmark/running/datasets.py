"""Datasets, opened once for as long as their lists do not change."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import replace
from pathlib import Path

from benchmark.data.dataset import DATA_ROOT_VARIABLE, Dataset, DatasetCard, DatasetFolder
from benchmark.data.lists import list_bytes
from benchmark.data.sources import OwnImages


def open_dataset(folder: DatasetFolder, data_root: Path | None) -> Dataset:
    """The dataset in a folder; its lists are parsed again only when one has changed. Raises InputError."""
    contents: list[str | None] = []
    for name in ("classes", *folder.list_names):
        try:
            contents.append(hashlib.sha256(list_bytes(folder.file(f"{name}.txt", data_root))).hexdigest())
        except OSError:
            contents.append(None)
    dataset = _opened(folder, folder.card, data_root, os.environ.get(DATA_ROOT_VARIABLE), *contents)
    # A copy computes its fingerprint anew: the images may have changed.
    return replace(dataset) if isinstance(dataset.source, OwnImages) else dataset


@functools.lru_cache(maxsize=16)
def _opened(folder: DatasetFolder, card: DatasetCard, data_root: Path | None, *state: str | None) -> Dataset:
    return folder.open(data_root)
