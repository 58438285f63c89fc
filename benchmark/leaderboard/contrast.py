"""Two methods of one track against each other: what differs, and the classes that moved most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import InputError
from benchmark.leaderboard.comparison import compare
from benchmark.leaderboard.resampling import class_scores, group_means, image_weights
from benchmark.leaderboard.statistics import Estimate, estimate, holm
from benchmark.leaderboard.tables import MISSING, Row, Table, score_text
from benchmark.progress import Reporter
from benchmark.records import GROUPS
from benchmark.registry import did_you_mean
from benchmark.store import load_logits


@dataclass(frozen=True)
class Change:
    """One score of both methods in percent, None where it is missing, and first minus second in percent points.

    half_width: of the 95 % interval, over test images and seeds. p: two-sided; p_holm: corrected for all changes of its
    kind. None where a method has one seed: what other seeds would give is not known.
    """

    name: str
    first: Estimate | None
    second: Estimate | None
    difference: float | None
    half_width: float | None
    p: float | None
    p_holm: float | None


@dataclass(frozen=True)
class Contrast:
    """First method minus second: overall, head, medium, tail, and every class, the largest difference first."""

    table: Table
    first: Row
    second: Row
    means: tuple[Change, ...]
    classes: tuple[Change, ...]


class NoSuchRow(InputError):
    """A results folder has no table with both rows: the dataset, the protocol or a row is not there."""


def find_tables(
    tables: Iterable[Table], dataset: str, protocol: str | None, first: str, second: str
) -> list[tuple[Table, Row, Row]]:
    """The tables of a dataset, and of a protocol where it is given, that have both rows, with the rows.

    A table in which a name fits several rows is passed over while another one has both. Raises NoSuchRow, with the near
    names, when no table has both, InputError when those that have both leave open which row is meant.
    """
    tables = list(tables)
    datasets = {table.track.dataset for table in tables}
    if dataset not in datasets:
        raise NoSuchRow(f"no records of dataset {dataset!r}{did_you_mean(dataset, datasets)}")
    of_dataset = [table for table in tables if table.track.dataset == dataset]
    protocols = {table.track.protocol for table in of_dataset}
    if protocol is not None and protocol not in protocols:
        raise NoSuchRow(f"no records of protocol {protocol!r} on {dataset}{did_you_mean(protocol, protocols)}")
    chosen = [table for table in of_dataset if protocol in (None, table.track.protocol)]
    for name in (first, second):
        if not any(_rows_named(table, name) for table in chosen):
            labels = list(dict.fromkeys(row.label for table in chosen for row in table.rows))
            raise NoSuchRow(f"no row {name!r} on {dataset}{did_you_mean(name, labels)}")
    found = [(table, _rows_named(table, first), _rows_named(table, second)) for table in chosen]
    both = [(table, a, b) for table, a, b in found if a and b]
    if not both:
        raise NoSuchRow(f"no track of {dataset} has both {first!r} and {second!r}; see ltbench leaderboard")
    clear = [(table, a[0], b[0]) for table, a, b in both if len(a) == len(b) == 1]
    if not clear:
        table, a, b = both[0]
        name, rows = (first, a) if len(a) > 1 else (second, b)
        labels = ", ".join(repr(row.label) for row in rows)
        raise InputError(f"{name!r} has {len(rows)} rows in {table.title}; give one of {labels}")
    return clear


def _rows_named(table: Table, name: str) -> list[Row]:
    """The row of a label, else all rows of a method."""
    of_label = [row for row in table.rows if row.label == name]
    return of_label or [row for row in table.rows if row.records[0].spec.method == name]


def contrast(results: Path, table: Table, first: Row, second: Row, reporter: Reporter | None = None) -> Contrast:
    """Compare two rows of a table, from their stored logits. Raises InputError for a row with itself."""
    if first is second:
        raise InputError(f"{first.label!r} is given twice; name two methods")
    with (reporter or Reporter()).task("scoring reweighted test sets", first.n + second.n) as task:
        pair = []
        for row in (first, second):
            seeds = []
            for record in row.records:
                logits, targets = load_logits(results, record)
                seeds.append(class_scores(logits[record.declared], targets, image_weights(len(targets))))
                task.update(len(seeds) + sum(map(len, pair)))
            pair.append(np.stack(seeds))
    groups = tuple(group for group, _ in table.classes.values())
    means = [np.stack([group_means(scores, groups) for scores in seeds]) for seeds in pair]
    classes = _changes(list(table.classes), *pair)
    return Contrast(
        table,
        first,
        second,
        _changes(["overall", *GROUPS], *means),
        tuple(sorted(classes, key=lambda change: -abs(change.difference or 0.0))),
    )


def change_cells(change: Change) -> list[str]:
    """Both scores, and their difference with its interval, as text."""
    difference = MISSING if change.difference is None else f"{change.difference:+z.2f}"
    interval = "" if change.half_width is None else f" ± {change.half_width:.2f}"
    return [score_text(change.first), score_text(change.second), difference + interval]


def p_text(p: float | None) -> str:
    """A p-value, a dash for none."""
    return MISSING if p is None else "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def contrasts_json(contrasts: Iterable[Contrast]) -> list[dict[str, Any]]:
    """For programs: everything, with None for what is missing."""
    return [
        {
            "track": item.table.title,
            "first": item.first.label,
            "second": item.second.label,
            "means": [asdict(change) for change in item.means],
            "classes": [asdict(change) for change in item.classes],
        }
        for item in contrasts
    ]


def _changes(names: Sequence[str], first: np.ndarray, second: np.ndarray) -> tuple[Change, ...]:
    """first, second: [seeds, names, 1 + replicates]."""
    comparisons = [compare([first[:, i], second[:, i]]) for i in range(len(names))]
    p = np.array([comparison.p[0, 1] for comparison in comparisons])
    p_holm = np.full_like(p, np.nan)
    p_holm[~np.isnan(p)] = holm(p[~np.isnan(p)])
    return tuple(
        Change(
            name,
            _estimate(first[:, i, 0]),
            _estimate(second[:, i, 0]),
            *(_known(v) for v in (comparison.difference[0, 1], comparison.half_width[0, 1], p[i], p_holm[i])),
        )
        for i, (name, comparison) in enumerate(zip(names, comparisons, strict=True))
    )


def _estimate(values: np.ndarray) -> Estimate | None:
    return estimate([_known(value) for value in values])


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
