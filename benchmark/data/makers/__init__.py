"""Lists that are made from official files: those that no one may hand on, or that are too large for a repository.

A module of this package registers a maker under the name of each dataset whose card says `lists: data-root`.
`make_lists` puts what a maker returns into the folder `<data root>/ltbench-lists/<name>`, all of it or nothing:

    train.txt val.txt test.txt    those that the dataset's folder, and the dataset that it extends, lack
    episode-0/train.txt ...       of a few-shot dataset
    made.json                     rule, official files with their sha256, numbers of images and labels, fingerprint
    images                        links to the images, for a dataset whose images lie in several layouts
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.base.atomic import write_atomically
from benchmark.base.modules import import_package
from benchmark.data.contents import file_digest, named
from benchmark.data.dataset import MADE_JSON, MADE_LISTS, DatasetFolder
from benchmark.errors import InputError, StoreError
from benchmark.registry import Registry
from benchmark.ui.progress import plural

# The link to the images, beside the lists.
IMAGES = "images"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Made:
    """What a maker makes.

    files: name of a file, usually a list -> its content. sources: the official files that were read, below the data
    root. rule: how the lists follow from them, in a sentence. missing: images that the official files name and that are
    not there; they are on no list.
    """

    files: Mapping[str, bytes]
    sources: tuple[Path, ...]
    rule: str
    missing: tuple[str, ...] = ()
    images: Path | Mapping[str, Path] | None = None


# From the dataset's folder, the data root and a printer of lines. It writes nothing, and the same files give the same
# bytes. Raises InputError, naming the official file that is missing or faulty.
Maker = Callable[[DatasetFolder, Path, Say], Made]


def _load() -> None:
    import_package(__name__)


MAKERS: Registry[Maker] = Registry("maker of lists", Callable, _load)  # type: ignore[arg-type]


def make_lists(
    folder: DatasetFolder, data_root: Path, allow_missing: bool = False, say: Say = lambda line: None
) -> None:
    """Make the lists of a dataset from the official files below the data root; does nothing where they are there.

    allow_missing: leave images that are not there off the lists; the dataset's fingerprint is then another one.
    Raises InputError for missing or faulty official files, for missing images, and where other lists are there;
    StoreError when the data root cannot be written.
    """
    made = MAKERS.get(folder.name)(folder, data_root, say)
    target = data_root / MADE_LISTS / folder.name
    # Lists on a read-only disk, as clusters share them, are compared elsewhere, and their links stay.
    fixed = target.exists() and not os.access(target.parent, os.W_OK)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        names = target.parent / f"{folder.name}.missing.txt"
        if made.missing:
            _tell_missing(names, made.missing, allow_missing, say)
        elif not fixed:
            names.unlink(missing_ok=True)  # of an earlier time
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=None if fixed else target.parent) as draft_root:
            draft = Path(draft_root) / MADE_LISTS / folder.name
            draft.mkdir(parents=True)
            for name, content in made.files.items():
                (draft / name).parent.mkdir(exist_ok=True)
                write_atomically(draft / name, content)
            facts = _facts(folder, data_root, Path(draft_root), made)
            write_atomically(draft / MADE_JSON, json.dumps(facts, indent=1).encode() + b"\n")
            if made.images is not None and not fixed:
                if not isinstance(made.images, Path):
                    say(f"linking {plural(len(made.images), 'image')}")
                _link(draft / IMAGES, target / IMAGES, made.images)
            if target.exists():
                _check_equal(target, draft)
                # The images may have moved.
                if made.images is not None and not fixed:
                    if os.path.lexists(target / IMAGES):
                        (target / IMAGES).rename(Path(draft_root) / "old")
                    (draft / IMAGES).rename(target / IMAGES)
                say(f"{named(target)}: the lists are there and are what the official files give")
                return
            draft.rename(target)
    except OSError as error:
        raise StoreError(f"{named(target)}: the lists cannot be written: {error.strerror or error}") from None
    say(f"{named(target)}: {_summary(facts)}")


def _facts(folder: DatasetFolder, data_root: Path, draft_root: Path, made: Made) -> dict[str, Any]:
    """The content of made.json. draft_root: a data root that holds the new lists. Raises InputError."""
    dataset = folder.open_draft(draft_root)
    return {
        "dataset": folder.name,
        "fingerprint": dataset.fingerprint,
        "rule": made.rule,
        "sources": {path.relative_to(data_root).as_posix(): file_digest(path) for path in made.sources},
        "lists": {
            name: {"images": len(split), "labels": int(split.targets.sum())} for name, split in dataset.lists.items()
        },
        "missing": list(made.missing),
    }


def _summary(facts: Mapping[str, Any]) -> str:
    lists = (f"{name} {counts['images']:,} images" for name, counts in facts["lists"].items())
    return f"lists made: {', '.join(lists)}; fingerprint {facts['fingerprint'][:12]}"


def _link(folder: Path, place: Path, images: Path | Mapping[str, Path]) -> None:
    """Make `folder` a link to the images, or a folder of links. place: where it is moved to; links are relative."""
    real = place.parent.parent.resolve() / place.parent.name / place.name
    if isinstance(images, Path):
        folder.symlink_to(os.path.relpath(images.resolve(), real.parent), target_is_directory=True)
        return
    for name, file in images.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(file, (real / name).parent))


def _check_equal(there: Path, new: Path) -> None:
    """Raise InputError where the lists that are there are not the new ones."""
    paths = ((folder, path) for folder in (there, new) for path in (*folder.glob("*"), *folder.glob("episode-*/*")))
    names = sorted({path.relative_to(folder).as_posix() for folder, path in paths} - {IMAGES})
    differ = [name for name in names if _digest(there / name) != _digest(new / name)]
    if differ:
        raise InputError(
            f"{named(there)}: {', '.join(differ)} there {'is' if len(differ) == 1 else 'are'} not what the official "
            "files give now: they were made from other files, or changed. Runs on them cannot be compared with runs on "
            "new ones; to make them anew, remove that folder"
        )


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _tell_missing(file: Path, missing: tuple[str, ...], allowed: bool, say: Say) -> None:
    """Write the names of missing images to a file. Raises InputError unless they are allowed."""
    content = "".join(f"{image}\n" for image in missing).encode(errors="surrogateescape")
    if not file.is_file() or file.read_bytes() != content:
        write_atomically(file, content)
    are = "is" if len(missing) == 1 else "are"
    told = f"{plural(len(missing), 'image')} {are} missing, such as {named(missing[0])}; {named(file)} names all"
    if not allowed:
        raise InputError(
            f"{told}; get them, or leave them off the lists with --allow-missing, which gives the dataset another "
            "fingerprint: its results are then compared with those on the same images alone"
        )
    say(f"{told}; left off the lists, so the fingerprint is not that of the full dataset")
