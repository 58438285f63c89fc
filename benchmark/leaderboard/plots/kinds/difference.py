"""Critical-difference diagram in the layout of Demsar (2006): bars join methods that are not told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmark.leaderboard.plots import content, layout, style
from benchmark.leaderboard.tables import Table
from benchmark.ui.progress import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLACE = 2
ALT = "Critical-difference diagram: bars join methods that are not told apart"
_LABEL = 120.0  # points
_LINE = 0.16  # inches
_LEVEL = 0.45  # of a line, between two bars
_APART = 0.022  # of the axis, between the lines of two methods, however close their means
_KEY = "A bar joins methods of which no two are told apart (95 %, Holm); two without a common bar are told apart."
_KEY_DOTS = "A dashed bar joins only those with a dot on it."


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

    Where ties join neighbours in the given order, these are all maximal groups. Otherwise finding all may take
    exponential time, and would add nothing about any pair.
    """
    groups: list[list[int]] = []
    covered: set[tuple[int, int]] = set()
    # Widest pairs first, so that a group covers the narrower pairs within it.
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


def draw(figure: Figure, data: dict[str, Any]) -> None:
    """The axis, the bars below it, then the names: the better half to the right."""
    methods, bars = data["methods"], data["bars"]
    means = [method["mean"] for method in methods]
    low, high = min(means), max(means)
    margin = 0.06 * (high - low) or 1.0
    low, high = max(0.0, low - margin), min(100.0, high + margin)
    places = spread(means[::-1], _APART * (high - low), low, high)[::-1]
    levels = _levels(bars, places, 0.03 * (high - low))
    better = (len(methods) + 1) // 2
    first = 1.4 + _LEVEL * len(set(levels))  # lines below the axis
    notes = [_KEY, *([_KEY_DOTS] if any(_has_gap(bar) for bar in bars) else [])]
    height = _LINE * (first + better) + 0.3
    layout.page(figure, "Critical difference of overall mAP (higher is better)", data, height, notes)
    axes = figure.subplots()
    axes.set(xlim=(low, high), ylim=(first + better - 0.5, 0), yticks=[], xlabel="mean overall mAP (%)")
    axes.xaxis.set(ticks_position="top", label_position="top")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.spines["top"].set_visible(True)
    axes.grid(visible=False)
    for index, (mean, place) in enumerate(zip(means, places, strict=True)):
        right = index < better
        y = first + (index if right else len(methods) - 1 - index)
        axes.plot(
            [mean, place, place, high if right else low], [0, 0.5, y, y], color=style.QUIET, linewidth=0.6,
            clip_on=False,
        )  # fmt: skip
        name = layout.fit(methods[index]["label"], _LABEL, style.TEXT)
        text = f"{mean:.2f}  {name}" if right else f"{name}  {mean:.2f}"
        across = axes.get_yaxis_transform()
        axes.text(1.015 if right else -0.015, y, text, ha="left" if right else "right", va="center", transform=across)
    for bar, level in zip(bars, levels, strict=True):
        _bar(axes, bar, [places[index] for index in bar], 1.0 + _LEVEL * level)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The ascending `places`, moved as little as needed to be `gap` apart, between `low` and `high` where they fit."""
    # Isotonic least squares of places[i] - i * gap: pool neighbours that are too close, and take their mean.
    pools: list[tuple[float, int]] = []
    for index, place in enumerate(places):
        mean, size = place - index * gap, 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    highest = high - (len(places) - 1) * gap
    free = [min(max(mean, low), max(highest, low)) for mean, size in pools for _ in range(size)]
    return [place + index * gap for index, place in enumerate(free)]


def _levels(bars: Sequence[Sequence[int]], places: Sequence[float], gap: float) -> list[int]:
    """The level of each bar, from the top: the first on which it meets no other."""
    ends: list[list[tuple[float, float]]] = []
    levels = []
    for bar in bars:
        left, right = places[bar[-1]], places[bar[0]]
        free = (level for level, taken in enumerate(ends) if all(right + gap < a or b + gap < left for a, b in taken))
        level = next(free, len(ends))
        if level == len(ends):
            ends.append([])
        ends[level].append((left, right))
        levels.append(level)
    return levels


def _bar(axes: Axes, members: Sequence[int], places: Sequence[float], y: float) -> None:
    heights = [y] * len(places)
    if _has_gap(members):
        axes.plot(places, heights, "o--", color=style.INK, linewidth=0.9, markersize=3.5)
    else:
        axes.plot(places, heights, color=style.INK, linewidth=2.6, solid_capstyle="projecting")


def _has_gap(members: Sequence[int]) -> bool:
    return members[-1] - members[0] >= len(members)
