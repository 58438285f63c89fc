"""Plots of a track. Their data are computed first, so that plots can be compared without drawing them.

Every file has a digest of its data in its field `Description`. The bytes are the same for the same data under one
version of matplotlib; the digest is the same under all. Each module of `kinds` is a kind of picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from benchmark.base.processes import cores, spawned
from benchmark.leaderboard.plots import content, kinds, picture
from benchmark.leaderboard.plots.picture import DESCRIPTION, description_of
from benchmark.leaderboard.plots.style import STYLE_VERSION
from benchmark.leaderboard.tables import Table
from benchmark.spec import canonical_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DESCRIPTION", "FORMATS", "Plot", "description_of", "draw", "plots"]

FORMATS = ("png", "svg")
PICTURES_A_PROCESS = 7  # for fewer, starting a process takes longer than drawing


@dataclass(frozen=True)
class Plot:
    """One picture. data: all that is drawn, in JSON types."""

    kind: str
    data: dict[str, Any]

    @cached_property
    def description(self) -> str:
        """The field `Description` of its files."""
        shown = canonical_json({"kind": self.kind, "style": STYLE_VERSION, "data": self.data})
        return DESCRIPTION + hashlib.sha256(shown.encode()).hexdigest()

    @property
    def alt(self) -> str:
        """A description in one line."""
        return kinds.named(self.kind).ALT

    @property
    def undrawn(self) -> list[str]:
        """Names of classes that no installed font can show: pictures have their indices instead."""
        others = content.in_other_scripts(self.data)
        if not others:
            return []
        from benchmark.leaderboard.plots import fonts

        return [item["label"] for item in others if not fonts.has(item["label"])]

    def figure(self) -> Figure:
        """The picture as a matplotlib figure. Call it, and save the figure, within `layout.drawing`."""
        from matplotlib.figure import Figure

        figure = Figure()
        kinds.named(self.kind).draw(figure, _with_numbers(self.data, self.undrawn))
        return figure

    def files(self) -> dict[str, bytes]:
        """The picture in each of FORMATS. Drawing takes about half a second."""
        from benchmark.leaderboard.plots import fonts, layout

        others = [item["label"] for item in content.in_other_scripts(self.data)]
        with layout.drawing(fonts.families(others)):
            return picture.files(self.figure(), self.description)


def _with_numbers(data: dict[str, Any], undrawn: Sequence[str]) -> dict[str, Any]:
    """The data with indices instead of the names of these classes, and a note on it."""
    if not undrawn:
        return data
    shown = [
        item | {"label": f"#{item['index']}"} if "index" in item and item["label"] in undrawn else item
        for item in data["classes"]
    ]
    note = "#: a class by its line in classes.txt, from 0; no font here has its name"
    return data | {"classes": shown, "note": "; ".join(filter(None, (data["note"], note)))}


def plots(table: Table) -> dict[str, Plot]:
    """Kind -> picture of a track, for the kinds that its rows have data for."""
    found = {name: module.data(table) for name, module in kinds.found().items()}
    return {name: Plot(name, data) for name, data in found.items() if data is not None}


def draw(pictures: Sequence[Plot]) -> Iterator[dict[str, bytes]]:
    """The files of each picture, in order. Many are drawn by several processes."""
    workers = min(cores(), len(pictures) // PICTURES_A_PROCESS)
    if workers < 2:
        yield from (plot.files() for plot in pictures)
        return
    with spawned(workers) as pool:
        yield from pool.map(Plot.files, pictures)
