"""Check a dataset's lists and images and decode the images into the cache.

\b
Examples:
  ltbench data prepare voc-lt --data-root /data
  ltbench data prepare voc-lt --method cprfl --protocol paper
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from benchmark.cli.options import (
    BackboneOption,
    DataRootOption,
    DuplicatesOption,
    ProtocolOption,
    SizeOption,
    WeightsOption,
)
from benchmark.cli.output import print_error, print_lines, stderr_reporter
from benchmark.errors import InputError
from benchmark.ui.text import harmless

if TYPE_CHECKING:
    from benchmark.data.dataset import Dataset
    from benchmark.ui.progress import Reporter

T = TypeVar("T")

# More bad images than this are only counted.
NAMED_IMAGES = 20


def prepare(
    dataset: Annotated[str, typer.Argument(metavar="NAME", help="Registered name, or the path of a dataset folder.")],
    method: Annotated[str, typer.Option(help="Fill the cache that runs of this method use.")] = "erm",
    protocol: ProtocolOption = None,
    backbone: BackboneOption = None,
    weights: WeightsOption = None,
    image_size: SizeOption = None,
    data_root: DataRootOption = None,
    allow_duplicates: DuplicatesOption = False,
) -> None:
    from benchmark.data.dataset import find_dataset
    from benchmark.running.images import check_duplicates, duplicate_images, prepare_images
    from benchmark.running.plan import make_plan

    reporter = stderr_reporter()
    opened = find_dataset(dataset).open(data_root)
    _naming_all_bad(opened, reporter, lambda: opened.source.check(opened.splits.values()))
    planned = make_plan(
        method,
        dataset,
        protocol=protocol,
        backbone=backbone,
        weights=weights,
        image_size=image_size,
        data_root=data_root,
        allow_duplicates=allow_duplicates,
    )
    found = _naming_all_bad(opened, reporter, lambda: duplicate_images(planned, reporter))
    check_duplicates(planned, found, reporter)
    cached = _naming_all_bad(opened, reporter, lambda: prepare_images(planned, reporter))
    groups = list(planned.dataset.groups.values())
    print(
        harmless(f"{planned.dataset.card.title}: {len(groups)} classes, ")
        + ", ".join(f"{groups.count(group)} {group}" for group in ("head", "medium", "tail"))
    )
    print_lines(
        (name, f"{images.num_images} images, {images.size} px, pixels {images.digest[:12]}")
        for name, images in cached.items()
    )
    print(f"images: {planned.dataset.source.rules}")


def _naming_all_bad(dataset: Dataset, reporter: Reporter, use: Callable[[], T]) -> T:
    """The result of `use`, which reads a dataset's images.

    Raises InputError where some cannot be used, after printing the first of them.
    """
    from benchmark.data.images import bad_images

    try:
        return use()
    except InputError as error:
        splits = dataset.splits.values()
        total = sum(map(len, splits))
        with reporter.task("looking for other bad images", total) as task:
            bad = bad_images(splits, dataset.source, task.update)
        # It is the only one, or the root of the images is wrong.
        if len(set(bad)) < 2 or (len(bad) == total and str(error) not in bad):
            raise
    for fault in bad[:NAMED_IMAGES]:
        print_error(fault)
    more = f" (the first {NAMED_IMAGES} of them are named)" if len(bad) > NAMED_IMAGES else ""
    raise InputError(f"{len(bad)} of {total} images cannot be used{more}; replace them or take them off the lists")
