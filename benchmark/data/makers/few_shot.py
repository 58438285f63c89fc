"""The few-shot sets and their base sets, from VOC 2007 and COCO 2014.

    <name>-few-shot-<K>     classes.txt names the novel classes
    <name>-few-shot-base    classes.txt names the base classes: all others

Rules, by LaSO (Alfassy et al., CVPR 2019; its repository for COCO) where it has one:

    base training list    images of the training part with a base class and without any novel class
    support sets          drawn from images of the training part with a novel class; see `data.episodes`
    test list             images of the test part with a class of classes.txt; other labels are left out
    parts                 COCO: train2014 and val2014; VOC 2007, which LaSO has not: trainval and test
    labels                COCO: neither crowds nor boxes below one pixel count; VOC: objects marked difficult do count

COCO's images are looked up in the folders of 2017, which hold the same images as those of 2014.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from benchmark.data.annotations import Annotations, list_bytes_of
from benchmark.data.dataset import DATASETS, DatasetFolder, episode_lists
from benchmark.data.episodes import draw_episodes
from benchmark.data.importers.checks import read_text
from benchmark.data.importers.voc import read_voc
from benchmark.data.lists import MAX_LIST_BYTES, read_classes, read_list
from benchmark.data.makers import MAKERS, Made, Say
from benchmark.data.makers.coco import ANNOTATIONS, instances_file, read_instances
from benchmark.errors import InputError, shown

Labels = Mapping[str, frozenset[int]]

VOC = PurePosixPath("VOCdevkit/VOC2007")
COCO_PARTS = ("train2014", "val2014")


@dataclass(frozen=True)
class Parts:
    """The two parts of a source: path of an image, as lists have it -> indices of all its classes.

    notes: of the readers. sources: the files that were read; VOC's annotations, one file an image, are not among them.
    """

    classes: tuple[str, ...]
    train: Labels
    test: Labels
    notes: tuple[str, ...]
    sources: tuple[Path, ...]


@MAKERS.register("voc-few-shot-base")
@MAKERS.register("voc-few-shot-1")
@MAKERS.register("voc-few-shot-5")
def _voc(folder: DatasetFolder, data_root: Path, say: Say) -> Made:
    return _make(folder, _voc_parts(data_root), say)


@MAKERS.register("coco-few-shot-base")
@MAKERS.register("coco-few-shot-1")
@MAKERS.register("coco-few-shot-5")
def _coco(folder: DatasetFolder, data_root: Path, say: Say) -> Made:
    return _make(folder, read_coco_2014([_coco_file(data_root, part) for part in COCO_PARTS]), say)


def _make(folder: DatasetFolder, parts: Parts, say: Say) -> Made:
    for note in parts.notes:
        say(note)
    classes = read_classes(folder.file("classes.txt"))
    test = _with_classes(parts.test, parts.classes, classes)
    episodes, shots = folder.card.episodes, folder.card.shots
    if episodes:
        supports = draw_episodes(_with_classes(parts.train, parts.classes, classes), classes, shots, episodes)
        lists = dict(zip(episode_lists(episodes), supports, strict=True)) | {"test": test}
        rule = f"{episodes} support sets of {shots} positives a class, and the test images with a class"
    else:
        known = {parts.classes.index(name) for name in classes if name in parts.classes}
        base_alone = {image: found for image, found in parts.train.items() if found <= known}
        lists = {"train": _with_classes(base_alone, parts.classes, classes), "test": test}
        rule = "training images without a novel class, and the test images with a base class"
    files = {f"{name}.txt": list_bytes_of(labels) for name, labels in lists.items()}
    return Made(files, parts.sources, rule)


def _with_classes(labels: Labels, known: tuple[str, ...], classes: tuple[str, ...]) -> dict[str, frozenset[int]]:
    """The images with one of the classes, sorted, and their labels among these. known: the classes of `labels`."""
    absent = [name for name in classes if name not in known]
    if absent:
        raise InputError(f"no annotation has class {shown(absent[0])!r}; get the official annotations, all of them")
    index = {known.index(name): i for i, name in enumerate(classes)}
    kept = {image: frozenset(index[i] for i in found if i in index) for image, found in labels.items()}
    return {image: kept[image] for image in sorted(kept) if kept[image]}


def _voc_parts(data_root: Path) -> Parts:
    root = data_root / VOC
    annotated = read_voc(root / "Annotations")
    labels = {str(VOC / "JPEGImages" / image): found for image, found in annotated.labels.items()}
    parts, sources = [], []
    for name in ("trainval", "test"):
        sources.append(root / "ImageSets" / "Main" / f"{name}.txt")
        images = [str(VOC / "JPEGImages" / f"{line}.jpg") for line in read_text(sources[-1], MAX_LIST_BYTES).split()]
        missing = [image for image in images if image not in labels]
        if missing:
            raise InputError(
                f"{sources[-1]}: {len(missing)} of its {len(images)} images have no annotation, such as "
                f"{shown(missing[0])}; unpack VOC 2007's trainval and test archives into {data_root}"
            )
        parts.append({image: labels[image] for image in images})
    return Parts(annotated.classes, parts[0], parts[1], annotated.notes, tuple(sources))


def read_coco_2014(files: Sequence[Path]) -> Parts:
    """The labels of COCO 2014. files: the instances of COCO_PARTS. Raises InputError."""
    train, test = (read_instances(file, crowd=False) for file in files)
    if train.classes != test.classes:
        raise InputError(f"{files[1]}: its categories are not those of {files[0].name}; get both from one archive")
    # The test list of COCO-LT is val2017; all other images of 2014 are in train2017.
    in_val = {PurePosixPath(path).name for path in _val2017()}
    moved = [_in_2017(annotated, in_val) for annotated in (train, test)]
    return Parts(train.classes, moved[0], moved[1], train.notes + test.notes, tuple(files))


def _coco_file(data_root: Path, part: str) -> Path:
    file = instances_file(data_root, part)
    if file is None:
        looked = " and ".join(f"{data_root / where}" for where in ANNOTATIONS)
        raise InputError(
            f"no instances_{part}.json in {looked}; unpack annotations_trainval2014.zip of the COCO site in "
            f"{data_root / 'coco'}"
        )
    return file


def _val2017() -> tuple[str, ...]:
    folder = DATASETS.get("coco-lt")
    classes = read_classes(folder.file("classes.txt"))
    return read_list(folder.file("test.txt"), "test", len(classes)).paths


def _in_2017(annotated: Annotations, in_val: set[str]) -> dict[str, frozenset[int]]:
    """The labels by the path of 2017: COCO_val2014_000000000139.jpg is val2017/000000000139.jpg."""
    names = {image: image.rpartition("_")[2] for image in annotated.labels}
    return {
        f"{'val' if names[image] in in_val else 'train'}2017/{names[image]}": found
        for image, found in annotated.labels.items()
    }
