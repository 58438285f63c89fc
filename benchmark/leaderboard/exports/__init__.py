"""The leaderboard for other programs and for papers: one module a format, named as it, and found by that.

A module here has what `Export` says. It makes the same text for the same board, and imports what takes long to import
only when it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from benchmark.leaderboard.board import Board


class Export(Protocol):
    """What a module of this folder has. EXTENSION: of its file `leaderboard.EXTENSION`."""

    EXTENSION: str

    def write(self, board: Board, raw: bool = False) -> str:
        """The text of that file. raw: text in it is for programs alone, see `exports.csv`."""
        ...
