"""What is in the folders of a store: names, whatever they lead to."""

from __future__ import annotations

import os
from pathlib import Path

from benchmark.errors import StoreError


def listed(folder: Path) -> list[str]:
    """The names in a folder, sorted, without hidden ones, which are on their way in or out; none where there is no such
    folder. Raises StoreError when it cannot be read, or is none."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        if not os.path.lexists(folder) or folder.is_dir():  # not there, or only now
            return []
        problem = "no folder, and results have one there; move it away"
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}; ask its owner for access"
    raise StoreError(f"{folder}: {problem}")


def is_taken(path: Path) -> bool:
    """Whether a name is taken, if only by a link that leads nowhere or by a file that may not be looked at."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
