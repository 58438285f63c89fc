"""In what a leaderboard is written: the pages, which have pictures, and the exports, which are found by module.

Importing this takes no time, so that a command line may name the formats.
"""

from __future__ import annotations

from benchmark.leaderboard import exports

PAGES = ("md", "html")


def format_names() -> tuple[str, ...]:
    """The names of all formats, pages first."""
    return (*PAGES, *exports.names())


def file_name(name: str) -> str:
    """The file of a format."""
    return f"leaderboard.{name if name in PAGES else exports.load(name).EXTENSION}"
