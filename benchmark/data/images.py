"""From images to uint8 arrays: decode and resize once, keep the pixels in a cache keyed by content."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from benchmark.base.atomic import replacing
from benchmark.base.cache import CACHE_VARIABLE, cache_folder
from benchmark.base.files import open_own, read_regular
from benchmark.base.lock import lock_open
from benchmark.data.lists import Split
from benchmark.data.pixels import Draft, PixelFile, unwritten_bytes
from benchmark.data.sources import ImageSource
from benchmark.errors import InputError, StoreError
from benchmark.spec import canonical_json
from benchmark.ui.text import in_bytes

T = TypeVar("T")

# Raised whenever the same file becomes other pixels: no pixels of an earlier rule are served.
CACHE_VERSION = 2
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class CachedImages:
    """Decoded images of one split on disk: uint8 [N, S, S, 3], and the sha256 of those pixels."""

    path: Path
    digest: str
    num_images: int
    size: int

    def load(self) -> PixelFile:
        """The pixels, uint8 [N, S, S, 3], which are read where they are indexed."""
        return PixelFile(self.path)


def known_digest(split: Split, source: ImageSource, size: int, interpolation: str) -> str | None:
    """sha256 of the pixels that `cache_split` would give, None where they are not decoded. Raises InputError."""
    pixels, facts = _places(split, source, size, interpolation, cache_folder())
    return _known_digest(pixels, facts, (len(split), size, size, 3))


def check_room(splits: Iterable[tuple[Split, int]], source: ImageSource, interpolation: str) -> None:
    """Raise StoreError when the pixels that are still to be decoded have no room on the cache's disk. splits: each with
    its size in pixels."""
    folder, needed = cache_folder(), 0
    for split, size in splits:
        pixels, facts = _places(split, source, size, interpolation, folder)
        shape = (len(split), size, size, 3)
        if _known_digest(pixels, facts, shape) is None:
            needed += unwritten_bytes(pixels, shape)
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise StoreError(
            f"{folder}: the decoded images take {in_bytes(needed)}, and {in_bytes(free)} are free; free some space, "
            f"set {CACHE_VARIABLE} to another folder or take a smaller --image-size"
        )


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
            with source.opened(path):
                pass
        except InputError as error:
            return str(error)
        return None

    faults = []
    with contextlib.closing(_bounded_map(fault, [path for split in splits for path in split.paths])) as found:
        for done, text in enumerate(found, 1):
            advance(done)
            if text is not None:
                faults.append(text)
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
    compared where the file's size or times changed, and always where `thorough`. A decoding that was interrupted goes
    on.
    `advance(done, total)` is called after each decoded image.

    Raises InputError for an image that cannot be decoded, StoreError when the cache cannot be written.
    """
    folder = folder or cache_folder()
    pixels, facts = _places(split, source, size, interpolation, folder)
    shape = (len(split), size, size, 3)
    digest = _known_digest(pixels, facts, shape, thorough)
    if digest is None:

        def decode(path: str) -> np.ndarray:
            with source.opened(path) as image:
                return np.asarray(image.resize((size, size), _FILTERS[interpolation]))

        with _one_at_a_time(pixels) as locked_at:
            # A process that waited finds the file of the one that it waited for.
            digest = _known_digest(pixels, facts, shape, thorough)
            if digest is None:
                try:
                    with Draft(pixels, shape, locked_at) as draft:
                        digest = _fill(draft, split.paths, decode, advance)
                    _write_facts(facts, digest, _state(pixels))
                except OSError as error:
                    raise _unwritable(folder, error) from None
    return CachedImages(pixels, digest, len(split), size)


@contextlib.contextmanager
def _one_at_a_time(pixels: Path) -> Iterator[float | None]:
    """Let one process decode at a time. Yields the time of locking, by the clock of the file system; None where files
    cannot be locked, and each process decodes for itself."""
    try:
        pixels.parent.mkdir(parents=True, exist_ok=True)
        held = open_own(pixels.with_suffix(".lock"))
    except OSError as error:
        raise _unwritable(pixels.parent, error) from None
    with held:
        locked_at = None
        with contextlib.suppress(OSError):
            lock_open(held)
            os.utime(held.fileno())
            locked_at = os.fstat(held.fileno()).st_mtime
        yield locked_at


def _unwritable(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{folder}: the image cache cannot be written: {error.strerror or error}; free some space or set "
        f"{CACHE_VARIABLE} to another folder"
    )


def _bounded_map(function: Callable[[str], T], items: Sequence[str], ahead: int = 64) -> Generator[T, None, None]:
    """The results in order, from threads. At most `ahead` of them wait to be consumed, so memory stays bounded."""
    waiting: deque[Future[T]] = deque()
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        # Palette transparency and odd EXIF blocks make Pillow warn; neither changes the RGB pixels. Here and not in
        # the threads: the filters are the process's, and threads that restore them out of order would lose them.
        warnings.simplefilter("ignore")
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) == ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _counted(images: Iterable[T], start: int, total: int, advance: Callable[[int, int], None]) -> Iterator[T]:
    for done, image in enumerate(images, start + 1):
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
        images = PixelFile(pixels)
        state = _state(pixels)
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError):
        return None
    if images.shape != shape:
        return None
    if thorough or known.get("checked") != state:
        if images.digest() != digest:
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


def _fill(
    draft: Draft, paths: Sequence[str], decode: Callable[[str], np.ndarray], advance: Callable[[int, int], None]
) -> str:
    """Write the pixels that a draft lacks; sha256 of all. Raises OSError."""
    if draft.rows:
        advance(draft.rows, len(paths))
    # Plain sequential writes, not a memory map: a full disk is then an error here and not a killed process.
    with contextlib.closing(_bounded_map(decode, paths[draft.rows :])) as images:
        for image in _counted(images, draft.rows, len(paths), advance):
            draft.append(image)
    return draft.finish()
