"""The lists of the registered datasets, and which of them a record was made on."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import TypeVar

from benchmark.data.dataset import DATA_ROOT_VARIABLE, DATASETS, Dataset, ListsNotMade
from benchmark.spec import DatasetRef
from benchmark.store.records import Record

Fact = TypeVar("Fact", bound=Hashable)


def registered(name: str) -> Dataset | None:
    """The registered dataset of a name, read once. Raises InputError for faulty lists.

    None where there is none, or where its lists are made from official files and are not below LTBENCH_DATA.
    """
    try:
        return _opened(name, os.environ.get(DATA_ROOT_VARIABLE)) if name in DATASETS else None
    except ListsNotMade:
        return None


@functools.cache
def _opened(name: str, data_root: str | None) -> Dataset:
    return DATASETS.get(name).open(Path(data_root) if data_root else None)


def registered_split(record: Record) -> Dataset | None:
    """The registered dataset of a record; None where the record's lists are no registered dataset's."""
    ref = record.spec.dataset
    dataset = registered(ref.name)
    return dataset if dataset is not None and dataset.fingerprint == ref.fingerprint else None


def settings_name(ref: DatasetRef) -> str:
    """The name under which protocols and methods may have their own settings for a dataset.

    It is the name of the registered dataset with the same lists, or of the one that this extends; "" otherwise. Lists
    that are made from official files depend on those, so there the name alone decides.
    """
    if ref.name not in DATASETS:
        return ""
    card = DATASETS.get(ref.name).card
    if card.lists == "here":
        dataset = registered(ref.name)
        if dataset is None or dataset.fingerprint != ref.fingerprint:
            return ""
    return card.extends or ref.name


def majority(facts: Iterable[Fact]) -> Fact | None:
    """The most frequent fact; None where two are equally frequent, as nothing says which is right."""
    counts = Counter(facts).most_common(2)
    return counts[0][0] if len(counts) == 1 or counts[0][1] > counts[1][1] else None
