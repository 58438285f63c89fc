"""Where the images of a dataset come from: files below a folder, or the renderer of the demo set."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.base.cache import cache_folder
from benchmark.base.files import is_file, open_regular
from benchmark.data import shapes
from benchmark.data.contents import changed_contents, file_digest, file_digests, missing_files, named
from benchmark.data.decoding import RULES, decoded
from benchmark.data.lists import Split
from benchmark.errors import InputError
from benchmark.spec import canonical_json


class ImageSource(ABC):
    """The images of a dataset.

    identity: decides the images together with the lists; part of the dataset's fingerprint. rules: how a file becomes
    pixels, in words.
    """

    identity: str
    rules: str

    @abstractmethod
    def check(self, splits: Iterable[Split]) -> None:
        """Raise InputError, naming what is missing and where it was looked for."""

    @abstractmethod
    def digest(self, path: str) -> str:
        """A hexadecimal digest of everything that decides the pixels of an image. Raises InputError."""

    def digests(self, paths: Sequence[str], advance: Callable[[int], None] = lambda done: None) -> list[str]:
        """The digests of several images, in order. `advance(done)` is called while files are read."""
        return [self.digest(path) for path in paths]

    def changed(self, paths: Sequence[str], advance: Callable[[int], None] = lambda done: None) -> list[str]:
        """The images whose content is not the remembered one, although nothing else shows it. Raises InputError."""
        return []

    @abstractmethod
    def opened(self, path: str) -> AbstractContextManager[Image.Image]:
        """The decoded image, RGB, for the duration of a block: of large ones one thread at a time has one.

        Raises InputError when it cannot be decoded.
        """

    def open(self, path: str) -> Image.Image:
        """The decoded image, RGB. Raises InputError when it cannot be decoded."""
        with self.opened(path) as image:
            return image


class FileImages(ImageSource):
    """Image files below a root folder; root: None where the user gave none.

    hint: the end of messages, which says how to set the root. base: the part of the root that the user gave; by default
    all of it. An image may be a link out of the root: clusters keep datasets as folders of links.
    """

    identity = "files"
    rules = RULES

    def __init__(self, root: Path | None, hint: str, base: Path | None = None):
        self._root = root
        self._hint = hint
        self._base = base

    @property
    def root(self) -> Path:
        """The folder of the images. Raises InputError when it was not named."""
        if self._root is None:
            raise InputError(self._hint)
        return self._root

    def is_absent(self, splits: Iterable[Split]) -> bool:
        """Whether any image is missing."""
        return self._root is None or bool(missing_files(self._root, _paths(splits), is_file))

    def check(self, splits: Iterable[Split]) -> None:
        missing = missing_files(self.root, _paths(splits), _exists)
        if missing:
            self.check_base(missing[0])
            first = ", ".join(map(named, missing[:3])) + (", ..." if len(missing) > 3 else "")
            raise InputError(
                f"{len(missing)} image{'s are' if len(missing) > 1 else ' is'} missing below {named(self.root)}: "
                f"{first}; {self._hint}"
            )

    def check_base(self, missing: str) -> None:
        """Raise InputError when the base is no folder, or is one inside of the right one.

        missing: the path of an image that is not there.
        """
        base = self._base or self.root
        try:
            problem = None if base.is_dir() else "not a folder" if base.exists() else "no such folder"
            if base.is_symlink() and not base.exists():
                problem = f"a link to {base.readlink()}, where nothing is: link the folder anew"
        except OSError as error:  # a name that is too long for any folder
            problem = str(error.strerror)
        if problem:
            raise InputError(f"{named(base)}: {problem}; {self._hint}")
        parts = (self.root / missing).relative_to(base).parts
        for depth in range(1, len(parts)):
            if is_file(base.joinpath(*parts[depth:])):
                inside = "/".join(parts[:depth])
                given = base.resolve()
                right = given.parents[depth - 1]
                remedy = f"give {right}" if given.parts[-depth:] == parts[:depth] else f"put it into a folder {inside}"
                raise InputError(
                    f"{base}: this is {inside} itself, and the images are looked up in {inside} below it; "
                    f"{remedy}; {self._hint}"
                )

    def digest(self, path: str) -> str:
        return file_digest(self.root / path)

    def digests(self, paths: Sequence[str], advance: Callable[[int], None] = lambda done: None) -> list[str]:
        return file_digests(self.root, paths, cache_folder() / "files", advance)

    def changed(self, paths: Sequence[str], advance: Callable[[int], None] = lambda done: None) -> list[str]:
        return changed_contents(self.root, paths, cache_folder() / "files", advance)

    @contextmanager
    def opened(self, path: str) -> Iterator[Image.Image]:
        with ExitStack() as held:
            try:
                image = held.enter_context(self._decoded(path))
            except MemoryError:
                raise
            except Exception as error:  # a decoder may raise anything over a damaged file
                text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                reason = next(iter(text.splitlines()), type(error).__name__)
                raise InputError(
                    f"{named(self.root / path)}: cannot be decoded as an image ({reason}); replace the file or take it "
                    "off the list"
                ) from None
            yield image

    @contextmanager
    def _decoded(self, path: str) -> Iterator[Image.Image]:
        with open_regular(self.root / path) as file, decoded(file) as image:
            yield image


class OwnImages(FileImages):
    """Image files of a dataset that is not registered. Its lists alone do not say which images they mean, so its
    identity holds the contents of the files."""

    def __init__(self, root: Path | None, hint: str, splits: Sequence[Split], base: Path | None = None):
        super().__init__(root, hint, base)
        self._splits = splits

    @classmethod
    def of(cls, files: FileImages, splits: Sequence[Split]) -> OwnImages:
        """The files of the images in these lists."""
        return cls(files._root, files._hint, splits, files._base)

    @property
    def identity(self) -> str:
        """A digest of the present contents of all images. Raises InputError where one is missing."""
        self.check(self._splits)
        contents = self.digests(_paths(self._splits))
        return f"files {hashlib.sha256(canonical_json(contents).encode()).hexdigest()}"


def _exists(path: Path) -> bool:
    """Whether the path exists; whether it is an image, only reading shows."""
    try:
        return path.exists()
    except OSError:  # a name that is too long for any file
        return False


def _paths(splits: Iterable[Split]) -> list[str]:
    """Each once: an image may be in several support sets."""
    return list(dict.fromkeys(path for split in splits for path in split.paths))


class RenderedImages(ImageSource):
    """The demo set: every pixel follows from the image's id and labels, so nothing is on disk."""

    rules = "rendered, not read from files"

    def __init__(self, splits: Iterable[Split]):
        self.identity = f"rendered shapes, version {shapes.RENDERER_VERSION}"
        self._labels = {
            path: np.flatnonzero(row).tolist()
            for split in splits
            for path, row in zip(split.paths, split.targets, strict=True)
        }

    def check(self, splits: Iterable[Split]) -> None:
        """Nothing can be missing."""

    def digest(self, path: str) -> str:
        return hashlib.sha256(canonical_json([self.identity, path, self._labels[path]]).encode()).hexdigest()

    @contextmanager
    def opened(self, path: str) -> Iterator[Image.Image]:
        yield Image.fromarray(shapes.render(path, self._labels[path]))
