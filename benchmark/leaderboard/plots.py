"""Plots of a track: what is drawn is data first, so that it can be compared without drawing it.

Every PNG carries a digest of what it shows in its text field `Description`. The bytes are the same for the same
data under one version of matplotlib; the digest is the same under all.
"""

from __future__ import annotations

import hashlib
import io
import math
import multiprocessing
import os
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.leaderboard.statistics import Estimate
from benchmark.leaderboard.tables import Row, Table
from benchmark.leaderboard.tracks import plain
from benchmark.records import GROUPS
from benchmark.spec import canonical_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Raise it when the drawing changes, so that pictures on disk count as out of date.
STYLE_VERSION = 1
DESCRIPTION = "ltbench data sha256:"

PICTURES_A_PROCESS = 4  # for fewer, starting a process takes longer than drawing
MAX_BARS = 30
MAX_LINES = 12
MAX_OVERLAID = 5  # more lines in one picture cannot be followed: one panel each

_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "hatch.linewidth": 0.5,
    "text.parse_math": False,  # a name with two dollar signs is a name
    "figure.dpi": 150,
}
# Told apart in grey and by colour-blind readers: the groups from dark to light, the overall mean hatched.
_BARS: dict[str, dict[str, Any]] = {
    "Overall": {"facecolor": "#c8c8c8", "edgecolor": "#444444", "linewidth": 0.5, "hatch": "//////"},
    "Head": {"facecolor": "#3b87c0", "edgecolor": "#444444", "linewidth": 0.5},
    "Medium": {"facecolor": "#f0b64a", "edgecolor": "#444444", "linewidth": 0.5},
    "Tail": {"facecolor": "#fdf0d5", "edgecolor": "#444444", "linewidth": 0.5},
}
# Okabe and Ito's palette; the marker tells two lines apart in grey.
_COLORS = ["#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7"]
_MARKERS = ["o", "s", "^", "D", "v"]
_LINE: dict[str, Any] = {"markersize": 4, "linewidth": 0.8, "markeredgecolor": "white", "markeredgewidth": 0.4}


@dataclass(frozen=True)
class Plot:
    """One picture: `data` (JSON types) is exactly what is drawn."""

    kind: str
    data: dict[str, Any]

    @property
    def description(self) -> str:
        """The PNG's text field `Description`."""
        content = canonical_json({"kind": self.kind, "style": STYLE_VERSION, "data": self.data})
        return DESCRIPTION + hashlib.sha256(content.encode()).hexdigest()

    def png(self) -> bytes:
        """The picture. Draws it: takes about a second."""
        import matplotlib.style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        # "default" first: a user's matplotlibrc must not change the picture.
        with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure = Figure(layout="constrained")
            canvas = FigureCanvasAgg(figure)
            _DRAW[self.kind](figure, self.data)
            buffer = io.BytesIO()
            canvas.print_png(buffer, metadata={"Software": None, "Description": self.description})
        return buffer.getvalue()


def draw(pictures: Sequence[Plot]) -> Iterator[bytes]:
    """The PNG file of each picture, in order. Many are drawn by several processes."""
    workers = min(os.cpu_count() or 1, len(pictures) // PICTURES_A_PROCESS)
    if workers < 2:
        yield from (picture.png() for picture in pictures)
        return
    # Spawned, not forked: PyTorch's threads may be running here.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(Plot.png, pictures)


def description_of(path: Path) -> str | None:
    """The `Description` of a whole PNG file, None for anything else."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()
            description = image.info.get("Description")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return description if isinstance(description, str) else None


def plots(table: Table) -> dict[str, Plot]:
    """The pictures of a track, by what they show: `groups` and `classes`."""
    return {"groups": _groups_plot(table), "classes": _classes_plot(table)}


def _groups_plot(table: Table) -> Plot:
    rows = table.rows[:MAX_BARS]
    methods = [
        {"label": _bar_label(row), "bars": {name: _drawn(row.scores[name]) for name in table.MAP_COLUMNS}}
        for row in rows
    ]
    return Plot("groups", {"title": table.title, "note": _note(rows, table), "methods": methods})


def _classes_plot(table: Table) -> Plot:
    rows = table.rows[:MAX_LINES]
    names = sorted(
        table.classes, key=lambda name: (GROUPS.index(table.classes[name][0]), -table.classes[name][1], name)
    )
    classes = [
        {"label": f"{_short(name, 28)} ({table.classes[name][1]})", "group": table.classes[name][0]} for name in names
    ]
    lines = []
    for row in rows:
        values = [_drawn(row.class_scores(name)) for name in names]
        lines.append({"label": _short(row.label, 48), "values": [value and value[0] for value in values]})
    return Plot("classes", {"title": table.title, "note": _note(rows, table), "classes": classes, "methods": lines})


def _bar_label(row: Row) -> str:
    return f"{_short(row.label, 40)}\nn = {row.n}"


def _drawn(score: Estimate | None) -> list[float | None] | None:
    # Rounded far below a pixel: the last bits differ between versions of scipy.
    if score is None:
        return None
    return [round(score.mean, 6), None if score.half_width is None else round(score.half_width, 6)]


def _note(rows: tuple[Row, ...], table: Table) -> str:
    return "" if len(rows) == len(table.rows) else f"the {len(rows)} best of {len(table.rows)} rows"


def _short(text: str, limit: int) -> str:
    text = plain(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _set_title(figure: Figure, data: dict[str, Any]) -> None:
    text = f"{data['title']} ({data['note']})" if data["note"] else data["title"]
    width = int(figure.get_figwidth() * 11)  # characters that fit
    figure.suptitle(textwrap.fill(text, width), x=0.01, ha="left", fontsize=10)


def _draw_groups(figure: Figure, data: dict[str, Any]) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    methods = data["methods"]
    figure.set_size_inches(7.5, 1.4 + 0.62 * len(methods))
    axes = figure.add_subplot()
    thickness = 0.2
    for index, (name, look) in enumerate(_BARS.items()):
        # All bars of a kind as one artist: one for each would take as long as the rest of the picture.
        bars, lines = [], []
        for place, method in enumerate(methods):
            y = place + (index - 1.5) * thickness
            if method["bars"][name] is None:
                axes.text(0.6, y, "–", va="center", fontsize=7)
                continue
            mean, half_width = method["bars"][name]
            bottom, top = y - thickness / 2, y + thickness / 2
            bars.append([(0, bottom), (mean, bottom), (mean, top), (0, top)])
            if half_width is not None:
                lines.append((mean, y, half_width))
        axes.add_collection(PolyCollection(bars, joinstyle="miter", capstyle="butt", zorder=1, **look), autolim=False)
        if lines:
            means, places, half_widths = zip(*lines, strict=True)
            axes.errorbar(means, places, xerr=half_widths, fmt="none", ecolor="black", elinewidth=1.1, capsize=2)
    axes.set_yticks(range(len(methods)), [method["label"] for method in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("mean average precision in percent; line: 95 % t-interval over n seeds")
    handles = [Patch(label=name, **look) for name, look in _BARS.items()]
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0)
    _set_title(figure, data)


def _draw_classes(figure: Figure, data: dict[str, Any]) -> None:
    methods, places = data["methods"], range(len(data["classes"]))
    figure.set_figwidth(min(max(7.5, 1 + 0.135 * len(places)), 60))
    values = [[math.nan if value is None else value for value in method["values"]] for method in methods]
    if len(methods) <= MAX_OVERLAID:
        figure.set_figheight(5)
        panels = [figure.add_subplot()]
        _draw_overlaid(panels[0], methods, values)
    else:
        figure.set_figheight(2.4 + 0.85 * len(methods))
        panels = list(figure.subplots(len(methods), 1, sharex=True))
        _draw_panels(panels, methods, values)
    for axes in panels:
        axes.set_ylim(0, 103)
        axes.grid(visible=False, axis="x")
        _draw_group_borders(axes, [item["group"] for item in data["classes"]])
    _name_groups(panels[0], [item["group"] for item in data["classes"]], 4 if len(panels) == 1 else 15)
    bottom = panels[-1]
    bottom.set_xlim(-0.6, len(places) - 0.4)
    bottom.set_xticks(places, [item["label"] for item in data["classes"]], rotation=90, fontsize=7)
    bottom.set_xlabel("class (training images with it)")
    figure.supylabel("average precision in percent", fontsize=9)
    _set_title(figure, data)


def _draw_overlaid(axes: Axes, methods: list[dict[str, Any]], values: list[list[float]]) -> None:
    for index, line in enumerate(values):
        axes.plot(line, color=_COLORS[index], marker=_MARKERS[index], zorder=3 - index / 100, **_LINE)  # best on top
    # Texts set afterwards: a label with a leading underscore would be left out of the legend.
    legend = axes.figure.legend(
        axes.lines, [str(index) for index in range(len(methods))], loc="outside lower left", ncols=3
    )
    for text, method in zip(legend.get_texts(), methods, strict=True):
        text.set_text(method["label"])


def _draw_panels(panels: list[Axes], methods: list[dict[str, Any]], values: list[list[float]]) -> None:
    by_class = [
        [value for value in column if not math.isnan(value)] or [math.nan] for column in zip(*values, strict=True)
    ]
    lowest, highest = [min(column) for column in by_class], [max(column) for column in by_class]
    for axes, method, line in zip(panels, methods, values, strict=True):
        axes.fill_between(range(len(line)), lowest, highest, color="#dddddd", linewidth=0)
        axes.plot(line, color=_COLORS[0], marker=_MARKERS[0], **_LINE)
        axes.set_yticks([0, 50, 100])
        axes.xaxis.set_visible(axes is panels[-1])  # nothing of the others shows, and laying it out takes long
        # y is where it would be put anyway, after a long search for what it might cover.
        axes.set_title(method["label"], fontsize=8, pad=3, y=1)
    panels[-1].tick_params(axis="x", length=3)
    panels[-1].annotate(
        "grey: from the lowest to the highest of the methods shown", (1, 1), (0, 3), textcoords="offset points",
        xycoords="axes fraction", ha="right", fontsize=7, color="#555555",
    )  # fmt: skip


def _draw_group_borders(axes: Axes, groups: list[str]) -> None:
    for place in range(1, len(groups)):
        if groups[place] != groups[place - 1]:
            axes.axvline(place - 0.5, color="#555555", linewidth=0.8, linestyle=(0, (4, 3)))


def _name_groups(axes: Axes, groups: list[str], points_above: float) -> None:
    for group in dict.fromkeys(groups):
        middle = groups.index(group) + (groups.count(group) - 1) / 2
        axes.annotate(
            group, (middle, 1), (0, points_above), xycoords=axes.get_xaxis_transform(),
            textcoords="offset points", ha="center", color="#555555",
        )  # fmt: skip


_DRAW: dict[str, Callable[[Figure, dict[str, Any]], None]] = {"groups": _draw_groups, "classes": _draw_classes}
