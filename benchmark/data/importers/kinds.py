"""The kinds of annotations that are read, each found by what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.data.annotations import Annotations
from benchmark.data.importers.coco import read_coco
from benchmark.data.importers.folders import read_folders
from benchmark.data.importers.table import read_table
from benchmark.data.importers.voc import is_voc_name, read_voc
from benchmark.errors import InputError, shown


@dataclass(frozen=True)
class Kind:
    """One kind. fits: whether a file or folder is of it. holds_images: whether the images lie in the folder itself."""

    title: str
    fits: Callable[[Path], bool]
    read: Callable[[Path], Annotations]
    holds_images: bool = False


def _suffix(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.is_file() and path.suffix.lower() in suffixes


def _has_xml(path: Path) -> bool:
    return path.is_dir() and any(is_voc_name(inside.name) for inside in path.iterdir())


def _has_folders(path: Path) -> bool:
    return path.is_dir() and any(inside.is_dir() for inside in path.iterdir())


# The first that fits.
KINDS = (
    Kind("COCO instances (.json)", _suffix(".json"), read_coco),
    Kind("a table (.csv, .tsv, .txt)", _suffix(".csv", ".tsv", ".txt"), read_table),
    Kind("a folder of VOC XML files", _has_xml, read_voc),
    Kind("a folder of one folder a class", _has_folders, read_folders, holds_images=True),
)


def find_kind(source: Path) -> Kind:
    """The kind of a file or folder. Raises InputError, with the kinds that there are."""
    try:
        if not source.exists():
            raise InputError(f"{shown(str(source))}: no such file or folder")
        for kind in KINDS:
            if kind.fits(source):
                return kind
    except OSError as error:
        raise InputError(f"{shown(str(source))}: cannot be read: {error.strerror or error}") from None
    raise InputError(f"{source}: unknown kind of annotations; these are read: {', '.join(k.title for k in KINDS)}")
