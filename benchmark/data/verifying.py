"""Whether a dataset is what it says: its lists, their labels by the official annotations, its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.data.contents import named
from benchmark.data.dataset import DATA_ROOT_VARIABLE, DATASETS, MADE_JSON, Dataset, DatasetFolder, given_root
from benchmark.data.images import bad_images
from benchmark.data.official import Labels, Official, official_annotations
from benchmark.errors import InputError
from benchmark.ui.progress import Reporter, plural


@dataclass(frozen=True)
class Difference:
    """An image whose row in a list is not what the official annotations give. listed, official: names of classes."""

    list: str
    image: str
    listed: tuple[str, ...]
    official: tuple[str, ...]


@dataclass(frozen=True)
class Verification:
    """What was found.

    checked: what was checked, a line each. unchecked: what could have been and was not, with the remedy. faults: what
    does not hold, except labels. differences: of labels, in the order of the lists.
    """

    fingerprint: str
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]
    faults: tuple[str, ...]
    differences: tuple[Difference, ...]

    @property
    def holds(self) -> bool:
        """Whether everything was checked and nothing was found."""
        return not (self.unchecked or self.faults or self.differences)


class _Findings:
    def __init__(self) -> None:
        self.checked: list[str] = []
        self.unchecked: list[str] = []
        self.faults: list[str] = []
        self.differences: list[Difference] = []


def verify_dataset(
    folder: DatasetFolder,
    data_root: Path | None = None,
    annotations: Path | None = None,
    content: bool = False,
    reporter: Reporter | None = None,
) -> Verification:
    """Check a dataset.

    annotations: a folder with the official annotations; by default they are looked for below the data root. content:
    read and decode every image, and compare its digest with the remembered one.
    Raises InputError where the lists or annotations cannot be read.
    """
    reporter = reporter or Reporter()
    dataset = folder.open(data_root)
    found = _Findings()
    _check_fingerprint(dataset, folder.name in DATASETS, found)
    _check_labels(dataset, _places(folder, data_root, annotations), found, reporter)
    _check_images(dataset, content, found, reporter)
    parts = (found.checked, found.unchecked, found.faults, found.differences)
    return Verification(dataset.fingerprint, *map(tuple, parts))  # type: ignore[arg-type]


def _places(folder: DatasetFolder, data_root: Path | None, annotations: Path | None) -> list[Path]:
    """Where annotations may be; empty without a data root."""
    if annotations is not None:
        if not annotations.is_dir():
            raise InputError(f"{named(annotations)}: no such folder; --annotations names that of the annotations")
        return [annotations, annotations.resolve().parent]
    if folder.card.images != "data-root":
        return list(dict.fromkeys([folder.path / folder.card.folder, folder.path]))
    root = given_root(data_root)
    return list(dict.fromkeys([root, root / folder.card.folder])) if root else []


def _check_fingerprint(dataset: Dataset, registered: bool, found: _Findings) -> None:
    pinned = dataset.card.fingerprint if registered else ""
    if pinned and pinned != dataset.fingerprint:
        found.faults.append(
            f"lists: the fingerprint is {dataset.fingerprint[:12]}, and dataset.yaml says {pinned[:12]}: the lists, "
            "classes or groups were changed; take them anew from the repository"
        )
        return
    known = ", as dataset.yaml says" if pinned else ""
    if dataset.card.lists == "data-root":  # opening has compared them
        known = f", as {MADE_JSON} says"
    found.checked.append(f"lists: fingerprint {dataset.fingerprint[:12]}{known}")


def _check_labels(dataset: Dataset, places: Sequence[Path], found: _Findings, reporter: Reporter) -> None:
    list_of = {path: name for name, split in dataset.lists.items() for path in split.paths}
    listed = {path: labels for split in dataset.lists.values() for path, labels in split.labels.items()}
    known = official_annotations(dataset, listed, places)
    if not known:
        found.checked.append(
            "labels: no official annotations are known for these images, so there is nothing to compare"
        )
    for official in known:
        if official.read is None:
            where = f"below {named(places[0])}" if places else f"without --data-root or {DATA_ROOT_VARIABLE}"
            found.unchecked.append(
                f"labels of {plural(len(official.paths), 'image')} are not checked: no {official.name} {where}; "
                "unpack it there, or give its folder with --annotations"
            )
            continue
        reporter.line(f"reading {official.name}")
        _compare(dataset, official, official.read(), listed, list_of, found)


def _compare(
    dataset: Dataset, official: Official, labels: Labels, listed: Labels, list_of: dict[str, str], found: _Findings
) -> None:
    annotated = [path for path in official.paths if path in labels]
    differ = [path for path in annotated if labels[path] != listed[path]]
    found.differences += [
        Difference(list_of[path], path, _names(dataset, listed[path]), _names(dataset, labels[path])) for path in differ
    ]
    line = f"labels: {plural(len(annotated), 'row')} compared with {official.name}, {len(differ):,} differ"
    if differ and official.other:
        what, read = official.other
        other = read()
        line += f"; {sum(other[path] != listed[path] for path in annotated):,} would if {what}"
    found.checked.append(line)
    if bare := len(official.paths) - len(annotated):
        absent = next(path for path in official.paths if path not in labels)
        found.unchecked.append(
            f"labels of {plural(bare, 'image')} are not checked: {official.name} lacks them, such as {named(absent)}"
        )


def _names(dataset: Dataset, labels: frozenset[int]) -> tuple[str, ...]:
    return tuple(dataset.classes[i] for i in sorted(labels))


def _check_images(dataset: Dataset, content: bool, found: _Findings, reporter: Reporter) -> None:
    splits = dataset.lists.values()
    paths = list(dict.fromkeys(path for split in splits for path in split.paths))  # one may be in several episodes
    total = len(paths)
    try:
        dataset.source.check(splits)
    except InputError as error:
        found.faults.append(f"images: {error}")
        return
    if not content:
        found.checked.append(f"images: {plural(total, 'image')}, all there; not read (--content reads them)")
        return
    with reporter.task("reading images", sum(map(len, splits))) as task:
        bad = list(dict.fromkeys(bad_images(splits, dataset.source, task.update)))
    found.faults += [f"images: {fault}" for fault in bad]
    if not bad:
        with reporter.task("comparing contents", total) as task:
            changed = dataset.source.changed(paths, task.update)
        found.faults += [
            f"images: {named(path)}: its content is not what its remembered digest says, though its size and times are"
            for path in changed
        ]
        found.checked.append(f"images: {plural(total, 'image')} read and decoded")
