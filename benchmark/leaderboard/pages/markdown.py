"""Pieces of Markdown: escaped text, and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from benchmark.ui.text import plain

# Punctuation that Markdown reads; the underscore within a word is text to it.
_MARKDOWN = re.compile(r"[\\`*\[\]#~!]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "$": "&#36;"}


def escape(text: str) -> str:
    """`text` escaped for Markdown and HTML, on one line, also within a table."""
    escaped = _MARKDOWN.sub(lambda match: "\\" + match.group(), plain(text))
    return "".join(_ENTITIES.get(char, char) for char in escaped)


def pipe_table(titles: Sequence[str], rules: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; rules: `:--` or `--:` for each column."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [titles, rules, *rows])
