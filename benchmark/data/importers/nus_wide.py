"""NUS-WIDE from its official files: labels of 81 concepts, the official split, and images by their Flickr ids.

    ImageList/TrainImagelist.txt TestImagelist.txt      an image a line: actor\\0001_2124494179.jpg
    Groundtruth/TrainTestLabels/Labels_<concept>_Train.txt and _Test.txt    0 or 1 a line, in the order of those lists
    ConceptsList/Concepts81.txt                         a concept a line

Source: Chua et al., NUS-WIDE: A Real-World Web Image Database from National University of Singapore, CIVR 2009.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.base.files import read_regular
from benchmark.data.importers.checks import class_names, examples, image_path, read_text, repeated
from benchmark.errors import InputError, shown
from benchmark.ui.progress import plural

MAX_BYTES = 64 * 2**20  # of one file; Imagelist.txt has 8 MB
# The official files lie directly below the folder, or in folders of it.
_DEPTH = 3
# <id>.jpg, <n>_<id>.jpg, <n>_<id>_<hash>_m.jpg: the last number before the hash is Flickr's.
_IMAGE = re.compile(r"(?:\d+_)?(\d+)(?:_[0-9a-f]+)?(?:_[a-z])?\.jpe?g", re.IGNORECASE)
_PARTS = ("Train", "Test")
_ZERO, _ONE = b"01"


@dataclass(frozen=True)
class NusWide:
    """What the official files say.

    train, test: the official entry of an image with /, as actor/0001_2124494179.jpg -> its classes' indices, in the
    official order. sources: the files that were read. notes: what was odd and what was done about it.
    """

    train: Mapping[str, frozenset[int]]
    test: Mapping[str, frozenset[int]]
    sources: tuple[Path, ...]
    notes: tuple[str, ...]


def read_nus_wide(folder: Path, classes: tuple[str, ...]) -> NusWide:
    """The official split and labels. folder: of the official files, in any of the layouts that are in use; the case of
    names does not matter. classes: the 81 concepts, in the order of the indices.

    Raises InputError, naming file and line, for a file that is missing, of another length, or holds something else.
    """
    files = _official_files(folder)
    concepts = _file(folder, files, "Concepts81.txt")
    given = class_names((line for line in read_text(concepts, MAX_BYTES).splitlines() if line.strip()), str(concepts))
    if sorted(name.lower() for name in given) != sorted(classes):
        strange = sorted(set(map(str.lower, given)) ^ set(classes))
        raise InputError(f"{concepts}: the concepts are not NUS-WIDE's 81; they differ in {examples(strange)}")
    sources, notes = [concepts], []
    parts: dict[str, dict[str, frozenset[int]]] = {}
    for part in _PARTS:
        listed = _file(folder, files, f"{part}Imagelist.txt")
        images = _entries(listed)
        labels = [_file(folder, files, f"Labels_{name}_{part}.txt") for name in classes]
        parts[part] = dict(zip(images, _rows(labels, listed, len(images)), strict=True))
        sources += [listed, *labels]
    shared = sorted(parts["Train"].keys() & parts["Test"].keys())
    if shared:
        raise InputError(f"{folder}: {plural(len(shared), 'image')} in both official lists: {examples(shared)}")
    for part, images in parts.items():
        bare = sum(not labels for labels in images.values())
        notes.append(f"{part}: {len(images):,} images, {bare:,} of them without any of the {len(classes)} labels")
    return NusWide(parts["Train"], parts["Test"], tuple(sources), tuple(notes))


def find_folder(data_root: Path) -> Path:
    """The folder of NUS-WIDE below the data root: nus-wide, NUS-WIDE, NUSWIDE or nus_wide. Raises InputError."""
    try:
        found = sorted(path for path in data_root.iterdir() if re.fullmatch(r"nus[-_ ]?wide", path.name.lower()))
    except OSError as error:
        raise InputError(f"{data_root}: cannot be read: {error.strerror or error}") from None
    if len(found) != 1:
        problem = (
            "no folder nus-wide"
            if not found
            else f"several folders of NUS-WIDE ({examples([path.name for path in found])})"
        )
        raise InputError(f"{data_root}: {problem}; put the official files and the images into nus-wide there")
    return found[0]


def find_images(folder: Path) -> dict[str, str]:
    """Flickr id -> path of the image below the folder, POSIX. An image that is there repeatedly counts once, the first
    in the order of paths; an empty file does not count. Raises InputError for a folder that cannot be read."""
    found: dict[str, str] = {}
    for file in _files(folder, _DEPTH):
        match = _IMAGE.fullmatch(file.name)
        if match:
            path = Path(file.path).relative_to(folder).as_posix()
            if path < found.get(match[1], "\U0010ffff") and file.stat().st_size:
                found[match[1]] = path
    return found


def flickr_id(entry: str) -> str:
    """The Flickr id of an image by its entry or path; "" where the name has none."""
    match = _IMAGE.fullmatch(entry.rpartition("/")[2])
    return match[1] if match else ""


def _official_files(folder: Path) -> dict[str, list[Path]]:
    """Name in lower case -> the text files of that name."""
    found: dict[str, list[Path]] = {}
    for file in _files(folder, _DEPTH):
        if file.name.lower().endswith(".txt"):
            found.setdefault(file.name.lower(), []).append(Path(file.path))
    return found


def _file(folder: Path, files: Mapping[str, list[Path]], name: str) -> Path:
    found = files.get(name.lower(), [])
    if len(found) != 1:
        where = ", ".join(str(path) for path in found)
        raise InputError(
            f"{folder}: {f'{name} is there {len(found)} times: {where}; keep one' if found else f'no {name}'}; "
            "NUS-WIDE's labels are the archives Groundtruth, ImageList and ConceptsList"
        )
    return found[0]


def _files(folder: Path, depth: int) -> Iterator[os.DirEntry[str]]:
    """The files of a folder and of `depth` levels of folders in it; links are followed. Raises InputError."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file():
                    yield entry
                elif depth and entry.is_dir():
                    yield from _files(Path(entry.path), depth - 1)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror or error}") from None


def _entries(file: Path) -> list[str]:
    """The images of an official list, with / between folder and name. Raises InputError."""
    images = []
    for number, line in enumerate(read_text(file, MAX_BYTES).split("\n"), 1):
        given = line.strip().replace("\\", "/")
        if given:
            image = image_path(given, f"{file}:{number}")
            if not flickr_id(image):
                raise InputError(f"{file}:{number}: {shown(image)!r} has no Flickr id; expected <n>_<id>.jpg")
            images.append(image)
    if not images:
        raise InputError(f"{file}: it lists no image")
    if twice := repeated(images):
        raise InputError(f"{file}: {plural(len(twice), 'image')} listed more than once: {examples(twice)}")
    return images


def _rows(files: list[Path], images: Path, count: int) -> list[frozenset[int]]:
    """The labels of `count` images, by one file a class. images: the list that the lines belong to."""
    targets = np.stack([_column(file, images, count) for file in files], axis=1)
    # Few of the 2^81 sets occur, so each is made once.
    known: dict[bytes, frozenset[int]] = {}
    rows = []
    for bits, row in zip(np.packbits(targets, axis=1), targets, strict=True):
        key = bits.tobytes()
        if key not in known:
            known[key] = frozenset(np.flatnonzero(row).tolist())
        rows.append(known[key])
    return rows


def _column(file: Path, images: Path, count: int) -> np.ndarray:
    """bool [count]. Raises InputError."""
    try:
        lines = read_regular(file, MAX_BYTES).removeprefix(b"\xef\xbb\xbf").split()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None
    content = b"".join(lines)
    digits = np.frombuffer(content, np.uint8)
    if len(content) != len(lines) or not np.isin(digits, (_ZERO, _ONE)).all():
        number = next(i for i, line in enumerate(lines, 1) if line not in (b"0", b"1"))
        value = lines[number - 1].decode(errors="replace")
        raise InputError(f"{file}: value {number} is {shown(value)!r}; expected 0 or 1 a line")
    if len(digits) != count:
        raise InputError(f"{file}: {len(digits):,} values for the {count:,} images of {images.name}")
    return digits == _ONE
