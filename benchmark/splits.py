"""The registered datasets' lists as they are here, and which of them a record was made on."""

from __future__ import annotations

import functools

from benchmark.data.dataset import DATASETS, Dataset
from benchmark.records import Record


@functools.cache
def registered(name: str) -> Dataset | None:
    """The registered dataset of a name, read once, None where there is none. Raises InputError for lists that are not
    whole."""
    return DATASETS.get(name).open() if name in DATASETS else None


def registered_split(record: Record) -> Dataset | None:
    """The registered dataset that a record is of, None where its lists are no registered dataset's."""
    dataset = registered(record.spec.dataset.name)
    return dataset if dataset and dataset.fingerprint == record.spec.dataset.fingerprint else None
