"""The labels that official annotations give for the images of a list: VOC's XML, COCO's instances, NUS-WIDE's files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.data.dataset import DATASETS, Dataset
from benchmark.data.importers.nus_wide import find_folder, read_nus_wide
from benchmark.data.importers.voc import read_voc
from benchmark.data.makers.coco import instances_file, read_instances
from benchmark.data.makers.few_shot import COCO_PARTS, read_coco_2014
from benchmark.errors import InputError

Labels = Mapping[str, frozenset[int]]

_VOC = re.compile(r"(?P<year>(?:.*/)?VOC20\d\d)/JPEGImages/(?P<image>[^/]+)")
_COCO = re.compile(r"(?P<part>(?:train|val)2017)/(?P<image>[^/]+)")
_NUS_WIDE = ("nus-wide", "nus-wide-lt")
_COCO_2014 = ("coco-few-shot-base", "coco-few-shot-1", "coco-few-shot-5")


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
    is_coco = dataset.classes == DATASETS.get("coco-lt").open().classes
    for path in paths:
        groups.setdefault(_group(dataset.name, path, is_coco), []).append(path)
    groups.pop("", None)
    return [_official(dataset, group, tuple(members), places) for group, members in groups.items()]


def _group(dataset: str, path: str, is_coco: bool) -> str:
    """The name of the annotations of an image; "" where none are known. is_coco: whether the classes are COCO's 80."""
    if dataset in _NUS_WIDE:
        return "NUS-WIDE"
    if dataset in _COCO_2014:
        return "COCO 2014"
    if match := _VOC.fullmatch(path):
        return f"{match['year']}/Annotations"
    if is_coco and (match := _COCO.fullmatch(path)):
        return match["part"]
    return ""


def _official(dataset: Dataset, group: str, paths: tuple[str, ...], places: Sequence[Path]) -> Official:
    if group == "NUS-WIDE":
        return Official("NUS-WIDE's label files", paths, _nus_wide(dataset, places))
    if group == "COCO 2014":
        return Official(" and ".join(map(_instances, COCO_PARTS)), paths, _coco_2014(dataset, places))
    if group.endswith("/Annotations"):
        return Official(group, paths, _voc(dataset, group, paths, places))
    name, file = _instances(group), _find_instances(group, places)
    return _coco(name, group, paths, file) if file else Official(name, paths, None)


def _instances(part: str) -> str:
    return f"instances_{part}.json"


def _find_instances(part: str, places: Sequence[Path]) -> Path | None:
    candidates = [file for place in places for file in (instances_file(place, part), place / _instances(part)) if file]
    return next((file for file in candidates if file.is_file()), None)


def _coco_2014(dataset: Dataset, places: Sequence[Path]) -> Callable[[], Labels] | None:
    files = [file for part in COCO_PARTS if (file := _find_instances(part, places))]
    if len(files) < len(COCO_PARTS):
        return None

    def read() -> Labels:
        found = read_coco_2014(files)
        return {path: kept for part in (found.train, found.test) for path, kept in _kept(part, found.classes, dataset)}

    return read


def _kept(labels: Labels, classes: Sequence[str], dataset: Dataset) -> Iterator[tuple[str, frozenset[int]]]:
    """Path and labels of each image, with the indices of the dataset's classes: it may have some of `classes`, and
    objects of others are no labels there."""
    index = {name: i for i, name in enumerate(dataset.classes)}
    kept = {i: index[name] for i, name in enumerate(classes) if name in index}
    for path, row in labels.items():
        yield path, frozenset(kept[i] for i in row if i in kept)


def _coco(name: str, part: str, paths: tuple[str, ...], file: Path) -> Official:
    return Official(
        name,
        paths,
        lambda: _of_part(part, read_instances(file).labels),
        ("crowd objects did not count", lambda: _of_part(part, read_instances(file, crowd=False).labels)),
    )


def _of_part(part: str, labels: Labels) -> Labels:
    return {f"{part}/{image}": classes for image, classes in labels.items()}


def _voc(dataset: Dataset, group: str, paths: Sequence[str], places: Sequence[Path]) -> Callable[[], Labels] | None:
    year = group.removesuffix("/Annotations").rpartition("/")[2]
    below = (group, f"VOCdevkit/{year}/Annotations", f"{year}/Annotations")
    folders = [place / part for place in places for part in below]
    folders += [place / "Annotations" for place in places if place.name == year]
    folder = next((folder for folder in folders if folder.is_dir() and any(folder.glob("*.xml"))), None)
    if folder is None:
        return None

    def read() -> Labels:
        found = read_voc(folder)
        root = f"{paths[0].rpartition('/')[0]}/"
        return {root + image: row for image, row in _kept(found.labels, found.classes, dataset)}

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
