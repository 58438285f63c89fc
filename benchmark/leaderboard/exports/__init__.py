"""The leaderboard for other programs and for papers: CSV, JSON, LaTeX; the same bytes for the same board."""

from __future__ import annotations

from collections.abc import Callable

from benchmark.leaderboard.board import Board
from benchmark.leaderboard.exports.as_csv import to_csv
from benchmark.leaderboard.exports.as_json import to_json
from benchmark.leaderboard.exports.as_latex import to_latex

__all__ = ["FORMATS", "to_csv", "to_json", "to_latex"]

# Name -> (file name, what makes its text).
FORMATS: dict[str, tuple[str, Callable[[Board], str]]] = {
    "csv": ("leaderboard.csv", to_csv),
    "json": ("leaderboard.json", to_json),
    "latex": ("leaderboard.tex", to_latex),
}
