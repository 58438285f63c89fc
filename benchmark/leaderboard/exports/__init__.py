"""The leaderboard for other programs and for papers: each module is a format, and is found by its name.

A module here satisfies `Export`. It makes the same text for the same board, and imports slow libraries only when it is
called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from benchmark.leaderboard.board import Board


class Export(Protocol):
    """The interface of a module in this folder. EXTENSION: of its file `leaderboard.EXTENSION`."""

    EXTENSION: str

    def write(self, board: Board, raw: bool = False) -> str:
        """The text of that file. raw: text in it is for programs alone, see `exports.csv`."""
        ...
