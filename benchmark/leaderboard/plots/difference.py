"""Critical-difference diagram in the layout of Demsar (2006): bars join methods that are not told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmark.leaderboard.plots import content, style
from benchmark.leaderboard.plots.scales import Box, Scale, linear, number, spread
from benchmark.leaderboard.tables import Table
from benchmark.ui.progress import plural

if TYPE_CHECKING:
    from benchmark.leaderboard.plots.sheet import Sheet

ALT = "Critical-difference diagram: bars join methods that are not told apart"
_LABEL = 165.0  # points
_PITCH = 13.0
_LEVEL = 6.0
_APART = 4.5  # between the lines of two methods, however close their means


def data(table: Table) -> dict[str, Any] | None:
    """Mean overall mAP of the best rows that were compared, and the bars between them."""
    if table.comparison is None:
        return None
    verdicts = table.comparison.verdicts
    compared = [
        index
        for index, row in enumerate(table.rows)
        if row.scores["Overall"] is not None
        and any(verdict is not None for other, verdict in enumerate(verdicts[index]) if other != index)
    ]
    shown = compared[: content.MAX_ROWS]
    if len(shown) < 2:
        return None
    left_out = len(table.rows) - len(compared)
    missing = f"{plural(left_out, 'row')} without a comparison left out" if left_out else ""
    methods = [
        {"label": content.label(table.rows[i]), "mean": content.mean(table.rows[i].scores["Overall"])} for i in shown
    ]
    tied = [[verdicts[i][j] == 0 and verdicts[j][i] == 0 for j in shown] for i in shown]
    heading = content.heading(table, len(shown), len(compared), missing)
    return heading | {"methods": methods, "bars": cliques(tied)}


def cliques(tied: Sequence[Sequence[bool]]) -> list[list[int]]:
    """Maximal groups whose members are pairwise tied, enough of them that every tied pair is in one.

    Where ties join neighbours in the order given, these are all maximal groups. Finding all may take exponentially long
    where they do not, and would say nothing more about any pair.
    """
    groups: list[list[int]] = []
    covered: set[tuple[int, int]] = set()
    # Widest pairs first: the narrower ones within a group are then covered by it.
    pairs = sorted(((i, j) for j in range(len(tied)) for i in range(j) if tied[i][j]), key=lambda p: (p[0] - p[1], p))
    for first, last in pairs:
        if (first, last) in covered:
            continue
        group = [first, last]
        for other in [*range(first + 1, last), *range(last + 1, len(tied)), *range(first - 1, -1, -1)]:
            if all(tied[other][member] for member in group):
                group.append(other)
        group.sort()
        covered.update((i, j) for i in group for j in group if i < j)
        groups.append(group)
    return sorted(groups)


def draw(sheet: Sheet, data: dict[str, Any]) -> None:
    """The axis, the bars below it, then the names: the better half to the right."""
    methods, bars = data["methods"], data["bars"]
    top = sheet.head("Critical difference of overall mAP (higher is better)", data)
    box = Box(style.MARGIN + _LABEL, top + 4, sheet.width - style.MARGIN - _LABEL, top + 30)
    scale = linear([method["mean"] for method in methods], box.left, box.right, most=100)
    _axis(sheet, box, scale)
    true = [scale(method["mean"]) for method in methods]
    places = spread(true[::-1], _APART, box.left, box.right)[::-1]
    start = box.bottom + 8  # of the vertical lines, moved apart
    levels = _levels(bars, places)
    first = start + 8 + _LEVEL * (max(levels, default=-1) + 1) + 4
    better = (len(methods) + 1) // 2
    lines = []
    for index, (method, at, place) in enumerate(zip(methods, true, places, strict=True)):
        right = index < better
        y = first + _PITCH * (index if right else len(methods) - 1 - index)
        edge = box.right + 4 if right else box.left - 4
        lines.append([(at, box.bottom), (place, start), (place, y), (edge, y)])
        number = f"{method['mean']:.2f}"
        room = _LABEL - 12 - sheet.width_of(number)
        name = sheet.wrap(method["label"], room, most=1)[0] if method["label"] else ""
        text = f"{number}  {name}" if right else f"{name}  {number}"
        sheet.text(edge + (3 if right else -3), y, text, ha="left" if right else "right")
    sheet.lines(lines, color=style.QUIET, width=0.7)
    for bar, level in zip(bars, levels, strict=True):
        _bar(sheet, bar, [places[index] for index in bar], start + 8 + _LEVEL * level)
    y = first + _PITCH * better + 8
    for text in (_KEY, _KEY_DOTS) if any(_has_gap(bar) for bar in bars) else (_KEY,):
        sheet.text(style.MARGIN, y, text, size=style.SMALL, color=style.QUIET)
        y += 10
    sheet.height = y


_KEY = "A bar joins methods of which no two are told apart (95 %, Holm); two without a common bar are told apart."
_KEY_DOTS = "A dashed bar joins only those with a dot on it."


def _axis(sheet: Sheet, box: Box, scale: Scale) -> None:
    ticks = scale.ticks(36)
    places = [scale(tick) for tick in ticks]
    sheet.text((box.left + box.right) / 2, box.top, "mean overall mAP in percent", ha="center")
    for place, tick in zip(places, ticks, strict=True):
        sheet.text(place, box.bottom - 9, number(tick), size=style.SMALL, ha="center")
    sheet.lines([[(box.left, box.bottom), (box.right, box.bottom)]], color=style.INK, width=1.0)
    sheet.lines([[(place, box.bottom - 4), (place, box.bottom)] for place in places], color=style.INK, width=1.0)


def _levels(bars: Sequence[Sequence[int]], places: Sequence[float]) -> list[int]:
    """How far down each bar stands: on the first level where it meets no other."""
    ends: list[list[tuple[float, float]]] = []
    levels = []
    for bar in bars:
        left, right = places[bar[-1]], places[bar[0]]
        free = (level for level, taken in enumerate(ends) if all(right + 8 < a or b + 8 < left for a, b in taken))
        level = next(free, len(ends))
        if level == len(ends):
            ends.append([])
        ends[level].append((left, right))
        levels.append(level)
    return levels


def _bar(sheet: Sheet, members: Sequence[int], places: Sequence[float], y: float) -> None:
    if not _has_gap(members):
        sheet.lines([[(places[-1] - 1.6, y), (places[0] + 1.6, y)]], color=style.INK, width=3.0)
        return
    sheet.lines([[(places[-1], y), (places[0], y)]], color=style.INK, width=1.0, dashes=(3, 2))
    sheet.points([(place, y) for place in places], "o", face=style.INK, size=4.4)


def _has_gap(members: Sequence[int]) -> bool:
    return members[-1] - members[0] >= len(members)
