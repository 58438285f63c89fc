"""The facts of a dataset: what its lists say, and what its card adds.

No image is looked up; see `data.presence` for that.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from benchmark.data.dataset import DATASETS, Dataset, DatasetCard
from benchmark.data.lists import Split
from benchmark.data.sources import OwnImages
from benchmark.data.traps import traps_of
from benchmark.spec import Strict
from benchmark.store.records import GROUPS, Group

# The co-occurrence of more classes would be too large to hold and to show.
MOST_CLASSES = 1000


class ListFacts(Strict):
    """Counts of one list. labels: positive decisions. without_label: images that have none."""

    images: int
    labels: int
    most_labels: int
    without_label: int

    @property
    def labels_per_image(self) -> float:
        """Mean number of labels of an image."""
        return self.labels / self.images


class ClassFacts(Strict):
    """One class: its group, and its positives in each list."""

    name: str
    group: Group
    positives: dict[str, int]


class Pair(Strict):
    """Two classes in training images: `both` of the `given` images with the class `first` have `second` too."""

    first: str
    second: str
    both: int
    given: int


class Facts(Strict):
    """The facts of a dataset.

    fingerprint: None for a dataset that is not registered, whose images would have to be read. rule: of the
    groups, in words. imbalance: training positives of the most frequent class divided by those of the rarest.
    cooccurrence: P(column | row) in the training list, [C][C] in class order, None for more than MOST_CLASSES classes.
    episodes: support sets of a few-shot dataset, 0 for others; its training list is the one of episode 0.
    """

    name: str
    title: str
    notes: str
    fingerprint: str | None
    episodes: int
    lists: dict[str, ListFacts]
    rule: str
    groups: dict[str, int]
    imbalance: float
    classes: list[ClassFacts]
    cooccurrence: list[list[float]] | None
    sources: list[str]
    terms: list[str]
    traps: list[str]

    def ranked(self) -> list[ClassFacts]:
        """The classes, head first, most frequent first."""
        return sorted(self.classes, key=lambda one: (-one.positives["train"], one.name))

    def closest_pairs(self, most: int) -> list[Pair]:
        """The pairs of classes with the highest P(second | first) in the training list, rarest `first` last.

        Only pairs that are in two images or more, since those of one image are chance.
        """
        if self.cooccurrence is None:
            return []
        shares = np.array(self.cooccurrence)
        np.fill_diagonal(shares, 0.0)
        given = np.array([one.positives["train"] for one in self.classes])
        both = np.rint(shares * given[:, None]).astype(int)
        shares[both < 2] = 0.0
        order = np.lexsort((-both.ravel(), -shares.ravel()))[:most]
        places = [divmod(int(place), len(given)) for place in order if shares.flat[place] > 0]
        names = [one.name for one in self.classes]
        return [
            Pair(first=names[row], second=names[column], both=int(both[row, column]), given=int(given[row]))
            for row, column in places
        ]


def _rule(card: DatasetCard) -> str:
    if card.groups == "thirds":
        return "thirds of the classes by training images"
    return f"head from {card.head_from} training images, medium from {card.medium_from}"


def facts_of(dataset: Dataset) -> Facts:
    """The facts of an opened dataset."""
    groups = list[str](dataset.groups.values())
    counts = dataset.class_counts
    positives = {split.name: split.positives.tolist() for split in dataset.splits.values()}
    return Facts(
        name=dataset.name,
        title=dataset.card.title,
        notes=dataset.card.notes,
        fingerprint=None if isinstance(dataset.source, OwnImages) else dataset.fingerprint,
        episodes=len(dataset.supports),
        lists={name: _list_facts(split) for name, split in dataset.splits.items()},
        rule=_rule(dataset.card),
        groups={group: groups.count(group) for group in GROUPS},
        imbalance=float(counts.max() / counts.min()),
        classes=[
            ClassFacts(name=name, group=group, positives={split: of[k] for split, of in positives.items()})
            for k, (name, group) in enumerate(dataset.groups.items())
        ],
        cooccurrence=_cooccurrence(dataset.splits["train"]),
        sources=_of_card(dataset.card, "sources"),
        terms=_of_card(dataset.card, "terms"),
        traps=[*_of_card(dataset.card, "traps"), *traps_of(dataset)],
    )


def _of_card(card: DatasetCard, field: Literal["sources", "terms", "traps"]) -> list[str]:
    """The texts of a card, those of the dataset that it extends first."""
    base = _of_card(DATASETS.get(card.extends).card, field) if card.extends else []
    return [*base, *getattr(card, field)]


def _list_facts(split: Split) -> ListFacts:
    labels = split.targets.sum(axis=1, dtype=np.int64)
    return ListFacts(
        images=len(split),
        labels=int(labels.sum()),
        most_labels=int(labels.max()),
        without_label=int((labels == 0).sum()),
    )


def _cooccurrence(train: Split) -> list[list[float]] | None:
    """P(column | row), rounded far below what is shown."""
    if train.targets.shape[1] > MOST_CLASSES:
        return None
    # float64 counts exactly; a matrix product of integers is far slower.
    targets = train.targets.astype(np.float64)
    both = targets.T @ targets
    return (both / both.diagonal()[:, None]).round(6).tolist()
