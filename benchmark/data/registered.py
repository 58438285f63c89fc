"""The lists of the registered datasets, and which of them a record was made on."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TypeVar

from benchmark.data.dataset import DATASETS, Dataset
from benchmark.spec import DatasetRef
from benchmark.store.records import Record

Fact = TypeVar("Fact", bound=Hashable)


@functools.cache
def registered(name: str) -> Dataset | None:
    """The registered dataset of a name, read once; None where there is none. Raises InputError for faulty lists."""
    return DATASETS.get(name).open() if name in DATASETS else None


def registered_split(record: Record) -> Dataset | None:
    """The registered dataset of a record; None where the record's lists are no registered dataset's."""
    return registered(record.spec.dataset.name) if settings_name(record.spec.dataset) else None


def settings_name(ref: DatasetRef) -> str:
    """The name under which protocols and methods may have their own settings for a dataset.

    It is the dataset's name where the registered dataset of that name has the same lists, "" otherwise.
    """
    dataset = registered(ref.name)
    return ref.name if dataset is not None and dataset.fingerprint == ref.fingerprint else ""


def majority(facts: Iterable[Fact]) -> Fact | None:
    """The most frequent fact; None where two are equally frequent, as nothing says which is right."""
    counts = Counter(facts).most_common(2)
    return counts[0][0] if len(counts) == 1 or counts[0][1] > counts[1][1] else None
