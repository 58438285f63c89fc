"""The registered datasets' lists as they are here, and which of them a record was made on."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TypeVar

from benchmark.data.dataset import DATASETS, Dataset
from benchmark.records import Record

Fact = TypeVar("Fact", bound=Hashable)


@functools.cache
def registered(name: str) -> Dataset | None:
    """The registered dataset of a name, read once, None where there is none. Raises InputError for lists that are not
    whole."""
    return DATASETS.get(name).open() if name in DATASETS else None


def registered_split(record: Record) -> Dataset | None:
    """The registered dataset that a record is of, None where its lists are no registered dataset's."""
    dataset = registered(record.spec.dataset.name)
    return dataset if dataset and dataset.fingerprint == record.spec.dataset.fingerprint else None


def usual(facts: Iterable[Fact]) -> Fact | None:
    """What most say; None where no fact is told more often than every other: nothing says which is right."""
    counts = Counter(facts).most_common(2)
    return counts[0][0] if len(counts) == 1 or counts[0][1] > counts[1][1] else None
