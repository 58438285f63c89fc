"""Labelled images as an importer finds them, before they are divided into lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Annotations:
    """What a file of annotations, or a tree of them, says.

    classes: names, in the order of their indices.
    labels: path of an image, relative to the root of the images (POSIX) -> its classes' indices, in the order of the
        source. An image without a label has an empty set.
    notes: what was odd and what was done about it, a line each, for the user.
    """

    classes: tuple[str, ...]
    labels: Mapping[str, frozenset[int]]
    notes: tuple[str, ...] = field(default=())


def write_list(path: Path, labels: Mapping[str, frozenset[int]]) -> None:
    """Write a list (see `data.lists`): a line an image, in the order of `labels`. Raises OSError."""
    path.write_bytes(list_bytes_of(labels))


def list_bytes_of(labels: Mapping[str, frozenset[int]]) -> bytes:
    """The content of a list, as `write_list` writes it."""
    return "".join(f"{_line(image, classes)}\n" for image, classes in labels.items()).encode()


def _line(image: str, classes: frozenset[int]) -> str:
    plain = image.isprintable() and not any(character.isspace() or character in ',;"' for character in image)
    written = image if plain else '"{}"'.format(image.replace('"', '""'))
    return " ".join([written, *map(str, sorted(classes))])
