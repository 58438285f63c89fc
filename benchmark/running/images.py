"""The images of a run: decoding them into the cache, and comparing them with those of a record."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping

from benchmark.data.dataset import Dataset
from benchmark.data.duplicates import NAMED, Duplicates, find_duplicates
from benchmark.data.images import CachedImages, cache_split, check_room, known_digest
from benchmark.data.lists import Split
from benchmark.data.sizes import scoring_size, training_size
from benchmark.data.sources import FileImages
from benchmark.running.plan import Plan
from benchmark.store.records import Record
from benchmark.ui.progress import Reporter


def has_images_to_compare(plan: Plan) -> bool:
    """Whether the images are files of a registered dataset, and all of them are here.

    The fingerprint of such a dataset does not cover the pixels. That of a user's own dataset does, and rendered images
    follow from the lists.
    """
    source = plan.dataset.source
    return type(source) is FileImages and not source.is_absent(plan.dataset.splits.values())


def known_pixels(plan: Plan) -> dict[str, str | None]:
    """Split -> sha256 of its pixels as a run would see them, None where they are not decoded yet.

    Empty where there are no images to compare.
    """
    if not has_images_to_compare(plan):
        return {}
    sizes, interpolation = cached_sizes(plan), plan.spec.weights.interpolation
    return {
        name: known_digest(split, plan.dataset.source, sizes[name], interpolation)
        for name, split in plan.dataset.splits.items()
    }


def other_images(record: Record, pixels: Mapping[str, str | None]) -> list[str]:
    """The splits whose images here differ from those of a record, as far as is known. pixels: of `known_pixels`."""
    return [name for name, digest in pixels.items() if digest not in (None, record.data_digests.get(name, digest))]


def prepare_images(plan: Plan, reporter: Reporter) -> dict[str, CachedImages]:
    """Check that every image of a plan's dataset exists and decode it into the cache, as `execute` does first.

    Name of a list, as in `Dataset.lists`, -> its images: those of all episodes. All cached pixels are compared with
    their digests.
    """
    plan.dataset.source.check(plan.dataset.lists.values())
    for warning in label_warnings(plan.dataset):
        reporter.line(warning)
    return _cache(plan, reporter, plan.dataset.lists, thorough=True)


def duplicate_images(plan: Plan, reporter: Reporter) -> Duplicates:
    """The images of a plan's dataset with the same content. Files that changed since they were last read are read.

    Raises InputError for a file that cannot be read, and for one that is listed twice and cannot be decoded.
    """
    source, splits = plan.dataset.source, plan.dataset.splits
    if not isinstance(source, FileImages):  # each rendered image has another name, and so another content
        return Duplicates()
    paths = {name: split.paths for name, split in splits.items()}
    with reporter.task("reading image files", sum(map(len, paths.values()))) as task:
        digests = iter(source.digests([path for of_list in paths.values() for path in of_list], task.update))
    found = find_duplicates(paths, {name: list(itertools.islice(digests, len(paths[name]))) for name in paths})
    for (_, path), _ in (*found.across[:NAMED], *found.within[:NAMED]):
        source.open(path)  # two files that are empty are not identical images
    return found


def check_duplicates(plan: Plan, found: Duplicates, reporter: Reporter) -> int:
    """The number of images that are in two lists under different names, where the plan allows it.

    Warns of an image that is twice in one list. Raises InputError where an image is in two lists and the plan does not
    allow it.
    """
    if warning := found.warning():
        reporter.line(warning)
    if not plan.allow_duplicates:
        found.refuse()
    return len(found.across)


def label_warnings(dataset: Dataset) -> list[str]:
    """A line for each list without a single label, on which nothing can be scored."""
    return [
        f"warning: {dataset.name}: no image of {split.name}.txt has a label: every score on it will be missing, a dash "
        "in tables; write the class indices behind each path"
        for split in dataset.splits.values()
        if not split.targets.any()
    ]


def cache_images(
    plan: Plan, reporter: Reporter, names: Collection[str] = ("train", "val", "test")
) -> dict[str, CachedImages]:
    """Decode the splits of these names into the cache; split -> its images."""
    splits = {name: split for name, split in plan.dataset.splits.items() if name in names}
    return _cache(plan, reporter, splits, thorough=False)


def _cache(plan: Plan, reporter: Reporter, lists: Mapping[str, Split], thorough: bool) -> dict[str, CachedImages]:
    """Decode lists into the cache; name -> images. thorough: see `cache_split`."""
    sizes, source, interpolation = cached_sizes(plan), plan.dataset.source, plan.spec.weights.interpolation
    check_room([(split, sizes[split.name]) for split in lists.values()], source, interpolation)

    def cache(name: str, split: Split) -> CachedImages:
        with reporter.task(f"decoding {name} images", len(split)) as task:

            def advance(done: int, total: int) -> None:
                task.update(done)

            return cache_split(split, source, sizes[split.name], interpolation, advance=advance, thorough=thorough)

    return {name: cache(name, split) for name, split in lists.items()}


def cached_sizes(plan: Plan) -> dict[str, int]:
    """Split -> side in pixels of its images in the cache."""
    recipe = plan.spec.recipe
    scoring = scoring_size(recipe.image_size, recipe.test_time)
    training = training_size(recipe.image_size, recipe.augment)
    return {
        "train": training if plan.method.trains_on == "images" else recipe.image_size,
        "val": scoring,
        "test": scoring,
    }
