"""The names in the folders of a store, including those of broken links."""

from __future__ import annotations

import os
from pathlib import Path

from benchmark.errors import StoreError


def listed(folder: Path) -> list[str]:
    """The names in a folder, sorted; none where there is no such folder. Hidden ones, which are drafts, are left out.

    Raises StoreError when it cannot be read, or is not a folder.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        if not os.path.lexists(folder) or folder.is_dir():  # missing, or created only now
            return []
        problem = "no folder, and results have one there; move it away"
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}; ask its owner for access"
    raise StoreError(f"{folder}: {problem}")


def is_taken(path: Path) -> bool:
    """Whether a path exists, also as a broken link or as a file that may not be read."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
