"""NUS-WIDE and a long-tailed training list of it, from its official label files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmark.data.annotations import list_bytes_of
from benchmark.data.dataset import DatasetFolder
from benchmark.data.importers.nus_wide import NusWide, find_folder, find_images, flickr_id, read_nus_wide
from benchmark.data.lists import read_classes
from benchmark.data.long_tail import SHAPE, NoImageLeft, long_tailed
from benchmark.data.makers import MAKERS, Made, Say
from benchmark.errors import InputError, shown

# Of the training list of nus-wide-lt. Nobody published sizes for NUS-WIDE: these are COCO-LT's.
LARGEST, SMALLEST, SEED = 1200, 1, 0

Labels = Mapping[str, frozenset[int]]


@MAKERS.register("nus-wide")
def nus_wide(folder: DatasetFolder, data_root: Path, say: Say) -> Made:
    """The official split, with the images that have none of the labels."""
    base, official = _official(folder, data_root, say)
    found = find_images(base)
    train, test = _present(official.train, found), _present(official.test, found)
    rule = "the official training and test lists, with the images that have none of the 81 labels"
    return _made(base, official, {"train.txt": train, "test.txt": test}, found, rule)


@MAKERS.register("nus-wide-lt")
def nus_wide_lt(folder: DatasetFolder, data_root: Path, say: Say) -> Made:
    """A long-tailed part of the official training list, and the official test list."""
    base, official = _official(folder, data_root, say)
    found = find_images(base)
    pool, test = _present(official.train, found), _present(official.test, found)
    classes = read_classes(folder.path / "classes.txt")
    try:
        chosen = long_tailed(pool, len(classes), LARGEST, SMALLEST, SHAPE, SEED)
    except NoImageLeft as error:
        raise InputError(
            f"{base}: no training image of class {shown(classes[error.label])!r} is there for the long-tailed list, "
            f"and {len(official.train) - len(pool):,} of {len(official.train):,} training images are missing; put them "
            "there as Flickr/<concept>/<n>_<id>.jpg, images/<n>_<id>_<hash>_m.jpg or <id>.jpg"
        ) from None
    rule = (
        "train: drawn from the official training list as Wu et al. (ECCV 2020) drew COCO-LT, sizes "
        f"{LARGEST} to {SMALLEST}, shape {SHAPE:g}, PCG64 with seed {SEED}; test: the official test list"
    )
    return _made(base, official, {"train.txt": {path: pool[path] for path in chosen}, "test.txt": test}, found, rule)


def _official(folder: DatasetFolder, data_root: Path, say: Say) -> tuple[Path, NusWide]:
    base = find_folder(data_root)
    say(f"reading {base}")
    official = read_nus_wide(base, read_classes(folder.path / "classes.txt"))
    for note in official.notes:
        say(note)
    return base, official


def _present(labels: Labels, found: Mapping[str, str]) -> Labels:
    return {entry: classes for entry, classes in labels.items() if flickr_id(entry) in found}


def _made(base: Path, official: NusWide, lists: Mapping[str, Labels], found: Mapping[str, str], rule: str) -> Made:
    missing = tuple(
        entry for labels in (official.train, official.test) for entry in labels if flickr_id(entry) not in found
    )
    files = {entry: base / found[flickr_id(entry)] for labels in lists.values() for entry in labels}
    # In the official layout one link serves all.
    official_layout = all(file == base / "Flickr" / entry for entry, file in files.items())
    return Made(
        {name: list_bytes_of(labels) for name, labels in lists.items()},
        official.sources,
        rule,
        missing,
        base / "Flickr" if official_layout else files,
    )
