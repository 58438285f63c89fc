"""The score of an epoch chosen on the test set, beside the honest score; it is never ranked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.leaderboard.plots import content, layout, style
from benchmark.leaderboard.tables import Table
from benchmark.ui.progress import plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLACE = 8
ALT = "Overall mAP of the epoch that is best on the test set, and how far it is from the honest number"
_ROW = 0.2  # inches


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


def draw(figure: Figure, data: dict[str, Any]) -> None:
    """To the left both numbers of a method, to the right their difference."""
    methods = data["methods"]
    names, seeds = layout.names_with_seeds(methods)
    notes = [
        "Oracle: the best epoch of each seed, chosen on the test set; never ranked. "
        f"Lines of the gap: 95 % intervals over seeds; {seeds}."
    ]
    title = "Best epoch on the test set (oracle) against the honest number"
    layout.page(figure, title, data, _ROW * len(methods) + 0.4, notes)
    scores, gaps = figure.subplots(1, 2, sharey=True)
    rows = range(len(methods))
    for row, method in zip(rows, methods, strict=True):
        scores.plot([method["honest"], method["oracle"]], [row, row], color=style.QUIET, linewidth=0.8)
    look = {"markeredgecolor": style.INK, "markeredgewidth": 0.9, "markersize": 4.2}
    (best,) = scores.plot([method["oracle"] for method in methods], rows, "o", markerfacecolor="white", **look)
    (honest,) = scores.plot([method["honest"] for method in methods], rows, "o", markerfacecolor=style.INK, **look)
    scores.set_xlabel("overall mAP (%)")
    gaps.axvline(0, color=style.QUIET, linewidth=0.8)
    layout.intervals(gaps, [method["gap"] for method in methods], rows)
    gaps.plot([method["gap"][0] for method in methods], rows, "D", color=style.ACCENT, markersize=3.6)
    gaps.set_xlabel("gap (points)")
    layout.rows(scores, names)
    layout.legend(figure, ["honest", "oracle"], [honest, best])
