"""Average precision of each class and method as a map."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.leaderboard.plots import content, layout, style
from benchmark.leaderboard.tables import Table
from benchmark.store.records import GROUPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

PLACE = 4
ALT = "Average precision of each method on each class, most frequent class first"
MAX_NAMED = 130  # classes
MAX_DRAWN = 700  # cells; more become pixels in the SVG too
_ROW = 0.18  # inches
_LABEL, _NAME = 100.0, 90.0  # points of names beside and below
_NARROWEST, _NAMED, _PRINTED = 1.5, 8.5, 11.5  # points of a cell; of one with a name, of one with its number
DARK = 0.47  # of the scale: white letters below it, black ones above, so that contrast is at least 4.5 to 1
_PRINT = 6.0  # points


def data(table: Table) -> dict[str, Any] | None:
    """The means of the best rows, classes with the most training images first."""
    rows = table.rows[: content.MAX_ROWS]
    names = content.class_names(table)
    means = [content.class_means(row, names) for row in rows]
    methods = [{"label": content.label(row), "values": values} for row, values in zip(rows, means, strict=True)]
    known = [value for values in means for value in values if value is not None]
    if not known:
        return None
    # Up to the next ten, so that the colours of low scores differ too.
    highest = min(100, max(10, 10 * math.ceil(max(known) / 10)))
    heading = content.heading(table, len(rows))
    return heading | {"classes": content.classes(table, names), "methods": methods, "highest": highest}


def draw(figure: Figure, data: dict[str, Any]) -> None:
    """A map for each group, side by side, and the scale of colours below."""
    methods, classes = data["methods"], data["classes"]
    values = np.array([method["values"] for method in methods], dtype=float)  # NaN where there is none
    labels = [layout.fit(method["label"], _LABEL, style.SMALL) for method in methods]
    names = [f"{layout.fit(item['label'], _NAME, style.SMALL)} ({item['count']})" for item in classes]
    named = len(classes) <= MAX_NAMED
    room = style.WIDTH * layout.POINTS - max(layout.width_of(label, style.SMALL) for label in labels) - 32
    cell = max(room / len(classes), _NAMED if named else _NARROWEST)
    below = max(layout.width_of(name, style.SMALL) for name in names) if named else 0.0
    notes = ["In brackets: number of training images."] if named else []
    notes += ["Hatched: no value."] if np.isnan(values).any() else []
    width = style.WIDTH + (cell * len(classes) - room) / layout.POINTS
    height = _ROW * len(methods) + below / layout.POINTS + 0.75
    layout.page(figure, "Average precision of each class", data, height, notes, width)
    sizes = [sum(item["group"] == group for item in classes) for group in GROUPS]
    groups = [(group, size) for group, size in zip(GROUPS, sizes, strict=True) if size]
    maps = figure.subplots(1, len(groups), sharey=True, squeeze=False, width_ratios=[size for _, size in groups])[0]
    first = 0
    for axes, (group, size) in zip(maps, groups, strict=True):
        some = slice(first, first + size)
        colors = _map(axes, values[:, some], data["highest"], edges=cell >= _NAMED, printed=cell >= _PRINTED)
        if layout.width_of(group, style.TEXT) <= cell * size:
            axes.set_title(group, loc="center", color=style.QUIET)
        axes.set_xticks(range(size) if named else [], names[some] if named else [], rotation=90)
        axes.tick_params(length=0)
        first += size
    layout.rows(maps[0], labels, _LABEL)
    bar = figure.colorbar(colors, ax=maps, location="bottom", aspect=40, shrink=0.6, pad=0.02, anchor=(0.0, 1.0))
    bar.outline.set_visible(False)
    bar.set_label("average precision (%), mean over seeds")


def _map(axes: Axes, values: np.ndarray, highest: float, *, edges: bool, printed: bool) -> QuadMesh:
    """The colours of one group, with their numbers where these have room."""
    borders = [np.arange(size + 1) - 0.5 for size in values.shape[::-1]]
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    if np.isnan(values).any():
        axes.patch.set(facecolor="#eeeeee", edgecolor="#999999", hatch="//////", linewidth=0.0)
    look: dict[str, Any] = {"edgecolors": "white", "linewidth": 0.5} if edges else {}
    if values.size > MAX_DRAWN:
        look["rasterized"] = True
    colors = axes.pcolormesh(*borders, np.ma.masked_invalid(values), cmap=style.HEAT, vmin=0, vmax=highest, **look)
    for (row, column), value in np.ndenumerate(values) if printed else ():
        if not np.isnan(value):
            color = "white" if value / highest < DARK else style.INK
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center", color=color, fontsize=_PRINT, in_layout=False
            )
    return colors
