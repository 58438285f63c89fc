"""The leaderboard's files in a folder: finding those that are out of date, and writing them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from benchmark.base.atomic import write_atomically
from benchmark.base.files import read_regular
from benchmark.base.lock import folder_lock
from benchmark.base.memory import paused_collections
from benchmark.errors import StoreError
from benchmark.leaderboard.board import Board
from benchmark.leaderboard.formats import PAGES, file_name, format_names, load_export
from benchmark.leaderboard.pages.html import html_page
from benchmark.leaderboard.pages.markdown_page import markdown_page
from benchmark.leaderboard.plots import DESCRIPTION, Plot, description_of, draw, plots
from benchmark.leaderboard.plots import FORMATS as PICTURE_FORMATS
from benchmark.ui.progress import Reporter

PLOT_FOLDER = "plots"

T = TypeVar("T")


@contextlib.contextmanager
def sole_writer(results: Path, reporter: Reporter | None = None) -> Iterator[None]:
    """Wait until no other process makes a leaderboard of this results folder, and keep others out during the block.

    A board that is loaded and written within the block holds the records of every earlier one, so an older board never
    replaces a newer one. Where folders cannot be locked (some network file systems) there is no waiting.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # the reader reports a missing folder
            message = f"another process makes the leaderboard of {results}: waiting for it"
            stack.enter_context(folder_lock(results, lambda: (reporter or Reporter()).line(message)))
        yield


def default_formats(out: Path) -> list[str]:
    """The pages, and the formats with a file in `out`, so that no existing file falls behind the records."""
    return [name for name in format_names() if name in PAGES or os.path.lexists(out / file_name(name))]


@paused_collections()
def write(
    board: Board,
    out: Path,
    formats: Sequence[str] | None = None,
    reporter: Reporter | None = None,
    *,
    raw: bool = False,
) -> list[Path]:
    """Write a board in some formats to the folder `out`, pages with their pictures; returns the files that changed.

    formats: by default `default_formats`. raw: see `exports.csv`.

    Files that are up to date are not touched. A picture is up to date when it shows the same data, whatever version of
    matplotlib drew it. Pictures of tracks that no longer exist are removed. Raises StoreError when a file cannot be
    written.
    """
    changed = []
    formats = default_formats(out) if formats is None else formats
    pictures = _pictures(board, formats)
    try:
        if pictures:
            (out / PLOT_FOLDER).mkdir(parents=True, exist_ok=True)
        out.mkdir(parents=True, exist_ok=True)
        outdated = [picture for picture in pictures if any(_differs(out, name, picture) for name in picture.files)]
        with (reporter or Reporter()).task("drawing pictures", len(outdated)) as task:
            _report_missing_letters([picture.plot for picture in outdated], reporter or Reporter())
            drawn = draw([picture.plot for picture in outdated])
            for number, (picture, contents) in enumerate(zip(outdated, drawn, strict=True), 1):
                for ending, content in contents.items():
                    write_atomically(out / f"{picture.stem}.{ending}", content)
                    changed.append(out / f"{picture.stem}.{ending}")
                task.update(number)
        # After the pictures, so that a page never refers to a missing one.
        for name, content in _texts(board, pictures, out, formats, raw):
            if _read(out / name) != content:
                write_atomically(out / name, content)
                changed.append(out / name)
        for path in _stray_pictures(pictures, out, formats):
            path.unlink(missing_ok=True)  # another process may be writing the same leaderboard
            changed.append(path)
    except OSError as error:
        problem = f"{error.filename or out}: cannot be written: {error.strerror or error}"
        raise StoreError(f"{problem}; choose another folder with --out") from None
    return changed


def _report_missing_letters(drawn: Sequence[Plot], reporter: Reporter) -> None:
    """Report the classes whose names no installed font can show, in one line."""
    names = list(dict.fromkeys(name for plot in drawn for name in plot.undrawn))
    if names:
        listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        reporter.line(
            f"no installed font has all letters of {listed}: pictures show the indices of these classes; install a "
            f"font that has them and remove the folder {PLOT_FOLDER} to have them drawn anew"
        )


@paused_collections()
def check(board: Board, out: Path, formats: Sequence[str] | None = None, *, raw: bool = False) -> list[str]:
    """The differences between a board and its files in `out`, one line for each file that is out of date.

    formats: by default `default_formats`. raw: see `exports.csv`. Text is compared byte for byte, a picture by the
    digests of its data and of its bytes. Raises StoreError when a file cannot be read.
    """
    formats = default_formats(out) if formats is None else formats
    pictures = _pictures(board, formats)
    differences = []
    try:
        for name, content in _texts(board, pictures, out, formats, raw):
            differences += _text_differences(out / name, content)
        for picture in pictures:
            for name in picture.files:
                if not (out / name).exists():
                    differences.append(f"{name}: missing")
                elif _differs(out, name, picture):
                    differences.append(f"{name}: does not show what the records give")
        stray = _stray_pictures(pictures, out, formats)
        return differences + [f"{PLOT_FOLDER}/{path.name}: no records give this plot" for path in stray]
    except OSError as error:
        raise StoreError(f"{error.filename or out}: cannot be read: {error.strerror or error}") from None


@dataclass(frozen=True)
class _Picture:
    """A picture of a track. stem: the path of its files relative to the page, without the ending."""

    slug: str
    kind: str
    plot: Plot

    @property
    def stem(self) -> str:
        return f"{PLOT_FOLDER}/{self.slug}-{self.kind}"

    @property
    def files(self) -> list[str]:
        return [f"{self.stem}.{ending}" for ending in PICTURE_FORMATS]


def _pictures(board: Board, formats: Sequence[str]) -> list[_Picture]:
    if not set(formats) & set(PAGES):
        return []
    return [_Picture(table.track.slug, kind, plot) for table in board.tables for kind, plot in plots(table).items()]


def _texts(
    board: Board, pictures: Sequence[_Picture], out: Path, formats: Sequence[str], raw: bool
) -> Iterator[tuple[str, bytes]]:
    """(file name, content) of each format; the HTML page holds the pictures that are in `out`."""
    for name in formats:
        if name == "md":
            text = markdown_page(board, _by_track((p, p.plot.alt, p.stem) for p in pictures))
        elif name == "html":
            svg = [(p, p.plot.alt, _read(out / f"{p.stem}.svg")) for p in pictures]
            text = html_page(board, _by_track((p, alt, content) for p, alt, content in svg if content is not None))
        else:
            text = load_export(name).write(board, raw)
        yield file_name(name), text.encode()


def _by_track(facts: Iterable[tuple[_Picture, str, T]]) -> Mapping[str, Mapping[str, T]]:
    by_track: dict[str, dict[str, T]] = {}
    for picture, key, value in facts:
        by_track.setdefault(picture.slug, {})[key] = value
    return by_track


def _differs(out: Path, name: str, picture: _Picture) -> bool:
    return description_of(out / name) != picture.plot.description


def _read(path: Path) -> bytes | None:
    try:
        return read_regular(path)
    except FileNotFoundError:
        return None


def _text_differences(path: Path, wanted: bytes) -> list[str]:
    found = _read(path)
    if found is None:
        return [f"{path.name}: missing"]
    lines = enumerate(zip_longest(found.split(b"\n"), wanted.split(b"\n")), start=1)
    for number, (old, new) in lines:
        if old != new:
            return [f"{path.name}: line {number} is {_quoted(old)}; the records give {_quoted(new)}"]
    return []


def _quoted(line: bytes | None) -> str:
    if line is None:
        return "nothing"
    text = line.decode(errors="replace")
    return repr(text if len(text) <= 500 else f"{text[:500]}…")


def _stray_pictures(pictures: Sequence[_Picture], out: Path, formats: Sequence[str]) -> list[Path]:
    if not set(formats) & set(PAGES):
        return []
    known = {name for picture in pictures for name in picture.files}
    found = sorted(path for path in (out / PLOT_FOLDER).glob("*") if path.suffix[1:] in PICTURE_FORMATS)
    # Only pictures of a leaderboard: other files in the folder are the user's.
    return [
        path
        for path in found
        if f"{PLOT_FOLDER}/{path.name}" not in known and (description_of(path) or "").startswith(DESCRIPTION)
    ]
