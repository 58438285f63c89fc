"""Identical images under several names, found by the digests of their contents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.data.contents import named
from benchmark.errors import InputError
from benchmark.ui.progress import plural

# More pairs than this are only counted.
NAMED = 3

# (list, path) of an image.
Place = tuple[str, str]


@dataclass(frozen=True)
class Duplicates:
    """Contents that are listed more than once: for each, two of the places.

    across: in two lists. within: in one list alone.
    """

    across: tuple[tuple[Place, Place], ...] = ()
    within: tuple[tuple[Place, Place], ...] = ()

    def warning(self) -> str:
        """A line on the images that are several times in one list; empty for none."""
        if not self.within:
            return ""
        return f"warning: {_told(self.within)}: each counts as often as it is listed"

    def refuse(self) -> None:
        """Raise InputError where an image is in two lists."""
        if self.across:
            raise InputError(
                f"{_told(self.across)}: what is scored would have been trained or selected on; take them off one list, "
                "or keep them with --allow-duplicates, which the record then says"
            )


def find_duplicates(paths: Mapping[str, Sequence[str]], digests: Mapping[str, Sequence[str]]) -> Duplicates:
    """The images with the same content. paths, digests: list -> of its images, in order."""
    counts = Counter(digest for of_list in digests.values() for digest in of_list)
    places: dict[str, list[Place]] = {digest: [] for digest, count in counts.items() if count > 1}
    if not places:
        return Duplicates()
    for name, of_list in digests.items():
        for path, digest in zip(paths[name], of_list, strict=True):
            if digest in places:
                places[digest].append((name, path))
    across, within = [], []
    for found in places.values():
        first = found[0]
        elsewhere = next((place for place in found if place[0] != first[0]), None)
        if elsewhere is None:
            within.append((first, found[1]))
        else:
            across.append((first, elsewhere))
    return Duplicates(tuple(across), tuple(within))


def _told(pairs: Sequence[tuple[Place, Place]]) -> str:
    shown = "; ".join(f"{_place(first)} is {_place(second)}" for first, second in pairs[:NAMED])
    more = "; ..." if len(pairs) > NAMED else ""
    return f"{plural(len(pairs), 'image')} listed twice under different names: {shown}{more}"


def _place(place: Place) -> str:
    return f"{named(place[1])} in {place[0]}.txt"
