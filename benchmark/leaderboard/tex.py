"""Text and tables of plain text as LaTeX that plain pdflatex compiles, whatever the text is."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

from benchmark.leaderboard.cells import IMAGES_MARK, SEEDS_MARK
from benchmark.ui.text import plain

# In \footnotesize: lines of a table that fit on a page below a caption, and characters of a line across the page.
_PAGE_LINES, _NOTE_CHARACTERS = 38, 150
# Characters after which text is broken over lines, where one column is text and where several are.
NAME_WIDTH, TEXT_WIDTH = 29, 18
# Approximate width of a character, filled share of a broken line, and largest number of characters of a text.
_CHARACTER_MM, _FILLED, _LONGEST = 1.35, 0.75, 400

# Characters with a meaning in LaTeX (alone, after `\\`, or doubled), and others that its own fonts have.
_SPECIAL = {char: rf"\{char}" for char in "{}$&#%_"} | {char: f"{{{char}}}" for char in "[]*'`"}
_SPECIAL |= {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", '"': "{''}"}
_SPECIAL |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "…": r"\dots{}", "ß": r"\ss{}"}
_SPECIAL |= {"–": r"\textendash{}", "—": r"\textemdash{}", "‘": "{`}", "’": "{'}", "“": "{``}", "”": "{''}"}
_SPECIAL |= {"±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "−": "$-$", IMAGES_MARK: "$^i$", SEEDS_MARK: "$^s$"}
# Combining character -> the accent that TeX's own fonts can put on any letter.
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c", "`'^~=u.\"rHv", strict=True))

_FLOAT = r"""\begin{{table*}}[tp]
\centering
\caption[{title}]{{{title}.{caption}}}
\label{{tab:ltbench-{label}}}
\par\medskip
\footnotesize
\setlength{{\tabcolsep}}{{2.5pt}}
\makebox[\linewidth][c]{{%
{tabular}}}
{notes}\end{{table*}}"""


def escape(text: str, breakable: bool = False, longest: int | None = _LONGEST) -> str:
    """`text` escaped as LaTeX in ASCII. breakable: lines may end after punctuation too. Text of more than `longest`
    characters is cut."""
    shown = unicodedata.normalize("NFC", plain(text))
    shown = shown if longest is None or len(shown) <= longest else f"{shown[: longest - 1]}…"
    escaped = (_escaped(char) + (r"\allowbreak{}" if breakable and char in "=:/_,.-" else "") for char in shown)
    return re.sub("-(?=-)", "-{}", "".join(escaped))  # two of them would be a dash


class Bold(str):
    """A cell whose number is the best of its column."""


def floats(
    title: str,
    caption: Sequence[str],
    label: str,
    heads: Sequence[tuple[str, str]],
    cells: Sequence[Sequence[str]],
    width: int = NAME_WIDTH,
    notes: str = "",
) -> list[str]:
    """A table of plain text as floats over the whole width of the text, several where it is longer than a page.

    title: in all captions and in the list of tables. caption: sentences of the first one. heads: titles of columns with
    their types, `l` for text, `r` for numbers. width: characters after which text is broken. notes: below the last
    float.
    """
    broken = [i for i, (_, kind) in enumerate(heads) if kind == "l" and any(len(row[i]) > width for row in cells)]
    most = max(_PAGE_LINES - math.ceil(len(notes) / _NOTE_CHARACTERS), _PAGE_LINES // 3)
    parts: list[list[Sequence[str]]] = []
    left = 0
    for row in cells:
        height = max([1, *(math.ceil(len(row[i][:_LONGEST]) / (_FILLED * width)) for i in broken)])
        if height > left:
            parts.append([])
            left = most
        parts[-1].append(row)
        left -= height
    made = []
    for number, part in enumerate(parts, 1):
        is_first, is_last = number == 1, number == len(parts)
        below = f"\\par\\smallskip\n\\parbox{{\\linewidth}}{{\\raggedright {escape(notes, longest=None)}}}\n"
        made.append(
            _FLOAT.format(
                title=escape(title) + (f" (part {number} of {len(parts)})" if len(parts) > 1 else ""),
                caption="".join(f" {escape(text)}" for text in caption if text) if is_first else "",
                label=label if is_first else f"{label}-part{number}",
                tabular=_tabular(heads, part, broken, width),
                notes=below if notes and is_last else "",
            )
        )
    return made


def _tabular(
    heads: Sequence[tuple[str, str]], cells: Sequence[Sequence[str]], broken: Sequence[int], width: int
) -> str:
    import pandas as pd

    # Numbers for columns: two may have one title.
    styler = pd.DataFrame([list(row) for row in cells], dtype=object).style.hide(axis="index")
    numbers = [i for i, (_, kind) in enumerate(heads) if kind == "r"]
    styler = styler.format(escape).format(_number, subset=numbers)
    styler = styler.format(lambda text: rf"\raggedright {escape(text, breakable=True)}", subset=broken)
    styler = styler.format_index(lambda i: escape(heads[i][0]), axis="columns")
    kinds = (f"p{{{width * _CHARACTER_MM:.0f}mm}}" if i in broken else kind for i, (_, kind) in enumerate(heads))
    return styler.to_latex(hrules=True, column_format=f"@{{}}{''.join(kinds)}@{{}}").rstrip()


def _number(text: str) -> str:
    """A number, with the rest of the text in small print."""
    number, _, rest = text.partition(" ")
    number = rf"\textbf{{{escape(number)}}}" if isinstance(text, Bold) else escape(number)
    return rf"{number} {{\scriptsize {escape(rest)}}}" if rest else number


def _escaped(char: str) -> str:
    if char in _SPECIAL or char.isascii():
        return _SPECIAL.get(char, char)
    letter, *marks = list(unicodedata.normalize("NFD", char))
    if letter.isascii() and letter.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS:
        dotless = "\\" if letter in "ij" else ""
        return rf"\{_ACCENTS[marks[0]]}{{{dotless}{letter}}}"
    return f"{{[}}U+{ord(char):04X}{{]}}"
