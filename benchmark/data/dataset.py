"""Datasets: a folder with class names and lists, registered in `splits/` or anywhere on disk.

    classes.txt             one class name a line
    train.txt val.txt test.txt    one image a line: path, then class indices (line numbers of classes.txt, from 0)
    dataset.yaml            optional: title, where the images are, group borders, notes

`val.txt` is optional. Without a `dataset.yaml` the image root is the folder itself and the 100 / 20 rule
groups the classes.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from benchmark.data import shapes
from benchmark.data.images import FileImages, ImageSource, RenderedImages
from benchmark.errors import InputError
from benchmark.records import Group
from benchmark.registry import Registry, did_you_mean
from benchmark.spec import Strict, canonical_json, parse
from benchmark.yamlio import load_yaml

SPLITS_FOLDER = Path(__file__).resolve().parents[2] / "splits"
DATA_ROOT_VARIABLE = "LTBENCH_DATA"


class DatasetCard(Strict):
    """What `dataset.yaml` says."""

    title: str = Field("", description="the folder's name when left out")
    protocol: str = Field("controlled", description="protocol used when none is asked for")
    clip_protocol: str = Field("controlled-clip", description="the same, for a method that needs CLIP")
    images: Literal["dataset-folder", "data-root", "rendered"] = "dataset-folder"
    folder: str = Field(".", description="of the images, below the dataset folder or the data root")
    head_from: Annotated[int, Field(ge=1)] = Field(100, description="training positives of a head class, at least")
    medium_from: Annotated[int, Field(ge=1)] = Field(20, description="of a medium class, at least; fewer: tail")
    notes: str = Field("", description="on labels and metric, shown to the reader")
    download: str = Field("", description="where the images come from, for people and for error messages")


@dataclass(frozen=True)
class Split:
    """One list: image paths (relative, POSIX) and targets uint8 [N, C]."""

    name: str
    paths: tuple[str, ...]
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Dataset:
    """Lists, classes and groups of one dataset, and the source of its images."""

    name: str
    card: DatasetCard
    classes: tuple[str, ...]
    splits: dict[str, Split]
    source: ImageSource

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Training positives of every class, int64 [C]."""
        return self.splits["train"].targets.sum(axis=0, dtype=np.int64)

    @cached_property
    def groups(self) -> dict[str, Group]:
        """Group of every class, in class order, by its training positives."""
        return {
            name: "head" if n >= self.card.head_from else "medium" if n >= self.card.medium_from else "tail"
            for name, n in zip(self.classes, self.class_counts, strict=True)
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over classes, groups, every list and, for rendered images, the renderer's version."""
        lists = {
            split.name: [
                [path, *np.flatnonzero(row).tolist()] for path, row in zip(split.paths, split.targets, strict=True)
            ]
            for split in self.splits.values()
        }
        content = {"classes": self.classes, "groups": self.groups, "lists": lists, "images": self.source.identity}
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()


@dataclass(frozen=True)
class DatasetFolder:
    """A folder that can be opened as a dataset."""

    name: str
    path: Path

    @cached_property
    def card(self) -> DatasetCard:
        """`dataset.yaml`, or what its absence means. Raises InputError."""
        file = self.path / "dataset.yaml"
        if not file.exists():
            return DatasetCard(title=self.name)
        card = parse(DatasetCard, load_yaml(file), str(file))
        if card.medium_from > card.head_from:
            raise InputError(f"{file}: medium_from {card.medium_from} is above head_from {card.head_from}")
        if _leaves_root(card.folder):
            raise InputError(f"{file}: folder {card.folder!r} leaves the image root; give a folder below it")
        return card if card.title else card.model_copy(update={"title": self.name})

    def open(self, data_root: Path | None = None) -> Dataset:
        """Read and check the lists.

        data_root: where the images of registered datasets are; the variable LTBENCH_DATA when None. They are
        looked for when a run starts, not here.
        Raises InputError: see `read_list`; also when an image is in two lists.
        """
        classes = read_classes(self.path / "classes.txt")
        names = ["train", "val", "test"] if (self.path / "val.txt").exists() else ["train", "test"]
        splits = {name: read_list(self.path / f"{name}.txt", name, len(classes)) for name in names}
        _check_overlap(self.path, splits)
        dataset = Dataset(self.name, self.card, classes, splits, self._source(data_root, classes, splits))
        unused = [name for name, n in zip(classes, dataset.class_counts, strict=True) if n == 0]
        if unused:
            raise InputError(
                f"{self.path / 'train.txt'}: no training image for class {', '.join(map(repr, unused[:5]))}; "
                "add images or remove the class from classes.txt and renumber"
            )
        return dataset

    def _source(self, data_root: Path | None, classes: tuple[str, ...], splits: dict[str, Split]) -> ImageSource:
        if self.card.images == "rendered":
            if classes != shapes.CLASS_NAMES:
                raise InputError(
                    f"{self.path / 'dataset.yaml'}: images: rendered draws the demo set's classes, and classes.txt "
                    "names others; use dataset-folder or data-root"
                )
            return RenderedImages(splits.values())
        if self.card.images == "dataset-folder":
            return FileImages(self.path / self.card.folder, hint=f"the images of {self.path} are looked up there")
        given = data_root or os.environ.get(DATA_ROOT_VARIABLE)
        if not given:
            hint = (
                f"dataset {self.name!r} needs its images: give their root with --data-root DIR or "
                f"{DATA_ROOT_VARIABLE}=DIR. {self.card.download}"
            )
            return FileImages(None, hint)
        where = "--data-root" if data_root else DATA_ROOT_VARIABLE
        hint = f"the root is set by {where}. {self.card.download}"
        return FileImages(Path(given) / self.card.folder, hint, base=Path(given))


def _load_datasets() -> None:
    for path in sorted(SPLITS_FOLDER.iterdir()):
        if (path / "classes.txt").exists():
            DATASETS.register(path.name)(DatasetFolder(path.name, path))


DATASETS: Registry[DatasetFolder] = Registry("dataset", DatasetFolder, _load_datasets)


def find_dataset(name_or_path: str) -> DatasetFolder:
    """A registered dataset by name, or a folder by path. Raises InputError, with the near names."""
    if name_or_path in DATASETS:
        return DATASETS.get(name_or_path)
    path = Path(name_or_path)
    if path.is_dir():
        if not (path / "classes.txt").exists():
            raise InputError(f"{path}: not a dataset folder: it has no classes.txt (nor train.txt and test.txt)")
        return DatasetFolder(path.resolve().name, path)
    raise InputError(
        f"unknown dataset {name_or_path!r}: no such name and no such folder{did_you_mean(name_or_path, DATASETS)}"
    )


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a dataset folder has classes.txt, train.txt and test.txt") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a UTF-8 text file: {error}") from None
    if not any(line.strip() for line in lines):
        raise InputError(f"{path}: the list is empty; give at least one line")
    return lines


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names, one a line. Raises InputError for an empty line or a name given twice."""
    names = tuple(line.strip() for line in _lines(path))
    for number, name in enumerate(names, 1):
        if not name:
            raise InputError(f"{path}:{number}: empty line; class indices are line numbers, so remove it")
    repeated = [name for name, n in Counter(names).items() if n > 1]
    if repeated:
        raise InputError(f"{path}: class {repeated[0]!r} is named twice; class names must differ")
    return names


def read_list(path: Path, name: str, num_classes: int) -> Split:
    """Read one list.

    Raises InputError, with file and line, for an empty list, an index that is no number or out of range, a label
    or an image given twice, and a path that is absolute or leaves the image root.
    """
    paths: dict[str, int] = {}
    rows: list[list[int]] = []
    for number, line in enumerate(_lines(path), 1):
        fields = line.split()
        if not fields:
            raise InputError(f"{path}:{number}: empty line; remove it")
        if _leaves_root(fields[0]):
            raise InputError(f"{path}:{number}: {fields[0]!r} leaves the image root; give a path below it")
        # `./a.jpg` is `a.jpg`: one spelling, so that an image listed twice is noticed.
        image, labels = str(PurePosixPath(fields[0])), fields[1:]
        if image in paths:
            raise InputError(f"{path}:{number}: image {image!r} is listed twice (first in line {paths[image]})")
        paths[image] = number
        rows.append([_class_index(label, num_classes, f"{path}:{number}") for label in labels])
        if len(set(rows[-1])) < len(rows[-1]):
            raise InputError(f"{path}:{number}: image {image!r} has a class twice; list each class once")
    targets = np.zeros((len(rows), num_classes), dtype=np.uint8)
    for i, labels in enumerate(rows):
        targets[i, labels] = 1
    return Split(name, tuple(paths), targets)


def _class_index(text: str, num_classes: int, where: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InputError(f"{where}: {text!r} is not a class index; a line is `path index index ...`")
    if int(text) >= num_classes:
        raise InputError(
            f"{where}: class index {text} is out of range; classes.txt names {num_classes} classes, "
            f"0 to {num_classes - 1}"
        )
    return int(text)


def _leaves_root(path: str) -> bool:
    parts = PurePosixPath(path)
    return parts.is_absolute() or ".." in parts.parts or "\\" in path or "\0" in path


def _check_overlap(folder: Path, splits: dict[str, Split]) -> None:
    names = list(splits)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            shared = sorted(set(splits[first].paths) & set(splits[second].paths))
            if shared:
                raise InputError(
                    f"{folder}: image {shared[0]!r} is in both {first}.txt and {second}.txt"
                    f"{f' (and {len(shared) - 1} more are)' if len(shared) > 1 else ''}; an image belongs in one list"
                )
