"""Datasets: a folder with class names and lists, registered in `splits/` or anywhere on disk.

    classes.txt, train.txt, val.txt, test.txt    see `data.lists`; `val.txt` is optional
    episode-0/train.txt, episode-1/train.txt, ...    instead of train.txt in a few-shot dataset: its support sets
    dataset.yaml    optional: title, where the images are, group borders, notes

Without a `dataset.yaml` the image root is the folder itself and the 100 / 20 rule groups the classes. A registered
dataset may take what is not in its folder from another one (`extends`), or have lists that no one may hand on or that
are too large for a repository: `ltbench data prepare` makes them from official files, below the data root.

A few-shot dataset has `episodes` support sets, one test list and one fingerprint. The run of seed s trains on the
support set of episode s, so a mean over seeds is a mean over episodes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from benchmark.base.files import read_regular
from benchmark.base.yamlio import load_yaml
from benchmark.data import shapes
from benchmark.data.archives import ARCHIVES, how_to_prepare
from benchmark.data.lists import Split, check_overlap, leaves_root, read_classes, read_list
from benchmark.data.sources import FileImages, ImageSource, OwnImages, RenderedImages
from benchmark.errors import InputError, shown
from benchmark.registry import Registry, did_you_mean
from benchmark.spec import Strict, canonical_json, parse
from benchmark.store.records import GROUPS, Group

SPLITS_FOLDER = Path(__file__).resolve().parents[2] / "splits"
DATA_ROOT_VARIABLE = "LTBENCH_DATA"
# Folder below the data root that holds a folder of lists for each dataset whose lists are made there.
MADE_LISTS = "ltbench-lists"
# Beside such lists: how they were made, and the fingerprint of the dataset.
MADE_JSON = "made.json"
MOST_EPISODES = 1000


def given_root(data_root: Path | None) -> Path | None:
    """The data root: `data_root`, or the one that the variable names; None without either."""
    named = data_root or os.environ.get(DATA_ROOT_VARIABLE)
    return Path(named) if named else None


class ListsNotMade(InputError):
    """The lists of a registered dataset are made from official files, and were not made here."""


class DatasetCard(Strict):
    """The fields of `dataset.yaml`."""

    title: str = Field("", description="the folder's name when left out")
    protocol: str = Field("controlled", description="protocol used when none is asked for")
    clip_protocol: str = Field("controlled-clip", description="the same, for a method that needs CLIP")
    images: Literal["dataset-folder", "data-root", "rendered"] = "dataset-folder"
    folder: str = Field(".", description="of the images, below the dataset folder or the data root")
    groups: Literal["borders", "thirds"] = Field(
        "borders", description="thirds: of the classes by training positives, most to least; the borders do not count"
    )
    head_from: Annotated[int, Field(ge=1)] = Field(100, description="training positives of a head class, at least")
    medium_from: Annotated[int, Field(ge=1)] = Field(20, description="of a medium class, at least; fewer: tail")
    extends: str = Field(
        "", description="registered dataset that has the classes, lists and settings which this folder lacks"
    )
    lists: Literal["here", "data-root"] = Field(
        "here", description="data-root: made there by `ltbench data prepare`, in ltbench-lists/<name>"
    )
    episodes: Annotated[int, Field(ge=0, le=MOST_EPISODES)] = Field(
        0, description="few-shot: number of support sets, episode-0/train.txt and so on; 0: one train.txt"
    )
    shots: Annotated[int, Field(ge=1)] = Field(1, description="training positives that a class has, at least")
    fingerprint: str = Field("", description="of the dataset, where its lists are here: `ltbench data verify` compares")
    notes: str = Field("", description="on labels and metric, shown to the reader")
    archives: tuple[str, ...] = Field((), description="official archives that hold the images, of archives.yaml")
    download: str = Field("", description="where the images come from, for error messages; not beside archives")
    sources: tuple[str, ...] = Field((), description="of the lists, the labels and the images")
    terms: tuple[str, ...] = Field((), description="licences and terms of use of the images and labels")
    traps: tuple[str, ...] = Field((), description="what leads to wrong numbers and the lists do not show")


@dataclass(frozen=True)
class Dataset:
    """The lists, classes and groups of one dataset, and the source of its images.

    supports: the support sets of a few-shot dataset, by episode; of these, `splits` has one as the list "train", that
    of episode 0 unless the dataset is one of `of_seed`.
    """

    name: str
    card: DatasetCard
    classes: tuple[str, ...]
    splits: dict[str, Split]
    source: ImageSource
    supports: tuple[Split, ...] = ()

    @property
    def lists(self) -> dict[str, Split]:
        """Every list by its file's name without the ending: `train`, or `episode-0/train` and so on; `val`, `test`."""
        if not self.supports:
            return self.splits
        scored = {name: split for name, split in self.splits.items() if name != "train"}
        return dict(zip(episode_lists(len(self.supports)), self.supports, strict=True)) | scored

    def of_seed(self, seed: int) -> Dataset:
        """The dataset as the run of a seed sees it: itself, or with the support set of the episode of that number.

        Raises InputError for a seed without an episode.
        """
        if not self.supports:
            return self
        if seed >= len(self.supports):
            raise InputError(
                f"dataset {self.name!r} has {len(self.supports)} episodes, and the run of a seed trains on the episode "
                f"of that number: seed {seed} has none; give seeds from 0 to {len(self.supports) - 1}"
            )
        return self._of_episode[seed]

    @cached_property
    def _of_episode(self) -> tuple[Dataset, ...]:
        return tuple(replace(self, splits=self.splits | {"train": support}) for support in self.supports)

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Training positives of every class, int64 [C]."""
        return self.splits["train"].positives

    @cached_property
    def groups(self) -> dict[str, Group]:
        """Group of every class, in class order, by its training positives; by the most in any episode where
        there are several, so that all episodes have the same groups."""
        most = np.max([support.positives for support in self.supports or [self.splits["train"]]], axis=0)
        if self.card.groups == "thirds":
            ranked = np.argsort(-most, kind="stable")  # equal counts: in class order
            group_of = np.empty(len(ranked), dtype=object)
            for group, members in zip(GROUPS, np.array_split(ranked, len(GROUPS)), strict=True):
                group_of[members] = group
            return dict(zip(self.classes, group_of.tolist(), strict=True))
        return {
            name: "head" if n >= self.card.head_from else "medium" if n >= self.card.medium_from else "tail"
            for name, n in zip(self.classes, most, strict=True)
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the classes, the groups, every list and the identity of the images.

        That identity is the renderer's version for rendered images, and the contents of the files for a dataset that is
        not registered. Raises InputError where such a file is missing.
        """
        lists = {
            name: [[path, *row] for path, row in zip(split.paths, split.label_indices(), strict=True)]
            for name, split in self.lists.items()
        }
        content = {"classes": self.classes, "groups": self.groups, "lists": lists, "images": self.source.identity}
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def episode_lists(episodes: int) -> list[str]:
    """The names of the support sets' lists."""
    return [f"episode-{episode}/train" for episode in range(episodes)]


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
        unknown = next((name for name in card.archives if name not in ARCHIVES), None)
        if unknown is not None:
            raise InputError(f"{file}: archives: no archive {unknown!r}{did_you_mean(unknown, ARCHIVES)}")
        if leaves_root(card.folder):
            raise InputError(f"{file}: folder {card.folder!r} leaves the image root; give a folder below it")
        return card if card.title else card.model_copy(update={"title": self.name})

    @property
    def list_names(self) -> list[str]:
        """The names of the dataset's lists, as in `Dataset.lists`; there may be no file for `val`."""
        return [*(episode_lists(self.card.episodes) or ["train"]), "val", "test"]

    def file(self, name: str, data_root: Path | None = None) -> Path:
        """Where `classes.txt` or a list is, or would be: in this folder, made below the data root, or in the folder of
        the dataset that this one extends. data_root: as of `open`. Raises InputError where lists were not made yet."""
        own = self.path / name
        if _exists(own):
            return own
        if self.card.lists == "data-root":
            made = self.made_folder(data_root)
            if made is None or not _exists(made):  # made whole or not at all
                where = f"are not in {made}" if made else f"need a data root: --data-root DIR or {DATA_ROOT_VARIABLE}"
                raise ListsNotMade(
                    f"dataset {self.name!r}: its lists {where}; make them from the official files with "
                    f"`ltbench data prepare {self.name}`"
                )
            if _exists(made / name):
                return made / name
            if not self.card.extends and name not in ("classes.txt", "val.txt"):
                raise InputError(
                    f"{made / name}: no such file; remove {made} and make the lists again with `ltbench data prepare "
                    f"{self.name}`"
                )
        return DATASETS.get(self.card.extends).file(name, data_root) if self.card.extends else own

    def made_folder(self, data_root: Path | None) -> Path | None:
        """The folder of the lists that `ltbench data prepare` makes; None without a data root."""
        root = given_root(data_root)
        return root / MADE_LISTS / self.name if root else None

    def open(self, data_root: Path | None = None) -> Dataset:
        """Read and check the lists.

        data_root: where the images of registered datasets are; the variable LTBENCH_DATA when None. A run looks for
        the images when it starts; this function does not.
        Raises InputError: see `read_list` and `file`; also when an image is in two lists, and where made lists have
        changed since.
        """
        dataset = self.open_draft(data_root)
        if self.card.lists == "data-root":
            self._check_made(dataset, data_root)
        return dataset

    def open_draft(self, data_root: Path | None = None) -> Dataset:
        """As `open`, for lists that are being made: they are not compared with what was made."""
        classes = read_classes(self.file("classes.txt", data_root))
        if self.card.episodes and _exists(self.path / "train.txt"):
            raise InputError(
                f"{self.path / 'train.txt'}: a dataset with episodes has a list for each, and not this one; remove it"
            )
        files = {name: self.file(f"{name}.txt", data_root) for name in self.list_names}
        lists = {
            name: read_list(file, PurePath(name).name, len(classes))
            for name, file in files.items()
            if name != "val" or _exists(file)
        }
        training = [name for name, split in lists.items() if split.name == "train"]
        scored = {name: split for name, split in lists.items() if split.name != "train"}
        for name in training:
            check_overlap(self.path, {name: lists[name]} | scored)
        source = self._source(data_root, classes, lists)
        supports = tuple(lists[name] for name in training) if self.card.episodes else ()
        dataset = Dataset(self.name, self.card, classes, {"train": lists[training[0]]} | scored, source, supports)
        if not self._is_registered(dataset, data_root) and isinstance(source, FileImages):
            dataset = replace(dataset, source=OwnImages.of(source, tuple(lists.values())))
        for name in training:
            self._check_counts(files[name], classes, lists[name])
        return dataset

    def _check_counts(self, file: Path, classes: tuple[str, ...], split: Split) -> None:
        """Raise InputError where a class has fewer training positives than it must have."""
        few = [repr(shown(name)) for name, n in zip(classes, split.positives, strict=True) if n < self.card.shots]
        if few:
            number = f"fewer than {self.card.shots} training images" if self.card.shots > 1 else "no training image"
            raise InputError(
                f"{file}: {number} for class {', '.join(few[:5])}; "
                "add images or remove the class from classes.txt and renumber"
            )

    def _is_registered(self, dataset: Dataset, data_root: Path | None) -> bool:
        """Whether these are the lists of the registered dataset of this name.

        Raises InputError where that dataset has other lists, or ones that are not made here: every leaderboard would
        leave the runs out.
        """
        if self.name not in DATASETS:
            return False
        known = DATASETS.get(self.name)
        with contextlib.suppress(ListsNotMade):
            if known.path == self.path.resolve() or known.open(data_root).fingerprint == dataset.fingerprint:
                return True
        raise InputError(
            f"{self.path}: the folder has the name of the registered dataset {self.name!r} and other lists, classes or "
            "groups; rename it"
        )

    def _check_made(self, dataset: Dataset, data_root: Path | None) -> None:
        """Raise InputError where made lists are no longer those that were made. A list may lie in another folder."""
        made = self.made_folder(data_root)
        assert made is not None  # `file` has looked there
        try:
            then = json.loads(read_regular(made / MADE_JSON))["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError):
            then = None
        if then != dataset.fingerprint:
            raise InputError(
                f"{made}: the lists are not those that were made there ({MADE_JSON} has another fingerprint); remove "
                f"that folder and make them again with `ltbench data prepare {self.name}`"
            )

    def _source(self, data_root: Path | None, classes: tuple[str, ...], lists: dict[str, Split]) -> ImageSource:
        if self.card.images == "rendered":
            if classes != shapes.CLASS_NAMES:
                raise InputError(
                    f"{self.path / 'dataset.yaml'}: images: rendered draws the demo set's classes, and classes.txt "
                    "names others; use dataset-folder or data-root"
                )
            return RenderedImages(lists.values())
        if self.card.images == "dataset-folder":
            return FileImages(self.path / self.card.folder, hint=f"the images of {self.path} are looked up there")
        given = given_root(data_root)
        how = how_to_prepare(self.name, self.card.archives) if self.card.archives else self.card.download
        if not given:
            hint = (
                f"dataset {self.name!r} needs its images: give their root with --data-root DIR or "
                f"{DATA_ROOT_VARIABLE}=DIR. {how}"
            )
            return FileImages(None, hint)
        where = "--data-root" if data_root else DATA_ROOT_VARIABLE
        hint = f"the root is set by {where}. {how}"
        return FileImages(given / self.card.folder, hint, base=given)


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
