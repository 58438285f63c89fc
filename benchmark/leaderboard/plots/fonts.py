"""Fonts for names whose letters DejaVu Sans, which comes with matplotlib, does not have; imports matplotlib.

Which fonts are installed decides how such a name looks, and whether it is drawn at all. It is no part of what a picture
shows: its description is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache

from matplotlib.font_manager import FontEntry, findSystemFonts, fontManager, get_font

BASE = "DejaVu Sans"
_BOXES = "Last Resort"  # comes with matplotlib too, and has a box for every letter


def has(text: str) -> bool:
    """Whether a font here has every letter of a text."""
    return _family(text) is not None


def families(texts: Iterable[str]) -> list[str]:
    """The fonts that, beside DejaVu Sans, have the letters of these texts."""
    found = dict.fromkeys(_family(text) for text in texts)
    return [family for family in found if family not in (None, BASE)]


@lru_cache(maxsize=4096)
def _family(text: str) -> str | None:
    letters = {ord(char) for char in text if not char.isspace()}
    return next((entry.name for entry in _installed() if letters <= _letters(entry.fname)), None)


@lru_cache(maxsize=1)
def _installed() -> list[FontEntry]:
    """The fonts that are installed now: DejaVu Sans, then upright ones of normal weight."""
    known = {entry.fname for entry in fontManager.ttflist}
    for path in sorted(set(findSystemFonts()) - known):  # matplotlib's own list may be from before they were
        try:
            fontManager.addfont(path)
        except Exception:  # whatever matplotlib cannot read is no font here
            continue
    return sorted((entry for entry in fontManager.ttflist if not entry.name.startswith(_BOXES)), key=_order)


def _order(entry: FontEntry) -> tuple:
    weight = entry.weight if isinstance(entry.weight, int) else 400
    return entry.name != BASE, entry.style != "normal", abs(weight - 400), "Sans" not in entry.name, entry.name


@cache
def _letters(path: str) -> frozenset[int]:
    """The letters of which a font has outlines; of one made of pixels, none."""
    try:
        font = get_font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except Exception:  # likewise
        return frozenset()
