"""Datasets: a folder with class names and lists, registered in `splits/` or anywhere on disk.

    classes.txt             one class name a line
    train.txt val.txt test.txt    one image a line: path, then class indices (line numbers of classes.txt, from 0);
                                  a path with blanks in double quotes, in which "" is one quote
    dataset.yaml            optional: title, where the images are, group borders, notes

`val.txt` is optional. Without a `dataset.yaml` the image root is the folder itself and the 100 / 20 rule
groups the classes.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from benchmark.base.files import read_regular
from benchmark.base.yamlio import load_yaml
from benchmark.data import shapes
from benchmark.data.images import FileImages, ImageSource, OwnImages, RenderedImages
from benchmark.errors import InputError, shown
from benchmark.registry import Registry, did_you_mean
from benchmark.spec import Strict, canonical_json, parse
from benchmark.store.records import Group

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
        """sha256 over classes, groups, every list and what decides the images: for rendered ones the renderer's
        version, for those of a dataset that is not registered the contents of the files. Raises InputError where such a
        file is missing."""
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
        if not _exists(file):
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
        names = ["train", "val", "test"] if _exists(self.path / "val.txt") else ["train", "test"]
        splits = {name: read_list(self.path / f"{name}.txt", name, len(classes)) for name in names}
        _check_overlap(self.path, splits)
        dataset = Dataset(self.name, self.card, classes, splits, self._source(data_root, classes, splits))
        if not self._is_registered(dataset) and isinstance(dataset.source, FileImages):
            dataset = replace(dataset, source=OwnImages.of(dataset.source, tuple(splits.values())))
        unused = [repr(shown(name)) for name, n in zip(classes, dataset.class_counts, strict=True) if n == 0]
        if unused:
            raise InputError(
                f"{self.path / 'train.txt'}: no training image for class {', '.join(unused[:5])}; "
                "add images or remove the class from classes.txt and renumber"
            )
        return dataset

    def _is_registered(self, dataset: Dataset) -> bool:
        """Whether these are the lists of the registered dataset of this name. Raises InputError where there is one and
        has others: every leaderboard would leave the runs out."""
        if self.name not in DATASETS:
            return False
        known = DATASETS.get(self.name)
        if known.path == self.path.resolve() or known.open().fingerprint == dataset.fingerprint:
            return True
        raise InputError(
            f"{self.path}: the folder has the name of the registered dataset {self.name!r} and other lists, classes or "
            "groups; rename it"
        )

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
    if _is_folder(path):
        if not _exists(path / "classes.txt"):
            raise InputError(f"{path}: not a dataset folder: it has no classes.txt (nor train.txt and test.txt)")
        return DatasetFolder(path.resolve().name, path)
    raise InputError(
        f"unknown dataset {shown(name_or_path)!r}: no such name and no such folder"
        f"{did_you_mean(name_or_path, DATASETS)}"
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long for any folder
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # it may be there and is not to be seen: reading it says why
        return True


# What a list may hold at most. Beyond it nothing else here would work: the decoded images are kept on one disk.
MAX_LIST_BYTES = 256 * 2**20
MAX_IMAGES = 1_000_000
MAX_CLASSES = 100_000
MAX_TARGETS = 2**31  # images x classes, a byte each


def list_bytes(path: Path) -> bytes:
    """What a list or classes.txt holds. Raises OSError, also where it is no regular file or too large."""
    return read_regular(path, MAX_LIST_BYTES)


def _lines(path: Path, most: int) -> list[str]:
    try:
        text = list_bytes(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a dataset folder has classes.txt, train.txt and test.txt") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as a UTF-8 text file: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    # Not str.splitlines: it also breaks lines at characters that a name may hold.
    text = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
    if not text.strip():
        raise InputError(f"{path}: the list is empty; give at least one line")
    if (count := text.count("\n") + 1) > most:
        raise InputError(f"{path}: it has {count:,} lines; at most {most:,} are read")
    return text.split("\n")


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names, one a line. Raises InputError for an empty line, a name that would break lines where it is printed,
    a name given twice, or more than MAX_CLASSES."""
    names = tuple(line.strip() for line in _lines(path, MAX_CLASSES))
    for number, name in enumerate(names, 1):
        if not name:
            raise InputError(f"{path}:{number}: empty line; class indices are line numbers, so remove it")
        if len(name.splitlines()) > 1:
            raise InputError(
                f"{path}:{number}: class name {shown(name)!a} holds a line separator; write a blank instead"
            )
    repeated = [name for name, n in Counter(names).items() if n > 1]
    if repeated:
        raise InputError(f"{path}: class {shown(repeated[0])!r} is named twice; class names must differ")
    return names


def read_list(path: Path, name: str, num_classes: int) -> Split:
    """Read one list.

    Raises InputError, with file and line, for an empty list, an index that is no number or out of range, a label
    or an image given twice, a path that is absolute or leaves the image root, and more than MAX_IMAGES lines.
    """
    paths: dict[str, int] = {}
    rows: list[list[int]] = []
    lines = _lines(path, MAX_IMAGES)
    if len(lines) * num_classes > MAX_TARGETS:
        raise InputError(
            f"{path}: {len(lines):,} images x {num_classes:,} classes are more than {MAX_TARGETS:,} labels"
        )
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        given, labels = _fields(line, where)
        if _leaves_root(given):
            raise InputError(f"{where}: {shown(given)!r} leaves the image root; give a path below it")
        # `./a.jpg` is `a.jpg`: one spelling, so that an image listed twice is noticed.
        image = given if {"", "."}.isdisjoint(given.split("/")) else str(PurePosixPath(given))
        if image in paths:
            raise InputError(f"{where}: image {shown(image)!r} is listed twice (first in line {paths[image]})")
        paths[image] = number
        indices = [_class_index(label, num_classes, where) for label in labels]
        if len(set(indices)) < len(indices):
            hint = "; a row of 0 and 1 for all classes (multi-hot) is not read" if set(indices) <= {0, 1} else ""
            raise InputError(f"{where}: image {shown(image)!r} has a class twice; list each class once{hint}")
        rows.append(indices)
    targets = np.zeros((len(rows), num_classes), dtype=np.uint8)
    for i, indices in enumerate(rows):
        targets[i, indices] = 1
    return Split(name, tuple(paths), targets)


def _fields(line: str, where: str) -> tuple[str, list[str]]:
    """Path and labels of a line. Raises InputError."""
    line = line.strip()
    if not line:
        raise InputError(f"{where}: empty line; remove it")
    if line.startswith('"'):
        # No path holds the character that stands for a doubled quote meanwhile.
        path, quote, rest = line[1:].replace("\0", "?").replace('""', "\0").partition('"')
        if not path or not quote or not rest[:1].isspace() and rest:
            raise InputError(
                f'{where}: {shown(line)!r} begins with no path in double quotes; write `"path" index ...`, and "" '
                "for a quote in the path"
            )
        return path.replace("\0", '"'), rest.split()
    _, comma, after = line.replace(";", ",").rpartition(",")
    if comma and (after.isdigit() or (after[:1] in " \t" and all(map(str.isdigit, after.split())))):
        raise InputError(
            f"{where}: {shown(line)!r} has commas between its fields; write blanks: `path index index ...` (a path "
            "that ends so stands in double quotes)"
        )
    given, *labels = line.split()
    return given, labels


def _class_index(text: str, num_classes: int, where: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InputError(
            f"{where}: {shown(text)!r} is not a class index; a line is `path index index ...`, and a path with blanks "
            'stands in double quotes: `"my dog.jpg" 1`'
        )
    # By its length first: Python refuses to read a number of thousands of digits.
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(num_classes)) or int(digits) >= num_classes:
        raise InputError(
            f"{where}: class index {shown(text)} is out of range; classes.txt names {num_classes} classes, "
            f"0 to {num_classes - 1}"
        )
    return int(digits)


def _leaves_root(path: str) -> bool:
    return path.startswith("/") or ".." in path.split("/") or "\\" in path or "\0" in path


def _check_overlap(folder: Path, splits: dict[str, Split]) -> None:
    names = list(splits)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            shared = sorted(set(splits[first].paths) & set(splits[second].paths))
            if shared:
                raise InputError(
                    f"{folder}: image {shown(shared[0])!r} is in both {first}.txt and {second}.txt"
                    f"{f' (and {len(shared) - 1} more are)' if len(shared) > 1 else ''}; an image belongs in one list"
                )
