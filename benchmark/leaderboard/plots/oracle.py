"""What choosing the epoch on the test set would have claimed: never ranked, only set against the honest number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.leaderboard.plots import content, style
from benchmark.leaderboard.plots.scales import Box, linear
from benchmark.leaderboard.tables import Table
from benchmark.ui.progress import plural

if TYPE_CHECKING:
    from benchmark.leaderboard.plots.sheet import Sheet

ALT = "Overall mAP of the epoch that is best on the test set, and how far it is from the honest number"
_PITCH, _LABEL = 18.0, 150.0


def data(table: Table) -> dict[str, Any] | None:
    """Honest score, oracle and gap of the best rows that have an oracle."""
    known = [row for row in table.rows if row.oracle is not None and row.oracle_gap is not None]
    if not known:
        return None
    rows = known[: content.MAX_ROWS]
    methods = [
        {
            "label": content.label(row),
            "n": row.n,
            "honest": content.mean(row.scores["Overall"]),
            "oracle": content.mean(row.oracle),
            "gap": content.interval(row.oracle_gap),
        }
        for row in rows
    ]
    left_out = len(table.rows) - len(known)
    missing = f"{plural(left_out, 'row')} without an oracle left out" if left_out else ""
    return content.heading(table, len(rows), len(known), missing) | {"methods": methods}


def draw(sheet: Sheet, data: dict[str, Any]) -> None:
    """To the left both numbers of a method, to the right their difference."""
    methods = data["methods"]
    top = sheet.head("Best epoch on the test set (oracle, never ranked) against the honest number", data)
    sheet.points([(style.MARGIN + 5, top)], "o", face=style.INK, size=5)
    sheet.text(style.MARGIN + 13, top, "honest")
    sheet.points([(style.MARGIN + 59, top)], "o", face="white", edge=style.INK, width=0.9, size=5)
    sheet.text(style.MARGIN + 67, top, "oracle: the best epoch of each seed, chosen on the test set")
    top += 14
    labels = [sheet.wrap(method["label"], _LABEL - 30, most=1) for method in methods]
    left = 2 * style.MARGIN + _LABEL
    bottom = top + _PITCH * len(methods)
    middles = [top + _PITCH * (index + 0.5) for index in range(len(methods))]
    for y, lines, method in zip(middles, labels, methods, strict=True):
        number = f"n = {method['n']}"
        sheet.text(left - style.MARGIN, y, number, color=style.QUIET, ha="right", size=style.SMALL)
        sheet.text(left - style.MARGIN - 30, y, (lines or [""])[0], ha="right")
    middle = left + (sheet.width - left) * 0.52
    _scores(sheet, methods, Box(left, top, middle, bottom), middles)
    _gaps(sheet, methods, Box(middle + 20, top, sheet.width - 14, bottom), middles)
    sheet.height = bottom + 31


def _scores(sheet: Sheet, methods: list[dict[str, Any]], box: Box, middles: list[float]) -> None:
    values = [method[name] for method in methods for name in ("honest", "oracle") if method[name] is not None]
    scale = linear(values, box.left + 4, box.right - 4, most=100)
    sheet.axes(box, x=scale, grid="x")
    for name, face in (("oracle", "white"), ("honest", style.INK)):
        places = [(scale(m[name]), y) for m, y in zip(methods, middles, strict=True) if m[name] is not None]
        if name == "oracle":
            joined = [
                [(scale(m["honest"]), y), (scale(m["oracle"]), y)]
                for m, y in zip(methods, middles, strict=True)
                if m["honest"] is not None
            ]
            sheet.lines(joined, color=style.QUIET, width=0.8)
        sheet.points(places, "o", face=face, edge=style.INK, width=0.9, size=5)
    sheet.text((box.left + box.right) / 2, box.bottom + 21, "overall mAP in percent", ha="center")


def _gaps(sheet: Sheet, methods: list[dict[str, Any]], box: Box, middles: list[float]) -> None:
    gaps = [method["gap"] for method in methods]
    ends = [mean + sign * (half_width or 0.0) for mean, half_width in gaps for sign in (-1, 1)]
    scale = linear([0.0, *ends], box.left + 4, box.right - 4)
    sheet.axes(box, x=scale, grid="x")
    sheet.lines([[(scale(0), box.top), (scale(0), box.bottom)]], color=style.QUIET, width=0.8)
    whiskers = []
    for (mean, half_width), y in zip(gaps, middles, strict=True):
        if half_width is not None:
            low, high = scale(mean - half_width), scale(mean + half_width)
            whiskers += [[(low, y), (high, y)], *([(end, y - 2.5), (end, y + 2.5)] for end in (low, high))]
    sheet.lines(whiskers, color=style.INK, width=1.0)
    places = [(scale(mean), y) for (mean, _), y in zip(gaps, middles, strict=True)]
    sheet.points(places, "D", face=style.LOOKS[1].color, size=4.6)
    text = "gap in points; 95 % interval over seeds"
    sheet.text((box.left + box.right) / 2, box.bottom + 21, text, ha="center")
