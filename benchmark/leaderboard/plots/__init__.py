"""Plots of a track: what is drawn is data first, so that it can be compared without drawing it.

Every file carries a digest of what it shows in its field `Description`. The bytes are the same for the same data under
one version of matplotlib; the digest is the same under all. Each kind is a module: `data` says what a table gives to
draw, or None, and `draw` draws that on a sheet.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmark.leaderboard.plots import classes, cost, difference, groups, heatmap, oracle, seeds, training
from benchmark.leaderboard.plots.style import STYLE_VERSION
from benchmark.leaderboard.tables import Table
from benchmark.spec import canonical_json

DESCRIPTION = "ltbench data sha256:"
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
_SVG_HEAD = 4096  # bytes that hold an SVG's description
_MAX_SVG = 20_000_000
_SVG_START = b'<?xml version="1.0" encoding="utf-8" standalone="no"?>\n<!DOCTYPE svg'
_SVG_DESCRIPTION = re.compile(rb"<dc:description>(" + re.escape(DESCRIPTION).encode() + rb"[0-9a-f]{64})</dc:")


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

    def files(self) -> dict[str, bytes]:
        """The picture in each of FORMATS. Draws it: takes about a tenth of a second."""
        from benchmark.leaderboard.plots.sheet import Sheet, drawing

        with drawing():
            sheet = Sheet()
            _KINDS[self.kind].draw(sheet, self.data)
            return sheet.files(self.description)


def plots(table: Table) -> dict[str, Plot]:
    """The pictures of a track, by what they show: those that make sense for its rows."""
    found = {kind: module.data(table) for kind, module in _KINDS.items()}
    return {kind: Plot(kind, data) for kind, data in found.items() if data is not None}


def draw(pictures: Sequence[Plot]) -> Iterator[dict[str, bytes]]:
    """The files of each picture, in order. Many are drawn by several processes."""
    workers = min(os.cpu_count() or 1, len(pictures) // PICTURES_A_PROCESS)
    if workers < 2:
        yield from (picture.files() for picture in pictures)
        return
    # Spawned, not forked: PyTorch's threads may be running here.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(Plot.files, pictures)


def description_of(path: Path) -> str | None:
    """The `Description` of a whole PNG or SVG file, the latter as we write it; None for anything else."""
    return _svg_description(path) if path.suffix == ".svg" else _png_description(path)


def _png_description(path: Path) -> str | None:
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()
            description = image.info.get("Description")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return description if isinstance(description, str) else None


def _svg_description(path: Path) -> str | None:
    # Not parsed: XML can be made to take any time and memory, and what we wrote has one spelling.
    try:
        with path.open("rb") as file:
            head = file.read(_SVG_HEAD)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 16, 0))
            whole = file.read().endswith(b"</svg>\n")
    except OSError:
        return None
    found = _SVG_DESCRIPTION.search(head)
    if not whole or size > _MAX_SVG or found is None or not head.startswith(_SVG_START):
        return None
    return found.group(1).decode()
