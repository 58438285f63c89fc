"""Get a dataset's images: link copies, or fetch the official archives; check them and decode them into the cache.

Images that are below the data root already are used. Repeated, the command goes on where it ended.

\b
Examples:
  ltbench data prepare voc-lt --data-root /data
  ltbench data prepare voc-mini-lt --data-root /data --source /datasets/VOC
  ltbench data prepare coco-lt --data-root /data --only-needed
  ltbench data prepare voc-lt --method cprfl --protocol paper
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
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
from benchmark.cli.output import images_refused, print_lines, stderr_reporter
from benchmark.errors import InputError
from benchmark.ui.text import harmless

if TYPE_CHECKING:
    from benchmark.data.dataset import Dataset
    from benchmark.ui.progress import Reporter

T = TypeVar("T")


def prepare(
    dataset: Annotated[str, typer.Argument(metavar="NAME", help="Registered name, or the path of a dataset folder.")],
    method: Annotated[str, typer.Option(help="Fill the cache that runs of this method use.")] = "erm",
    protocol: ProtocolOption = None,
    backbone: BackboneOption = None,
    weights: WeightsOption = None,
    image_size: SizeOption = None,
    data_root: DataRootOption = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="A folder with copies of the images or of the archives, linked instead of fetched; may be repeated.",
        ),
    ] = None,
    only_needed: Annotated[
        bool,
        typer.Option(
            "--only-needed", help="Unpack the listed images alone; of a zip file on a server, fetch them alone."
        ),
    ] = False,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Make lists although images are missing: it is another dataset then."),
    ] = False,
    allow_duplicates: DuplicatesOption = False,
) -> None:
    from benchmark.data.dataset import find_dataset
    from benchmark.data.preparing.obtain import Wishes, obtain
    from benchmark.running.images import check_duplicates, duplicate_images, prepare_images
    from benchmark.running.plan import make_plan

    reporter = stderr_reporter()
    opened = obtain(find_dataset(dataset), data_root, Wishes(source or (), only_needed, allow_missing), reporter)
    _naming_all_bad(opened, reporter, lambda: opened.source.check(opened.lists.values()))
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
    for episode in range(len(opened.supports) or 1):
        plan = replace(planned, dataset=planned.dataset.of_seed(episode))
        found = _naming_all_bad(opened, reporter, partial(duplicate_images, plan, reporter))
        check_duplicates(plan, found, reporter)
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
        splits = dataset.lists.values()
        total = len({path for split in splits for path in split.paths})
        with reporter.task("looking for other bad images", sum(map(len, splits))) as task:
            # An image may be in several episodes.
            bad = list(dict.fromkeys(bad_images(splits, dataset.source, task.update)))
        # It is the only one, or the root of the images is wrong.
        if len(bad) < 2 or (len(bad) == total and str(error) not in bad):
            raise
    raise images_refused(bad, total, "replace them or take them off the lists")
