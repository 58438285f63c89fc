"""Fonts for names whose letters DejaVu Sans, which comes with matplotlib, does not have; imports matplotlib.

Which fonts are installed decides how such a name looks, and whether it is drawn at all. It is no part of what a picture
shows: its description is the same on every machine.
"""

from __future__ import annotations

from functools import cache, lru_cache

from matplotlib.font_manager import FontEntry, FontProperties, findfont, findSystemFonts, fontManager, get_font

BASE = "DejaVu Sans"
_BOXES = "Last Resort"  # comes with matplotlib too, and has a box for every letter


def has(text: str) -> bool:
    """Whether a font here has every letter of a text."""
    return _file(text) is not None


def font_of(text: str) -> FontProperties:
    """The font that has all letters of a text: DejaVu Sans where it does, or where none does."""
    return FontProperties(fname=_file(text) or _base())


@lru_cache(maxsize=1)
def _base() -> str:
    return findfont(BASE)


@lru_cache(maxsize=4096)
def _file(text: str) -> str | None:
    letters = {ord(char) for char in text if not char.isspace()}
    if letters <= _letters(_base()):
        return _base()
    return next((path for path in _installed() if letters <= _letters(path)), None)


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    """The files of the fonts that are installed now, upright ones of normal weight first."""
    known = {entry.fname for entry in fontManager.ttflist}
    for path in sorted(set(findSystemFonts()) - known):  # matplotlib's own list may be from before they were
        try:
            fontManager.addfont(path)
        except Exception:  # whatever matplotlib cannot read is no font here
            continue
    found = [entry for entry in fontManager.ttflist if not entry.name.startswith(_BOXES)]
    return tuple(dict.fromkeys(entry.fname for entry in sorted(found, key=_order)))


def _order(entry: FontEntry) -> tuple:
    weight = entry.weight if isinstance(entry.weight, int) else 400
    return entry.style != "normal", abs(weight - 400), "Sans" not in entry.name, entry.name, entry.fname


@cache
def _letters(path: str) -> frozenset[int]:
    """The letters of which a font has outlines; of one made of pixels, none."""
    try:
        font = get_font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except Exception:  # likewise
        return frozenset()
