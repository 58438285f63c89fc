"""One threshold for each row of a table, chosen on the validation list over all its seeds, and its F1 on the test list.

Runs without stored validation logits have no threshold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np

from benchmark.leaderboard.build import row_key
from benchmark.leaderboard.cache import cache_file, kept_in, read_cached, write_cached
from benchmark.leaderboard.stats.secondary import AtThreshold, at_threshold, best_threshold
from benchmark.store.logits import StoredLogits, logits_path, read_logits
from benchmark.store.records import Record
from benchmark.ui.progress import Reporter


def thresholds(root: Path, records: Sequence[Record], reporter: Reporter | None = None) -> dict[str, AtThreshold]:
    """Run id -> its test scores at the threshold of its row.

    records: records with a sample of `samples.samples`, which checks their logits. Earlier results come from the cache.
    Raises StoreError where logits cannot be read any more.
    """
    cache = kept_in("thresholds")
    rows: dict[tuple, list[Record]] = defaultdict(list)
    for record in records:
        if record.num_validation_images is not None:
            rows[row_key(record)].append(record)
    found: dict[str, AtThreshold] = {}
    with (reporter or Reporter()).task("choosing thresholds", len(rows)) as task:
        for number, row in enumerate(rows.values(), 1):
            row.sort(key=lambda record: record.run_id)  # the cached file does not depend on the order
            found |= _of_row(root, row, cache)
            task.update(number)
    return found


def _of_row(root: Path, row: Sequence[Record], cache: Path) -> dict[str, AtThreshold]:
    path = cache_file(cache, [[record.logits.sha256, record.declared] for record in row])
    cached = read_cached(path, (np.float64, (len(row), 3)))
    if cached is None or not _fits(root, row[0], cached[0][0]):
        scores = _scores(
            [(record.declared, read_logits(logits_path(root, record), record.logits.sha256)) for record in row]
        )
        write_cached(path, scores)
    else:
        scores = cached[0]
    return {
        record.run_id: AtThreshold(*own)
        for record, own in zip(row, scores.tolist(), strict=True)
        if not np.isnan(own).any()
    }


def _fits(root: Path, record: Record, cached: np.ndarray) -> bool:
    """Whether the cached threshold gives the cached scores of a record; it is not checked that no other is better."""
    if np.isnan(cached).any():
        return True
    stored = read_logits(logits_path(root, record), record.logits.sha256)
    again = astuple(at_threshold(stored.logits[record.declared], stored.targets, float(cached[0])))
    return np.allclose(cached, again, rtol=0, atol=1e-6)


def _scores(row: Sequence[tuple[str, StoredLogits]]) -> np.ndarray:
    """Threshold, CF1 and OF1 of each seed, float64 [n, 3]; NaN where the validation list has no positive."""
    threshold = best_threshold([stored.validation for _, stored in row if stored.validation is not None])
    if threshold is None:
        return np.full((len(row), 3), np.nan)
    return np.array(
        [astuple(at_threshold(stored.logits[declared], stored.targets, threshold)) for declared, stored in row]
    )
