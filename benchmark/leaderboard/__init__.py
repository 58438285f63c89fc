"""The leaderboard: from the records of a results folder to tables, plots and a page.

`write` makes the files, `check` tells whether they are up to date, `tables` gives the numbers.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from benchmark.errors import StoreError
from benchmark.leaderboard.page import PAGE_FILE, PLOT_FOLDER, Page, build, render
from benchmark.leaderboard.plots import DESCRIPTION, description_of, draw
from benchmark.leaderboard.tables import Table, build_tables
from benchmark.store import load_records, write_atomically

__all__ = ["Table", "check", "render", "tables", "write"]


def tables(results: Path, problems: list[StoreError] | None = None) -> list[Table]:
    """The tables of a results folder, one a track; for `problems` see `benchmark.store.load_records`."""
    with _no_collections():
        return build_tables(load_records(results, problems))


def write(results: Path, out: Path, problems: list[StoreError] | None = None) -> list[Path]:
    """Write the page and its plots to the folder `out`; returns the files that changed.

    Files that are up to date are not touched: a plot is when it shows the same data, whatever version of
    matplotlib drew it. Plots of tracks that no longer exist are removed. Raises StoreError when a file cannot
    be written. problems: where given, the records that were left out are appended to it.
    """
    page = _page(results, out, problems)
    changed = []
    try:
        (out / PLOT_FOLDER).mkdir(parents=True, exist_ok=True)
        outdated = {n: plot for n, plot in page.plots.items() if description_of(out / n) != plot.description}
        for name, content in zip(outdated, draw(list(outdated.values())), strict=True):
            write_atomically(out / name, content)
            changed.append(out / name)
        # After its pictures, so that it never shows one that is not there.
        content = page.text.encode()
        if _read(out / PAGE_FILE) != content:
            write_atomically(out / PAGE_FILE, content)
            changed.append(out / PAGE_FILE)
        for path in _stray_plots(page, out):
            path.unlink()
            changed.append(path)
    except OSError as error:
        raise StoreError(f"{error.filename or out}: cannot be written: {error.strerror or error}") from None
    return changed


def check(results: Path, out: Path, problems: list[StoreError] | None = None) -> list[str]:
    """What differs between the records and the files in `out`, one line a file; empty when all is up to date.

    The page is compared byte for byte, a plot by the digest of its data. Raises StoreError when a file cannot
    be read. problems: as for `write`.
    """
    page = _page(results, out, problems)
    try:
        differences = _page_differences(out / PAGE_FILE, page.text.encode())
        for name, plot in page.plots.items():
            if not (out / name).exists():
                differences.append(f"{name}: missing")
            elif description_of(out / name) != plot.description:
                differences.append(f"{name}: does not show what the records give")
        stray = [f"{PLOT_FOLDER}/{path.name}: no records give this plot" for path in _stray_plots(page, out)]
    except OSError as error:
        raise StoreError(f"{error.filename or out}: cannot be read: {error.strerror or error}") from None
    return differences + stray


def _page(results: Path, out: Path, problems: list[StoreError] | None) -> Page:
    problems = [] if problems is None else problems
    with _no_collections():
        records = list(load_records(results, problems))
        # Without the way to the results folder: the page is the same wherever the folder lies.
        excluded = [str(problem).removeprefix(f"{results}{os.sep}") for problem in problems]
        runs = Path(os.path.relpath((results / "runs").resolve(), out.resolve())).as_posix()
        return build(records, excluded, runs)


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Pause Python's search for cycles: records hold none, and going through them again and again while thousands are
    read takes as long as reading them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _page_differences(path: Path, wanted: bytes) -> list[str]:
    found = _read(path)
    if found is None:
        return [f"{path.name}: missing"]
    lines = enumerate(zip_longest(found.split(b"\n"), wanted.split(b"\n")), start=1)
    for number, (old, new) in lines:
        if old != new:
            return [f"{path.name}: line {number} is {_quoted(old)}; the records give {_quoted(new)}"]
    return []


def _quoted(line: bytes | None) -> str:
    return "nothing" if line is None else repr(line.decode(errors="replace"))


def _stray_plots(page: Page, out: Path) -> list[Path]:
    # Only our own pictures: whatever else lies in the folder is the user's.
    return [
        path
        for path in sorted((out / PLOT_FOLDER).glob("*.png"))
        if f"{PLOT_FOLDER}/{path.name}" not in page.plots and (description_of(path) or "").startswith(DESCRIPTION)
    ]
