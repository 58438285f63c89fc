"""The leaderboard for other programs and for papers: one module a format, found by its name.

A module here has what `Export` says. It makes the same text for the same board, and imports what takes long to import
only when it is called: that a format exists is known from the file's name alone.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from benchmark.leaderboard.board import Board


class Export(Protocol):
    """A module of this folder, named as its format."""

    EXTENSION: str
    """Of its file `leaderboard.EXTENSION`."""

    def write(self, board: Board, raw: bool = False) -> str:
        """The text of that file. raw: text in it is for programs alone, see `exports.csv`."""
        ...


def names() -> tuple[str, ...]:
    """The formats, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Export:
    """The module of a format."""
    return importlib.import_module(f"{__name__}.{name}")
