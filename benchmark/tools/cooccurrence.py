"""The picture of co-occurrence: P(column | row) in the training list, in the look of the leaderboard's pictures."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.data.facts import Facts
from benchmark.leaderboard.plots import layout, picture, style
from benchmark.leaderboard.plots.content import short
from benchmark.spec import canonical_json
from benchmark.store.records import GROUPS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALT = "Share of the training images with the class of a row that have the class of a column too"
MOST_CLASSES = 130  # with a name each
_CELL = 8.5  # points, at least
_NAME = 90.0  # points of a name
_DPI = 90  # for a page on a screen: a finer picture of 80 classes has half a megabyte
_VERSION = 1  # raised when the drawing changes, so that pictures on disk count as out of date


def description(facts: Facts) -> str | None:
    """The digest of the picture's data; None for a dataset that has too many classes to be drawn."""
    data = _data(facts)
    if data is None:
        return None
    drawn = canonical_json({"version": _VERSION, "style": style.STYLE_VERSION, "data": data})
    return picture.DESCRIPTION + hashlib.sha256(drawn.encode()).hexdigest()


def png(facts: Facts) -> bytes:
    """The picture as a PNG file. Call it where `description` gives one."""
    from matplotlib.figure import Figure

    data, digest = _data(facts), description(facts)
    assert data is not None and digest is not None
    with layout.drawing():
        figure = Figure(dpi=_DPI)
        _draw(figure, data)
        return picture.files(figure, digest)["png"]


def _data(facts: Facts) -> dict[str, Any] | None:
    """Names of the classes, head first; sizes of the groups; shares [C][C] in percent, those of one class None."""
    if facts.cooccurrence is None or len(facts.classes) > MOST_CLASSES:
        return None
    index = {one.name: k for k, one in enumerate(facts.classes)}
    ranked = [index[one.name] for one in facts.ranked()]
    shares = 100 * np.array(facts.cooccurrence)[np.ix_(ranked, ranked)]
    return {
        "title": facts.title,
        "note": "",
        "classes": [short(facts.classes[k].name, 28) for k in ranked],
        "counts": [facts.classes[k].positives["train"] for k in ranked],
        "groups": [facts.groups[group] for group in GROUPS],
        "shares": [
            [None if i == j else round(float(value), 2) for j, value in enumerate(row)] for i, row in enumerate(shares)
        ],
    }


def _draw(figure: Figure, data: dict[str, Any]) -> None:
    """A square map with lines between the groups, and the scale of colours below."""
    import matplotlib

    below = [layout.fit(name, _NAME, style.SMALL) for name in data["classes"]]
    names = [f"{name} ({count})" for name, count in zip(below, data["counts"], strict=True)]
    beside = max(layout.width_of(name, style.SMALL) for name in names) + 6
    cell = max(_CELL, (style.WIDTH * layout.POINTS - beside - 12) / len(names))
    side = cell * len(names) + beside
    notes = ["In brackets: number of training images. Grey: in no image. Lines: head, medium, tail."]
    title = "Classes that occur together in training images"
    layout.page(figure, title, data, side / layout.POINTS + 0.6, notes, (side + 12) / layout.POINTS)
    axes = figure.subplots()
    values = np.array(data["shares"], dtype=float)  # NaN on the diagonal
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_facecolor("#eeeeee")
    edges = np.arange(len(names) + 1) - 0.5
    shown = np.ma.masked_where(~(values > 0), values)
    colors = axes.pcolormesh(edges, edges, shown, cmap=matplotlib.colormaps[style.HEAT].resampled(10), vmin=0, vmax=100)
    for border in np.cumsum(data["groups"])[:-1] - 0.5:
        axes.axhline(border, color=style.INK, linewidth=0.6)
        axes.axvline(border, color=style.INK, linewidth=0.6)
    axes.set_xticks(range(len(names)), below, rotation=90)
    axes.tick_params(length=0)
    axes.set_aspect("equal")
    layout.rows(axes, names, beside)
    bar = figure.colorbar(colors, ax=axes, location="bottom", aspect=40, shrink=0.6, pad=0.02)
    bar.outline.set_visible(False)  # type: ignore[operator]  # the stubs call it a spine
    bar.set_label("P(column | row), %")
