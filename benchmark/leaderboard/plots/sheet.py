"""A sheet to draw on, in points from its upper left corner; imports matplotlib.

Pictures here are made of few artists, each a collection, and of text that is set as outlines, letter by letter from a
cache: matplotlib's own axes and texts take ten times as long, and a large leaderboard has a hundred pictures.
"""

from __future__ import annotations

import io
import math
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D, Bbox, IdentityTransform, TransformedBbox
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmark.leaderboard.plots import fonts, seal, style
from benchmark.leaderboard.plots.scales import Box, Scale, number

Places = Sequence[tuple[float, float]]

_UNIT = 100.0  # size at which outlines are kept
_BAR = "|"
_PUNCTUATION = set("–—…·±×")
_TEXTS_A_PATH = 20  # Agg fills a path of some hundred letters at once, and refuses one of very many


@contextmanager
def drawing() -> Iterator[None]:
    """Within it, matplotlib draws as we want it, whatever the user set."""
    with matplotlib.style.context(["default", style.MATPLOTLIB]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


class Sheet:
    """A picture that is being drawn: what is drawn later lies above, text on top of all.

    width, height: in points, to be set before `files`.
    """

    def __init__(self) -> None:
        self.width, self.height = style.WIDTH, 0.0
        self._figure = Figure(dpi=style.DPI, facecolor="white")
        self._flip = Affine2D()
        self._transform = self._flip + self._figure.dpi_scale_trans
        self._writing = _Writing(self._transform)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = style.SIZE,
        color: str = style.INK,
        ha: str = "left",
        upright: bool = False,
        room: float = math.inf,
    ) -> None:
        """One line, its middle at the height y; ha: what x is of it. upright: turned to the left, read upwards, and y
        is the end that `ha` names. What does not fit in `room` is cut."""
        text = fit(text, size, room)
        shift = {"left": 0.0, "center": 0.5, "right": 1.0}[ha] * width_of(text, size)
        drop = 0.36 * size  # half of a capital's height
        place = (x + drop, y + shift) if upright else (x - shift, y + drop)
        self._writing.add(text, place, size, color, upright)

    def lines(self, segments: Sequence[Places], *, color: str, width: float, dashes: Sequence[float] = ()) -> None:
        """Polylines."""
        if segments:
            pattern: Any = (0, tuple(dashes)) if dashes else "solid"
            self._add(LineCollection(segments, colors=color, linewidths=width, linestyles=pattern))

    def polygons(
        self, corners: Sequence[Places], *, face: Any, edge: str = "none", hatch: str | None = None, width: float = 0.5
    ) -> None:
        """Filled polygons; face: one colour, or one each."""
        if len(corners):
            self._add(PolyCollection(corners, facecolors=face, edgecolors=edge, linewidths=width, hatch=hatch))

    def points(
        self, places: Places, marker: str, *, face: str, size: float = 4.0, edge: str = "white", width: float = 0.4
    ) -> None:
        """Markers of one look."""
        if places:
            shape = MarkerStyle(marker)
            path = shape.get_path().transformed(shape.get_transform())
            markers = PathCollection(
                [path], sizes=[size**2], offsets=places, offset_transform=self._transform, facecolors=face,
                edgecolors=edge, linewidths=width,
            )  # fmt: skip
            self._add(markers, IdentityTransform())

    def image(self, box: Box, pixels: np.ndarray) -> None:
        """Pixels (rows x columns x RGB) that fill the box, without blending neighbours."""
        bounds = TransformedBbox(Bbox([[box.left, box.bottom], [box.right, box.top]]), self._transform)
        image = BboxImage(bounds, interpolation="nearest", origin="upper")
        image.set_data(pixels)
        self._add(image, IdentityTransform())

    def _add(self, artist: Artist, transform: Any = None) -> None:
        artist.set_zorder(len(self._figure.artists))
        if not isinstance(artist, BboxImage):
            artist.set_transform(self._transform if transform is None else transform)
        self._figure.add_artist(artist)

    @staticmethod
    def width_of(text: str, size: float = style.SIZE) -> float:
        """How long a line of text is, in points."""
        return width_of(text, size)

    @staticmethod
    def wrap(text: str, room: float, most: int, size: float = style.SIZE) -> list[str]:
        """The text on at most that many lines, the last one cut; a word longer than a line is broken."""
        lines = []
        while text and len(lines) < most - 1 and width_of(text, size) > room:
            line = _beginning(text, size, room)
            if " " in line and text[len(line)] != " ":
                line = line[: line.rindex(" ")]
            line = line or text[0]
            lines.append(line)
            text = text[len(line) :].lstrip()
        return [*lines, fit(text, size, room)] if text else lines

    def head(self, heading: str, data: dict[str, Any]) -> float:
        """What the picture is, of which track, and what it leaves out; returns where they end."""
        room = self.width - 2 * style.MARGIN
        y = style.MARGIN + 6
        self.text(style.MARGIN, y, heading, size=10, room=room)
        for part in (data["title"], data["note"]):
            for line in self.wrap(part, room, most=3):
                y += 11
                self.text(style.MARGIN, y, line, color=style.QUIET)
        return y + 12

    def axes(
        self,
        box: Box,
        *,
        x: Scale | None = None,
        y: Scale | None = None,
        grid: str = "y",
        labels: str = "xy",
        room: float = 18.0,
    ) -> None:
        """Two lines of a frame, the ticks of the scales, at least `room` apart, and their grid; labels: the scales that
        get numbers."""
        size = style.SMALL
        if x is not None:
            places = _ticks(x, room)
            if "x" in grid:
                self.lines([[(at, box.top), (at, box.bottom)] for at, _ in places], color=style.GRID, width=0.6)
            self.lines([[(at, box.bottom), (at, box.bottom + 2.5)] for at, _ in places], color=style.QUIET, width=0.6)
            for at, label in places if "x" in labels else []:
                self.text(at, box.bottom + 8, label, size=size, ha="center")
        if y is not None:
            places = [(y(tick), number(tick)) for tick in y.ticks(room)]
            if "y" in grid:
                self.lines([[(box.left, at), (box.right, at)] for at, _ in places], color=style.GRID, width=0.6)
            for at, label in places if "y" in labels else []:
                self.text(box.left - 3, at, label, size=size, ha="right")
        frame = [[(box.left, box.bottom), (box.right, box.bottom)]]
        if y is not None:
            frame.append([(box.left, box.top), (box.left, box.bottom)])
        self.lines(frame, color=style.QUIET, width=0.6)
        if x is not None and x.with_zero:  # between 0 and the rest the scale is broken
            at = (x.start + x.first) / 2
            self.lines(
                [[(at + dx - 1.5, box.bottom + 3), (at + dx + 1.5, box.bottom - 3)] for dx in (-1.2, 1.2)],
                color=style.QUIET,
                width=0.6,
            )

    def files(self, description: str) -> dict[str, bytes]:
        """The files, by format."""
        # matplotlib's own size is in whole pixels.
        height = math.ceil(self.height)
        self._figure.set_size_inches(self.width / 72, height / 72)
        self._flip.set_matrix([[1 / 72, 0, 0], [0, -1 / 72, height / 72], [0, 0, 1]])
        self._add(self._writing)
        return {"png": self._png(description), "svg": self._svg(description)}

    def _png(self, description: str) -> bytes:
        canvas = FigureCanvasAgg(self._figure)
        canvas.draw()
        size = canvas.get_width_height()
        pixels = Image.frombuffer("RGBA", size, canvas.buffer_rgba(), "raw", "RGBA", 0, 1).convert("RGB")
        fields = PngInfo()
        fields.add_text("Description", description)
        fields.add_text(seal.PNG_FIELD, seal.pixels_digest(pixels))
        file = io.BytesIO()
        # Level 3: for flat colours smaller than the default 6, in little more than half the time.
        pixels.save(file, "PNG", pnginfo=fields, dpi=(style.DPI, style.DPI), compress_level=3)
        return file.getvalue()

    def _svg(self, description: str) -> bytes:
        file = io.BytesIO()
        metadata = {"Date": None, "Creator": None, "Description": description, "Identifier": seal.UNSEALED}
        FigureCanvasSVG(self._figure).print_svg(file, metadata=metadata)
        return seal.sealed_svg(file.getvalue())


def _ticks(scale: Scale, room: float) -> list[tuple[float, str]]:
    """Places and labels of as many ticks as have room for their labels beside each other."""
    while True:
        places = [(scale(tick), number(tick)) for tick in scale.ticks(room)]
        widths = [width_of(label, style.SMALL) for _, label in places]
        apart = [
            abs(b[0] - a[0]) - (u + v) / 2 for (a, b), (u, v) in zip(pairwise(places), pairwise(widths), strict=True)
        ]
        if min(apart, default=9.0) >= 6.0 or room > 200:
            return places
        room *= 1.25


class _Letter(NamedTuple):
    """Where the outline of a text, or of a part of it, begins along the line."""

    outline: Path
    at: float


class _Writing(Artist):
    """All texts of a sheet."""

    def __init__(self, transform: Any):
        super().__init__()
        self._points = transform
        self._texts: dict[str, list[tuple[str, tuple[float, float], float, bool]]] = defaultdict(list)

    def add(self, text: str, place: tuple[float, float], size: float, color: str, upright: bool) -> None:
        self._texts[color].append((text, place, size, upright))

    def draw(self, renderer: Any) -> None:
        # Filled at once for pixels, where each call costs; letter by letter, each drawn once and then referred to,
        # in SVG, where each outline costs.
        write = _fill if isinstance(renderer, RendererAgg) else _refer
        context = renderer.new_gc()
        context.set_linewidth(0)
        context.set_snap(False)
        for color, texts in self._texts.items():
            write(renderer, context, self._points, texts, to_rgb(color))
        context.restore()


def _fill(renderer: Any, context: Any, transform: Any, texts: list, color: Any) -> None:
    for start in range(0, len(texts), _TEXTS_A_PATH):
        outlines = []
        for text, (x, y), size, upright in texts[start : start + _TEXTS_A_PATH]:
            for outline, at in _set(text)[0]:
                vertices = (outline.vertices + (at, 0)) * (size / _UNIT)
                along, up = vertices.T
                moved = (x - up, y - along) if upright else (x + along, y - up)
                outlines.append(Path(np.column_stack(moved), outline.codes))
        if outlines:
            renderer.draw_path(context, Path.make_compound_path(*outlines), transform, color)


def _refer(renderer: Any, context: Any, transform: Any, texts: list, color: Any) -> None:
    places: dict[tuple[int, float, bool], list[tuple[float, float]]] = defaultdict(list)
    outlines = {}
    for text, (x, y), size, upright in texts:
        for outline, at in _set(text)[0]:
            outlines[id(outline)] = outline
            along = at * size / _UNIT
            places[id(outline), size, upright].append((x, y - along) if upright else (x + along, y))
    for (key, size, upright), where in places.items():
        shape = Affine2D().scale(size / _UNIT * renderer.points_to_pixels(1))
        if upright:
            shape.rotate_deg(90)
        renderer.draw_markers(context, outlines[key], shape, Path(where), transform, color)


@lru_cache(maxsize=4096)
def _set(text: str) -> tuple[list[_Letter], float]:
    """The letters of a line at the size _UNIT, and its width."""
    if not all(char < "\u0250" or char in _PUNCTUATION for char in text):
        # Other scripts may join letters or run from right to left: the text is laid out as a whole.
        outline = _outline(text)
        return [_Letter(outline, 0.0)], _width(outline)
    letters, at = [], 0.0
    for char in text:
        outline, advance = _glyph(char)
        if len(outline.vertices):
            letters.append(_Letter(outline, at))
        at += advance
    return letters, at


@lru_cache(maxsize=1024)
def _glyph(char: str) -> tuple[Path, float]:
    """A letter's outline, and how far behind it the next one stands: where a bar after it does."""
    bar, both = _outline(_BAR), _outline(char + _BAR)
    own = len(both.vertices) - len(bar.vertices)
    return Path(both.vertices[:own], both.codes[:own]), float(both.vertices[own, 0] - bar.vertices[0, 0])


@lru_cache(maxsize=256)
def _outline(text: str) -> Path:
    path = TextPath((0, 0), text, size=_UNIT, prop=fonts.font_of(text), usetex=False)
    return Path(np.array(path.vertices).reshape(-1, 2), path.codes)


def _width(outline: Path) -> float:
    return float(outline.vertices[:, 0].max()) if len(outline.vertices) else 0.0


def width_of(text: str, size: float) -> float:
    """How long a line of text is, in points."""
    return _set(text)[1] * size / _UNIT


def fit(text: str, size: float, room: float) -> str:
    """The text, cut in its middle where it is longer than `room`: long names often differ at their end."""
    if width_of(text, size) <= room:
        return text
    room -= width_of("…", size)
    start = _beginning(text, size, 0.55 * room)
    end = _beginning(text[::-1], size, room - width_of(start, size))[::-1]
    return f"{start}…{end}"


def _beginning(text: str, size: float, room: float) -> str:
    shortest, longest = 0, len(text)
    while shortest < longest:
        middle = (shortest + longest + 1) // 2
        if width_of(text[:middle], size) <= room:
            shortest = middle
        else:
            longest = middle - 1
    return text[:shortest].rstrip()
