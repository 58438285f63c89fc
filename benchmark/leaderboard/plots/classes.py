"""Average precision of each class against its number of training images."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from benchmark.leaderboard.plots import content, style
from benchmark.leaderboard.plots.scales import Box, Scale, logarithmic, spread
from benchmark.leaderboard.tables import Table
from benchmark.store.records import GROUPS

if TYPE_CHECKING:
    from benchmark.leaderboard.plots.sheet import Sheet

ALT = "Average precision of each class against its number of training images"
MAX_OVERLAID = 5  # more methods in one panel cannot be followed: one panel each
MAX_NAMED = 26  # classes whose names have room below the axis
_NAME_ROOM = 90.0
_LEFT = 38.0  # points
_COLUMNS, _HEIGHT, _GAP = 2, 66.0, 16.0
_RANGE = "from the lowest to the highest of the methods shown"


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


def borders(classes: list[dict[str, Any]]) -> list[float]:
    """Numbers of training images between two groups: halfway, on a logarithmic scale, between the smallest count of
    one and the largest of the next. No border where groups do not follow from counts."""
    counts = [[item["count"] for item in classes if item["group"] == group] for group in GROUPS]
    pairs = [(min(upper), max(lower)) for upper, lower in pairwise(filter(None, counts))]
    return [math.sqrt(upper * max(lower, 0.5)) for upper, lower in pairs if upper > lower]


def draw(sheet: Sheet, data: dict[str, Any]) -> None:
    """All methods in one panel, or one panel each before the range of all."""
    top = sheet.head("Average precision of each class by its number of training images", data)
    if len(data["methods"]) <= MAX_OVERLAID:
        _overlaid(sheet, data, top)
    else:
        _panels(sheet, data, top)


def _overlaid(sheet: Sheet, data: dict[str, Any], top: float) -> None:
    methods = data["methods"]
    looks = style.LOOKS[: len(methods)]
    for method, look in zip(methods, looks, strict=True):
        ends = [(style.MARGIN, top), (style.MARGIN + 24, top)]
        sheet.lines([ends], color=look.color, width=1.2, dashes=look.dashes)
        sheet.points([(style.MARGIN + 12, top)], look.marker, face=look.color, size=5)
        sheet.text(style.MARGIN + 29, top, method["label"], room=sheet.width - 2 * style.MARGIN - 29)
        top += 11
    panel = _Panel(sheet, data, Box(_LEFT, top + 14, sheet.width - 12, top + 264))
    panel.frame(numbers=True, group_names=True)
    for method, look in zip(methods, looks, strict=True):
        panel.group_means(method, look)
    for index, (method, look) in enumerate(zip(methods, looks, strict=True)):
        # Beside each other: methods that agree on a class must not hide each other.
        panel.points(method, look, shift=(index - (len(methods) - 1) / 2) * 2.4)
    _explain(sheet, "line: mean of the group", panel.foot())


def _panels(sheet: Sheet, data: dict[str, Any], top: float) -> None:
    width = (sheet.width - _LEFT - 12 - _GAP) / _COLUMNS
    bottoms = []
    methods: list[dict[str, Any] | None] = list(data["methods"])
    if len(methods) % _COLUMNS:
        methods.append(None)  # the range alone: so the columns end at one height
    for index, method in enumerate(methods):
        row, column = divmod(index, _COLUMNS)
        left, upper = _LEFT + column * (width + _GAP), top + 20 + row * (_HEIGHT + 18)
        panel = _Panel(sheet, data, Box(left, upper, left + width, upper + _HEIGHT))
        panel.ranges()
        panel.frame(numbers=column == 0, group_names=row == 0)
        if method is not None:
            panel.group_means(method, style.Look(style.LOOKS[1].color, ""))
            panel.points(method, style.LOOKS[0])
        label, color = (_RANGE, style.QUIET) if method is None else (method["label"], style.INK)
        sheet.text(left, upper - (17 if row == 0 else 7), label, color=color, room=width)
        if index + _COLUMNS >= len(methods):  # no panel below it
            bottoms.append(panel.foot())
    _explain(sheet, f"grey: {_RANGE}; line: mean of the group", max(bottoms))


def _explain(sheet: Sheet, text: str, y: float) -> None:
    sheet.text(sheet.width - 12, y + 2, text, size=style.SMALL, color=style.QUIET, ha="right")
    sheet.height = y + 12


class _Panel:
    """One panel: number of training images to the right, average precision upwards."""

    def __init__(self, sheet: Sheet, data: dict[str, Any], box: Box):
        self._sheet, self._data, self._box = sheet, data, box
        self._counts = [item["count"] for item in data["classes"]]
        self._x = logarithmic(self._counts, box.left + 6, box.right - 6)
        self._y = Scale(0, 100, box.bottom, box.top)
        self._edges = [self._x(count) for count in borders(data["classes"])]

    def frame(self, numbers: bool, group_names: bool) -> None:
        """Axes and the borders between the groups."""
        box, edges = self._box, self._edges
        self._sheet.axes(box, x=self._x, y=self._y, labels="y" if numbers else "")
        if numbers:
            at = (box.top + box.bottom) / 2
            self._sheet.text(10, at, "AP in percent", size=style.SMALL, ha="center", upright=True)
        self._sheet.lines([[(x, box.top), (x, box.bottom)] for x in edges], color=style.QUIET, width=0.8, dashes=(4, 3))
        # From the tail on, left to right, as the counts are.
        shown = [group for group in reversed(GROUPS) if any(c["group"] == group for c in self._data["classes"])]
        if group_names and len(edges) == len(shown) - 1:
            ends = [box.left, *reversed(edges), box.right]
            for group, (left, right) in zip(shown, pairwise(ends), strict=True):
                self._sheet.text((left + right) / 2, box.top - 6, group, color=style.QUIET, ha="center")

    def ranges(self) -> None:
        """A bar for each class, from the lowest of all methods to the highest: classes are no continuum."""
        bars = set()
        for index, count in enumerate(self._counts):
            values = [method["values"][index] for method in self._data["methods"]]
            known = [value for value in values if value is not None]
            if known:
                bars.add((self._x(count), self._y(min(known)), self._y(max(known))))
        room = (self._box.right - self._box.left) / len(set(self._counts))
        segments = [[(x, low), (x, high)] for x, low, high in sorted(bars)]
        self._sheet.lines(segments, color=style.BAND, width=min(4.0, max(1.2, 0.6 * room)))

    def group_means(self, method: dict[str, Any], look: style.Look) -> None:
        """A line at the mean of each group, as far as its classes reach."""
        lines = []
        for group, value in zip(GROUPS, method["groups"], strict=True):
            counts = [item["count"] for item in self._data["classes"] if item["group"] == group]
            if value is not None and counts:
                first, last = self._x(min(counts)), self._x(max(counts))
                # A little further, but not over a border.
                left = max([first - 4, *(edge + 1 for edge in self._edges if edge <= first)])
                right = min([last + 4, *(edge - 1 for edge in self._edges if edge >= last)])
                lines.append([(left, self._y(value)), (right, self._y(value))])
        self._sheet.lines(lines, color=look.color, width=1.2, dashes=look.dashes)

    def points(self, method: dict[str, Any], look: style.Look, shift: float = 0.0) -> None:
        """A marker for each class."""
        places = [
            (self._x(count) + shift, self._y(value))
            for count, value in zip(self._counts, method["values"], strict=True)
            if value is not None
        ]
        self._sheet.points(places, look.marker, face=look.color, size=4.2)

    def foot(self) -> float:
        """Numbers, and the names of classes where they have room; returns where it ends."""
        sheet, box = self._sheet, self._box
        sheet.axes(box, x=self._x, grid="", labels="x")
        bottom = box.bottom + 14
        if len(self._counts) <= MAX_NAMED:
            bottom = self._names(bottom)
        text = "number of training images of the class"
        sheet.text((box.left + box.right) / 2, bottom + 8, text, ha="center")
        return bottom + 18

    def _names(self, top: float) -> float:
        classes = sorted(self._data["classes"], key=lambda item: item["count"])
        true = [self._x(item["count"]) for item in classes]
        places = spread(true, 8.2, self._box.left, self._box.right + 6)
        leaders = [[(x, top), (place, top + 9)] for x, place in zip(true, places, strict=True)]
        self._sheet.lines(leaders, color=style.THIN, width=0.5)
        for place, item in zip(places, classes, strict=True):
            self._sheet.text(
                place, top + 11, item["label"], size=style.SMALL, ha="right", upright=True, room=_NAME_ROOM
            )
        longest = max(self._sheet.width_of(item["label"], style.SMALL) for item in classes)
        return top + 14 + min(longest, _NAME_ROOM)
