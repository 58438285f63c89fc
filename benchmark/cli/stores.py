"""The results folders that commands read."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import InputError
from benchmark.store import LOCAL, PUBLISHED

if TYPE_CHECKING:
    from benchmark.store.folder import RunFolder


def stores_of(results: Path | None) -> list[Path]:
    """The given results folder, or else the user's own and the published one, as far as they exist.

    Raises InputError when there is none.
    """
    stores = [results] if results else [LOCAL, PUBLISHED]
    found = [store for store in stores if (store / "runs").is_dir()]
    if not found:
        raise InputError(f"{stores[-1]}: {_not_a_store(stores[-1])}; give a results folder with --results")
    return found


def _not_a_store(path: Path) -> str:
    """Why a path is no results folder."""
    if not path.is_dir():
        return "is a file" if path.exists() else "no such results folder"
    inner = " (it seems to be the runs folder of one)" if any(path.glob("*/record.json")) else ""
    return f"has no folder runs{inner}"


def find_run(run: str, results: Path | None) -> RunFolder:
    """A finished run of the given folder, or of those of `stores_of`. Raises InputError or StoreError."""
    from benchmark.store.runs import NoSuchRun, Store

    *others, last = stores_of(results)
    for store in others:
        with contextlib.suppress(NoSuchRun):
            return Store(store).find(run)
    return Store(last).find(run)
