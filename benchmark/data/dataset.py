"""Datasets: a folder with class names and lists, registered in `splits/` or anywhere on disk.

    classes.txt, train.txt, val.txt, test.txt    see `data.lists`; `val.txt` is optional
    dataset.yaml    optional: title, where the images are, group borders, notes

Without a `dataset.yaml` the image root is the folder itself and the 100 / 20 rule groups the classes. A registered
dataset may take what is not in its folder from another one (`extends`), or have lists that no one may hand on or that
are too large for a repository: `ltbench data prepare` makes them from official files, below the data root.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from benchmark.base.yamlio import load_yaml
from benchmark.data import shapes
from benchmark.data.lists import Split, check_overlap, leaves_root, read_classes, read_list
from benchmark.data.sources import FileImages, ImageSource, OwnImages, RenderedImages
from benchmark.errors import InputError, shown
from benchmark.registry import Registry, did_you_mean
from benchmark.spec import Strict, canonical_json, parse
from benchmark.store.records import Group

SPLITS_FOLDER = Path(__file__).resolve().parents[2] / "splits"
DATA_ROOT_VARIABLE = "LTBENCH_DATA"
# Folder below the data root that holds a folder of lists for each dataset whose lists are made there.
MADE_LISTS = "ltbench-lists"


class ListsNotMade(InputError):
    """The lists of a registered dataset are made from official files, and were not made here."""


class DatasetCard(Strict):
    """The fields of `dataset.yaml`."""

    title: str = Field("", description="the folder's name when left out")
    protocol: str = Field("controlled", description="protocol used when none is asked for")
    clip_protocol: str = Field("controlled-clip", description="the same, for a method that needs CLIP")
    images: Literal["dataset-folder", "data-root", "rendered"] = "dataset-folder"
    folder: str = Field(".", description="of the images, below the dataset folder or the data root")
    head_from: Annotated[int, Field(ge=1)] = Field(100, description="training positives of a head class, at least")
    medium_from: Annotated[int, Field(ge=1)] = Field(20, description="of a medium class, at least; fewer: tail")
    extends: str = Field(
        "", description="registered dataset that has the classes, lists and settings which this folder lacks"
    )
    lists: Literal["here", "data-root"] = Field(
        "here", description="data-root: made there by `ltbench data prepare`, in ltbench-lists/<name>"
    )
    notes: str = Field("", description="on labels and metric, shown to the reader")
    download: str = Field("", description="where the images come from, for people and for error messages")


@dataclass(frozen=True)
class Dataset:
    """The lists, classes and groups of one dataset, and the source of its images."""

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
        """sha256 over the classes, the groups, every list and the identity of the images.

        That identity is the renderer's version for rendered images, and the contents of the files for a dataset that is
        not registered. Raises InputError where such a file is missing.
        """
        lists = {
            split.name: [[path, *row] for path, row in zip(split.paths, split.label_indices(), strict=True)]
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
        """`dataset.yaml`, or the defaults where there is none. Raises InputError."""
        file = self.path / "dataset.yaml"
        if not _exists(file):
            return DatasetCard(title=self.name)
        card = parse(DatasetCard, load_yaml(file), str(file))
        if card.extends and (card.extends not in DATASETS or card.extends == self.name):
            raise InputError(f"{file}: extends {card.extends!r}: no such dataset{did_you_mean(card.extends, DATASETS)}")
        if card.medium_from > card.head_from:
            raise InputError(f"{file}: medium_from {card.medium_from} is above head_from {card.head_from}")
        if leaves_root(card.folder):
            raise InputError(f"{file}: folder {card.folder!r} leaves the image root; give a folder below it")
        return card if card.title else card.model_copy(update={"title": self.name})

    def file(self, name: str, data_root: Path | None = None) -> Path:
        """Where `classes.txt` or a list is, or would be: in this folder, made below the data root, or in the folder of
        the dataset that this one extends. data_root: as of `open`. Raises InputError where lists were not made yet."""
        own = self.path / name
        if _exists(own):
            return own
        if self.card.lists == "data-root":
            made = self.made_folder(data_root)
            if made is None or not _exists(made / "train.txt") and not self.card.extends:
                where = f"are not in {made}" if made else f"need a data root: --data-root DIR or {DATA_ROOT_VARIABLE}"
                raise ListsNotMade(
                    f"dataset {self.name!r}: its lists {where}; make them from the official files with "
                    f"`ltbench data prepare {self.name}`"
                )
            if _exists(made / name):
                return made / name
        return DATASETS.get(self.card.extends).file(name, data_root) if self.card.extends else own

    def made_folder(self, data_root: Path | None) -> Path | None:
        """The folder of the lists that `ltbench data prepare` makes; None without a data root."""
        root = data_root or os.environ.get(DATA_ROOT_VARIABLE)
        return Path(root) / MADE_LISTS / self.name if root else None

    def open(self, data_root: Path | None = None) -> Dataset:
        """Read and check the lists.

        data_root: where the images of registered datasets are; the variable LTBENCH_DATA when None. A run looks for
        the images when it starts; this function does not.
        Raises InputError: see `read_list` and `file`; also when an image is in two lists.
        """
        classes = read_classes(self.file("classes.txt", data_root))
        files = {name: self.file(f"{name}.txt", data_root) for name in ("train", "val", "test")}
        splits = {
            name: read_list(file, name, len(classes)) for name, file in files.items() if name != "val" or _exists(file)
        }
        check_overlap(self.path, splits)
        dataset = Dataset(self.name, self.card, classes, splits, self._source(data_root, classes, splits))
        if not self._is_registered(dataset) and isinstance(dataset.source, FileImages):
            dataset = replace(dataset, source=OwnImages.of(dataset.source, tuple(splits.values())))
        unused = [repr(shown(name)) for name, n in zip(classes, dataset.class_counts, strict=True) if n == 0]
        if unused:
            raise InputError(
                f"{files['train']}: no training image for class {', '.join(unused[:5])}; "
                "add images or remove the class from classes.txt and renumber"
            )
        return dataset

    def _is_registered(self, dataset: Dataset) -> bool:
        """Whether these are the lists of the registered dataset of this name.

        Raises InputError where that dataset has other lists: every leaderboard would leave the runs out.
        """
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
        if (path / "classes.txt").exists() or (path / "dataset.yaml").exists():
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
    except OSError:  # the file may exist unseen: reading it gives the reason
        return True
