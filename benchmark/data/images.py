"""From images to uint8 arrays: decode and resize once, keep the pixels in a cache keyed by content."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.base.atomic import drafts, replacing
from benchmark.base.cache import CACHE_VARIABLE, cache_folder
from benchmark.base.files import open_own, read_regular
from benchmark.base.lock import lock_open
from benchmark.data.lists import Split
from benchmark.data.sources import ImageSource
from benchmark.errors import InputError, StoreError
from benchmark.spec import canonical_json

# Raised whenever the same file becomes other pixels: no pixels of an earlier rule are served.
CACHE_VERSION = 2
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# A draft in the cache that was not written to for so long was left by a process that was killed.
LEFT_S = 3600.0


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


def known_digest(split: Split, source: ImageSource, size: int, interpolation: str) -> str | None:
    """sha256 of the pixels that `cache_split` would give, None where they are not decoded. Raises InputError."""
    pixels, facts = _places(split, source, size, interpolation, cache_folder())
    return _known_digest(pixels, facts, (len(split), size, size, 3))


def _places(split: Split, source: ImageSource, size: int, interpolation: str, folder: Path) -> tuple[Path, Path]:
    """The files of a split's pixels and of their facts."""
    contents = source.digests(split.paths)
    key = hashlib.sha256(canonical_json([CACHE_VERSION, size, interpolation, contents]).encode()).hexdigest()
    return folder / f"{key}.npy", folder / f"{key}.json"


def bad_images(
    splits: Iterable[Split], source: ImageSource, advance: Callable[[int], None] = lambda done: None
) -> list[str]:
    """The fault of each image that is missing or cannot be read or decoded, in the order of the lists.

    Every image is decoded and none is kept. `advance(done)` is called after each.
    """

    def fault(path: str) -> str | None:
        try:
            source.digest(path)
            source.open(path)
        except InputError as error:
            return str(error)
        return None

    paths = tuple(path for split in splits for path in split.paths)
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")
        faults = []
        for done, found in enumerate(_bounded_map(pool, fault, paths), 1):
            advance(done)
            if found is not None:
                faults.append(found)
    return faults


def cache_split(
    split: Split,
    source: ImageSource,
    size: int,
    interpolation: str,
    folder: Path | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
    thorough: bool = False,
) -> CachedImages:
    """Decode every image of a split to `size` x `size` pixels (aspect ratio not kept), once.

    The cache's key is made of the contents of the image files, the size and the interpolation: a changed image is
    decoded anew, a renamed folder is not. A cached file whose pixels were changed is decoded anew too. Its digest is
    compared where the file's size or times changed, and always where `thorough`.
    `advance(done, total)` is called after each decoded image.

    Raises InputError for an image that cannot be decoded, StoreError when the cache cannot be written.
    """
    folder = folder or cache_folder()
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        # Palette transparency and odd EXIF blocks make Pillow warn; neither changes the RGB pixels. Here and not in
        # the threads: the filters are the process's, and threads that restore them out of order would lose them.
        warnings.simplefilter("ignore")
        pixels, facts = _places(split, source, size, interpolation, folder)
        shape = (len(split), size, size, 3)
        digest = _known_digest(pixels, facts, shape, thorough)
        if digest is None:

            def decode(path: str) -> np.ndarray:
                return np.asarray(source.open(path).resize((size, size), _FILTERS[interpolation]))

            images = _counted(_bounded_map(pool, decode, split.paths), len(split), advance)
            with _one_at_a_time(pixels):
                # A process that waited finds the file of the one that it waited for.
                digest = _known_digest(pixels, facts, shape, thorough) or _write(pixels, facts, shape, images)
    return CachedImages(pixels, digest, len(split), size)


@contextlib.contextmanager
def _one_at_a_time(pixels: Path) -> Iterator[None]:
    """Let one process decode at a time, and remove the drafts that killed processes left."""
    try:
        pixels.parent.mkdir(parents=True, exist_ok=True)
        held = open_own(pixels.with_suffix(".lock"))
    except OSError as error:
        raise _unwritable(pixels.parent, error) from None
    with held:
        with contextlib.suppress(OSError):  # where files cannot be locked, each decodes for itself
            lock_open(held)
            for left in drafts(pixels.parent, pixels.name):
                # Some file systems lock for one machine alone: a draft that still grows is another machine's.
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


def _known_digest(pixels: Path, facts: Path, shape: tuple[int, ...], thorough: bool = False) -> str | None:
    """The recorded digest of a cache file; None where there is no such file or its pixels have another digest.

    The pixels are read for that only when the file's size, times of change or inode are not those of the last
    comparison; where thorough, always.
    """
    try:
        known = json.loads(read_regular(facts))
        digest = known["digest"]
        array = np.load(pixels, mmap_mode="r", allow_pickle=False)
        state = _state(pixels)
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError):
        return None
    if array.shape != shape or array.dtype != np.uint8:
        return None
    if thorough or known.get("checked") != state:
        if hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() != digest:
            return None
        with contextlib.suppress(OSError):  # a cache that cannot be written is compared every time
            _write_facts(facts, digest, state)
    return digest


def _state(pixels: Path) -> list[int]:
    found = pixels.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _write_facts(facts: Path, digest: str, checked: list[int]) -> None:
    with replacing(facts, durable=False) as file:  # a reader treats a damaged file as a missing one
        file.write(json.dumps({"digest": digest, "checked": checked}).encode())


def _write(pixels: Path, facts: Path, shape: tuple[int, ...], images: Iterable[np.ndarray]) -> str:
    # Plain sequential writes, not a memory map: a full disk is then an error here and not a killed process.
    digest = hashlib.sha256()
    try:
        with replacing(pixels) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for image in images:
                data = np.ascontiguousarray(image).tobytes()
                digest.update(data)
                file.write(data)
        _write_facts(facts, digest.hexdigest(), _state(pixels))
    except OSError as error:
        raise _unwritable(pixels.parent, error) from None
    return digest.hexdigest()
