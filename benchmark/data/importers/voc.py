"""A folder of Pascal VOC XML files, one an image: the names of its objects are its labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, NoReturn
from xml.etree import ElementTree

from benchmark.base.files import read_regular
from benchmark.data.annotations import Annotations
from benchmark.data.importers.checks import class_names, examples, image_path
from benchmark.errors import InputError, shown
from benchmark.ui.progress import plural

# Of one file; those of VOC have at most 20 KB.
MAX_BYTES = 4 * 2**20
# The image of a file that does not name it: VOC's images are JPEG files.
_SUFFIX = ".jpg"


def is_voc_name(name: str) -> bool:
    """Whether a file's name is that of an XML file; macOS puts hidden ones beside those that it copies."""
    return name.lower().endswith(".xml") and not name.startswith(".")


class _Annotated(NamedTuple):
    """What one file says. source: its `<folder>`, in VOC the year. named: whether it names its image."""

    image: str
    named: bool
    source: str
    objects: list[tuple[str, bool]]  # name, whether it is difficult


def read_voc(folder: Path, classes: Sequence[str] | None = None, difficult: bool = True) -> Annotations:
    """Images in the order of the files' names.

    The path of an image is its file's `<filename>`; without one, the file's own name with .jpg. classes: their order;
    by default all names that occur, sorted. difficult: whether objects marked so count. Parts of objects do not.
    Source: the development kit of the VOC 2012 challenge.
    Raises InputError, naming the file, for one that is no VOC XML, has a document type (entities could expand without
    end) or an unknown class, and for two files of one image.
    """
    files = _files(folder)
    found = {file: _read(file) for file in files}
    all_names = {name for annotated in found.values() for name, _ in annotated.objects}
    known = class_names(sorted(all_names) if classes is None else classes, str(folder))
    index = {name: i for i, name in enumerate(known)}
    labels: dict[str, frozenset[int]] = {}
    of_image: dict[str, Path] = {}
    for file, annotated in found.items():
        if annotated.image in of_image:
            raise InputError(
                f"{file}: image {shown(annotated.image)!r} is that of {of_image[annotated.image].name} too; correct "
                "<filename>, or remove one file"
            )
        of_image[annotated.image] = file
        for name, _ in annotated.objects:
            if name not in index:
                raise InputError(f"{file}: class {shown(name)!r} is not among the {len(known)} classes")
        labels[annotated.image] = frozenset(index[name] for name, hard in annotated.objects if difficult or not hard)
    return Annotations(known, labels, tuple(_notes(found, difficult)))


def _files(folder: Path) -> list[Path]:
    try:
        files = sorted(path for path in folder.iterdir() if is_voc_name(path.name))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror or error}") from None
    if not files:
        inside = folder / "Annotations"
        raise InputError(f"{folder}: it has no XML file; give {inside if inside.is_dir() else 'the folder of them'}")
    return files


def _notes(found: dict[Path, _Annotated], difficult: bool) -> list[str]:
    notes = []
    nameless = [file.name for file, annotated in found.items() if not annotated.named]
    if nameless:
        notes.append(f"{plural(len(nameless), 'file')} without <filename>, taken by its own name: {examples(nameless)}")
    other = [
        f"{file.name}: {annotated.image}"
        for file, annotated in found.items()
        if PurePosixPath(annotated.image).stem != file.stem
    ]
    if other:
        notes.append(
            f"{plural(len(other), 'file')} with another name than its <filename>, which counts: {examples(other)}"
        )
    sources = Counter(annotated.source for annotated in found.values())
    if len(sources) > 1:
        counts = ", ".join(f"{shown(source)!r} {count:,}" for source, count in sources.most_common(3))
        notes.append(f"the files are of {len(sources)} sources by their <folder>: {counts}")
    hard = sum(hard for annotated in found.values() for _, hard in annotated.objects)
    if hard:
        notes.append(f"{plural(hard, 'object')} marked difficult: {'counted' if difficult else 'left out'}")
    return notes


class _Tree(ElementTree.TreeBuilder):
    """Refuses a document type as it begins, before any entity is declared."""

    def doctype(self, name: str, public: str | None, system: str | None) -> NoReturn:
        raise ValueError("it declares a document type, which VOC's files do not")


def _read(file: Path) -> _Annotated:
    """Raises InputError."""
    try:
        root = ElementTree.fromstring(read_regular(file, MAX_BYTES), ElementTree.XMLParser(target=_Tree()))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{file}: not valid VOC XML: {error}") from None
    if root.tag != "annotation":
        raise InputError(
            f"{file}: not VOC XML: its root is <{shown(root.tag)}>, and VOC's is <annotation>; is it another format's?"
        )
    given = (root.findtext("filename") or "").strip()
    image = image_path(given or f"{file.stem}{_SUFFIX}", str(file))
    objects = []
    for i, entry in enumerate(root.findall("object"), 1):
        name = (entry.findtext("name") or "").strip()
        hard = (entry.findtext("difficult") or "0").strip()
        if not name:
            raise InputError(f"{file}: object {i} has no <name>")
        if hard not in ("0", "1"):
            raise InputError(f"{file}: object {i} ({shown(name)!r}) has <difficult> {shown(hard)!r}; write 0 or 1")
        objects.append((name, hard == "1"))
    return _Annotated(image, bool(given), (root.findtext("folder") or "").strip(), objects)
