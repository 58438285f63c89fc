"""Common parts of pictures: heading and notes, rows with names, intervals, legends."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.leaderboard.plots import style
from benchmark.leaderboard.plots.content import short
from benchmark.ui.progress import plural

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.transforms import Transform

POINTS = 72.0  # an inch
_MARGIN = 6.0  # points
_LINE = 1.35  # height of a line of text, by its size
_MARK, _GAP = 21.0, 14.0  # points of a mark in a legend, and of the room between two entries
_MOST_IN_A_COLUMN = 6  # names in a legend
_MOST_LINES = 3  # of one text above or below the axes


@contextmanager
def drawing(families: Sequence[str] = ()) -> Iterator[None]:
    """Within the block matplotlib draws in the style of the style file, whatever the user's settings are.

    families: fonts for other scripts.
    """
    import matplotlib.style

    looks: list[str | Path | dict[str, Any]] = [
        "default",
        style.STYLE_FILE,
        {"font.family": ["DejaVu Sans", *families]},
    ]
    with matplotlib.style.context(looks), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def page(
    figure: Figure, title: str, data: dict[str, Any], height: float, notes: Sequence[str] = (), width: float = 0.0
) -> None:
    """Set the size of a figure, with its title at the top and its notes at the bottom.

    height: inches for the axes with their labels, between the two. width: inches, at least `style.WIDTH`. The track's
    title and `data["note"]`, on omitted parts, are below the title.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    width = max(width, style.WIDTH)
    room = width * POINTS - 2 * _MARGIN
    top = [(fit(title, room, style.HEADING), style.HEADING, style.INK)]
    top += [(line, style.SMALL, style.QUIET) for text in (data["title"], data["note"]) for line in _lines(text, room)]
    bottom = [(line, style.SMALL, style.QUIET) for line in _lines(" ".join(notes), room)]
    above, below = (2 * _MARGIN + sum(_LINE * size for _, size, _ in lines) for lines in (top, bottom))
    for lines, edge, y in ((top, 1.0, -_MARGIN), (bottom, 0.0, below - _MARGIN)):
        for line, size, color in lines:
            figure.text(0.0, edge, line, fontsize=size, color=color, va="top", transform=_beside_edge(figure, y))
            y -= _LINE * size
    figure.set_layout_engine(ConstrainedLayoutEngine(h_pad=0.02, w_pad=0.02, hspace=0.04, wspace=0.03))
    figure.set_size_inches(width, height + (above + below) / POINTS)
    _keep_free(figure, above, below)


def arrange(figure: Figure) -> None:
    """Fix the positions of the axes."""
    engine = figure.get_layout_engine()
    assert engine is not None  # set by `page`
    engine.execute(figure)
    figure.set_layout_engine("none")
    for axes in figure.axes:
        # The last bits differ between two processes: the solver goes by addresses in memory.
        axes.set_position(np.round(axes.get_position(original=True).bounds, 5))


def _keep_free(figure: Figure, above: float, below: float) -> None:
    """Keep these margins, in points, free of axes."""
    width, height = (size * POINTS for size in figure.get_size_inches())
    rect = (_MARGIN / width, below / height, 1 - 2 * _MARGIN / width, 1 - (above + below) / height)
    _constrained(figure).set(rect=rect)


def _constrained(figure: Figure) -> ConstrainedLayoutEngine:
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)  # set by `page`
    return engine


def _beside_edge(figure: Figure, up: float) -> Transform:
    """Figure coordinates shifted up by `up` points, to keep a distance from an edge that a legend moves."""
    from matplotlib.transforms import ScaledTranslation

    return figure.transFigure + ScaledTranslation(_MARGIN / POINTS, up / POINTS, figure.dpi_scale_trans)


def legend(figure: Figure, names: Sequence[str], marks: Sequence[Artist | tuple[Artist, ...]] | None = None) -> None:
    """A legend above the axes; without marks a list of names below them. The figure grows by its height."""
    from matplotlib.lines import Line2D

    width, height = (size * POINTS for size in figure.get_size_inches())
    _, bottom, _, share = _constrained(figure).get()["rect"]
    above, below = (1 - bottom - share) * height, bottom * height
    room = width - 2 * _MARGIN
    beside = _GAP + (0.0 if marks is None else _MARK)
    least = 2 if len(names) > _MOST_IN_A_COLUMN else 1
    names = [fit(name, room / least - beside, style.SMALL) for name in names]
    longest = max(width_of(name, style.SMALL) for name in names)
    handles: Sequence[Artist | tuple[Artist, ...]] = marks or [Line2D([], [], linestyle="none")] * len(names)
    handle = 0.0 if marks is None else None
    shown = figure.legend(
        handles,  # type: ignore[arg-type]  # the stubs lack containers
        ["?"] * len(names),  # matplotlib leaves out names that begin with `_`: they are set afterwards
        ncols=min(len(names), int(room / (longest + beside) + 1e-6)),
        handlelength=handle,
        handletextpad=handle,
    )
    for text, name in zip(shown.get_texts(), names, strict=True):
        text.set_text(name)
    needed = shown.get_window_extent().height / figure.dpi * POINTS + _MARGIN
    figure.set_size_inches(width / POINTS, (height + needed) / POINTS)
    if marks is None:
        _keep_free(figure, above, below + needed)
        shown.set_loc("lower left")
        shown.set_bbox_to_anchor((0.0, 0.0), transform=_beside_edge(figure, below))
    else:
        _keep_free(figure, above + needed, below)
        shown.set_loc("upper left")
        shown.set_bbox_to_anchor((0.0, 1.0), transform=_beside_edge(figure, -above))


def _lines(text: str, room: float) -> list[str]:
    """The text broken into lines of this width; the last line is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or len(lines) == _MOST_LINES or width_of(longer, style.SMALL) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return [fit(line, room, style.SMALL) for line in lines if line]


def rows(axes: Axes, names: Sequence[str], room: float = 130.0) -> None:
    """One row for each name, the first on top; a name is cut at `room` points."""
    axes.set_yticks(range(len(names)), [fit(name, room, style.SMALL) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    for beside in axes.get_shared_y_axes().get_siblings(axes):
        beside.tick_params(axis="y", length=0)


def names_with_seeds(methods: Sequence[dict[str, Any]]) -> tuple[list[str], str]:
    """Labels of methods, with the number of seeds where it differs between them, and the note for it."""
    counts = {method["n"] for method in methods}
    if len(counts) > 1:
        return [f"{method['label']} (n = {method['n']})" for method in methods], "n: number of seeds"
    return [method["label"] for method in methods], f"{plural(counts.pop(), 'seed')} each"


def intervals(axes: Axes, estimates: Sequence[Sequence[float | None] | None], heights: Sequence[float]) -> None:
    """Horizontal lines over the intervals of [mean, half-width]; no line where the half-width is None."""
    means, halves = np.array([estimate or (None, None) for estimate in estimates], dtype=float).T  # NaN for None
    if not np.isnan(halves).all():
        axes.errorbar(means, heights, xerr=halves, fmt="none", ecolor=style.INK, elinewidth=0.8, capthick=0.8)


def number(value: float, _: Any = None) -> str:
    """A tick's label: a short text for a round value."""
    if 1e4 <= abs(value) < 1e9:
        return f"{value / 1e6:.6g}M" if abs(value) >= 1e6 else f"{value / 1e3:.6g}k"
    return f"{value:.6g}"


def up_to(values: Sequence[float]) -> float:
    """The end of an axis of percentages from 0: the next multiple of ten, so that low values fill the axis too."""
    return min(100.0, max(10.0, 10.0 * math.ceil(max(values, default=0.0) / 10)))


def fit(text: str, room: float, size: float) -> str:
    """The text, cut in its middle beyond `room` points, since long names often differ at their end."""
    if width_of(text, size) <= room:
        return text
    limits = range(len(text), 2, -1)
    return next((cut for cut in (short(text, limit) for limit in limits) if width_of(cut, size) <= room), text[:1])


def width_of(text: str, size: float) -> float:
    """The length of a line of text, in points."""
    import matplotlib

    return _width(text, tuple(matplotlib.rcParams["font.family"])) * size


@lru_cache(maxsize=4096)
def _width(text: str, families: tuple[str, ...]) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    size = 100.0
    width, _, _ = text_to_path.get_text_width_height_descent(
        text, FontProperties(family=families, size=size), ismath=False
    )
    return width / size
