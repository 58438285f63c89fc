"""Plots of a track: what is drawn is data first, so that it can be compared without drawing it.

Every file carries a digest of what it shows in its field `Description`. The bytes are the same for the same data under
one version of matplotlib; this digest is the same under all, and another tells whether the file was changed since it
was written (`seal`). Each kind is a module: `data` says what a table gives to
draw, or None, and `draw` draws that on a sheet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

from benchmark.base.processes import cores, spawned
from benchmark.leaderboard.plots import classes, content, cost, difference, groups, heatmap, oracle, seeds, training
from benchmark.leaderboard.plots.seal import DESCRIPTION, description_of
from benchmark.leaderboard.plots.style import STYLE_VERSION
from benchmark.leaderboard.tables import Table
from benchmark.spec import canonical_json

__all__ = ["DESCRIPTION", "FORMATS", "Plot", "description_of", "draw", "plots"]

FORMATS = ("png", "svg")
PICTURES_A_PROCESS = 16  # for fewer, starting a process takes longer than drawing

_KINDS: dict[str, ModuleType] = {
    "groups": groups,
    "difference": difference,
    "classes": classes,
    "heatmap": heatmap,
    "seeds": seeds,
    "cost": cost,
    "training": training,
    "oracle": oracle,
}


@dataclass(frozen=True)
class Plot:
    """One picture: `data` (JSON types) is exactly what is drawn."""

    kind: str
    data: dict[str, Any]

    @cached_property
    def description(self) -> str:
        """The field `Description` of its files."""
        content = canonical_json({"kind": self.kind, "style": STYLE_VERSION, "data": self.data})
        return DESCRIPTION + hashlib.sha256(content.encode()).hexdigest()

    @property
    def alt(self) -> str:
        """What it shows, in one line."""
        return _KINDS[self.kind].ALT

    @property
    def undrawn(self) -> list[str]:
        """Names of classes of which no font here has all the letters: pictures have their indices instead."""
        others = content.in_other_scripts(self.data)
        if not others:
            return []
        from benchmark.leaderboard.plots import fonts

        return [item["label"] for item in others if not fonts.has(item["label"])]

    def files(self) -> dict[str, bytes]:
        """The picture in each of FORMATS. Draws it: takes about a tenth of a second."""
        from benchmark.leaderboard.plots.sheet import Sheet, drawing

        with drawing():
            sheet = Sheet()
            _KINDS[self.kind].draw(sheet, _with_numbers(self.data, self.undrawn))
            return sheet.files(self.description)


def _with_numbers(data: dict[str, Any], undrawn: Sequence[str]) -> dict[str, Any]:
    """The data with indices for these classes, and a note that says so."""
    if not undrawn:
        return data
    shown = [
        item | {"label": f"#{item['index']}"} if "index" in item and item["label"] in undrawn else item
        for item in data["classes"]
    ]
    note = "#: a class by its line in classes.txt, from 0; no font here has its name"
    return data | {"classes": shown, "note": "; ".join(filter(None, (data["note"], note)))}


def plots(table: Table) -> dict[str, Plot]:
    """The pictures of a track, by what they show: those that make sense for its rows."""
    found = {kind: module.data(table) for kind, module in _KINDS.items()}
    return {kind: Plot(kind, data) for kind, data in found.items() if data is not None}


def draw(pictures: Sequence[Plot]) -> Iterator[dict[str, bytes]]:
    """The files of each picture, in order. Many are drawn by several processes."""
    workers = min(cores(), len(pictures) // PICTURES_A_PROCESS)
    if workers < 2:
        yield from (picture.files() for picture in pictures)
        return
    with spawned(workers) as pool:
        yield from pool.map(Plot.files, pictures)
