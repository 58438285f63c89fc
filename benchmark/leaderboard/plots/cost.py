"""Accuracy against what it takes: training time, and trained parameters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmark.leaderboard.plots import content, style
from benchmark.leaderboard.plots.scales import Box, Scale, linear, spanning, whisker
from benchmark.leaderboard.tables import Table
from benchmark.ui.progress import plural

if TYPE_CHECKING:
    from benchmark.leaderboard.plots.sheet import Sheet

ALT = "Overall mean average precision against training time and against trained parameters"
_UNITS = [(1.0, "s"), (60.0, "min"), (3600.0, "h")]
_KEY_PITCH = 10.5  # points
_DISTANCES = (0.0, 7.0, 14.0, 22.0, 31.0, 41.0, 52.0, 64.0, 80.0, 100.0)  # of a number from its point


def data(table: Table) -> dict[str, Any] | None:
    """Score, training time and trained parameters (means over seeds) of the best rows that have a score."""
    scored = [row for row in table.rows if row.scores["Overall"] is not None]
    rows = scored[: content.MAX_ROWS]
    if len(rows) < 2:
        return None
    devices = list(dict.fromkeys(content.short(row.device, 60) for row in rows))
    methods = [
        {
            "label": content.label(row),
            "overall": content.interval(row.scores["Overall"]),
            "train_s": content.rounded(row.train_s),
            "trained": round(sum(record.parameters.trained for record in row.records) / row.n),
            "device": devices.index(content.short(row.device, 60)),
        }
        for row in rows
    ]
    left_out = len(table.rows) - len(scored)
    missing = f"{plural(left_out, 'row')} without a score left out" if left_out else ""
    heading = content.heading(table, len(rows), len(scored), missing)
    return heading | {"devices": devices, "methods": methods}


def draw(sheet: Sheet, data: dict[str, Any]) -> None:
    """Two panels with one y axis; a method is a number, named below."""
    methods, devices = data["methods"], data["devices"]
    top = sheet.head("Accuracy against cost", data)
    top = _devices(sheet, devices, top)
    intervals = [whisker(*method["overall"]) for method in methods if method["overall"][1] is not None]
    ends = [end for low, high, _ in intervals for end in (low, high)] + [method["overall"][0] for method in methods]
    gap = 20.0
    width = (sheet.width - 38 - 12 - gap) / 2
    longest = max(method["train_s"] for method in methods)
    unit, unit_name = next(((s, n) for s, n in reversed(_UNITS) if longest >= 2 * s), _UNITS[0])
    one = len(devices) == 1
    panels = [
        ([method["train_s"] / unit for method in methods],
         f"training time in {unit_name}" + (f", {devices[0]}" if one else ", on different devices: see the markers")),
        ([method["trained"] / 1e6 for method in methods], "trained parameters in millions"),
    ]  # fmt: skip
    for index, (values, text) in enumerate(panels):
        left = 38 + index * (width + gap)
        box = Box(left, top + 4, left + width, top + 244)
        x = spanning(values, box.left + 8, box.right - 8)
        y = linear(ends, box.bottom, box.top, most=100)
        sheet.axes(box, x=x, y=y, grid="xy", labels="xy" if index == 0 else "x", room=26)
        places = [(x(value), y(method["overall"][0])) for value, method in zip(values, methods, strict=True)]
        if index == 0:  # in the other panel many stand at the same place: their intervals would merge
            sheet.lines(_whiskers(places, methods, y), color=style.FAINT, width=0.8)
        for device in range(len(devices)):
            look = _look(device)
            mine = [place for place, method in zip(places, methods, strict=True) if method["device"] == device]
            sheet.points(mine, look.marker, face=look.color, size=5)
        _numbers(sheet, places, box)
        text += " (logarithmic)" if x.log else ""
        text += "; intervals: left panel" if index == 1 and intervals else ""
        sheet.text((box.left + box.right) / 2, box.bottom + 21, text, ha="center", size=style.SMALL, room=width + 20)
    text = "overall mAP in percent" + (", 95 % interval" if intervals else "")
    sheet.text(10, top + 124, text, size=style.SMALL, ha="center", upright=True)
    sheet.height = _key(sheet, methods, top + 284)


def _look(device: int) -> style.Look:
    return style.LOOKS[min(device, len(style.LOOKS) - 1)]


def _whiskers(
    places: Sequence[tuple[float, float]], methods: Sequence[dict[str, Any]], y: Scale
) -> list[list[tuple[float, float]]]:
    """The intervals, with a cap at each end that is not cut."""
    lines = []
    for (x, _), method in zip(places, methods, strict=True):
        mean, half_width = method["overall"]
        if half_width is not None:
            low, high, ends = whisker(mean, half_width)
            lines += [[(x, y(low)), (x, y(high))], *([(x - 1.8, y(end)), (x + 1.8, y(end))] for end in ends)]
    return lines


def _devices(sheet: Sheet, devices: Sequence[str], y: float) -> float:
    if len(devices) == 1:
        return y
    shown = list(devices[: len(style.LOOKS)])
    if len(devices) > len(shown):
        shown[-1] = "other devices"
    for device, name in enumerate(shown):
        sheet.points([(style.MARGIN + 5, y)], _look(device).marker, face=_look(device).color, size=5)
        sheet.text(style.MARGIN + 13, y, name, room=sheet.width - 4 * style.MARGIN)
        y += 11
    return y + 3


def _key(sheet: Sheet, methods: Sequence[dict[str, Any]], top: float) -> float:
    """Number and name of each method, in two columns."""
    lines = math.ceil(len(methods) / 2)
    width = (sheet.width - 2 * style.MARGIN) / 2
    for index, method in enumerate(methods):
        column, line = divmod(index, lines)
        x, y = style.MARGIN + column * width, top + line * _KEY_PITCH
        sheet.text(x + 14, y, str(index + 1), ha="right")
        sheet.text(x + 20, y, method["label"], room=width - 28)
    return top + lines * _KEY_PITCH + 4


def _numbers(sheet: Sheet, places: Sequence[tuple[float, float]], box: Box) -> None:
    """The number of each point, where it covers no point and no other number and is nearest to its own point; from
    further away with a line."""
    points = [_around(x, y, 5.0, 5.0) for x, y in places]
    numbers: list[Box] = []
    leaders: list[list[tuple[float, float]]] = []
    drawn: list[list[tuple[float, float]]] = []
    for place, members in _together(places):
        text = _ranges(members)
        width = sheet.width_of(text, style.SMALL) + 1.5
        others = [other for number, other in enumerate(places, 1) if number not in members]
        at, leader = _free(place, others, width, box, points, numbers, leaders)
        numbers.append(_around(*at, width, 7.5))
        if leader:
            leaders.append(leader)
            drawn.append([place, _before(place, at, numbers[-1])])
        sheet.text(*at, text, size=style.SMALL, ha="center")
    sheet.lines(drawn, color=style.QUIET, width=0.4)


def _together(places: Sequence[tuple[float, float]]) -> list[tuple[tuple[float, float], list[int]]]:
    """Points that cover each other, as (place, numbers): they share a text."""
    found: list[tuple[tuple[float, float], list[int]]] = []
    for number, place in enumerate(places, 1):
        near = next((members for other, members in found if math.dist(place, other) < 2.0), None)
        if near is None:
            found.append((place, [number]))
        else:
            near.append(number)
    return found


def _ranges(numbers: Sequence[int]) -> str:
    """`1, 3–5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]}{'–' if len(run) > 2 else ', '}{run[-1]}" for run in runs]
    return ", ".join(parts)


def _free(
    place: tuple[float, float], others: Sequence[tuple[float, float]], width: float, box: Box, points: list[Box],
    numbers: list[Box], leaders: list,
) -> tuple[tuple[float, float], list[tuple[float, float]]]:  # fmt: skip
    """Where a text of a point stands, and the line to it, if it is not beside its point."""
    lines = [spot for leader in leaders for spot in _along(leader)]
    passed = [_around(*other, 4.0, 4.0) for other in others]
    drawn = points + numbers + lines
    # Where everything is full, a line may cross points; then the text may lie on a line or a point, not on a number.
    for covered, crossed in ((drawn, numbers + passed), (drawn, numbers), (numbers, [])):
        for distance, turn in itertools.product(_DISTANCES, range(16)):
            at = _beside(place, width, distance, math.pi / 8 * turn)
            own = _around(*at, width, 7.5)
            leader = [place, at] if distance else []
            clear = not any(_meet(spot, number) for spot in _along(leader) for number in crossed)
            apart = min((_distance(other, own) for other in others), default=math.inf)
            # With a line too, it must not seem to stand beside another point.
            known = apart > (3.0 if leader else _distance(place, own) + 1.0) or covered is numbers
            if _inside(own, box) and clear and known and not any(_meet(own, other) for other in covered):
                return at, leader
    return at, leader


def _distance(place: tuple[float, float], box: Box) -> float:
    """From a point to the nearest place of a box."""
    x, y = place
    return math.hypot(max(box.left - x, x - box.right, 0.0), max(box.top - y, y - box.bottom, 0.0))


def _before(start: tuple[float, float], end: tuple[float, float], number: Box) -> tuple[float, float]:
    """Where a line towards the middle of a number meets its box."""
    shares = [
        size / 2 / abs(b - a)
        for a, b, size in zip(start, end, (number.right - number.left, number.bottom - number.top), strict=True)
        if a != b
    ]
    share = 1 - min(shares)
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def _beside(place: tuple[float, float], width: float, distance: float, angle: float) -> tuple[float, float]:
    return (
        place[0] + math.cos(angle) * (4.5 + width / 2 + distance),
        place[1] - math.sin(angle) * (7.5 + distance),
    )


def _along(leader: Sequence[tuple[float, float]]) -> list[Box]:
    """Small boxes on a line, behind its point."""
    if not leader:
        return []
    (x, y), (to_x, to_y) = leader
    return [_around(x + (to_x - x) * part / 10, y + (to_y - y) * part / 10, 1.0, 1.0) for part in range(2, 9)]


def _inside(own: Box, box: Box) -> bool:
    return own.left > box.left and own.right < box.right and own.top > box.top and own.bottom < box.bottom


def _around(x: float, y: float, width: float, height: float) -> Box:
    return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _meet(one: Box, other: Box) -> bool:
    return one.left < other.right and other.left < one.right and one.top < other.bottom and other.top < one.bottom
