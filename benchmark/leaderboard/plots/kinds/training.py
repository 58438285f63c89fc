"""Training curves: the loss of each epoch, and the validation mAP where it was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmark.leaderboard.plots import content, layout, style
from benchmark.leaderboard.rows import Row
from benchmark.leaderboard.tables import Table
from benchmark.ui.progress import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLACE = 7
ALT = "Training loss of each epoch, and validation mAP where it was measured"
MAX_EPOCHS = 60  # shown; of more, evenly many
MAX_SEEDS = 10  # with lines of their own
_COLUMNS = 3
_PANEL = 0.95  # inches, its title included
_EDGES, _SIDES = 20.0, 52.0  # points beside all panels; of the numbers at both sides of one

Curve = list[float | None]


def data(table: Table) -> dict[str, Any] | None:
    """The curves of the best rows that were trained."""
    trained = [row for row in table.rows if any(record.history for record in row.records)]
    if not trained:
        return None
    rows = trained[: content.MAX_PANELS]
    methods = [_curves(row) for row in rows]
    left_out = len(table.rows) - len(trained)
    notes = [
        f"{plural(left_out, 'row')} without training left out" if left_out else "",
        f"at most {MAX_EPOCHS} epochs of each" if any(method.pop("thinned") for method in methods) else "",
        f"the first {MAX_SEEDS} seeds of each" if any(row.n > MAX_SEEDS for row in rows) else "",
    ]
    return content.heading(table, len(rows), len(trained), *notes) | {"methods": methods}


def _curves(row: Row) -> dict[str, Any]:
    histories = [{entry.epoch: entry for entry in record.history} for record in row.records]
    every = sorted(set().union(*histories))
    epochs = _evenly(every)
    losses = [[_value(history.get(epoch), "loss") for epoch in epochs] for history in histories]
    chosen = [[_value(history.get(epoch), "val_overall") for epoch in epochs] for history in histories]
    stages = {entry.epoch: entry.stage for history in histories for entry in history.values()}
    return {
        "label": content.label(row),
        "epochs": epochs,
        "stages": [b - 0.5 for a, b in zip(every, every[1:], strict=False) if stages[a] != stages[b]],
        "seeds": losses[:MAX_SEEDS] if len(losses) > 1 else [],
        "loss": _mean(losses),
        "validation": _mean(chosen),
        "thinned": len(epochs) < len(every),
    }


def _evenly(epochs: Sequence[int]) -> list[int]:
    if len(epochs) <= MAX_EPOCHS:
        return list(epochs)
    step = (len(epochs) - 1) / (MAX_EPOCHS - 1)
    return [epochs[round(index * step)] for index in range(MAX_EPOCHS)]


def _value(entry: Any, name: str) -> float | None:
    value = None if entry is None else getattr(entry, name)
    # Five digits: more than can be seen, and few enough that the data of thousands of epochs stay small.
    return None if value is None else float(f"{value:.5g}")


def _mean(curves: Sequence[Curve]) -> Curve:
    columns = zip(*curves, strict=True)
    return [None if None in column else float(f"{math.fsum(column) / len(column):.5g}") for column in columns]


def draw(figure: Figure, data: dict[str, Any]) -> None:
    """One panel a method, each with a scale of its own."""
    methods = data["methods"]
    columns = min(_COLUMNS, len(methods))
    lines = math.ceil(len(methods) / columns)
    notes = ["Each panel has a scale of its own: the losses of different methods are not comparable."]
    layout.page(figure, "Training loss by epoch", data, _PANEL * lines + 0.2, notes)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    validated = any(value is not None for method in methods for value in method["validation"])
    room = (style.WIDTH * layout.POINTS - _EDGES) / columns - (_SIDES if validated else _SIDES / 2)
    shown: dict[str, Any] = {}
    for index, (axes, method) in enumerate(zip(panels, methods, strict=False)):
        shown |= _panel(axes, method)
        axes.set_title(layout.fit(method["label"], room, style.SMALL), fontsize=style.SMALL)
        if index + columns >= len(methods):
            axes.set_xlabel("epoch")
    for axes in panels[len(methods) :]:
        axes.set_axis_off()
    layout.legend(figure, list(shown), list(shown.values()))


def _panel(axes: Axes, method: dict[str, Any]) -> dict[str, Any]:
    """The curves of one method; returns what is to be explained, by its explanation."""
    epochs = method["epochs"]
    shown = {}
    for curve in method["seeds"]:
        (shown["loss of a seed"],) = axes.plot(epochs, curve, color=style.THIN, linewidth=0.5)
    mean: dict[str, Any] = {"color": style.INK, "linewidth": 1.3} | _dots(method["loss"])
    (shown["loss, mean over seeds" if method["seeds"] else "loss"],) = axes.plot(epochs, method["loss"], **mean)
    for at in method["stages"]:
        shown["next stage"] = axes.axvline(at, color=style.QUIET, linewidth=0.8, linestyle=":")
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes.locator_params(axis="x", integer=True, nbins=5)
    axes.locator_params(axis="y", nbins=4)
    axes.grid(visible=False, axis="x")
    if any(value is not None for value in method["validation"]):
        right = axes.twinx()
        look: dict[str, Any] = {"color": style.ACCENT, "linestyle": style.LOOKS[1].line} | _dots(method["validation"])
        (shown["validation mAP (%), right scale"],) = right.plot(epochs, method["validation"], **look)
        right.grid(visible=False)
        right.tick_params(axis="y", length=0, labelcolor=style.ACCENT)
        right.locator_params(axis="y", nbins=4)
    return shown


def _dots(curve: Curve) -> dict[str, Any]:
    """A marker for each value that has none beside it, which no line would show."""
    around = [None, *curve, None]
    alone = [a is None and b is not None and c is None for a, b, c in zip(around, around[1:], around[2:], strict=False)]
    return {"marker": "o", "markersize": 2.5, "markevery": alone} if any(alone) else {}
