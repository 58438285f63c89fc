"""A sheet of sample images: a few training images of each class, with the names of their labels."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from benchmark.data.dataset import Dataset
from benchmark.errors import InputError
from benchmark.ui.text import plain

SAMPLES = 4  # of a class
MOST_CLASSES = 200  # on a sheet; more would not fit in memory
_SIDE, _GAP, _LINE = 128, 8, 14  # pixels: of an image, between two, of a line of text
_LABELS = 3  # names below an image before the rest is counted
_CELL = _SIDE + _GAP
_BLOCK = SAMPLES * _CELL + 2 * _GAP  # width of a class
_HEIGHT = 2 * _LINE + _SIDE + (_LABELS + 1) * _LINE + _GAP  # of a class
_INK, _QUIET, _EMPTY = "#000000", "#555555", "#eeeeee"


@dataclass(frozen=True)
class Sheet:
    """A drawn sheet. faults: path of each image that could not be drawn -> what is wrong with it."""

    image: Image.Image
    faults: dict[str, str]

    @property
    def png(self) -> bytes:
        """The sheet as a PNG file."""
        file = io.BytesIO()
        self.image.save(file, "PNG")
        return file.getvalue()


def chosen_samples(dataset: Dataset) -> dict[str, list[str]]:
    """Class -> paths of at most SAMPLES of its training images, spread evenly over the list.

    The most frequent class is first. Of more than MOST_CLASSES classes these are spread evenly from head to tail.
    """
    train, counts = dataset.splits["train"], dataset.class_counts
    ranked = sorted(range(len(counts)), key=lambda k: (-counts[k], k))
    return {
        dataset.classes[k]: [train.paths[i] for i in _spread(np.flatnonzero(train.targets[:, k]), SAMPLES)]
        for k in _spread(ranked, MOST_CLASSES)
    }


def _spread(items: Sequence[int] | np.ndarray, most: int) -> list[int]:
    """At most so many items, evenly spread, in order."""
    count = min(most, len(items))
    return [int(items[i * len(items) // count]) for i in range(count)]


def draw_sheet(dataset: Dataset, advance: Callable[[int], None] = lambda done: None) -> Sheet:
    """The sheet of a dataset: about as high as wide. An image that cannot be read is an empty field.

    `advance(classes)` is called after each class.
    """
    samples = chosen_samples(dataset)
    blocks = max(1, round(math.sqrt(len(samples) * _HEIGHT / _BLOCK)))
    deep = math.ceil(len(samples) / blocks)
    sheet = Image.new("RGB", (blocks * _BLOCK + _GAP, deep * _HEIGHT + _GAP), "white")
    pen = _Pen(ImageDraw.Draw(sheet), ImageFont.truetype(_font_file(), 11))
    labels = _labels(dataset)
    faults: dict[str, str] = {}
    for place, (name, paths) in enumerate(samples.items()):
        left, top = _GAP + place // deep * _BLOCK, _GAP + place % deep * _HEIGHT
        count = dataset.class_counts[dataset.classes.index(name)]
        pen.write(left, top, f"{name} ({dataset.groups[name]}, {count:,} training images)", _BLOCK - 2 * _GAP)
        for i, path in enumerate(paths):
            x, y = left + i * _CELL, top + _LINE + _GAP // 2
            _put(sheet, dataset, path, (x, y), faults)
            others = [other for other in labels[path] if other != name]
            shown = others[:_LABELS] + [f"+ {len(others) - _LABELS} more"] * (len(others) > _LABELS)
            for line, text in enumerate(shown):
                pen.write(x, y + _SIDE + line * _LINE, text, _SIDE, _QUIET)
        advance(place + 1)
    return Sheet(sheet, faults)


def _put(sheet: Image.Image, dataset: Dataset, path: str, corner: tuple[int, int], faults: dict[str, str]) -> None:
    """Paste an image, whole and in the middle of its field."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, on palettes and odd EXIF blocks
            image = dataset.source.open(path)
    except InputError as error:
        faults[path] = str(error)
        x, y = corner
        sheet.paste(_EMPTY, (x, y, x + _SIDE, y + _SIDE))
        return
    # Pixels of a small image stay sharp squares.
    small = max(image.size) <= _SIDE // 2
    fitted = ImageOps.contain(image, (_SIDE, _SIDE), Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS)
    sheet.paste(fitted, (corner[0] + (_SIDE - fitted.width) // 2, corner[1] + (_SIDE - fitted.height) // 2))


def _labels(dataset: Dataset) -> dict[str, list[str]]:
    """Path of each training image -> names of its labels."""
    train = dataset.splits["train"]
    return {
        path: [dataset.classes[k] for k in np.flatnonzero(row)]
        for path, row in zip(train.paths, train.targets, strict=True)
    }


@dataclass(frozen=True)
class _Pen:
    draw: ImageDraw.ImageDraw
    font: ImageFont.FreeTypeFont

    def write(self, x: int, y: int, text: str, room: int, color: str = _INK) -> None:
        """One line of text, cut at `room` pixels."""
        text = cut = plain(text)
        while cut and self.font.getlength(cut if cut == text else f"{cut}…") > room:
            cut = cut[:-1]
        self.draw.text((x, y), cut if cut == text else f"{cut}…", fill=color, font=self.font)


def _font_file() -> Path:
    """DejaVu Sans, which comes with matplotlib: Pillow's own font has Latin letters alone."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
