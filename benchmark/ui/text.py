"""Text on its way to a terminal, a pipe or a log: whatever it holds, and whatever the other end can take."""

from __future__ import annotations

import errno
import io
import sys

_streams: dict[str, _Taker] = {}


def harmless(text: str) -> str:
    """Text without control and direction characters other than tabs and line ends, which may steer a terminal."""
    if text.isprintable():
        return text
    text = text.replace("\r\n", "\n")
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in text)


def plain(text: str) -> str:
    """`text` on one line, without control and direction characters: what a record says may be anything."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(text.split())


class _Taker(io.FileIO):
    """A file that takes everything: what cannot be written is lost, and `why` tells. A pipe without a reader is an
    error, as ever."""

    why = ""

    def write(self, data: bytes) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            self.why = self.why or error.strerror or str(error)
            return len(data)


def take_any_text() -> None:
    """From now on standard output and error take any text in any encoding, also where the disk below them is full.

    A character that the encoding has not becomes a question mark; see `unwritten` for what could not be written.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper or name in _streams:  # closed, or somebody else's
            continue
        stream.flush()
        taker = _streams[name] = _Taker(stream.fileno(), "w", closefd=False)
        wrapped = io.TextIOWrapper(
            io.BufferedWriter(taker),
            encoding=stream.encoding,
            errors="replace" if stream.errors in ("strict", "surrogateescape") else stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, wrapped)


def unwritten() -> str:
    """Why standard output has not taken all that was written to it since this was last asked; "" where it has."""
    taker = _streams.get("stdout")
    if taker is None:
        return ""
    sys.stdout.flush()
    why, taker.why = taker.why, ""
    return why
