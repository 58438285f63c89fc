"""Files of decoded images: read row by row, and written so that an interrupted decoding goes on."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import socket
import weakref
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from benchmark.base.atomic import drafts
from benchmark.base.files import open_own, open_regular
from benchmark.errors import InputError, StoreError

# A draft of another machine that was not written to for so long was left by a killed process: an image takes less.
LEFT_S = 120.0
# The digest of a draft's pixels is noted whenever it has grown so much, in bytes.
_NOTED_EVERY = 2**24


class Images(Protocol):
    """Decoded images, uint8 [N, S, S, 3]: an array, or a file that is read where it is indexed."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray: ...


class PixelFile:
    """An .npy file of images, uint8 [N, S, S, 3]: indexing reads the rows that it names.

    Not a memory map: the pages of one count as the process's own memory, all that it ever touched. Raises ValueError or
    OSError for another file.
    """

    def __init__(self, path: Path):
        self._path = path
        with open_regular(path) as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{path}: not a file of pixels")
            self.shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            self._start = file.tell()
            whole = os.fstat(file.fileno()).st_size == self._start + math.prod(self.shape)
            if fortran or dtype != np.uint8 or len(self.shape) != 4 or not whole:
                raise ValueError(f"{path}: not a file of pixels")
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self._row = math.prod(self.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray:
        """The pixels of consecutive rows, or of rows by their indices int64 [B]: uint8 [B, S, S, 3].

        Raises StoreError where the file was cut short or cannot be read.
        """
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            pixels = np.empty((max(stop - start, 0), *self.shape[1:]), np.uint8)
            self._read(pixels, start)
        else:
            pixels = np.empty((len(rows), *self.shape[1:]), np.uint8)
            for into, row in zip(pixels, rows.tolist(), strict=True):
                self._read(into, row)
        return pixels

    def digest(self) -> str:
        """sha256 of all pixels."""
        sha = hashlib.sha256()
        step = max(1, _NOTED_EVERY // max(1, self._row))
        for start in range(0, len(self), step):
            sha.update(self[start : start + step].data)
        return sha.hexdigest()

    def _read(self, into: np.ndarray, row: int) -> None:
        rest, at = into.reshape(-1).data, self._start + row * self._row
        while rest:
            try:
                count = os.preadv(self._descriptor, [rest], at)
            except OSError as error:
                raise StoreError(f"{self._path}: cannot be read: {error.strerror or error}; run again") from None
            if not count:
                raise StoreError(f"{self._path}: was cut short while it was in use; run again to decode it anew")
            rest, at = rest[count:], at + count


def unwritten_bytes(path: Path, shape: tuple[int, ...]) -> int:
    """Bytes of a file of pixels that no draft of it has yet."""
    sizes = []
    for draft in drafts(path.parent, path.name):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(draft.stat().st_size)
    return max(0, math.prod(shape) - max(sizes, default=0))


class Draft:
    """An .npy file of images that is not whole yet.

    Beside it are notes: a line for each few megabytes, with the number of rows and the sha256 of all pixels so far. A
    later process goes on behind the last line that holds.

    locked_at: when this process locked the file against others, by the clock of the file system; None where it cannot
    be locked: then the draft is written from the beginning, and not left. rows: images that are written.

    Raises OSError.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], locked_at: float | None):
        self._final, self._shape = path, shape
        self._row = math.prod(shape[1:])
        self._is_left = locked_at is not None
        mark = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8] if self._is_left else os.urandom(4).hex()
        self._path = path.with_name(f".{path.name}.{mark}.tmp")
        if locked_at is not None:
            self._adopt(locked_at)
        self._sha = hashlib.sha256()
        self.rows = self._noted = 0
        self._file = open_own(self._path)
        self._notes = open_own(_notes_of(self._path))
        self._find_end()

    def _adopt(self, now: float) -> None:
        """Take over a draft that another machine left, and remove what else is left."""
        for left in drafts(self._path.parent, self._final.name):
            # Some file systems lock for one machine alone: a draft that still grows is another machine's.
            if left == self._path or now - left.stat().st_mtime <= LEFT_S:
                continue
            if self._path.exists():
                left.unlink(missing_ok=True)
                _notes_of(left).unlink(missing_ok=True)
            else:
                with contextlib.suppress(FileNotFoundError):
                    _notes_of(left).rename(_notes_of(self._path))
                left.rename(self._path)

    def _find_end(self) -> None:
        """Go to the end of the rows that are proved to be there."""
        with contextlib.suppress(ValueError, OSError):
            version = np.lib.format.read_magic(self._file)
            if version == (1, 0) and np.lib.format.read_array_header_1_0(self._file) == (self._shape, False, np.uint8):
                self._count_rows()
        if not self.rows:
            self._file.seek(0)
            self._notes.seek(0)
            header = {"descr": "|u1", "fortran_order": False, "shape": self._shape}
            np.lib.format.write_array_header_1_0(self._file, header)
        self._noted = self.rows
        self._file.truncate()
        self._notes.truncate()

    def _count_rows(self) -> None:
        """Count the rows that the notes prove, and go behind them in both files."""
        start, kept = self._file.tell(), 0
        for line in self._notes.read().splitlines(keepends=True):
            count, _, digest = line.partition(b" ")
            rows = int(count) if count.isdigit() and len(count) < 20 else 0
            # More would be no line of ours, and all of it would be read at once.
            if not self.rows < rows <= self._shape[0] or (rows - self.rows - 1) * self._row >= _NOTED_EVERY:
                break
            sha = self._sha.copy()
            sha.update(self._file.read((rows - self.rows) * self._row))
            if f"{sha.hexdigest()}\n".encode() != digest:
                break
            self._sha, self.rows, kept = sha, rows, kept + len(line)
        self._file.seek(start + self.rows * self._row)
        self._notes.seek(kept)

    def append(self, pixels: np.ndarray) -> None:
        """Write the next image, uint8 [S, S, 3]. Raises OSError."""
        data = np.ascontiguousarray(pixels).data
        self._file.write(data)
        self._sha.update(data)
        self.rows += 1
        if (self.rows - self._noted) * self._row >= _NOTED_EVERY:
            self._note()

    def _note(self) -> None:
        if self.rows > self._noted:
            self._file.flush()  # before its note
            self._notes.write(f"{self.rows} {self._sha.hexdigest()}\n".encode())
            self._notes.flush()
            self._noted = self.rows

    def finish(self) -> str:
        """Put the whole file in its place, through to the disk; its digest. Raises OSError."""
        self._note()
        os.fsync(self._file.fileno())
        _notes_of(self._path).unlink()
        self._path.rename(self._final)
        folder = os.open(self._final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return self._sha.hexdigest()

    def __enter__(self) -> Draft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # After a bad image the others have another key; on a full disk the draft would be in everybody's way.
        is_left = self._is_left and kind is not None and not issubclass(kind, InputError | OSError)
        with contextlib.suppress(OSError), self._notes, self._file:
            if is_left:
                self._note()
        if kind is not None and not is_left:
            for file in (self._path, _notes_of(self._path)):
                file.unlink(missing_ok=True)


def _notes_of(draft: Path) -> Path:
    return draft.with_suffix(".notes")
