"""The score of each seed, and the means over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.leaderboard.plots import content, layout, style
from benchmark.leaderboard.rows import METRICS
from benchmark.leaderboard.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLACE = 5
ALT = "Overall, head, medium and tail mAP of each seed"
_ROW = 0.18  # inches


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


def draw(figure: Figure, data: dict[str, Any]) -> None:
    """A column for each mean, a line for each method."""
    methods = data["methods"]
    notes = ["Circle: one seed; line: their mean. Each column has a scale of its own."]
    layout.page(figure, "Scores of the single seeds", data, _ROW * len(methods) + 0.55, notes)
    columns = figure.subplots(1, len(style.BARS), sharey=True)
    for axes, name in zip(columns, style.BARS, strict=True):
        values = [(row, value) for row, method in enumerate(methods) for value in method["seeds"][name]]
        points = [(value, row) for row, value in values if value is not None]
        means = [(method["means"][name], row) for row, method in enumerate(methods)]
        means = [(mean, row) for mean, row in means if mean is not None]
        axes.set_title(name)
        if points:
            axes.scatter(*zip(*points, strict=True), s=14, facecolors="none", edgecolors=style.INK, linewidths=0.7)
        else:
            axes.text(0.5, 0.5, "–", transform=axes.transAxes, ha="center", va="center")
            axes.set_xticks([])
        axes.vlines([x for x, _ in means], [y - 0.34 for _, y in means], [y + 0.34 for _, y in means],
                    colors=style.ACCENT, linewidths=1.6)  # fmt: skip
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel("mAP (%)")
    layout.rows(columns[0], [method["label"] for method in methods])
