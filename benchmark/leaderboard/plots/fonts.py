"""Fonts for names with letters that DejaVu Sans, which comes with matplotlib, lacks; imports matplotlib.

The installed fonts decide how such a name looks, and whether it is drawn at all. They are not part of a picture's data,
so its description is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache

from matplotlib.font_manager import FontEntry, findSystemFonts, fontManager, get_font

BASE = "DejaVu Sans"
_BOXES = "Last Resort"  # comes with matplotlib too, and shows a box for every letter


def has(text: str) -> bool:
    """Whether an installed font has every letter of a text."""
    return _family(text) is not None


def families(texts: Iterable[str]) -> list[str]:
    """The fonts beside DejaVu Sans that these texts need."""
    found = dict.fromkeys(_family(text) for text in texts)
    return [family for family in found if family is not None and family != BASE]


@lru_cache(maxsize=4096)
def _family(text: str) -> str | None:
    letters = {ord(char) for char in text if not char.isspace()}
    return next((entry.name for entry in _installed() if letters <= _letters(entry.fname)), None)


@lru_cache(maxsize=1)
def _installed() -> list[FontEntry]:
    """The fonts that are installed now: DejaVu Sans, then upright ones of normal weight."""
    known = {entry.fname for entry in fontManager.ttflist}
    for path in sorted(set(findSystemFonts()) - known):  # fonts that are newer than matplotlib's own list
        try:
            fontManager.addfont(path)
        except Exception:  # a file that matplotlib cannot read is skipped
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
