"""COCO JSON (instances): the categories of an image's annotations are its labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.data.annotations import Annotations
from benchmark.data.importers.checks import class_names, examples, image_path, read_text
from benchmark.errors import InputError, shown
from benchmark.ui.progress import plural

# instances_train2017.json has 0.45 GB.
MAX_BYTES = 2 * 2**30
_PARTS = ("images", "annotations", "categories")


def read_coco(file: Path, crowd: bool = True, least_side: float = 0.0) -> Annotations:
    """Images in the order of the file, classes in the order of their category ids.

    The path of an image is its `file_name`. An image without annotation has no label. crowd: whether annotations
    with `iscrowd` 1 count. least_side: pixels; where it is above 0, annotations without an area, or with a narrower or
    lower box, do not count. Source: https://cocodataset.org/#format-data.
    Raises InputError, naming file, entry and field, for a file that is no COCO JSON or contradicts itself. An
    annotation of an image that the file does not list is left out, with a note.
    """
    content = _load(file)
    names: dict[int, str] = {}
    for where, entry in _entries(file, content, "categories"):
        number = _whole(entry, "id", where)
        if number in names:
            raise InputError(f"{where}: category id {number} is given twice; ids must differ")
        names[number] = _text(entry, "name", where)
    ids = sorted(names)
    classes = class_names((names[number] for number in ids), str(file))
    index = {number: i for i, number in enumerate(ids)}
    images, notes = _images(file, content)
    labels: dict[str, set[int]] = {path: set() for path in images.values()}
    strangers, crowds, small = [], 0, 0
    for where, entry in _entries(file, content, "annotations"):
        image, category = _whole(entry, "image_id", where), _whole(entry, "category_id", where)
        if category not in index:
            raise InputError(f"{where}: category_id {category} is not among the file's categories; add it there")
        if image not in images:
            strangers.append(image)
            continue
        is_crowd = entry.get("iscrowd", 0)
        if is_crowd not in (0, 1):
            raise InputError(f"{where}: iscrowd is {shown(repr(is_crowd))}; write 0 or 1")
        crowds += int(is_crowd)
        if least_side and _is_smaller(entry, least_side, where):
            small += 1
            continue
        if crowd or not is_crowd:
            labels[images[image]].add(index[category])
    if crowds:
        notes.append(f"{plural(crowds, 'crowd annotation')} (iscrowd 1): {'counted' if crowd else 'left out'}")
    if small:
        notes.append(f"{plural(small, 'annotation')} left out, without area or with a box below {least_side:g} px")
    if strangers:
        notes.append(
            f"{plural(len(strangers), 'annotation')} left out, of images that the file does not list: image_id "
            f"{examples(strangers)}"
        )
    return Annotations(classes, {path: frozenset(found) for path, found in labels.items()}, tuple(notes))


def _is_smaller(entry: dict[str, Any], side: float, where: str) -> bool:
    """Whether an annotation has no area or a box of a shorter side. Raises InputError."""
    box, area = entry.get("bbox"), entry.get("area")
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in [*box, area]):
        raise InputError(f"{where}: expected bbox [x, y, width, height] and area as numbers")
    return area <= 0 or min(box[2:]) < side


def _load(file: Path) -> dict[str, Any]:
    """The content, without the outlines of objects. Raises InputError."""
    try:
        content = json.loads(read_text(file, MAX_BYTES), object_hook=_without_outline)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}; the file may be cut off"
        ) from None
    except (ValueError, RecursionError):  # a number of thousands of digits; nesting
        raise InputError(f"{file}: not valid JSON: a number is too long or it is nested too deeply") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in _PARTS):
        has = f"it has {examples(list(content))}" if isinstance(content, dict) else f"it is a {type(content).__name__}"
        raise InputError(f"{file}: not COCO instances: expected lists {', '.join(map(repr, _PARTS))}; {has}")
    if not content["images"]:
        raise InputError(f"{file}: it lists no image")
    return content


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    # Dropped while the file is parsed: outlines are nearly all of it, and as Python numbers take gigabytes.
    entry.pop("segmentation", None)
    return entry


def _images(file: Path, content: dict[str, Any]) -> tuple[dict[int, str], list[str]]:
    """Path of each image by its id, and notes on images that are listed repeatedly. Raises InputError."""
    paths: dict[int, str] = {}
    again, shared, seen = [], [], set()
    for where, entry in _entries(file, content, "images"):
        number, path = _whole(entry, "id", where), image_path(_text(entry, "file_name", where), where)
        if number in paths:
            if paths[number] != path:
                raise InputError(
                    f"{where}: image id {number} is of both {shown(paths[number])!r} and {shown(path)!r}; ids must "
                    "differ"
                )
            again.append(number)
        elif path in seen:
            shared.append(path)
        paths[number] = path
        seen.add(path)
    notes = []
    if again:
        notes.append(f"{plural(len(again), 'image')} listed again and counted once: id {examples(again)}")
    if shared:
        notes.append(f"{plural(len(shared), 'image')} listed under another id too, labels joined: {examples(shared)}")
    return paths, notes


def _entries(file: Path, content: dict[str, Any], part: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of a list, each with its place for messages. Raises InputError for one that is no object."""
    for i, entry in enumerate(content[part]):
        where = f"{file}: {part}[{i}]"
        if not isinstance(entry, dict):
            raise InputError(f"{where}: expected an object, found {shown(repr(entry))}")
        yield where, entry


def _whole(entry: dict[str, Any], key: str, where: str) -> int:
    value = entry.get(key)
    if type(value) is not int:
        raise InputError(f"{where}: {key} is {_found(entry, key)}; expected a whole number")
    return value


def _text(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise InputError(f"{where}: {key} is {_found(entry, key)}; expected text")
    return value


def _found(entry: dict[str, Any], key: str) -> str:
    return shown(repr(entry[key])) if key in entry else "missing"
