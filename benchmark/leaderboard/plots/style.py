"""Colours, markers and sizes of all pictures, which differ in grey print and for colour-blind readers too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

STYLE_FILE = Path(__file__).with_name("style.mplstyle")

# Raise it when the drawing changes, so that pictures on disk count as out of date.
STYLE_VERSION = 5

INK = "#000000"
QUIET = "#555555"  # explanations
BAND = "#cfcfcf"
THIN = "#999999"

WIDTH = 5.5  # inches: the text of a page with one column
HEADING = 9.0  # size of text, in points
TEXT = 7.5
SMALL = 7.0


class Look(NamedTuple):
    """A colour (Okabe and Ito's palette), a marker and a line; the last two differ in grey print too."""

    color: str
    marker: str
    line: Any = "-"


LOOKS = [
    Look("#000000", "o"),
    Look("#d55e00", "s", (0, (5, 1.5))),
    Look("#0072b2", "^", (0, (1.2, 1.2))),
    Look("#009e73", "D", (0, (6, 1.5, 1, 1.5))),
    Look("#cc79a7", "v", (0, (2.5, 2.5))),
]
ACCENT = LOOKS[1].color
HEAT = "cividis"  # from dark to light, also in grey

# The groups from dark to light, the overall mean hatched.
BARS: dict[str, dict[str, Any]] = {
    "Overall": {"facecolor": "#c8c8c8", "hatch": "//////"},
    "Head": {"facecolor": "#3b87c0"},
    "Medium": {"facecolor": "#f0b64a"},
    "Tail": {"facecolor": "#fdf0d5"},
}
BAR_EDGE = "#444444"
