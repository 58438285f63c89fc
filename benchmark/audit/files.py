"""Checks of a run's files against its record: digests, tensors, and the scores of the stored logits."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmark.base.files import read_regular
from benchmark.errors import RunFailed, StoreError
from benchmark.evaluation import numbers_again
from benchmark.store.logits import TARGETS, VALIDATION, VALIDATION_TARGETS, tensors_of
from benchmark.store.records import Group, Record, differing

RECORD = "record.json"
# The most by which a run's test logits may differ when they are computed again, as a share of their standard deviation.
# Another GPU or another order of sums changes them far less, another epoch far more.
_SAME_LOGITS = 0.01

Numbers = dict[str, float | None]


class Files(ABC):
    """The files of one run, in a folder or a bundle.

    where: precedes a file's name in a message. remedy: for a file that is damaged.
    """

    where: str
    remedy: str

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file. Raises StoreError."""

    def fault(self, name: str, problem: str) -> str:
        """The message for a problem of a file."""
        return f"{self.where}{name}: {problem}; {self.remedy}"


class FolderFiles(Files):
    """The files of a run in a results folder. path: the run's folder."""

    remedy = "restore the file, or run again with --rerun always"

    def __init__(self, path: Path):
        self.path = path
        self.where = f"{path}/"

    def read(self, name: str) -> bytes:
        try:
            return read_regular(self.path / name)
        except OSError as error:
            raise StoreError(self.fault(name, f"cannot be read: {error.strerror or error}")) from None


def files_of(record: Record) -> dict[str, str]:
    """The files of tensors that a record names: name -> sha256."""
    return {record.logits.file: record.logits.sha256} | {epoch.file: epoch.sha256 for epoch in record.oracle}


@dataclass(frozen=True)
class Epoch:
    """An epoch (counted from 1) whose test logits were kept for the oracle, and their file."""

    number: int
    file: str
    sha256: str


@dataclass(frozen=True)
class Stated:
    """The facts that a record states about its files, as plain values, which can be sent to other processes.

    file, sha256: of the logits. numbers: weight set -> its scores on the test list. num_images: of the test list.
    validation: number of images and scores, where their logits are stored. selected: the epoch that was scored. seeded:
    whether the seed matters; it does not where nothing is trained.
    """

    file: str
    sha256: str
    declared: str
    groups: dict[str, Group]
    num_images: int
    numbers: dict[str, Numbers]
    validation: tuple[int, Numbers] | None
    epochs: tuple[Epoch, ...]
    selected: int
    seeded: bool

    @classmethod
    def of(cls, record: Record) -> Stated:
        """The facts that a record states."""
        validation = None
        if record.num_validation_images is not None and record.validation is not None:
            validation = record.num_validation_images, record.validation.numbers()
        return cls(
            record.logits.file,
            record.logits.sha256,
            record.declared,
            record.groups,
            record.num_test_images,
            {name: metrics.numbers() for name, metrics in record.results.items()},
            validation,
            tuple(Epoch(epoch.epoch, epoch.file, epoch.sha256) for epoch in record.oracle),
            record.selection.epoch,
            bool(record.history) and record.parameters.trained > 0,
        )

    @property
    def weight_tensors(self) -> dict[str, tuple[type, int]]:
        """The test logits: name -> dtype and number of images."""
        return dict.fromkeys(self.numbers, (np.float32, self.num_images))

    @property
    def tensors(self) -> dict[str, tuple[type, int]]:
        """All tensors of the file of logits: name -> dtype and number of images."""
        test = self.weight_tensors | {TARGETS: (np.uint8, self.num_images)}
        if self.validation is None:
            return test
        return test | {VALIDATION: (np.float32, self.validation[0]), VALIDATION_TARGETS: (np.uint8, self.validation[0])}

    @property
    def num_bytes(self) -> int:
        """Bytes of all numbers in the file of logits."""
        return sum(np.dtype(kind).itemsize * images * len(self.groups) for kind, images in self.tensors.values())


@dataclass(frozen=True)
class Contents:
    """The tensors of a run's file of logits, as its record states them."""

    stated: Stated
    tensors: dict[str, np.ndarray]

    @property
    def declared(self) -> np.ndarray:
        """Test logits of the declared weight set, float32 [N, C]."""
        return self.tensors[self.stated.declared]

    @property
    def targets(self) -> np.ndarray:
        """Test labels, uint8 [N, C]."""
        return self.tensors[TARGETS]

    @cached_property
    def labels(self) -> dict[str, str]:
        """sha256 of the labels: name of the tensor -> digest."""
        return {key: _digest(self.tensors[key]) for key in (TARGETS, VALIDATION_TARGETS) if key in self.tensors}

    @cached_property
    def logits(self) -> str | None:
        """sha256 of the declared test logits, which no run with another seed shares.

        None for a run without training, and for logits that are equal for all images.
        """
        if not self.stated.seeded or (self.declared == self.declared[0]).all():
            return None
        return _digest(self.declared)


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def load(stated: Stated, files: Files) -> Contents:
    """Read a run's logits and labels. Raises StoreError where they contradict its record."""
    tensors = _tensors(files, stated.file, stated.sha256)
    _check_tensors(tensors, stated.tensors, stated, files, stated.file)
    return Contents(stated, tensors)


def load_epoch(epoch: Epoch, contents: Contents, files: Files) -> dict[str, np.ndarray]:
    """Read the test logits of an epoch: weight set -> float32 [N, C].

    contents: the record's own logits, which those of the scored epoch must equal. Raises StoreError where the logits
    contradict the record.
    """
    tensors = read_epoch(epoch, contents.stated, files)
    if epoch.number == contents.stated.selected:
        for name, values in tensors.items():
            most = np.abs(values - contents.tensors[name]).max()
            if most > _SAME_LOGITS * contents.tensors[name].std():
                problem = f"{name} differs by up to {most:.3g} from the record's logits, which are of this epoch"
                raise StoreError(files.fault(epoch.file, problem))
    return tensors


def read_epoch(epoch: Epoch, stated: Stated, files: Files) -> dict[str, np.ndarray]:
    """`load_epoch` without the comparison with the record's own logits."""
    tensors = _tensors(files, epoch.file, epoch.sha256)
    _check_tensors(tensors, stated.weight_tensors, stated, files, epoch.file)
    return tensors


def _tensors(files: Files, name: str, sha256: str) -> dict[str, np.ndarray]:
    try:
        return tensors_of(files.read(name), sha256)
    except ValueError as error:
        raise StoreError(files.fault(name, str(error))) from None


def _check_tensors(
    tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[type, int]], stated: Stated, files: Files, name: str
) -> None:
    """Raise StoreError unless a file holds the expected tensors, finite."""
    if set(tensors) != set(expected):
        found = ", ".join(sorted(tensors)) or "nothing"
        raise StoreError(files.fault(name, f"it holds {found} instead of {', '.join(sorted(expected))}"))
    for key, (kind, images) in expected.items():
        values, shape = tensors[key], (images, len(stated.groups))
        if values.dtype != kind or values.shape != shape or not values.size:
            found = f"{values.dtype} {list(values.shape)}"
            stated_shape = f"{np.dtype(kind)} {list(shape)}"
            raise StoreError(files.fault(name, f"{key} is {found}, and the record says {stated_shape}"))
        if kind is np.float32 and not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            problem = f"{key} is {values[row, column]} at image {row}, class {column}, which is not finite"
            raise StoreError(files.fault(name, problem))


def score_again(contents: Contents, files: Files) -> tuple[dict[str, Numbers], list[str]]:
    """Score the stored logits again.

    Returns the numbers of each weight set, and a message for each set of numbers in the record that differs. Raises
    StoreError for labels that cannot be scored.
    """
    stated, tensors = contents.stated, contents.tensors
    again: dict[str, Numbers] = {}
    faults: list[str] = []
    for name, recorded in stated.numbers.items():
        again[name] = numbers_of(tensors[name], contents, files, stated.file, recorded)
        faults += _score_faults(f"results.{name}", recorded, again[name], files)
    if stated.validation is not None:
        recorded = stated.validation[1]
        found = _numbers(tensors[VALIDATION], tensors[VALIDATION_TARGETS], stated, files, stated.file, recorded)
        faults += _score_faults("validation", recorded, found, files)
    return again, faults


def numbers_of(
    logits: np.ndarray, contents: Contents, files: Files, name: str, recorded: Mapping[str, float | None]
) -> Numbers:
    """The scores of test logits; see `evaluation.numbers_again`. name: their file.

    Raises StoreError for labels that cannot be scored.
    """
    return _numbers(logits, contents.targets, contents.stated, files, name, recorded)


def _numbers(
    logits: np.ndarray,
    targets: np.ndarray,
    stated: Stated,
    files: Files,
    name: str,
    recorded: Mapping[str, float | None],
) -> Numbers:
    try:
        return numbers_again(recorded, logits, targets, stated.groups)
    except RunFailed as error:
        raise StoreError(files.fault(name, str(error))) from None


def _score_faults(
    place: str, recorded: Mapping[str, float | None], again: Mapping[str, float | None], files: Files
) -> list[str]:
    """At most one message: the first number that the logits do not give, and how many more differ."""
    wrong = differing(again, recorded)
    if not wrong:
        return []
    first, more = wrong[0], f" (and {len(wrong) - 1} more numbers differ)" if len(wrong) > 1 else ""
    problem = f"{place}.{first} is {recorded[first]}, and the logits score {again[first]}{more}"
    return [files.fault(RECORD, problem)]
