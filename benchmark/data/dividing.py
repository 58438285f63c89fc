"""Labelled images divided into lists, so that each class is in every list in proportion.

Source: Sechidis et al., On the Stratification of Multi-Label Data, ECML PKDD 2011, in the library
iterative-stratification.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from iterstrat.ml_stratifiers import IterativeStratification

from benchmark.errors import InputError


def divide(
    labels: Mapping[str, frozenset[int]],
    num_classes: int,
    shares: Mapping[str, float],
    seed: int,
    together: Iterable[Sequence[str]] = (),
) -> tuple[dict[str, list[str]], list[int]]:
    """The images of each list, in the order of `labels`; and the classes that had no image in the first list until one
    of theirs was moved there.

    shares: name of a list -> its share of the images; they add up to 1. together: images that must be in one list, such
    as copies; an image is in at most one of these groups. Images without a label are divided evenly.
    The division depends on the order of `labels`. Raises InputError where a list would be empty.
    """
    unit_of = {image: group[0] for group in together for image in group}
    of_unit: dict[str, set[int]] = {}
    for image, classes in labels.items():
        of_unit.setdefault(unit_of.get(image, image), set()).update(classes)
    units = list(of_unit)
    targets = np.zeros((len(units), num_classes), dtype=bool)
    for row, unit in zip(targets, units, strict=True):
        row[list(of_unit[unit])] = True
    # RandomState, whose stream is the same in every version of NumPy.
    random = np.random.RandomState(seed)
    order = random.permutation(len(units))
    place = np.empty(len(units), dtype=np.int64)
    place[order] = IterativeStratification(targets[order], np.array(list(shares.values())), random)
    moved = []
    for label in range(num_classes):
        members = targets[:, label]
        if members.any() and not (members & (place == 0)).any():
            place[np.argmax(members)] = 0
            moved.append(label)
    list_of = {unit: list(shares)[i] for unit, i in zip(units, place, strict=True)}
    lists: dict[str, list[str]] = {name: [] for name in shares}
    for image in labels:
        lists[list_of[unit_of.get(image, image)]].append(image)
    for name, images in lists.items():
        if not images:
            raise InputError(
                f"{len(units)} different images are too few: none is left for the list {name}; add images or change "
                "the shares"
            )
    return lists, moved
