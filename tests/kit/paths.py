"""Where things are."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent


def kit_environment() -> dict[str, str]:
    """The environment of a process that runs a module of the kit: `python -m kit.NAME`."""
    paths = [str(TESTS), os.environ.get("PYTHONPATH")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
