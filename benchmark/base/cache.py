"""The cache folder: decoded images, digests of files, numbers computed from stored logits."""

from __future__ import annotations

import os
from pathlib import Path

from benchmark.errors import InputError

CACHE_VARIABLE = "LTBENCH_CACHE"


def cache_folder() -> Path:
    """LTBENCH_CACHE, or `ltbench` below the user's cache folder. Raises InputError when the user has no home folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "ltbench"
    try:
        return Path.home() / ".cache" / "ltbench"
    except RuntimeError:  # HOME is not set and the system does not list the user, as in a container
        raise InputError(
            "no folder for the image cache: HOME is not set and the system knows no home of this user; set "
            f"{CACHE_VARIABLE} to a folder"
        ) from None
