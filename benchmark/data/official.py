"""The labels that official annotations give for the images of a list: VOC's XML, COCO's instances, NUS-WIDE's files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.data.dataset import DATASETS, Dataset
from benchmark.data.importers.nus_wide import find_folder, read_nus_wide
from benchmark.data.importers.voc import read_voc
from benchmark.data.makers.coco import instances_file, read_instances
from benchmark.errors import InputError

Labels = Mapping[str, frozenset[int]]

_VOC = re.compile(r"(?P<year>(?:.*/)?VOC20\d\d)/JPEGImages/(?P<image>[^/]+)")
_COCO = re.compile(r"(?P<part>(?:train|val)2017)/(?P<image>[^/]+)")
_NUS_WIDE = ("nus-wide", "nus-wide-lt")


@dataclass(frozen=True)
class Official:
    """Official annotations of some images of a dataset.

    name: what they are called. paths: those images, as the lists have them. read: returns their labels, with the
    indices of the dataset's classes, for those images that are annotated; None where the annotations were not found.
    Raises InputError. other: the same by another reading that people use, with what it is; None where there is none.
    """

    name: str
    paths: tuple[str, ...]
    read: Callable[[], Labels] | None
    other: tuple[str, Callable[[], Labels]] | None = None


def official_annotations(dataset: Dataset, paths: Iterable[str], places: Sequence[Path]) -> list[Official]:
    """The official annotations that are known for these images, found or not. places: where they are looked for."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        groups.setdefault(_group(dataset, path), []).append(path)
    groups.pop("", None)
    return [_official(dataset, group, tuple(members), places) for group, members in groups.items()]


def _group(dataset: Dataset, path: str) -> str:
    """The name of the annotations of an image; "" where none are known."""
    if dataset.name in _NUS_WIDE:
        return "NUS-WIDE"
    if match := _VOC.fullmatch(path):
        return f"{match['year']}/Annotations"
    if (match := _COCO.fullmatch(path)) and dataset.classes == DATASETS.get("coco-lt").open().classes:
        return match["part"]
    return ""


def _official(dataset: Dataset, group: str, paths: tuple[str, ...], places: Sequence[Path]) -> Official:
    if group == "NUS-WIDE":
        return Official("NUS-WIDE's label files", paths, _nus_wide(dataset, places))
    if group.endswith("/Annotations"):
        return Official(group, paths, _voc(dataset, group, paths, places))
    name = f"instances_{group}.json"
    given = (file for place in places if (file := place / name).is_file())
    file = next(filter(None, (instances_file(place, group) for place in places)), next(given, None))
    if file is None:
        return Official(name, paths, None)
    return Official(
        name,
        paths,
        lambda: _of_part(group, read_instances(file).labels),
        ("crowd objects did not count", lambda: _of_part(group, read_instances(file, crowd=False).labels)),
    )


def _of_part(part: str, labels: Labels) -> Labels:
    return {f"{part}/{image}": classes for image, classes in labels.items()}


def _voc(dataset: Dataset, group: str, paths: Sequence[str], places: Sequence[Path]) -> Callable[[], Labels] | None:
    year = group.removesuffix("/Annotations").rpartition("/")[2]
    below = (group, f"VOCdevkit/{year}/Annotations", f"{year}/Annotations", year)
    folders = (place / part for place in places for part in below)
    folder = next((folder for folder in folders if folder.is_dir() and any(folder.glob("*.xml"))), None)
    if folder is None:
        return None

    def read() -> Labels:
        found = read_voc(folder)
        # A dataset may have some of the classes: objects of others are no labels there.
        index = {name: i for i, name in enumerate(dataset.classes)}
        kept = {i: index[name] for i, name in enumerate(found.classes) if name in index}
        root = f"{paths[0].rpartition('/')[0]}/"
        return {root + image: frozenset(kept[i] for i in row if i in kept) for image, row in found.labels.items()}

    return read


def _nus_wide(dataset: Dataset, places: Sequence[Path]) -> Callable[[], Labels] | None:
    def folder_in(place: Path) -> Path | None:
        try:
            return find_folder(place)
        except InputError:
            return None

    folder = next(filter(None, map(folder_in, places)), None)
    if folder is None:
        return None

    def read() -> Labels:
        official = read_nus_wide(folder, dataset.classes)
        return {**official.train, **official.test}

    return read
