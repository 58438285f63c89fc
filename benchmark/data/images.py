"""From image files to uint8 arrays: decode and resize once, keep the pixels in a cache keyed by content."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
import uuid
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from benchmark.data import shapes
from benchmark.errors import InputError, StoreError
from benchmark.files import open_own
from benchmark.spec import canonical_json

if TYPE_CHECKING:
    from benchmark.data.dataset import Split

CACHE_VERSION = 1
CACHE_VARIABLE = "LTBENCH_CACHE"
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class ImageSource(ABC):
    """Where the images of a dataset come from."""

    identity: str

    @abstractmethod
    def check(self, splits: Iterable[Split]) -> None:
        """Raise InputError, naming what is missing and where it was looked for."""

    @abstractmethod
    def digest(self, path: str) -> str:
        """What decides the pixels of an image, as a hexadecimal digest."""

    @abstractmethod
    def open(self, path: str) -> Image.Image:
        """The decoded image, RGB. Raises InputError when it cannot be decoded."""


class FileImages(ImageSource):
    """Image files below a root folder, None while nobody has named it. `hint` tells a person what sets that root.

    An image may be a link out of the root: clusters keep images in one place and datasets as folders of links.
    """

    identity = "files"

    def __init__(self, root: Path | None, hint: str):
        self._root = root
        self._hint = hint

    @property
    def root(self) -> Path:
        """The folder of the images. Raises InputError when it was not named."""
        if self._root is None:
            raise InputError(self._hint)
        return self._root

    def check(self, splits: Iterable[Split]) -> None:
        missing = [path for split in splits for path in split.paths if not (self.root / path).is_file()]
        if missing:
            named = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise InputError(
                f"{len(missing)} image{'s are' if len(missing) > 1 else ' is'} missing below {self.root}: "
                f"{named}; {self._hint}"
            )

    def digest(self, path: str) -> str:
        try:
            with (self.root / path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{self.root / path}: cannot be read: {error.strerror or error}") from None

    def open(self, path: str) -> Image.Image:
        try:
            with Image.open(self.root / path) as image:
                return image.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(
                f"{self.root / path}: cannot be decoded as an image ({error}); replace the file or take it off the list"
            ) from None


class RenderedImages(ImageSource):
    """The demo set: every pixel follows from the image's id and labels, so nothing is on disk."""

    def __init__(self, splits: Iterable[Split]):
        self.identity = f"rendered shapes, version {shapes.RENDERER_VERSION}"
        self._render = shapes.render
        self._labels = {
            path: np.flatnonzero(row).tolist()
            for split in splits
            for path, row in zip(split.paths, split.targets, strict=True)
        }

    def check(self, splits: Iterable[Split]) -> None:
        """Nothing can be missing."""

    def digest(self, path: str) -> str:
        return hashlib.sha256(canonical_json([self.identity, path, self._labels[path]]).encode()).hexdigest()

    def open(self, path: str) -> Image.Image:
        return Image.fromarray(self._render(path, self._labels[path]))


# A file of the cache that nobody has written to for so long was left by a builder that was killed.
LEFT_S = 3600.0


def cache_folder() -> Path:
    """LTBENCH_CACHE, or `ltbench` below the user's cache folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ltbench"


@dataclass(frozen=True)
class CachedImages:
    """Decoded images of one split on disk: uint8 [N, S, S, 3], and the sha256 of those pixels."""

    path: Path
    digest: str
    num_images: int
    size: int

    def load(self) -> np.ndarray:
        """The pixels, memory-mapped (copy on write), uint8 [N, S, S, 3]."""
        return np.load(self.path, mmap_mode="c", allow_pickle=False)


def cache_split(
    split: Split,
    source: ImageSource,
    size: int,
    interpolation: str,
    folder: Path | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> CachedImages:
    """Decode every image of a split to `size` x `size` pixels (aspect ratio not kept), once.

    The cache's key is made of the contents of the image files, the size and the interpolation; so a changed
    image is decoded anew and a renamed folder is not. `advance(done, total)` is called while decoding.

    Raises InputError for an image that cannot be decoded, StoreError when the cache cannot be written.
    """
    folder = folder or cache_folder()
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        # Palette transparency and odd EXIF blocks make Pillow warn; neither changes the RGB pixels. Here and not in
        # the threads: the filters are the process's, and threads that restore them out of order would lose them.
        warnings.simplefilter("ignore")
        contents = list(pool.map(source.digest, split.paths))
        key = hashlib.sha256(canonical_json([CACHE_VERSION, size, interpolation, contents]).encode()).hexdigest()
        pixels, facts = folder / f"{key}.npy", folder / f"{key}.json"
        shape = (len(split), size, size, 3)
        digest = _known_digest(pixels, facts, shape)
        if digest is None:

            def decode(path: str) -> np.ndarray:
                return np.asarray(source.open(path).resize((size, size), _FILTERS[interpolation]))

            images = _counted(_bounded_map(pool, decode, split.paths), len(split), advance)
            with _one_at_a_time(pixels):
                # Whoever waited finds what the other one has written.
                digest = _known_digest(pixels, facts, shape) or _write(pixels, facts, shape, images)
    return CachedImages(pixels, digest, len(split), size)


@contextlib.contextmanager
def _one_at_a_time(pixels: Path) -> Iterator[None]:
    """Runs that begin together do not all decode the same images; what a killed one left half-written is removed."""
    try:
        pixels.parent.mkdir(parents=True, exist_ok=True)
        lock = open_own(pixels.with_suffix(".lock"))
    except OSError as error:
        raise _unwritable(pixels.parent, error) from None
    with lock:
        with contextlib.suppress(OSError):  # where files cannot be locked, each decodes for itself
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in pixels.parent.glob(f"{pixels.stem}.*.tmp"):
                # Some file systems lock for one machine alone: what still grows is another's.
                if time.time() - left.stat().st_mtime > LEFT_S:
                    left.unlink(missing_ok=True)
        yield


def _unwritable(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{folder}: the image cache cannot be written: {error.strerror or error}; free some space or set "
        f"{CACHE_VARIABLE} to another folder"
    )


def _bounded_map(pool: ThreadPoolExecutor, function: Callable, items: tuple, ahead: int = 64) -> Iterator:
    """`pool.map` that decodes at most `ahead` items before they are consumed, so memory stays bounded."""
    for start in range(0, len(items), ahead):
        yield from pool.map(function, items[start : start + ahead])


def _counted(images: Iterable, total: int, advance: Callable[[int, int], None]) -> Iterator:
    for done, image in enumerate(images, 1):
        advance(done, total)
        yield image


def _known_digest(pixels: Path, facts: Path, shape: tuple[int, ...]) -> str | None:
    """Digest of a whole cache file, None where there is none or it is cut short."""
    try:
        digest = json.loads(facts.read_text(encoding="utf-8"))["digest"]
        array = np.load(pixels, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    return digest if array.shape == shape and array.dtype == np.uint8 else None


def _write(pixels: Path, facts: Path, shape: tuple[int, ...], images: Iterable[np.ndarray]) -> str:
    # Plain sequential writes, not a memory map: a full disk is then an error here and not a killed process.
    temporary = pixels.with_suffix(f".{uuid.uuid4().hex[:8]}.tmp")
    digest = hashlib.sha256()
    try:
        with temporary.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for image in images:
                data = np.ascontiguousarray(image).tobytes()
                digest.update(data)
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        facts.write_text(json.dumps({"digest": digest.hexdigest()}), encoding="utf-8")
        temporary.rename(pixels)
    except OSError as error:
        raise _unwritable(pixels.parent, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return digest.hexdigest()
