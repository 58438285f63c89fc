"""Average precision of each class and method as a map."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from benchmark.leaderboard.plots import content, style
from benchmark.leaderboard.plots.scales import Box
from benchmark.leaderboard.tables import Table
from benchmark.store.records import GROUPS

if TYPE_CHECKING:
    from benchmark.leaderboard.plots.sheet import Sheet

ALT = "Average precision of each method on each class, most frequent class first"
MAX_NAMED = 130  # classes
MAX_DRAWN = 700  # cells; more become pixels in the SVG too
_LABEL, _NAME_ROOM = 150.0, 100.0  # points
_ROW, _NARROWEST, _NAMED, _PRINTED = 15.0, 1.5, 9.0, 13.5
_DARK = 0.47  # of the scale: below, white letters stand out, from there on black ones (both at least 4.5 to 1)
_BREAK = 3.0  # between two groups


def data(table: Table) -> dict[str, Any] | None:
    """The means of the best rows, classes with the most training images first."""
    rows = table.rows[: content.MAX_ROWS]
    names = content.class_names(table)
    methods = [{"label": content.label(row), "values": content.class_means(row, names)} for row in rows]
    known = [value for method in methods for value in method["values"] if value is not None]
    if not known:
        return None
    # Up to the next ten, so that low scores can be told apart too.
    highest = min(100, max(10, 10 * math.ceil(max(known) / 10)))
    heading = content.heading(table, len(rows))
    return heading | {"classes": content.classes(table, names), "methods": methods, "highest": highest}


def draw(sheet: Sheet, data: dict[str, Any]) -> None:
    """The map, names around it, and the scale of colours below."""
    methods, classes = data["methods"], data["classes"]
    named = len(classes) <= MAX_NAMED
    labels = [sheet.wrap(method["label"], _LABEL, most=1) for method in methods]
    left = 2 * style.MARGIN + max(sheet.width_of(line) for lines in labels for line in lines or [""])
    room = sheet.width - left - 12
    cell = max(room / len(classes), _NAMED if named else _NARROWEST)
    cell = min(cell, 26.0)
    sizes = [sum(item["group"] == group for item in classes) for group in GROUPS]
    sizes = [size for size in sizes if size]
    sheet.width = max(sheet.width, left + cell * len(classes) + _BREAK * (len(sizes) - 1) + 12)
    top = sheet.head("Average precision of each class", data) + 10
    edges = _edges(left, cell, sizes)
    box = Box(left, top, edges[-1] + cell, top + _ROW * len(methods))
    for index, lines in enumerate(labels):
        sheet.text(left - style.MARGIN / 2, top + _ROW * (index + 0.5), (lines or [""])[0], ha="right")
    _cells(sheet, data, edges, cell, box)
    if cell >= _PRINTED:
        _values(sheet, data, edges, cell, box)
    _group_names(sheet, classes, edges, cell, top - 7)
    bottom = box.bottom + 4
    if named:
        bottom = _class_names(sheet, classes, [edge + cell / 2 for edge in edges], bottom)
    sheet.height = _color_bar(sheet, data, Box(left, bottom + 8, left + min(220.0, room), bottom + 16))


def _edges(left: float, cell: float, sizes: list[int]) -> list[float]:
    """The left edge of each class."""
    edges, x = [], left
    for size in sizes:
        edges += [x + cell * index for index in range(size)]
        x += cell * size + _BREAK
    return edges


def _cells(sheet: Sheet, data: dict[str, Any], edges: list[float], cell: float, box: Box) -> None:
    corners, colors, missing = [], [], []
    for row, method in enumerate(data["methods"]):
        top = box.top + _ROW * row
        for left, value in zip(edges, method["values"], strict=True):
            corner = Box(left, top, left + cell, top + _ROW).corners
            if value is None:
                missing.append(corner)
            else:
                corners.append(corner)
                colors.append(_color(value / data["highest"]))
    if len(corners) <= MAX_DRAWN:
        sheet.polygons(corners, face=colors)
    else:
        _pixels(sheet, data, edges, cell, box)
    sheet.polygons(missing, face="#eeeeee", edge="#999999", hatch="//////", width=0.3)


def _pixels(sheet: Sheet, data: dict[str, Any], edges: list[float], cell: float, box: Box) -> None:
    import numpy as np

    starts = [0] + [i for i, (a, b) in enumerate(pairwise(edges), 1) if b - a > cell + _BREAK / 2] + [len(edges)]
    for first, end in pairwise(starts):
        rows = [method["values"][first:end] for method in data["methods"]]
        colors = [[_color((value or 0.0) / data["highest"]) for value in row] for row in rows]
        part = Box(edges[first], box.top, edges[end - 1] + cell, box.bottom)
        sheet.image(part, np.array(colors))


def _values(sheet: Sheet, data: dict[str, Any], edges: list[float], cell: float, box: Box) -> None:
    for row, method in enumerate(data["methods"]):
        y = box.top + _ROW * (row + 0.5)
        for left, value in zip(edges, method["values"], strict=True):
            if value is not None:
                color = "#ffffff" if value / data["highest"] < _DARK else style.INK
                sheet.text(left + cell / 2, y, f"{value:.0f}", size=6.5, color=color, ha="center")


def _group_names(sheet: Sheet, classes: list[dict[str, Any]], edges: list[float], cell: float, y: float) -> None:
    for group in GROUPS:
        mine = [edge for edge, item in zip(edges, classes, strict=True) if item["group"] == group]
        if mine:
            room = mine[-1] + cell - mine[0] + _BREAK
            sheet.text((mine[0] + mine[-1] + cell) / 2, y, group, color=style.QUIET, ha="center", room=room)


def _class_names(sheet: Sheet, classes: list[dict[str, Any]], middles: list[float], top: float) -> float:
    texts = [f"{item['label']} ({item['count']})" for item in classes]
    for x, text in zip(middles, texts, strict=True):
        sheet.text(x, top, text, size=style.SMALL, ha="right", upright=True, room=_NAME_ROOM)
    return top + min(_NAME_ROOM, max(sheet.width_of(text, style.SMALL) for text in texts))


def _color_bar(sheet: Sheet, data: dict[str, Any], box: Box) -> float:
    steps = 40
    width = (box.right - box.left) / steps
    lefts = [box.left + width * index for index in range(steps)]
    # A little wider than a step: no gap between two.
    corners = [Box(x, box.top, min(x + width + 0.3, box.right), box.bottom).corners for x in lefts]
    sheet.polygons(corners, face=[_color((index + 0.5) / steps) for index in range(steps)])
    for part in range(3):
        x = box.left + (box.right - box.left) * part / 2
        sheet.text(x, box.bottom + 7, f"{data['highest'] * part / 2:g}", size=style.SMALL, ha="center")
    text = "average precision in percent, mean over seeds"
    if any(value is None for method in data["methods"] for value in method["values"]):
        text += "; hatched: no value"
    sheet.text(box.left, box.bottom + 18, text, size=style.SMALL)
    return box.bottom + 28


@lru_cache(maxsize=1)
def _palette() -> list[tuple[float, float, float]]:
    import matplotlib

    return [tuple(color[:3]) for color in matplotlib.colormaps[style.HEAT].resampled(256)(range(256)).tolist()]


def _color(share: float) -> tuple[float, float, float]:
    return _palette()[min(255, int(share * 256))]
