"""Training curves: the loss of each epoch, and the validation mAP where it was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmark.leaderboard.plots import content, style
from benchmark.leaderboard.plots.scales import Box, Scale, linear, number
from benchmark.leaderboard.rows import Row
from benchmark.leaderboard.tables import Table
from benchmark.ui.progress import plural

if TYPE_CHECKING:
    from benchmark.leaderboard.plots.sheet import Sheet

ALT = "Training loss of each epoch, and validation mAP where it was measured"
MAX_EPOCHS = 60  # shown; of more, evenly many
MAX_SEEDS = 10  # with lines of their own
_COLUMNS, _HEIGHT = 3, 72.0
_LEFT, _RIGHT = 30.0, 24.0  # points beside a panel, for its numbers

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


def draw(sheet: Sheet, data: dict[str, Any]) -> None:
    """One panel a method, each with a scale of its own."""
    top = sheet.head("Training loss by epoch", data)
    methods = data["methods"]
    validated = any(value is not None for method in methods for value in method["validation"])
    staged = any(method["stages"] for method in methods)
    _key(sheet, top, any(method["seeds"] for method in methods), validated, staged)
    top += 12
    width = (sheet.width - 2 * style.MARGIN) / _COLUMNS
    bottom = top
    for index, method in enumerate(methods):
        row, column = divmod(index, _COLUMNS)
        left, upper = style.MARGIN + column * width + _LEFT, top + 14 + row * (_HEIGHT + 30)
        box = Box(left, upper, left + width - _LEFT - (_RIGHT if validated else 8), upper + _HEIGHT)
        _panel(sheet, method, box)
        sheet.text(left, upper - 8, method["label"], room=box.right - left)
        bottom = max(bottom, box.bottom)
    text = "epoch; the losses of different methods are not comparable"
    sheet.text(sheet.width / 2, bottom + 21, text, ha="center")
    sheet.height = bottom + 31


def _key(sheet: Sheet, y: float, seeds: bool, validated: bool, staged: bool) -> None:
    entries = [("loss, mean over seeds" if seeds else "loss", style.INK, 1.4, ())]
    if seeds:
        entries.append(("loss of a seed", style.THIN, 0.5, ()))
    if validated:
        entries.append(("validation mAP in percent (right scale)", style.VALIDATION, 1.2, (4, 1.5)))
    if staged:
        entries.append(("next stage", style.QUIET, 0.8, (1, 2)))
    x = style.MARGIN
    for text, color, width, dashes in entries:
        sheet.lines([[(x, y), (x + 18, y)]], color=color, width=width, dashes=dashes)
        sheet.text(x + 22, y, text)
        x += 22 + sheet.width_of(text) + 14


def _panel(sheet: Sheet, method: dict[str, Any], box: Box) -> None:
    epochs = method["epochs"]
    first, last = epochs[0], epochs[-1]
    x = Scale(first - 0.5, last + 0.5, box.left, box.right)
    known = [value for curve in (method["loss"], *method["seeds"]) for value in curve if value is not None]
    y = linear(known, box.bottom, box.top)
    _epoch_axis(sheet, box, x, y)
    borders = [[(x(at), box.top), (x(at), box.bottom)] for at in method["stages"]]
    sheet.lines(borders, color=style.QUIET, width=0.8, dashes=(1, 2))
    thin = [line for curve in method["seeds"] for line in _lines(epochs, curve, x, y)]
    sheet.lines(thin, color=style.THIN, width=0.5)
    _curve(sheet, epochs, method["loss"], x, y, style.INK, 1.4)
    known = [value for value in method["validation"] if value is not None]
    if known:
        right = linear(known, box.bottom, box.top, most=100)
        _curve(sheet, epochs, method["validation"], x, right, style.VALIDATION, 1.2, (4, 1.5))
        for tick in right.ticks(24):
            sheet.text(box.right + 3, right(tick), number(tick), size=style.SMALL, color=style.VALIDATION)


def _epoch_axis(sheet: Sheet, box: Box, x: Scale, y: Scale) -> None:
    sheet.axes(box, y=y)
    ticks = [tick for tick in x.ticks(24) if tick == round(tick)]
    sheet.lines([[(x(tick), box.bottom), (x(tick), box.bottom + 2.5)] for tick in ticks], color=style.QUIET, width=0.6)
    for tick in ticks:
        sheet.text(x(tick), box.bottom + 8, f"{tick:.0f}", size=style.SMALL, ha="center")


def _curve(
    sheet: Sheet, epochs: list[int], curve: Curve, x: Scale, y: Scale, color: str, width: float,
    dashes: Sequence[float] = (),
) -> None:  # fmt: skip
    lines = _lines(epochs, curve, x, y)
    sheet.lines([line for line in lines if len(line) > 1], color=color, width=width, dashes=dashes)
    sheet.points([line[0] for line in lines if len(line) == 1], "o", face=color, size=3.5)


def _lines(epochs: list[int], curve: Curve, x: Scale, y: Scale) -> list[list[tuple[float, float]]]:
    """The curve in pieces: no line crosses a gap."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for epoch, value in zip(epochs, curve, strict=True):
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append((x(epoch), y(value)))
    return [piece for piece in pieces if piece]
