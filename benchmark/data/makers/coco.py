"""COCO-LT with a validation list, from the annotations of COCO 2017."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from benchmark.data.annotations import Annotations, list_bytes_of
from benchmark.data.dataset import DATASETS, DatasetFolder
from benchmark.data.hashed import smallest_hashes
from benchmark.data.importers.checks import examples
from benchmark.data.importers.coco import read_coco
from benchmark.data.makers import MAKERS, Made, Say
from benchmark.errors import InputError

# Where annotations_trainval2017.zip is unpacked, below the data root.
ANNOTATIONS = ("coco/annotations", "annotations")
SIZE = 2000
PURPOSE = "coco-lt/val"


def instances_file(data_root: Path, part: str) -> Path | None:
    """`instances_<part>.json` below the data root; None where there is none. part: train2017 or val2017."""
    files = (data_root / folder / f"instances_{part}.json" for folder in ANNOTATIONS)
    return next((file for file in files if file.is_file()), None)


def read_instances(file: Path, crowd: bool = True) -> Annotations:
    """The labels of COCO as the published COCO-LT lists have them.

    The loader of the repository that published the lists counts an object whether it is a crowd or not, and leaves out
    one without area or with a side below one pixel. crowd: False for the other reading. Raises InputError.
    """
    return read_coco(file, crowd=crowd, least_side=1.0)


@MAKERS.register("coco-lt-val")
def coco_lt_val(folder: DatasetFolder, data_root: Path, say: Say) -> Made:
    """The 2,000 annotated images of train2017 outside the training list with the smallest digests of their ids."""
    file = instances_file(data_root, "train2017")
    if file is None:
        looked = " and ".join(f"{data_root / where}" for where in ANNOTATIONS)
        raise InputError(
            f"no instances_train2017.json in {looked}; unpack annotations_trainval2017.zip of the COCO site in "
            f"{data_root / 'coco'}"
        )
    say(f"reading {file}")
    annotations = read_instances(file)
    published = DATASETS.get(folder.card.extends).open(data_root)
    if tuple(annotations.classes) != published.classes:
        raise InputError(f"{file}: its categories are not COCO's 80; take instances_train2017.json of the COCO site")
    labels = {f"train2017/{image}": classes for image, classes in annotations.labels.items()}
    trained = published.splits["train"].paths
    if absent := [path for path in trained if path not in labels]:
        raise InputError(
            f"{file}: it lacks {len(absent):,} images of COCO-LT's training list, such as {examples(absent)}; take "
            "instances_train2017.json, not another year's"
        )
    for path in trained:
        del labels[path]
    images = {_image_id(path, file): path for path, classes in labels.items() if classes}
    if len(images) < SIZE:
        raise InputError(f"{file}: {len(images):,} annotated images are left; the validation list has {SIZE:,}")
    chosen = sorted(images[image] for image in smallest_hashes(PURPOSE, images, SIZE))
    rule = (
        f'the {SIZE:,} annotated images of train2017 outside the training list whose sha256 of "{PURPOSE}/<image id>" '
        "is smallest, sorted by path; crowd objects count, objects without area or with a side below 1 px do not"
    )
    return Made({"val.txt": list_bytes_of({path: labels[path] for path in chosen})}, (file,), rule)


def _image_id(path: str, file: Path) -> str:
    """The id of an image as decimal text: train2017 names its files by it. Raises InputError."""
    stem = PurePosixPath(path).stem
    if not (stem.isascii() and stem.isdigit()):
        raise InputError(f"{file}: image {path!r} is not named by its number; take the official file")
    return str(int(stem))
