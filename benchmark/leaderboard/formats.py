"""The formats of a leaderboard: the pages, which have pictures, and the exports, which are found by module.

This module is quick to import, so that a command line can name the formats.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from benchmark.leaderboard import exports

if TYPE_CHECKING:
    from benchmark.leaderboard.exports import Export

PAGES = ("md", "html")


def format_names() -> tuple[str, ...]:
    """The names of all formats, pages first."""
    return (*PAGES, *export_names())


def export_names() -> tuple[str, ...]:
    """The names of the exports, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(exports.__path__)))


def load_export(name: str) -> Export:
    """The module of an export."""
    return importlib.import_module(f"{exports.__name__}.{name}")


def file_name(name: str) -> str:
    """The file of a format."""
    return f"leaderboard.{name if name in PAGES else load_export(name).EXTENSION}"
