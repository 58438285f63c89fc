"""A folder with one folder a class: the folders that an image is in are its labels."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from benchmark.data.annotations import Annotations
from benchmark.data.contents import file_digest
from benchmark.data.decoding import is_image_name
from benchmark.data.importers.checks import class_names, examples, image_path
from benchmark.errors import InputError, shown
from benchmark.ui.progress import plural

# Names of lists of a dataset, by which exports are divided.
_LISTS = {"train", "training", "val", "valid", "validation", "test", "testing"}
_ANNOTATIONS = (".xml", ".json")


def read_folders(folder: Path) -> Annotations:
    """Images by class, in the order of their names; a path is `class/name`.

    Files of one name and equal content in several folders are one image with several labels. Files that are no images
    by their suffix are left out, with a note, and hidden ones without.
    Raises InputError for a folder that cannot be read or has no folders, for a class with folders in it, and where the
    folders are lists, or images beside their annotations, by their names and contents.
    """
    inside = _visible(folder)
    folders = [path for path in inside if path.is_dir()]
    others = [path for path in inside if path not in folders]
    classes = class_names([path.name for path in folders], str(folder))
    if _LISTS.issuperset(name.casefold() for name in classes):
        raise InputError(
            f"{folder}: its folders {examples(classes)} are lists by their names, not classes; give the labels' file, "
            "or one folder with one folder a class"
        )
    by_name: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    for label, held in enumerate(folders):
        files = _visible(held)
        for file in files:
            if file.is_dir():
                raise InputError(
                    f"{held}: it has a folder in it, {shown(file.name)!r}; the folder of a class holds its images alone"
                )
            if is_image_name(file.name):
                by_name[file.name].append((label, file))
            else:
                others.append(file)
        if files and not any(is_image_name(file.name) for file in files) and files[0].suffix.lower() in _ANNOTATIONS:
            raise InputError(
                f"{folder}: its folder {shown(held.name)!r} holds annotations and no image; give it, or the file in "
                "it, by --from, and the folder of the images by --images"
            )
    labels: dict[str, set[int]] = {}
    joined = []
    for namesakes in by_name.values():
        first_of: dict[str, str] = {}
        for label, file in namesakes:
            path = image_path(file.relative_to(folder).as_posix(), str(folder))
            content = file_digest(file) if len(namesakes) > 1 else ""
            first = first_of.setdefault(content, path)
            if first != path:
                joined.append(f"{first} = {path}")
            labels.setdefault(first, set()).add(label)
    notes = []
    if joined:
        notes.append(
            f"{plural(len(joined), 'file')} of the same name and content as another class's, taken as one image with "
            f"both labels: {examples(joined)}"
        )
    if others:
        notes.append(
            f"{plural(len(others), 'file')} left out, no image of a class: "
            f"{examples([str(path.relative_to(folder)) for path in others])}"
        )
    return Annotations(classes, {path: frozenset(labels[path]) for path in sorted(labels)}, tuple(notes))


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror or error}") from None
