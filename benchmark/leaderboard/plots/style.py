"""How all pictures look: told apart in grey print and by colour-blind readers."""

from __future__ import annotations

from typing import Any, NamedTuple

# Raise it when the drawing changes, so that pictures on disk count as out of date.
STYLE_VERSION = 4

INK = "#000000"
QUIET = "#555555"  # what explains
GRID = "#dddddd"
BAND = "#cfcfcf"
THIN = "#999999"
FAINT = "#b8b8b8"

DPI = 150
WIDTH = 540.0  # points
MARGIN = 8.0
SIZE = 8.0  # of text, in points
SMALL = 7.0


class Look(NamedTuple):
    """A method's colour (Okabe and Ito's palette), marker and line; the last two tell it apart in grey."""

    color: str
    marker: str
    dashes: tuple[float, ...] = ()


LOOKS = [
    Look("#000000", "o"),
    Look("#d55e00", "s", (5, 1.5)),
    Look("#0072b2", "^", (1.2, 1.2)),
    Look("#009e73", "D", (6, 1.5, 1, 1.5)),
    Look("#cc79a7", "v", (2.5, 2.5)),
]
VALIDATION = "#d55e00"

# The groups from dark to light, the overall mean hatched.
BARS: dict[str, dict[str, Any]] = {
    "Overall": {"face": "#c8c8c8", "hatch": "//////"},
    "Head": {"face": "#3b87c0"},
    "Medium": {"face": "#f0b64a"},
    "Tail": {"face": "#fdf0d5"},
}
BAR_EDGE = "#444444"
HEAT = "cividis"  # from dark to light, also in grey

MATPLOTLIB: dict[str, Any] = {
    "hatch.linewidth": 0.5,
    "svg.fonttype": "path",  # the same letters on every machine
    "svg.hashsalt": "ltbench",
}
