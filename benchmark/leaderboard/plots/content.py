"""Helpers for the pictures' data. Data are JSON types, rounded far below a pixel, since the last bits differ between
versions of scipy and numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.leaderboard.rows import Row
from benchmark.leaderboard.stats.statistics import Estimate
from benchmark.leaderboard.tables import Table
from benchmark.store.records import GROUPS
from benchmark.ui.text import plain

MAX_ROWS = 20
MAX_PANELS = 15
LATIN = "\u024f"  # the last letter of the alphabets that every font for pictures has


def heading(table: Table, shown: int, of: int | None = None, *more: str) -> dict[str, Any]:
    """Title and note of a picture that shows the first `shown` of `of` rows (all of the table, if not given)."""
    of = len(table.rows) if of is None else of
    notes = [f"the {shown} best of {of} rows"] if shown < of else []
    return {"title": table.title, "note": "; ".join(notes + [text for text in more if text])}


def label(row: Row) -> str:
    """A row's name."""
    return short(row.label, 120)


def short(text: str, limit: int) -> str:
    """The text on one line, cut in its middle beyond `limit` characters, since long names often differ at their end."""
    text = plain(text)
    if len(text) <= limit:
        return text
    start = limit * 11 // 20
    return f"{text[:start]}…{text[start + 1 - limit :]}"


def rounded(value: float | None) -> float | None:
    """A number, rounded as it is drawn."""
    return None if value is None else round(value, 6)


def interval(score: Estimate | None) -> list[float | None] | None:
    """[mean, half-width or None] of an estimate."""
    if score is None:
        return None
    # Replicates are float32: numbers from them may differ in the last bits between processors.
    half_width = None if score.half_width is None else round(score.half_width, 3)
    return [rounded(score.mean), half_width]


def mean(score: Estimate | None) -> float | None:
    """The mean of an estimate."""
    return None if score is None else rounded(score.mean)


def class_names(table: Table) -> list[str]:
    """The classes, head first, most frequent first."""
    return sorted(table.classes, key=lambda name: (GROUPS.index(table.classes[name][0]), -table.classes[name][1], name))


def classes(table: Table, names: Sequence[str]) -> list[dict[str, Any]]:
    """Name, group and number of training images of each class. A class in another script also has its index, its line
    in classes.txt from 0, which is shown where no font has its letters."""
    index = {name: number for number, name in enumerate(table.classes)}
    return [
        {"label": short(name, 28), "group": table.classes[name][0], "count": table.classes[name][1]}
        | ({"index": index[name]} if any(char > LATIN for char in name) else {})
        for name in names
    ]


def in_other_scripts(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The classes of a picture whose names may have letters that no font has."""
    return [item for item in data.get("classes", ()) if "index" in item]


def class_means(row: Row, names: Sequence[str]) -> list[float | None]:
    """Average precision of each class, mean over seeds; None where a seed has no value."""
    values = ([record.metrics.per_class[name] for record in row.records] for name in names)
    return [_mean_of_all(of_class) for of_class in values]


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return rounded(math.fsum(known) / len(known)) if len(known) == len(values) else None
