"""A table (CSV): images with a column of 0 and 1 for each class, or with a column of class names."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmark.data.annotations import Annotations
from benchmark.data.importers.checks import class_names, examples, image_path, read_text, repeated
from benchmark.data.lists import MAX_LIST_BYTES
from benchmark.errors import InputError, shown
from benchmark.ui.progress import plural

# Names of columns, compared without case, blanks, - and _.
FILE_COLUMNS = ("file", "filename", "filepath", "path", "image", "imagefile", "imagename", "imagepath", "imageid")
LABEL_COLUMNS = ("label", "labels", "class", "classes", "tag", "tags", "category", "categories")
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
# Between class names in one cell.
_SEPARATORS = (";", "|", ",")
# As Python and JSON write several names: pandas writes a column of lists so.
_LIST = re.compile(r"[\[({].*[\])}]", re.DOTALL)
_MARKS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


class _Row(NamedTuple):
    where: str
    image: str
    cells: list[str]  # the others, in the order of the header


def read_table(file: Path) -> Annotations:
    """Images in the order of their first rows.

    The header names the column of the images' paths (FILE_COLUMNS) and either one column of class names
    (LABEL_COLUMNS; several in a cell are divided by one of ; | ,), or a column of 0 and 1 for each class. Classes are
    in the order of the columns, or sorted. The rows of one image are joined. An empty cell of names is no label.
    Raises InputError, naming file and line, for another header or a cell that is none of these.
    """
    columns, rows, notes = _parse(file)
    if len(columns) == 1 and _plain(columns[0]) in LABEL_COLUMNS:
        classes, found = _named(file, rows, notes)
    else:
        classes, found = _marked(file, columns, rows)
    joined: dict[str, set[int]] = {}
    for row, labels in zip(rows, found, strict=True):
        joined.setdefault(row.image, set()).update(labels)
    if several := repeated(row.image for row in rows):
        notes.append(f"{plural(len(several), 'image')} with several rows, labels joined: {examples(several)}")
    return Annotations(classes, {image: frozenset(labels) for image, labels in joined.items()}, tuple(notes))


def _plain(name: str) -> str:
    return "".join(name.casefold().replace("-", " ").replace("_", " ").split())


def _parse(file: Path) -> tuple[list[str], list[_Row], list[str]]:
    """The columns beside that of the images, the rows, and notes. Raises InputError."""
    text = read_text(file, MAX_LIST_BYTES)
    delimiter, header = _header(file, text)
    at = _file_column(file, header)
    columns = header[:at] + header[at + 1 :]
    if not columns:
        raise InputError(f"{file}: it has no column beside {header[at]!r}; add {_wanted_labels()}")
    if "" in columns:
        raise InputError(
            f"{file}: column {header.index('') + 1} has no name; remove it (pandas writes one: to_csv(index=False))"
        )
    rows, empty = [], 0
    lines = _lines(file, text, delimiter)
    next(cells for _, cells in lines if any(cells))  # the header
    for number, cells in lines:
        if not any(cells):
            empty += bool(cells)
            continue
        where = f"{file}:{number}"
        if len(cells) != len(header):
            raise InputError(
                f"{where}: {plural(len(cells), 'cell')}, and the header has {len(header)}; a cell with a "
                f"{_DELIMITERS[delimiter]} in it goes in double quotes"
            )
        rows.append(_Row(where, image_path(cells[at], where), cells[:at] + cells[at + 1 :]))
    if not rows:
        raise InputError(f"{file}: it has a header and no row")
    return columns, rows, [f"{plural(empty, 'row')} of empty cells left out"] if empty else []


def _header(file: Path, text: str) -> tuple[str, list[str]]:
    """The delimiter and the names of the columns: a delimiter is right when it sets a column of images apart."""
    first: list[str] = []
    for delimiter in _DELIMITERS:
        # Not strict: a header in quotes is malformed for every other delimiter.
        lines = _lines(file, text, delimiter, strict=False)
        cells = next((cells for _, cells in lines if any(cells)), None)
        if cells is None:
            raise InputError(f"{file}: the table is empty")
        if any(_plain(name) in FILE_COLUMNS for name in cells):
            return delimiter, cells
        first = first or cells
    raise InputError(
        f"{file}: its first line is no header with a column of image files: {examples(first)}; name one of the columns "
        f"{', '.join(FILE_COLUMNS)}, and have {_wanted_labels()}"
    )


def _wanted_labels() -> str:
    return "a column `labels` with class names, or a column of 0 and 1 for each class"


def _file_column(file: Path, header: list[str]) -> int:
    found = [i for i, name in enumerate(header) if _plain(name) in FILE_COLUMNS]
    if len(found) > 1:
        raise InputError(
            f"{file}: columns {examples([header[i] for i in found])} may all hold the image's file; keep one of them"
        )
    return found[0]


def _lines(file: Path, text: str, delimiter: str, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row without blanks at their ends, with the row's last line. Raises InputError."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict, skipinitialspace=True)
    try:
        for cells in reader:
            yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise InputError(f"{file}:{reader.line_num}: not a table: {error}; correct the quotes there") from None


def _named(file: Path, rows: list[_Row], notes: list[str]) -> tuple[tuple[str, ...], list[list[int]]]:
    """Classes and each row's labels, of a column of names."""
    # The first row of each separator.
    used = {mark: row for row in reversed(rows) for mark in _SEPARATORS if mark in row.cells[0]}
    for row in rows:
        if _LIST.fullmatch(row.cells[0]):
            raise InputError(
                f"{row.where}: labels {shown(row.cells[0])!r} are a list in a programming language; write the names "
                "alone, with ; between them"
            )
    if len(used) > 1:
        (one, row), (other, second) = list(used.items())[:2]
        raise InputError(
            f"{row.where}: labels {shown(row.cells[0])!r} have {one!r} between them, and {shown(second.cells[0])!r} in "
            f"{second.where} has {other!r}; use one of {' '.join(_SEPARATORS)} in all rows"
        )
    separator = next(iter(used), None)
    if separator:
        notes.append(f"labels in a cell are divided at {separator!r}")
    names = [[part.strip() for part in row.cells[0].split(separator)] if separator else row.cells for row in rows]
    classes = class_names(sorted({name for row in names for name in row if name}), str(file))
    phrases = [] if separator else [name for name in classes if " " in name]
    if repeated(word for name in classes for word in name.split()) and phrases:
        notes.append(
            f"{plural(len(phrases), 'class name')} with blanks, taken as one class each: {examples(phrases)}; where "
            "blanks divide names, write ; instead"
        )
    index = {name: i for i, name in enumerate(classes)}
    return classes, [[index[name] for name in row if name] for row in names]


def _marked(file: Path, columns: list[str], rows: list[_Row]) -> tuple[tuple[str, ...], list[list[int]]]:
    """Classes and each row's labels, of columns of 0 and 1."""
    if naming := [name for name in columns if _plain(name) in LABEL_COLUMNS]:
        others = [name for name in columns if name not in naming] or naming[1:]
        raise InputError(f"{file}: unknown column {examples(others)} beside {naming[0]!r}; remove it")
    classes = class_names(columns, str(file))
    found = []
    for row in rows:
        marks = [_MARKS.get(cell.lower()) for cell in row.cells]
        if None in marks:
            at = marks.index(None)
            raise InputError(
                f"{row.where}: unknown column {shown(classes[at])!r}: it has {shown(row.cells[at])!r}, and the column "
                "of a class has 0 or 1; remove the column, or name a column of class names `labels`"
            )
        found.append([i for i, mark in enumerate(marks) if mark])
    return classes, found
