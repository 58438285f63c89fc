"""Overall, head, medium and tail of each method as bars with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.leaderboard.plots import content, style
from benchmark.leaderboard.plots.scales import Box, Scale, whisker
from benchmark.leaderboard.rows import METRICS
from benchmark.leaderboard.tables import Table

if TYPE_CHECKING:
    from benchmark.leaderboard.plots.sheet import Sheet

ALT = "Mean average precision of each method: overall, head, medium, tail"
_BAR = 6.5  # points
_PITCH = 33.0
_LABEL = 170.0


def data(table: Table) -> dict[str, Any] | None:
    """The scores of the best rows."""
    rows = table.rows[: content.MAX_ROWS]
    methods = [
        {
            "label": content.label(row),
            "n": row.n,
            "bars": {name: content.interval(row.scores[name]) for name in METRICS},
        }
        for row in rows
    ]
    return content.heading(table, len(rows)) | {"methods": methods}


def draw(sheet: Sheet, data: dict[str, Any]) -> None:
    """A block of four bars a method."""
    top = sheet.head("Mean average precision", data)
    methods = data["methods"]
    labels = [sheet.wrap(method["label"], _LABEL, most=2) for method in methods]
    left = 2 * style.MARGIN + max(40.0, *(sheet.width_of(line) for lines in labels for line in lines))
    box = Box(left, top + 14, sheet.width - 14, top + 14 + _PITCH * len(methods))
    scale = Scale(0, 100, box.left, box.right)
    _key(sheet, box.left, top)
    sheet.axes(box, x=scale, grid="x", room=34)
    middles = [box.top + _PITCH * (place + 0.5) for place in range(len(methods))]
    for y, method, lines in zip(middles, methods, labels, strict=True):
        lines = [*lines, f"n = {method['n']}"]
        for index, line in enumerate(lines):
            color = style.QUIET if index == len(lines) - 1 else style.INK
            at = y + (index - (len(lines) - 1) / 2) * 9.5
            sheet.text(box.left - style.MARGIN, at, line, color=color, ha="right")
    for index, name in enumerate(style.BARS):
        _bars(sheet, scale, [y + (index - 1.5) * _BAR for y in middles], [m["bars"][name] for m in methods], name)
    lines = ["mean average precision in percent; line: 95 % interval over seeds and test images"]
    known = [value for method in methods for value in method["bars"].values() if value is not None]
    if any(method["n"] == 1 for method in methods):
        lines.append("the line of a single run: over test images alone")
    if any(half_width is not None and len(whisker(mean, half_width)[2]) < 2 for mean, half_width in known):
        lines.append("an interval without a cap goes on beyond 0 or 100")
    for index, text in enumerate(lines):
        sheet.text((box.left + box.right) / 2, box.bottom + 21 + 11 * index, text, ha="center")
    sheet.height = box.bottom + 21 + 11 * len(lines)


def _key(sheet: Sheet, x: float, y: float) -> None:
    for name, look in style.BARS.items():
        sheet.polygons([Box(x, y - 3.5, x + 14, y + 3.5).corners], edge=style.BAR_EDGE, **look)
        sheet.text(x + 18, y, name)
        x += 18 + sheet.width_of(name) + 14


def _bars(sheet: Sheet, scale: Scale, middles: list[float], values: list[list[float] | None], name: str) -> None:
    bars, whiskers = [], []
    for y, value in zip(middles, values, strict=True):
        if value is None:
            sheet.text(scale.start + 3, y, "–", size=style.SMALL)
            continue
        mean, half_width = value
        bars.append(Box(scale(0), y - _BAR / 2, scale(mean), y + _BAR / 2).corners)
        if half_width is not None:
            low, high, ends = whisker(mean, half_width)
            caps = [[(scale(end), y - 1.8), (scale(end), y + 1.8)] for end in ends]
            whiskers += [[(scale(low), y), (scale(high), y)], *caps]
    sheet.polygons(bars, edge=style.BAR_EDGE, **style.BARS[name])
    sheet.lines(whiskers, color=style.INK, width=1.0)
