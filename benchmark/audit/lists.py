"""Checks of a run against the registered lists of its dataset: the split, its counts, its labels."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping

import numpy as np

from benchmark.audit.files import RECORD, Files
from benchmark.data.dataset import DATASETS
from benchmark.data.registered import registered, registered_split
from benchmark.errors import InputError
from benchmark.store.logits import TARGETS, VALIDATION_TARGETS
from benchmark.store.records import Record

# Tensor of labels -> the list that they are of.
_LISTS = {TARGETS: "test", VALIDATION_TARGETS: "val"}


def split_fault(record: Record, files: Files) -> str | None:
    """A message for a record that contradicts the registered dataset of its name.

    None where they agree, where no dataset of that name is registered, and for lists that are made from official files
    and may differ with these. Raises InputError for a registered dataset that
    cannot be read.
    """
    ref = record.spec.dataset
    dataset = registered(ref.name)
    if dataset is None or DATASETS.get(ref.name).card.lists == "data-root" and registered_split(record) is None:
        return None
    if dataset.fingerprint != ref.fingerprint:
        return (
            f"{files.where}{RECORD}: the split differs: dataset {ref.name!r} has the fingerprint "
            f"{dataset.fingerprint[:12]} here, the record has {ref.fingerprint[:12]}; keep results of other lists "
            "under another dataset name, or run again"
        )
    try:
        dataset = dataset.of_seed(record.spec.seed)
    except InputError as error:
        return files.fault(RECORD, str(error))
    if (record.episode is not None) != bool(dataset.supports):
        return files.fault(RECORD, f"dataset {ref.name!r} has {'' if dataset.supports else 'no '}episodes")
    validation: list[int | None] = [len(dataset.splits["val"])] if "val" in dataset.splits else [None]
    if record.schema_version == 1:
        validation.append(None)  # which has no validation logits
    if record.num_validation_images not in validation:
        return files.fault(RECORD, f"num_validation_images is not that of dataset {ref.name!r}")
    recorded = (record.groups, record.class_counts, record.num_train_images, record.num_test_images)
    counts = dict(zip(dataset.classes, dataset.class_counts.tolist(), strict=True))
    if recorded != (dataset.groups, counts, len(dataset.splits["train"]), len(dataset.splits["test"])):
        return files.fault(RECORD, f"groups, class_counts or numbers of images are not those of dataset {ref.name!r}")
    return None


def label_faults(record: Record, labels: Mapping[str, str], files: Files) -> list[str]:
    """A message for each list whose labels are not the run's. labels: `Contents.labels`."""
    dataset = registered_split(record)
    if dataset is None:
        return []
    known = _digests(dataset.name, dataset.fingerprint)
    return [
        files.fault(record.logits.file, f"{key} are not those of the {_LISTS[key]} list of dataset {dataset.name!r}")
        for key, digest in labels.items()
        if known.get(key, digest) != digest  # `split_fault` reports a missing list
    ]


@functools.lru_cache(maxsize=64)
def _digests(name: str, fingerprint: str) -> dict[str, str]:
    """sha256 of the labels of a registered dataset's lists, which its fingerprint determines: tensor -> digest."""
    dataset = registered(name)
    assert dataset is not None and dataset.fingerprint == fingerprint
    return {
        key: hashlib.sha256(np.ascontiguousarray(dataset.splits[split].targets, np.uint8).data).hexdigest()
        for key, split in _LISTS.items()
        if split in dataset.splits
    }
