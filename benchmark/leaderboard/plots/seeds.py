"""The score of each seed: what the mean of a row is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.leaderboard.plots import content, style
from benchmark.leaderboard.plots.scales import Box, linear
from benchmark.leaderboard.rows import METRICS
from benchmark.leaderboard.tables import Table

if TYPE_CHECKING:
    from benchmark.leaderboard.plots.sheet import Sheet

ALT = "Overall, head, medium and tail mAP of each seed"
_PITCH, _LABEL, _GAP = 15.0, 150.0, 12.0


def data(table: Table) -> dict[str, Any] | None:
    """Every seed's scores, and their means, of the best rows; None where no row has two seeds."""
    if all(row.n == 1 for row in table.rows):
        return None
    rows = table.rows[: content.MAX_ROWS]
    methods = [
        {
            "label": content.label(row),
            "seeds": {
                name: [content.rounded(getattr(record.metrics, key)) for record in row.records]
                for name, key in METRICS.items()
            },
            "means": {name: content.mean(row.scores[name]) for name in METRICS},
        }
        for row in rows
    ]
    return content.heading(table, len(rows)) | {"methods": methods}


def draw(sheet: Sheet, data: dict[str, Any]) -> None:
    """A column for each mean, a line for each method."""
    methods = data["methods"]
    top = sheet.head("Scores of the single seeds", data) + 12
    labels = [sheet.wrap(method["label"], _LABEL, most=1) for method in methods]
    left = 2 * style.MARGIN + max(sheet.width_of(line) for lines in labels for line in lines or [""])
    bottom = top + _PITCH * len(methods)
    middles = [top + _PITCH * (index + 0.5) for index in range(len(methods))]
    for y, lines in zip(middles, labels, strict=True):
        sheet.text(left - style.MARGIN, y, (lines or [""])[0], ha="right")
    names = list(style.BARS)
    width = (sheet.width - left - 14 - _GAP * (len(names) - 1)) / len(names)
    for index, name in enumerate(names):
        start = left + index * (width + _GAP)
        _column(sheet, methods, name, Box(start, top, start + width, bottom), middles)
    text = "mean average precision in percent; circle: one seed, line: their mean"
    sheet.text((left + sheet.width - 14) / 2, bottom + 21, text, ha="center")
    sheet.height = bottom + 31


def _column(sheet: Sheet, methods: list[dict[str, Any]], name: str, box: Box, middles: list[float]) -> None:
    sheet.text(box.left, box.top - 7, name)
    rules = [[(box.left, y), (box.right, y)] for y in middles]
    sheet.lines(rules, color=style.GRID, width=0.6)
    known = [value for method in methods for value in method["seeds"][name] if value is not None]
    if not known:
        sheet.text((box.left + box.right) / 2, (box.top + box.bottom) / 2, "–", ha="center")
        return
    scale = linear(known, box.left + 4, box.right - 4, most=100)
    sheet.axes(box, x=scale, grid="x")
    points, ticks = [], []
    for y, method in zip(middles, methods, strict=True):
        points += [(scale(value), y) for value in method["seeds"][name] if value is not None]
        mean = method["means"][name]
        if mean is not None:
            ticks.append([(scale(mean), y - 5), (scale(mean), y + 5)])
    sheet.lines(ticks, color=style.LOOKS[1].color, width=1.6)
    sheet.points(points, "o", face="none", size=4.4, edge=style.INK, width=0.7)
