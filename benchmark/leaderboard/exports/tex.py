"""Text and tables in LaTeX that plain pdflatex sets without complaint, whatever the text is."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmark.ui.text import plain

# Lines of a table's body that fit on a page below a caption, in \footnotesize.
PAGE_LINES = 38
# Text cannot fill pages: what is longer is cut.
_MOST_CHARACTERS = 400
# A word that is longer may be broken within.
_LONG_WORD = 16
# In \footnotesize: width of a character, on average, and characters of LaTeX that make a line across the page.
_CHARACTER_MM = 1.35
_NOTE_CHARACTERS = 150
# Of a line of ragged text that is broken after words.
_FILLED = 0.75

# `"` and "`" would be other quotation marks; brackets and asterisks after `\\` or \midrule would be their options.
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{''}",
    "`": r"\`{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
}
_SYMBOLS = {
    "–": "--",
    "—": "---",
    "‘": "`{}",
    "’": "'{}",
    "“": "``{}",
    "”": "''{}",
    "…": r"\dots{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
# Combining character -> the accent that TeX's own fonts can put on any letter.
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}
_BELOW = ("\u0327",)


def spelled(text: str) -> str:
    """`text` on one line as it will be seen: what pdflatex cannot set as `[U+4E2D]`, an end too long to show as `…`."""
    shown = "".join(map(_spelled, unicodedata.normalize("NFC", plain(text))))
    return shown if len(shown) <= _MOST_CHARACTERS else f"{shown[: _MOST_CHARACTERS - 1]}…"


def escape(text: str) -> str:
    """`text` as LaTeX that shows it as it is, in ASCII: no package and no input encoding is needed."""
    return _escape(spelled(text))


def breakable(text: str) -> str:
    """`escape` with places where a narrow column may break lines: after punctuation, and anywhere in a long word."""
    pieces = re.findall(r"[^\W_]+|.", spelled(text))
    return "".join(_breakable(piece, after) for piece, after in pairwise([*pieces, " "]))


def slug(text: str) -> str:
    """A \\label's part for `text`: ASCII letters, digits and dashes, other ones for other text."""
    readable = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]
    return f"{readable}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}".lstrip("-")


@dataclass(frozen=True)
class Column:
    """A column of a table: its title in LaTeX, its type (`l`, `r`, `p{20mm}`); span: the columns it takes."""

    title: str
    type: str
    span: int = 1

    @property
    def header(self) -> str:
        """The cell of its title."""
        return rf"\multicolumn{{{self.span}}}{{c}}{{{self.title}}}" if self.span > 1 else self.title


@dataclass(frozen=True)
class Line:
    """A row of a table: cells in LaTeX, one a column (`a & b` where it spans two); height: the lines it takes."""

    cells: tuple[str, ...]
    height: int = 1


def text_column(title: str, texts: Iterable[str], most: int) -> Column:
    """A column for text: as wide as it is, up to about `most` characters; longer text is broken over lines."""
    if all(len(spelled(text)) <= most for text in texts):
        return Column(title, "l")
    return Column(title, f"p{{{most * _CHARACTER_MM:.0f}mm}}")


def text_cell(column: Column, text: str) -> str:
    """The cell of a text in such a column."""
    return rf"\raggedright {breakable(text)}" if column.type.startswith("p") else escape(text)


def height(text: str, most: int) -> int:
    """About how many lines `text` takes in a column of `most` characters."""
    shown = len(spelled(text))
    return 1 if shown <= most else math.ceil(shown / (_FILLED * most))


def floats(
    short: str, caption: str, label: str, columns: Sequence[Column], lines: Sequence[Line], notes: str = ""
) -> list[str]:
    """A table as floats over the whole width of the text, several where it is longer than a page.

    In LaTeX: short: what it is, in all captions and in the list of tables. caption: the rest of the first caption.
    notes: below the last.
    """
    note_lines = math.ceil(len(notes) / _NOTE_CHARACTERS)
    parts = list(_parts(lines, max(PAGE_LINES - note_lines, PAGE_LINES // 3)))
    made = []
    for number, part in enumerate(parts, 1):
        first, last = number == 1, number == len(parts)
        of = f" (part {number} of {len(parts)})" if len(parts) > 1 else ""
        opening = rf"\caption[{short}{of}]{{{short}{of}.{f' {caption}' if first else ''}}}"
        name = label if first else f"{label}-part{number}"
        made.append(_float(opening, name, columns, part, notes if last else ""))
    return made


def _parts(lines: Sequence[Line], most: int) -> Iterator[list[Line]]:
    part: list[Line] = []
    for line in lines:
        if part and sum(other.height for other in part) + line.height > most:
            yield part
            part = []
        part.append(line)
    yield part


def _float(caption: str, label: str, columns: Sequence[Column], lines: Sequence[Line], notes: str) -> str:
    space = "\\addlinespace[1.5pt]\n" if any(line.height > 1 for line in lines) else ""
    # The box is centred: in a text narrower than the table it stands out on both sides, and nothing is overfull.
    return "\n".join(
        [
            r"\begin{table*}[tp]",
            r"\centering",
            caption,
            rf"\label{{tab:ltbench-{label}}}",
            r"\par\medskip",
            r"\footnotesize",
            r"\setlength{\tabcolsep}{2.5pt}",
            r"\makebox[\linewidth][c]{%",
            rf"\begin{{tabular}}{{@{{}}{''.join(column.type for column in columns)}@{{}}}}",
            r"\toprule",
            " & ".join(column.header for column in columns) + r" \\",
            r"\midrule",
            f"\n{space}".join(" & ".join(line.cells) + r" \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}}",
            *([r"\par\smallskip", rf"\parbox{{\linewidth}}{{\raggedright {notes}}}"] if notes else []),
            r"\end{table*}",
        ]
    )


def _spelled(char: str) -> str:
    return char if char.isascii() or char in _SYMBOLS or _accented(char) else f"[U+{ord(char):04X}]"


def _escape(text: str) -> str:
    return "".join(_escaped(char, after) for char, after in pairwise(f"{text} "))


def _escaped(char: str, after: str) -> str:
    if char in "-'" and after == char:  # two of them would be a dash, or a quotation mark
        return f"{char}{{}}"
    return _SPECIAL.get(char) or _SYMBOLS.get(char) or (char if char.isascii() else _accented(char))


def _accented(char: str) -> str:
    """A Latin letter with one accent as TeX's own fonts make it; empty for any other character."""
    letter, *marks = unicodedata.normalize("NFD", char)
    if not (letter.isascii() and letter.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS):
        return ""
    dotless = letter in "ij" and marks[0] not in _BELOW
    return rf"\{_ACCENTS[marks[0]]}{{{chr(92) if dotless else ''}{letter}}}"


def _breakable(piece: str, after: str) -> str:
    if len(piece) > _LONG_WORD:
        chunks = (piece[i : i + _LONG_WORD // 2] for i in range(0, len(piece), _LONG_WORD // 2))
        return r"\allowbreak{}".join(map(_escape, chunks))
    is_mark = not (piece[0].isalnum() or piece.isspace() or piece in "([{" or after.isspace())
    return _escape(piece) + (r"\allowbreak{}" if is_mark else "")
