"""Overall, head, medium and tail of each method as bars with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.leaderboard.plots import content, layout, style
from benchmark.leaderboard.rows import METRICS
from benchmark.leaderboard.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLACE = 1
ALT = "Mean average precision of each method: overall, head, medium, tail"
_BAR = 0.21  # of a row
_ROW = 0.36  # inches


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


def draw(figure: Figure, data: dict[str, Any]) -> None:
    """A block of four bars a method."""
    methods = data["methods"]
    known = [value for method in methods for value in method["bars"].values() if value is not None]
    end = layout.up_to([mean + (half or 0.0) for mean, half in known])
    names, seeds = layout.names_with_seeds(methods)
    notes = [f"Lines: 95 % intervals over seeds and test images; {seeds}."]
    if any(method["n"] == 1 for method in methods):
        notes.append("The interval of a single run is over test images alone.")
    if any(half is not None and (mean < half or mean + half > end) for mean, half in known):
        notes.append("An interval without a cap goes on beyond 0 or 100.")
    layout.page(figure, "Mean average precision", data, _ROW * len(methods) + 0.35, notes)
    axes = figure.subplots()
    bars = []
    for index, (name, look) in enumerate(style.BARS.items()):
        places = [row + _BAR * (index - 1.5) for row in range(len(methods))]
        values = [method["bars"][name] for method in methods]
        means = [0.0 if value is None else value[0] for value in values]
        bars.append(axes.barh(places, means, _BAR, edgecolor=style.BAR_EDGE, linewidth=0.5, **look))
        layout.intervals(axes, values, places)
        for place, value in zip(places, values, strict=True):
            if value is None:
                axes.plot(0.012 * end, place, "_", color=style.INK, markeredgewidth=0.8)
    layout.rows(axes, names)
    axes.set_xlim(0, end)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("mAP (%)")
    layout.legend(figure, list(style.BARS), bars)
