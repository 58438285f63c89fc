"""A dataset folder from annotations and images of one's own."""

from __future__ import annotations

import os
import shutil
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from benchmark.base.files import is_file
from benchmark.data.annotations import Annotations, write_list
from benchmark.data.dataset import DATASETS, Dataset, DatasetFolder
from benchmark.data.decoding import is_image_name
from benchmark.data.dividing import divide
from benchmark.data.importers.checks import composed, examples
from benchmark.data.lists import MAX_CLASSES, MAX_IMAGES, Split
from benchmark.data.long_tail import SHAPE, NoImageLeft, long_tailed
from benchmark.data.sources import FileImages
from benchmark.errors import InputError, StoreError, shown
from benchmark.ui.progress import plural

# The link in a dataset folder to the folder of its images.
IMAGES = "images"
# A tail class with fewer test images has an average precision that hangs on single ones.
FEW = 5


@dataclass(frozen=True)
class Division:
    """How images are divided. long_tail: the largest and the smallest reference size of a class, or None."""

    val: float = 0.15
    test: float = 0.15
    seed: int = 0
    long_tail: tuple[int, int] | None = None

    def shares(self) -> dict[str, float]:
        """Share of each list; a list without share is not made."""
        shares = {"train": 1.0 - self.val - self.test, "val": self.val, "test": self.test}
        return {name: share for name, share in shares.items() if share > 0}

    def __str__(self) -> str:
        tail = f", long-tailed from {self.long_tail[0]} to {self.long_tail[1]} images" if self.long_tail else ""
        return f"validation {self.val:g}, test {self.test:g}, seed {self.seed}{tail}"


def check_target(folder: Path) -> None:
    """Raise InputError where a dataset cannot be made in this folder: what is there would be mixed with it."""
    if folder.resolve().name in DATASETS:
        raise InputError(f"{folder}: this is the name of a registered dataset; choose another name")
    if folder.resolve() == Path.cwd():
        raise InputError(
            f"{folder}: you are in this folder, and it would be replaced; name another one, as new-dataset"
        )
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: it exists and is not an empty folder; choose another one or remove it")


def listed_images(annotations: Annotations, root: Path) -> tuple[Split, FileImages, list[str]]:
    """The images as one list without labels, the files, and notes on images in the root that have no label row.

    Raises InputError where one of them is missing below the root, with a near name where there is one.
    """
    if len(annotations.labels) > MAX_IMAGES or len(annotations.classes) > MAX_CLASSES:
        raise InputError(
            f"{len(annotations.labels):,} images and {len(annotations.classes):,} classes: at most {MAX_IMAGES:,} and "
            f"{MAX_CLASSES:,} are read"
        )
    paths = tuple(annotations.labels)
    split = Split("images", paths, np.zeros((len(paths), 0), dtype=np.uint8))
    present = _images_below(root)
    hint = "names start from the folder that --images gives, and have the files' case, suffix and Unicode form"
    missing = next((path for path in paths if not is_file(root / path)), None)
    if missing is not None and (near := _near(missing, present)):
        leads = "it is a link that leads nowhere" if near == missing else f"there is {shown(near)!r}"
        hint = f"{leads}: {hint}"
    source = FileImages(root, hint)
    source.check([split])
    extra = sorted(set(present) - set(paths))
    notes = [f"{plural(len(extra), 'image')} of the folder left out, without a row: {examples(extra)}"] if extra else []
    return split, source, notes


def _images_below(root: Path) -> list[str]:
    """Relative paths of all files with an image's suffix; links to folders are not followed."""
    return [
        (Path(folder) / name).relative_to(root).as_posix()
        for folder, _, names in os.walk(root)
        for name in names
        if is_image_name(name)
    ]


def _near(missing: str, present: Sequence[str]) -> str | None:
    """A file whose path differs from a missing one in case or Unicode form, in suffix, or by the folders that it begins
    with."""
    wanted = composed(missing)
    alike: tuple[Callable[[str], bool], ...] = (
        lambda path: path == wanted,
        lambda path: PurePosixPath(path).with_suffix("") == PurePosixPath(wanted).with_suffix(""),
        lambda path: path.endswith(f"/{wanted}"),
    )
    return next((path for is_near in alike for path in present if is_near(composed(path))), None)


def without_unused(annotations: Annotations) -> Annotations:
    """The annotations without the classes that no image has: nothing could be learned or tested. Raises InputError."""
    used = sorted(set().union(*annotations.labels.values()))
    if not used:
        raise InputError("no image has a label")
    if len(used) == len(annotations.classes):
        return annotations
    index = {old: new for new, old in enumerate(used)}
    unused = [name for i, name in enumerate(annotations.classes) if i not in index]
    noun = "class" if len(unused) == 1 else "classes"
    return Annotations(
        tuple(annotations.classes[i] for i in used),
        {path: frozenset(index[i] for i in labels) for path, labels in annotations.labels.items()},
        (*annotations.notes, f"{len(unused)} {noun} without an image left out: {examples(unused)}"),
    )


def divided(
    annotations: Annotations, digests: Sequence[str], division: Division
) -> tuple[dict[str, list[str]], list[str]]:
    """The images of each list, and notes. digests: of the images' contents, in the order of the labels.

    Raises InputError where a list would be empty, or a class keep no image in a long-tailed training list.
    """
    labels, classes = annotations.labels, annotations.classes
    copies, notes = _copies(labels, digests)
    lists, moved = divide(labels, len(classes), division.shares(), division.seed, copies)
    if moved:
        names = [classes[i] for i in moved]
        notes.append(f"an image was moved to the training list for each class that had none there: {examples(names)}")
    if unlabelled := sum(not found for found in labels.values()):
        notes.append(f"{plural(unlabelled, 'image')} without a label kept")
    if division.long_tail:
        part = {image: labels[image] for image in lists["train"]}
        largest, smallest = division.long_tail
        try:
            chosen = set(long_tailed(part, len(classes), largest, smallest, SHAPE, division.seed))
        except NoImageLeft as error:
            raise InputError(f"class {shown(classes[error.label])!r}: {error}") from None
        lists["train"] = [image for image in part if image in chosen]
        notes.append(f"long-tailed training list: {len(chosen):,} of {plural(len(part), 'image')} drawn")
    return lists, notes


def _copies(labels: Mapping[str, frozenset[int]], digests: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Images of equal content, in groups, and notes on them."""
    of_content: dict[str, list[str]] = defaultdict(list)
    for image, digest in zip(labels, digests, strict=True):
        of_content[digest].append(image)
    groups = [images for images in of_content.values() if len(images) > 1]
    notes = []
    if groups:
        shown_groups = [" = ".join(images) for images in groups]
        notes.append(
            f"{plural(len(groups), 'image')} under several names, kept in one list each: {examples(shown_groups)}"
        )
    differing = [" = ".join(images) for images in groups if len({labels[image] for image in images}) > 1]
    if differing:
        notes.append(f"{len(differing)} of these with different labels under each name: {examples(differing)}")
    return groups, notes


def write_dataset(
    folder: Path, annotations: Annotations, lists: Mapping[str, Sequence[str]], images: Path, notes: str
) -> Dataset:
    """Make the folder, with a link to that of the images, and open it. The folder appears whole or not at all.

    notes: for `dataset.yaml`. Raises InputError and StoreError.
    """
    target = folder.resolve()
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    card = {"title": target.name, "images": "dataset-folder", "folder": IMAGES, "notes": notes}
    try:
        draft.mkdir(parents=True)
        (draft / "classes.txt").write_text("".join(f"{name}\n" for name in annotations.classes), encoding="utf-8")
        for name, paths in lists.items():
            write_list(draft / f"{name}.txt", {path: annotations.labels[path] for path in paths})
        text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=120)
        (draft / "dataset.yaml").write_text(text, encoding="utf-8")
        (draft / IMAGES).symlink_to(images.resolve(), target_is_directory=True)
        DatasetFolder(target.name, draft).open()
        draft.rename(target)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made: {error.strerror or error}; nothing was left there") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return DatasetFolder(target.name, target).open()


def warnings_about(dataset: Dataset) -> list[str]:
    """What the test list cannot say for want of images."""
    positives = dict(zip(dataset.classes, dataset.splits["test"].positives, strict=True))
    none = [name for name, n in positives.items() if n == 0]
    few = [name for name, n in positives.items() if 0 < n < FEW and dataset.groups[name] == "tail"]
    found = []
    if none:
        found.append(f"{len(none)} of {len(positives)} classes have no test image and get no score: {examples(none)}")
    if few:
        found.append(
            f"{len(few)} of {len(positives)} classes are tail classes with fewer than {FEW} test images, and their "
            f"scores hang on single ones: {examples(few)}"
        )
    return found
