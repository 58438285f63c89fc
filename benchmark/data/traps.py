"""What leads to wrong numbers on a dataset and can be computed from its lists, a sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmark.data.dataset import Dataset
from benchmark.store.records import GROUPS

# A tail class with fewer test positives has an average precision that single images decide.
FEW_POSITIVES = 50
_NAMED = 6  # names that a sentence has before it only counts


def traps_of(dataset: Dataset) -> list[str]:
    """The traps of an opened dataset."""
    return [*_borders(dataset), *_scores(dataset), *_unlabeled(dataset), *_validation(dataset)]


def _borders(dataset: Dataset) -> Iterator[str]:
    """Classes whose group depends on how the rule is read."""
    card, counts = dataset.card, dataset.class_counts
    if card.groups == "thirds":
        return
    exact = {border: _names(dataset, counts == border) for border in (card.head_from, card.medium_from)}
    if not any(exact.values()):
        return
    where = " and ".join(f"{_listed(names)} exactly on {border}" for border, names in exact.items() if names)
    groups = list[str](dataset.groups.values())
    ours = [groups.count(group) for group in GROUPS]
    head, tail = int((counts > card.head_from).sum()), int((counts <= card.medium_from).sum())
    others = (head, len(counts) - head - tail, tail)
    yield (
        f"Training positives: {where}. The groups here count from the border on (n >= {card.head_from}, "
        f"n >= {card.medium_from}): {_slashed(ours)} classes. With n > {card.head_from} and n > {card.medium_from}, as "
        f"some papers write, they would be {_slashed(others)}, and head, medium and tail means would be others."
    )


def _scores(dataset: Dataset) -> Iterator[str]:
    """Classes without a test positive, and with few."""
    positives = dataset.splits["test"].positives
    if missing := _names(dataset, positives == 0):
        yield (
            f"Without a test positive: {_listed(missing)}. Such a class has no average precision, and no mean contains "
            "it."
        )
    tail = np.array([group == "tail" for group in dataset.groups.values()])
    scored = tail & (positives > 0)
    if not scored.any() or positives[scored].min() >= FEW_POSITIVES:
        return
    fewest = int(positives[scored].min())
    few = _names(dataset, scored & (positives < FEW_POSITIVES))
    yield (
        f"The average precision of a tail class rests on few test positives: {fewest} for "
        f"{_listed(_names(dataset, scored & (positives == fewest)))}, fewer than {FEW_POSITIVES} for {len(few)} of "
        f"{int(scored.sum())} tail classes. A difference of a few points there may be chance; compare the intervals."
    )


def _unlabeled(dataset: Dataset) -> Iterator[str]:
    """Images without a label."""
    for split in dataset.splits.values():
        count = int((split.targets.sum(axis=1) == 0).sum())
        if count:
            yield (
                f"{count:,} of {len(split):,} images of the {_LISTS[split.name]} list have no label. They stay in, as "
                "negatives of every class; leaving them out gives other numbers."
            )


def _validation(dataset: Dataset) -> Iterator[str]:
    """A validation list that is missing, larger than the training list, or without some classes."""
    if "val" not in dataset.splits:
        yield (
            "There is no validation list: the last epoch is scored, as no images are left on which one could be chosen."
        )
        return
    train, val = dataset.splits["train"], dataset.splits["val"]
    labels = int(train.targets.sum(dtype=np.int64)), int(val.targets.sum(dtype=np.int64))
    if len(val) > len(train) or labels[1] > labels[0]:
        yield (
            f"The validation list ({len(val):,} images, {labels[1]:,} labels) is larger than the training list "
            f"({len(train):,} images, {labels[0]:,} labels): settings that are tuned on it rest on more labels than "
            "the training has."
        )
    if missing := _names(dataset, val.targets.sum(axis=0) == 0):
        yield f"Without a validation positive: {_listed(missing)}. Selection by validation does not see these classes."


_LISTS = {"train": "training", "val": "validation", "test": "test"}


def _names(dataset: Dataset, chosen: np.ndarray) -> list[str]:
    return [name for name, is_chosen in zip(dataset.classes, chosen, strict=True) if is_chosen]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _slashed(counts: Sequence[int]) -> str:
    return " / ".join(map(str, counts))
