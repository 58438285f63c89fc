"""The lists of a dataset: class names, and the images of a split with their labels.

classes.txt                   one class name a line
train.txt val.txt test.txt    one image a line: path, then class indices (line numbers of classes.txt, from 0);
                              a path with blanks in double quotes, in which "" is one quote
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from benchmark.base.files import read_regular
from benchmark.errors import InputError, shown

# Limits of a list: the decoded images of a larger one would fit on no disk.
MAX_LIST_BYTES = 256 * 2**20
MAX_IMAGES = 1_000_000
MAX_CLASSES = 100_000
MAX_TARGETS = 2**31  # images x classes, a byte each


@dataclass(frozen=True)
class Split:
    """One list: image paths (relative, POSIX) and targets uint8 [N, C]."""

    name: str
    paths: tuple[str, ...]
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def positives(self) -> np.ndarray:
        """Images of every class, int64 [C]."""
        return self.targets.sum(axis=0, dtype=np.int64)

    @property
    def labels(self) -> dict[str, frozenset[int]]:
        """Path -> its classes' indices, in the order of the list."""
        return {path: frozenset(row) for path, row in zip(self.paths, self.label_indices(), strict=True)}

    def label_indices(self) -> list[list[int]]:
        """The classes of each image, in class order."""
        images, classes = np.nonzero(self.targets)
        ends = np.cumsum(np.bincount(images, minlength=len(self))).tolist()
        indices = classes.tolist()
        return [indices[start:end] for start, end in itertools.pairwise([0, *ends])]


def list_bytes(path: Path) -> bytes:
    """The content of a list or of classes.txt. Raises OSError, also where it is no regular file or too large."""
    return read_regular(path, MAX_LIST_BYTES)


def _lines(path: Path, most: int) -> list[str]:
    try:
        text = list_bytes(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a dataset folder has classes.txt, train.txt and test.txt") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as a UTF-8 text file: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    # Not str.splitlines: it also breaks lines at characters that a name may hold.
    text = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
    if not text.strip():
        raise InputError(f"{path}: the list is empty; give at least one line")
    if (count := text.count("\n") + 1) > most:
        raise InputError(f"{path}: it has {count:,} lines; at most {most:,} are read")
    return text.split("\n")


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names, one a line. Raises InputError for an empty line, a name that would break lines where it is printed,
    a name given twice, or more than MAX_CLASSES."""
    names = tuple(line.strip() for line in _lines(path, MAX_CLASSES))
    for number, name in enumerate(names, 1):
        if not name:
            raise InputError(f"{path}:{number}: empty line; class indices are line numbers, so remove it")
        if len(name.splitlines()) > 1:
            raise InputError(
                f"{path}:{number}: class name {shown(name)!a} holds a line separator; write a blank instead"
            )
    repeated = [name for name, n in Counter(names).items() if n > 1]
    if repeated:
        raise InputError(f"{path}: class {shown(repeated[0])!r} is named twice; class names must differ")
    return names


def read_list(path: Path, name: str, num_classes: int) -> Split:
    """Read one list.

    Raises InputError, with file and line, for an empty list, an index that is no number or out of range, a label
    or an image given twice, a path that is absolute or leaves the image root, and more than MAX_IMAGES lines.
    """
    paths: dict[str, int] = {}
    rows: list[list[int]] = []
    lines = _lines(path, MAX_IMAGES)
    if len(lines) * num_classes > MAX_TARGETS:
        raise InputError(
            f"{path}: {len(lines):,} images x {num_classes:,} classes are more than {MAX_TARGETS:,} labels"
        )
    known = {str(index): index for index in range(num_classes)}  # the usual spellings, looked up
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        given, labels = _fields(line, where)
        if leaves_root(given):
            raise InputError(f"{where}: {shown(given)!r} leaves the image root; give a path below it")
        # `./a.jpg` is `a.jpg`: one spelling, so that an image listed twice is noticed.
        image = given if {"", "."}.isdisjoint(given.split("/")) else str(PurePosixPath(given))
        if image in paths:
            raise InputError(f"{where}: image {shown(image)!r} is listed twice (first in line {paths[image]})")
        paths[image] = number
        indices = [known[label] if label in known else _class_index(label, num_classes, where) for label in labels]
        if len(set(indices)) < len(indices):
            hint = "; a row of 0 and 1 for all classes (multi-hot) is not read" if set(indices) <= {0, 1} else ""
            raise InputError(f"{where}: image {shown(image)!r} has a class twice; list each class once{hint}")
        rows.append(indices)
    targets = np.zeros((len(rows), num_classes), dtype=np.uint8)
    images = np.repeat(np.arange(len(rows)), [len(indices) for indices in rows])
    targets[images, np.fromiter(itertools.chain.from_iterable(rows), np.int64)] = 1
    return Split(name, tuple(paths), targets)


def _fields(line: str, where: str) -> tuple[str, list[str]]:
    """Path and labels of a line. Raises InputError."""
    line = line.strip()
    if not line:
        raise InputError(f"{where}: empty line; remove it")
    if line.startswith('"'):
        # A null byte, which no path holds, replaces a doubled quote until the path's end is found.
        path, quote, rest = line[1:].replace("\0", "?").replace('""', "\0").partition('"')
        if not path or not quote or not rest[:1].isspace() and rest:
            raise InputError(
                f'{where}: {shown(line)!r} begins with no path in double quotes; write `"path" index ...`, and "" '
                "for a quote in the path"
            )
        return path.replace("\0", '"'), rest.split()
    _, comma, after = line.replace(";", ",").rpartition(",")
    if comma and (after.isdigit() or (after[:1] in " \t" and all(map(str.isdigit, after.split())))):
        raise InputError(
            f"{where}: {shown(line)!r} has commas between its fields; write blanks: `path index index ...` (a path "
            "that ends so goes in double quotes)"
        )
    given, *labels = line.split()
    return given, labels


def _class_index(text: str, num_classes: int, where: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InputError(
            f"{where}: {shown(text)!r} is not a class index; a line is `path index index ...`, and a path with blanks "
            'goes in double quotes: `"my dog.jpg" 1`'
        )
    # By its length first: Python refuses to read a number of thousands of digits.
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(num_classes)) or int(digits) >= num_classes:
        raise InputError(
            f"{where}: class index {shown(text)} is out of range; classes.txt names {num_classes} classes, "
            f"0 to {num_classes - 1}"
        )
    return int(digits)


def leaves_root(path: str) -> bool:
    """Whether a path that a list gives may lead out of the image root: absolute, with `..`, or no POSIX path."""
    return path.startswith("/") or ".." in path.split("/") or "\\" in path or "\0" in path


def check_overlap(folder: Path, splits: Mapping[str, Split]) -> None:
    """Raise InputError, naming the folder, when an image is in two of its lists."""
    names = list(splits)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            shared = sorted(set(splits[first].paths) & set(splits[second].paths))
            if shared:
                raise InputError(
                    f"{folder}: image {shown(shared[0])!r} is in both {first}.txt and {second}.txt"
                    f"{f' (and {len(shared) - 1} more are)' if len(shared) > 1 else ''}; an image belongs in one list"
                )
