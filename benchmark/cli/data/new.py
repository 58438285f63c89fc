"""Make a dataset folder of your own images and labels.

The labels come from a COCO JSON file, a folder of VOC XML files, a table (.csv, .tsv, .txt) or a folder of one folder a
class. Every image is decoded once; the lists are divided so that each class is in all of them in proportion.

\b
Examples:
  ltbench data new birds --from instances.json --images photos
  ltbench data new birds --from labels.csv --images photos --long-tail 800,1
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.output import images_refused, print_table, stderr_reporter
from benchmark.errors import InputError
from benchmark.ui.text import plain

if TYPE_CHECKING:
    from benchmark.data.annotations import Annotations
    from benchmark.data.dataset import Dataset
    from benchmark.data.making import Division


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The dataset folder to make.")],
    source: Annotated[Path, typer.Option("--from", metavar="PATH", help="The labels.")],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The images' folder; leave it out for folders of classes.")
    ] = None,
    val: Annotated[float, typer.Option(metavar="SHARE", help="Of the validation list; 0 for none.")] = 0.15,
    test: Annotated[float, typer.Option(metavar="SHARE", help="Of the test list.")] = 0.15,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides the lists.")] = 0,
    long_tail: Annotated[
        str | None,
        typer.Option(metavar="MAX,MIN", help="Draw a long-tailed training list: images of its first and last class."),
    ] = None,
) -> None:
    from benchmark.data.importers.kinds import find_kind
    from benchmark.data.making import check_target, divided, warnings_about, without_unused, write_dataset

    division = _division(val, test, seed, long_tail)
    check_target(folder)
    kind = find_kind(source)
    root = _image_root(source, images, kind.holds_images)
    annotations = without_unused(kind.read(source))
    labels = sum(map(len, annotations.labels.values()))
    found = f"{len(annotations.labels):,} images, {len(annotations.classes):,} classes, {labels:,} labels"
    print(plain(f"{source}: {kind.title}: {found}"))
    _print_all("note", annotations.notes)
    lists, notes = divided(annotations, _checked_images(annotations, root, kind.holds_images), division)
    _print_all("note", notes)
    made = f"Made by `ltbench data new` from {source.name}: {division}."
    dataset = write_dataset(folder, annotations, lists, root, made)
    _print_lists(dataset)
    _print_all("warning", warnings_about(dataset))
    print(plain(f"{folder}: made; its link `images` leads to {root.resolve()}; fingerprint {dataset.fingerprint[:12]}"))
    print(plain(f"next: ltbench run --dataset {shlex.quote(str(folder))} --method erm"))


def _division(val: float, test: float, seed: int, long_tail: str | None) -> Division:
    """Raises InputError."""
    from benchmark.data.making import Division

    if not (val >= 0 and test > 0 and val + test < 1):  # not-a-number too
        raise InputError(f"--val {val} --test {test}: give shares of the images, of which some are left for training")
    if long_tail is None:
        return Division(val, test, seed)
    sizes = re.fullmatch(r"([0-9]{1,9}),([0-9]{1,9})", long_tail)
    if not sizes or not int(sizes[1]) >= int(sizes[2]) >= 1:
        raise InputError(f"--long-tail {long_tail!r}: write MAX,MIN, as 800,1: images of the first and the last class")
    return Division(val, test, seed, (int(sizes[1]), int(sizes[2])))


def _image_root(source: Path, images: Path | None, held: bool) -> Path:
    """The folder of the images. held: whether the labels' folder is it. Raises InputError."""
    if held and images is not None and images.resolve() != source.resolve():
        raise InputError(f"--images {images}: the images of a folder of classes are in {source}; leave --images out")
    if not held and images is None:
        raise InputError(f"give the folder of the images that {source} names: --images DIR")
    return images or source


def _checked_images(annotations: Annotations, root: Path, held: bool) -> list[str]:
    """The digests of the images' contents, after each was decoded.

    held: whether the labels' folder is that of the images; its reader has told of the images without a row. Raises
    InputError, after naming the first faults.
    """
    from benchmark.data.images import bad_images
    from benchmark.data.making import listed_images

    listed, files, notes = listed_images(annotations, root)
    _print_all("note", () if held else notes)
    with stderr_reporter().task("checking images", len(listed)) as task:
        bad = bad_images([listed], files, task.update)
    if bad:
        raise images_refused(bad, len(listed), "replace them or take them out of the labels")
    return files.digests(listed.paths)


def _print_all(word: str, texts: Iterable[str]) -> None:
    for text in texts:
        print(plain(f"{word}: {text}"))


def _print_lists(dataset: Dataset) -> None:
    """The images of each list, and the labels that each group of classes has in it."""
    import numpy as np

    names = ("head", "medium", "tail")
    group_of = np.array(list(dataset.groups.values()))
    header = ["list", "images", "without label"]
    header += [f"labels: {np.count_nonzero(group_of == name)} {name}" for name in names]
    rows = []
    for split in dataset.splits.values():
        without = np.count_nonzero(~split.targets.any(axis=1))
        rows.append([split.name, len(split), without, *(split.positives[group_of == name].sum() for name in names)])
    print_table(header, rows)
