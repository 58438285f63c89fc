"""What every importer asks of class names and of the paths of images, and how its notes name examples."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from benchmark.base.files import read_regular
from benchmark.data.lists import leaves_root
from benchmark.errors import InputError, shown

# Examples in a note or an error.
EXAMPLES = 3


def read_text(path: Path, most: int) -> str:
    """The text of a UTF-8 file of at most `most` bytes, without its byte order mark. Raises InputError."""
    try:
        return read_regular(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as a UTF-8 text file: {error}; save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def image_path(given: str, where: str) -> str:
    """The path of an image as a list has it. where: the begin of messages.

    Raises InputError for one that is empty, leaves the root of the images or cannot stand in a list.
    """
    if not given.strip():
        raise InputError(f"{where}: the name of its image is empty")
    if "://" in given:
        raise InputError(f"{where}: image {shown(given)!r} is an address; give the path of the file on this machine")
    if "\\" in given:
        raise InputError(f"{where}: image {shown(given)!r} has a backslash; write / between folders")
    if leaves_root(given):
        raise InputError(f"{where}: image {shown(given)!r} leaves the folder of the images; give a path below it")
    if "\n" in given or "\r" in given or not _is_utf8(given):
        raise InputError(f"{where}: image {shown(given)!a} has a name that no list can hold; rename the file")
    return str(PurePosixPath(given))


def class_names(names: Iterable[str], where: str) -> tuple[str, ...]:
    """The names without blanks at their ends, in the same order. where: the begin of messages.

    Raises InputError for a name that is empty, has a line end, or is another but for case, blanks and Unicode form.
    """
    stripped = tuple(name.strip() for name in names)
    alike = defaultdict(list)
    for name in stripped:
        if not name:
            raise InputError(f"{where}: a class has an empty name; give it one")
        if len(name.splitlines()) > 1 or not _is_utf8(name):
            raise InputError(f"{where}: class name {shown(name)!a} cannot stand on a line of text; rename the class")
        alike[composed("".join(name.split()))].append(name)
    for same in alike.values():
        if len(set(same)) > 1:
            raise InputError(
                f"{where}: classes {', '.join(repr(shown(name)) for name in same[:EXAMPLES])} differ in case, blanks "
                "or Unicode form alone; write them alike where they are one class"
            )
        if len(same) > 1:
            raise InputError(f"{where}: class {shown(same[0])!r} is given twice; class names must differ")
    if not stripped:
        raise InputError(f"{where}: it names no class")
    return stripped


def composed(text: str) -> str:
    """A text without case, in Unicode's composed form: macOS writes file names decomposed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def examples(found: Sequence[object]) -> str:
    """The first of several values, on one line."""
    first = ", ".join(shown(repr(value)) for value in found[:EXAMPLES])
    return f"{first}, ..." if len(found) > EXAMPLES else first


def repeated(values: Iterable[str]) -> list[str]:
    """The values that occur more than once, in order."""
    return [value for value, count in Counter(values).items() if count > 1]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, or a file name that is no UTF-8
        return False
    return True
