"""Accuracy against cost: training time, and trained parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.leaderboard.plots import content, layout, style
from benchmark.leaderboard.tables import Table
from benchmark.ui.progress import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLACE = 6
ALT = "Overall mean average precision against training time and against trained parameters"
_UNITS = [(1.0, "s"), (60.0, "min"), (3600.0, "h")]
_LOG_SPAN = 10.0  # from this ratio of the largest to the smallest value on, a scale is logarithmic
_SUBS = [(100.0, (1, 2, 5)), (1000.0, (1, 3)), (math.inf, (1,))]  # below a ratio: ticks of each power of ten
_HEIGHT = 2.5  # inches
_MARK = 2.5  # points: half a marker
_BESIDE = 4.0  # points from a point to its number without a line between them
_WEIGHTS = (1.0, 2.0)  # of distances across and up: above and below a point is its interval
_LINE, _CROSSED = 12.0, 8.0  # distance in points that a line costs, and one that crosses something
_STEP, _TRIED = 1.5, 300  # points between two spots for a number; number of free spots that are compared


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


def draw(figure: Figure, data: dict[str, Any]) -> None:
    """Two panels with one y axis; a method is a number, named below."""
    methods, devices = data["methods"], data["devices"]
    shown = [*devices[: len(style.LOOKS) - 1], "other devices"] if len(devices) > len(style.LOOKS) else devices
    notes = []
    if any(half is not None for _, half in (method["overall"] for method in methods)):
        notes = ["Vertical lines, on the left alone: 95 % intervals over seeds and test images."]
    layout.page(figure, "Accuracy against cost", data, _HEIGHT, notes)
    panels = figure.subplots(1, 2, sharey=True)
    unit, unit_name = next(
        ((unit, name) for unit, name in reversed(_UNITS) if max(method["train_s"] for method in methods) >= 2 * unit),
        _UNITS[0],
    )
    where = f", {devices[0]}" if len(devices) == 1 else ""
    scores, halves = np.array([method["overall"] for method in methods], dtype=float).T  # NaN: no half-width
    marks = {}
    costs = [
        (np.array([method["train_s"] / unit for method in methods]), f"training time ({unit_name}{where})"),
        (np.array([method["trained"] / 1e6 for method in methods]), "trained parameters (millions)"),
    ]
    for axes, (values, text) in zip(panels, costs, strict=True):
        if axes is panels[0] and notes:  # in the other panel many points have equal x: their intervals would merge
            axes.errorbar(values, scores, yerr=halves, fmt="none", ecolor=style.THIN, elinewidth=0.6, capthick=0.6)
        for index, look in enumerate(style.LOOKS[: len(shown)]):
            mine = [min(method["device"], len(shown) - 1) == index for method in methods]
            (marks[index],) = axes.plot(
                values[mine], scores[mine], look.marker, color=look.color, markeredgecolor="white"
            )
        _scale(axes, values)
        axes.set_xlabel(layout.fit(text, 170.0, style.TEXT))
    panels[0].set_ylabel("overall mAP (%)")
    panels[0].set_ylim(max(0.0, panels[0].get_ylim()[0]), min(100.0, panels[0].get_ylim()[1]))
    if len(shown) > 1:
        layout.legend(figure, shown, list(marks.values()))
    layout.legend(figure, [f"{number} {method['label']}" for number, method in enumerate(methods, 1)])
    layout.arrange(figure)  # fixes the points' positions, which the numbers need
    for axes, (values, _) in zip(panels, costs, strict=True):
        _numbers(axes, values, scores)


def _scale(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic scale where the values span at least `_LOG_SPAN`, otherwise a linear one from 0."""
    from matplotlib.ticker import LogLocator

    positive = values[values > 0]
    least, span = (min(positive), max(positive) / min(positive)) if len(positive) else (1.0, 1.0)
    if span < _LOG_SPAN:
        axes.set_xlim(0.0, 1.1 * max(values) or 1.0)
        axes.locator_params(axis="x", nbins=6)
    else:
        subs = next(subs for most, subs in _SUBS if span < most)
        ticks = LogLocator(subs=subs, numticks=6).tick_values(least, max(positive))
        ticks = [tick for tick in ticks if least <= tick <= max(positive)]
        if len(positive) == len(values):
            axes.set_xscale("log")
        else:  # a logarithmic scale with a linear part for 0
            axes.set_xscale("symlog", linthresh=least, linscale=max(0.4, 0.15 * math.log10(span)))
            ticks = [0.0, *ticks]
        axes.set_xticks(ticks)
        axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(layout.number)


def _numbers(axes: Axes, xs: np.ndarray, ys: np.ndarray) -> None:
    """A number for each point, with a line to the point where the number is not next to it."""
    to_points = layout.POINTS / axes.figure.dpi
    points = axes.transData.transform(np.column_stack([xs, ys])) * to_points
    corners = axes.get_window_extent().get_points() * to_points
    boxes = [(point, np.array([_MARK, _MARK])) for point in points]  # middle and half size of each drawn thing
    for own, point in enumerate(points):
        half = np.array([layout.width_of(str(own + 1), style.SMALL) / 2 + 1.0, style.SMALL / 2])
        spot, beside = _spot(own, points, half, corners, boxes)
        boxes.append((spot, half))
        line = None
        if not beside:
            line = {"arrowstyle": "-", "linewidth": 0.4, "color": style.QUIET, "shrinkA": 0.0, "shrinkB": 0.0}
            boxes += [(place, np.array([0.5, 0.5])) for place in _along(point, spot)]
        axes.annotate(
            str(own + 1), (xs[own], ys[own]), xytext=tuple(spot - point), textcoords="offset points",
            fontsize=style.SMALL, ha="center", va="center_baseline", arrowprops=line, in_layout=False,
        )  # fmt: skip


def _spot(
    own: int, points: np.ndarray, half: np.ndarray, corners: np.ndarray, boxes: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, bool]:
    """A free spot for a number within the corners, and whether it is next to its own point and nearer to it than to any
    other."""
    low, high = corners[0] + half, corners[1] - half
    spots = np.stack(np.meshgrid(*map(np.arange, low, high, (_STEP, _STEP))), axis=-1).reshape(-1, 2)
    far = np.hypot(*((spots - points[own]) * _WEIGHTS).T)
    middles, halves = (np.array(part) for part in zip(*boxes, strict=True))
    order = np.argsort(far, kind="stable")
    taken = (np.abs(spots[order, None] - middles) < halves + half).all(axis=-1).any(axis=-1)
    nearest = order[~taken][:_TRIED]
    spots, far = spots[nearest], far[nearest]
    gaps = np.hypot(*np.maximum(np.abs(spots[:, None] - points) - half, 0.0).T)  # [points, spots]
    beside = (gaps[own] < _BESIDE) & (np.delete(gaps, own, axis=0).min(axis=0) > gaps[own] + 1.0)
    lines = _along(points[own], spots[:, None])
    others = [index for index in range(len(boxes)) if index != own]
    crossed = (np.abs(lines[:, :, None] - middles[others]) < halves[others]).all(axis=-1).any(axis=1).sum(axis=-1)
    best = np.argmin(far + np.where(beside, 0.0, _LINE + _CROSSED * crossed))
    return spots[best], bool(beside[best])


def _along(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Points on the line from a point to its number."""
    return start + (end - start) * np.linspace(0.2, 0.8, 7)[:, None]
