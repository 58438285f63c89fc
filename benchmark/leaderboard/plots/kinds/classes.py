"""Average precision of each class, from the most training images to the fewest."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from benchmark.leaderboard.plots import content, layout, style
from benchmark.leaderboard.tables import Table
from benchmark.store.records import GROUPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

PLACE = 3
ALT = "Average precision of each class against its number of training images"
MAX_OVERLAID = 5  # more methods in one panel cannot be followed: one panel each
_COLUMNS, _PANEL, _LARGE = 2, 0.85, 2.4  # inches, title included
_ROOM = {1: 350.0, _COLUMNS: 165.0}  # columns -> points across a panel
_NAMED = {1: 42, _COLUMNS: 20}  # columns -> classes whose names have room below an axis
_NAME = 70.0  # points
_TICKS = {1: 9, _COLUMNS: 5}  # columns -> numbers of training images at an axis without names


def data(table: Table) -> dict[str, Any] | None:
    """The means of the best rows: of each class, and of each group."""
    rows = table.rows[: content.MAX_PANELS]
    names = content.class_names(table)
    methods = [
        {
            "label": content.label(row),
            "values": content.class_means(row, names),
            "groups": [content.mean(row.scores[group.capitalize()]) for group in GROUPS],
        }
        for row in rows
    ]
    return content.heading(table, len(rows)) | {"classes": content.classes(table, names), "methods": methods}


def draw(figure: Figure, data: dict[str, Any]) -> None:
    """All methods in one panel, or one panel each with the range of all methods behind."""
    methods, classes = data["methods"], data["classes"]
    overlaid = len(methods) <= MAX_OVERLAID
    columns = 1 if overlaid else _COLUMNS
    end = layout.up_to([value for method in methods for value in method["values"] if value is not None])
    lines = 1 if overlaid else math.ceil(len(methods) / columns)
    ticks, below = _ticks(classes, columns)
    height = (_LARGE if overlaid else _PANEL * lines) + below / layout.POINTS + 0.5
    notes = ["Line: mean of the group."]
    notes += [] if overlaid else ["Grey: from the lowest to the highest of the methods shown."]
    layout.page(figure, "Average precision of each class by its number of training images", data, height, notes)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes in panels.flat:
        axes.set(xlim=(-0.7, len(classes) - 0.3), xticks=[], ylim=(0, end))
        _borders(axes, classes)
    for axes in panels[0]:
        _group_names(axes, classes, _ROOM[columns])
    for axes in panels[:, 0]:
        axes.set_ylabel("AP (%)")
        axes.locator_params(axis="y", nbins=6 if overlaid else 3)
    for axes in panels[-1]:
        axes.set_xticks(*ticks, rotation=90 if below else 0)
        axes.set_xlabel("class (number of training images)" if below else "number of training images of the class")
    if overlaid:
        marks = [_points(panels[0, 0], data, index) for index in range(len(methods))]
        layout.legend(figure, [method["label"] for method in methods], marks)
        return
    for index, axes in enumerate(panels.flat):
        _ranges(axes, data)
        pad = style.TEXT + 5 if axes in panels[0] else None
        if index == len(methods):  # a panel with the range alone fills the last line
            axes.set_title("range of the methods shown", color=style.QUIET, pad=pad)
        else:
            axes.set_title(layout.fit(methods[index]["label"], _ROOM[columns], style.TEXT), pad=pad)
            _points(axes, data, index)


def _ticks(classes: list[dict[str, Any]], columns: int) -> tuple[tuple[list[int], list[str]], float]:
    """Places and labels along the classes, and the height of upright names in points; without room for names, some
    numbers of training images."""
    size = len(classes)
    if size <= _NAMED[columns]:
        names = [f"{layout.fit(item['label'], _NAME, style.SMALL)} ({item['count']})" for item in classes]
        return (list(range(size)), names), max(layout.width_of(name, style.SMALL) for name in names)
    shown = [round(index * (size - 1) / (_TICKS[columns] - 1)) for index in range(_TICKS[columns])]
    return (shown, [layout.number(classes[index]["count"]) for index in shown]), 0.0


def _runs(classes: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """(group, index of its first class, index after its last) of each group with classes, which are sorted by group."""
    sizes = [sum(item["group"] == group for item in classes) for group in GROUPS]
    ends = [0, *accumulate(sizes)]
    return [(group, a, b) for group, (a, b) in zip(GROUPS, pairwise(ends), strict=True) if a < b]


def _borders(axes: Axes, classes: list[dict[str, Any]]) -> None:
    axes.grid(visible=False, axis="x")
    for _, first, _ in _runs(classes)[1:]:
        axes.axvline(first - 0.5, color=style.QUIET, linewidth=0.7, linestyle=(0, (4, 3)))


def _group_names(axes: Axes, classes: list[dict[str, Any]], room: float) -> None:
    across = axes.get_xaxis_transform()
    for group, first, end in _runs(classes):
        if layout.width_of(group, style.TEXT) > room * (end - first) / len(classes):
            continue
        axes.text((first + end - 1) / 2, 1.02, group, color=style.QUIET, ha="center", va="bottom", transform=across)


def _ranges(axes: Axes, data: dict[str, Any]) -> None:
    """A bar for each class, from the lowest to the highest of all methods; not an area, as classes are no continuum."""
    columns = zip(*(method["values"] for method in data["methods"]), strict=True)
    known = [(place, [value for value in values if value is not None]) for place, values in enumerate(columns)]
    ends = [(place, min(values), max(values)) for place, values in known if values]
    if ends:
        places, lowest, highest = zip(*ends, strict=True)
        axes.vlines(places, lowest, highest, colors=style.BAND, linewidth=min(4.0, 100.0 / len(known)))


def _points(axes: Axes, data: dict[str, Any], index: int) -> Line2D:
    """A marker for each class, and a line at the mean of each group; returns the method's mark for a legend."""
    from matplotlib.lines import Line2D

    method = data["methods"][index]
    overlaid = len(data["methods"]) <= MAX_OVERLAID
    look = style.LOOKS[index if overlaid else 0]
    line = {"color": look.color, "linestyle": look.line} if overlaid else {"color": style.ACCENT}
    means = dict(zip(GROUPS, method["groups"], strict=True))
    for group, first, end in _runs(data["classes"]):
        mean = means[group]
        if mean is not None:
            axes.plot([first - 0.4, end - 0.6], [mean, mean], linewidth=1.1, **line)
    # Shifted, so that methods with equal values do not hide each other.
    shift = (index - (len(data["methods"]) - 1) / 2) * 0.13 if overlaid else 0.0
    places = [place + shift for place in range(len(method["values"]))]
    mark: dict[str, Any] = {"color": look.color, "markeredgecolor": "white", "markersize": 3.8}
    axes.plot(places, method["values"], look.marker, clip_on=False, zorder=3, **mark)
    return Line2D([], [], marker=look.marker, linewidth=1.1, **(mark | line))
