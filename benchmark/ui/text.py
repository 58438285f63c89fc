"""Text for a terminal, a pipe or a log: no control characters, and no errors of encoding or of a full disk."""

from __future__ import annotations

import errno
import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_streams: dict[str, _LossyFile] = {}


def harmless(text: str) -> str:
    """Text without control and direction characters, which may steer a terminal. Tabs and line ends stay."""
    if text.isprintable():
        return text
    text = text.replace("\r\n", "\n")
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in text)


def plain(text: str) -> str:
    """`text` on one line, without control and direction characters: a record may hold any text."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(text.split())


def in_bytes(count: float) -> str:
    """`512 B`, `8.2 MB`, `19.3 GB`: powers of 1,000, as disks and servers state them."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


class _LossyFile(io.FileIO):
    """A file whose failed writes raise nothing: that data is lost, and `why` gives the reason.

    A pipe without a reader is still an error.
    """

    why = ""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            self.why = self.why or error.strerror or str(error)
            return memoryview(data).nbytes


def take_any_text() -> None:
    """From now on, no text raises an error on standard output and error, even when the disk is full.

    A character that the encoding lacks becomes a question mark; see `unwritten` for output that was lost.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper or name in _streams:  # closed, or replaced by another program
            continue
        stream.flush()
        lossy = _streams[name] = _LossyFile(stream.fileno(), "w", closefd=False)
        wrapped = io.TextIOWrapper(
            io.BufferedWriter(lossy),
            encoding=stream.encoding,
            errors="replace" if stream.errors in ("strict", "surrogateescape") else stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, wrapped)


def unwritten() -> str:
    """Why output to standard output was lost since the last call; "" where none was."""
    lossy = _streams.get("stdout")
    if lossy is None:
        return ""
    sys.stdout.flush()
    why, lossy.why = lossy.why, ""
    return why
