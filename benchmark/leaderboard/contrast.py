"""Two methods of one track against each other: what differs, and the classes that moved most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import InputError
from benchmark.leaderboard.cells import MISSING, difference_text, score_text
from benchmark.leaderboard.rows import METRICS, Row
from benchmark.leaderboard.stats.comparison import Comparison, compare
from benchmark.leaderboard.stats.resampling import class_scores, image_weights
from benchmark.leaderboard.stats.statistics import Estimate, estimate, holm, noise_half_width
from benchmark.leaderboard.tables import Table
from benchmark.registry import did_you_mean
from benchmark.store.logits import load_logits
from benchmark.ui.progress import Reporter


@dataclass(frozen=True)
class Change:
    """One score of both methods in percent, None where it is missing, and first minus second in percent points.

    half_width: of the 95 % interval, over test images and seeds. p: two-sided. p_holm: corrected for all changes of its
    kind. These three are None where a method has one seed, as its variance over seeds is unknown.
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
    """A results folder has no table with both rows: the dataset, the protocol or a row is missing."""


def find_tables(
    tables: Iterable[Table], dataset: str, protocol: str | None, first: str, second: str
) -> list[tuple[Table, Row, Row]]:
    """The tables of a dataset (and of a protocol, where it is given) that have both rows, with the rows.

    A table in which a name fits several rows is left out where another table has one row for each name. Raises
    NoSuchRow, with the near names, when no table has both, and InputError when a name is ambiguous in all that have.
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
        choices = ", ".join(repr(row.label) for row in rows)
        raise InputError(f"{name!r} has {len(rows)} rows in {table.title}; give one of {choices}")
    return clear


def _rows_named(table: Table, name: str) -> list[Row]:
    """The row with this label; without one, all rows of the method of this name."""
    of_label = [row for row in table.rows if row.label == name]
    return of_label or [row for row in table.rows if row.records[0].spec.method == name]


def contrast(results: Path, table: Table, first: Row, second: Row, reporter: Reporter | None = None) -> Contrast:
    """Compare two rows of a table; the classes from their stored logits. Raises InputError for a row with itself.

    All rows of the table inform the variance over seeds, separately for each score and class.
    """
    if first is second:
        raise InputError(f"{first.label!r} is given twice; name two methods")
    with (reporter or Reporter()).task("scoring reweighted test sets", first.n + second.n) as task:
        pair: list[np.ndarray] = []
        for row in (first, second):
            seeds = []
            for record in row.records:
                logits, targets = load_logits(results, record)
                seeds.append(class_scores(logits[record.declared], targets, image_weights(len(targets))))
                task.update(len(seeds) + sum(map(len, pair)))
            pair.append(np.stack(seeds))
    classes = _class_changes(table, first, second, *pair)
    return Contrast(
        table,
        first,
        second,
        _mean_changes(table, first, second),
        tuple(sorted(classes, key=lambda change: -abs(change.difference or 0.0))),
    )


def change_cells(change: Change) -> list[str]:
    """The text of both scores, and of their difference with its interval."""
    interval = "" if change.half_width is None else f" ± {change.half_width:.2f}"
    return [score_text(change.first), score_text(change.second), difference_text(change.difference) + interval]


def p_text(p: float | None) -> str:
    """A p-value, a dash for none."""
    return MISSING if p is None else "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def contrasts_json(contrasts: Iterable[Contrast]) -> list[dict[str, Any]]:
    """The contrasts in JSON types, with None for missing values."""
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


def _mean_changes(table: Table, first: Row, second: Row) -> tuple[Change, ...]:
    """Overall, head, medium and tail, as the table compares them."""
    at = tuple(next(i for i, row in enumerate(table.rows) if row is one) for one in (first, second))
    pairs = []
    for column in METRICS:
        comparison = table.compare_by(column)
        assert comparison is not None  # both rows have logits
        pairs.append((first.scores[column], second.scores[column], comparison, at))
    return _changes(list(METRICS.values()), pairs)


def _class_changes(
    table: Table, first: Row, second: Row, first_scores: np.ndarray, second_scores: np.ndarray
) -> tuple[Change, ...]:
    """Scores of both rows: [seeds, classes, 1 + replicates]."""
    others = [row for row in table.rows if row is not first and row is not second]
    pairs = []
    for i, name in enumerate(table.classes):
        of_others = [np.array([r.metrics.per_class[name] for r in row.records], dtype=np.float64) for row in others]
        comparison = compare([first_scores[:, i], second_scores[:, i]], of_others)
        pairs.append((_estimate(first_scores[:, i]), _estimate(second_scores[:, i]), comparison, (0, 1)))
    return _changes(list(table.classes), pairs)


def _changes(
    names: Sequence[str], pairs: Sequence[tuple[Estimate | None, Estimate | None, Comparison, tuple[int, ...]]]
) -> tuple[Change, ...]:
    """pairs: for each name both estimates, a comparison, and the indices of the two rows in it."""
    p = np.array([comparison.p[at] for _, _, comparison, at in pairs])
    p_holm = np.full_like(p, np.nan)
    p_holm[~np.isnan(p)] = holm(p[~np.isnan(p)])
    return tuple(
        Change(
            name,
            first,
            second,
            *(_known(value) for value in (comparison.difference[at], comparison.half_width[at], p[i], p_holm[i])),
        )
        for i, (name, (first, second, comparison, at)) in enumerate(zip(names, pairs, strict=True))
    )


def _estimate(scores: np.ndarray) -> Estimate | None:
    """The estimate of scores [seeds, 1 + replicates]."""
    return estimate([_known(value) for value in scores[:, 0]], noise_half_width(scores.mean(axis=0)))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
