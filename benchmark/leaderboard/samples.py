"""From records to scores under every replicate: read from the stored logits, kept in the cache, in several processes.

A record's numbers are used only where its logits are there, are the ones it names, and give these numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import StoreError
from benchmark.leaderboard.resampling import REPLICATES, SEED, class_scores, group_means, run_scores
from benchmark.progress import Reporter
from benchmark.records import GROUPS, Record
from benchmark.spec import canonical_json
from benchmark.store import logits_path, read_logits, read_tensors

# Raise it when the replicates of the same logits change.
VERSION = 1
# In percent points: float32 sums against the record's float64 ones.
TOLERANCE = 1e-3
# Scored images times classes from which starting processes pays.
_MUCH = 4_000_000
_CHUNK = 32
_SHAPE = (1 + len(GROUPS), 1 + REPLICATES)


@dataclass(frozen=True)
class Sample:
    """What the stored logits of a run say.

    scores: float32 [4, 1 + REPLICATES], see `resampling.run_scores`. targets: sha256 of the test labels. oracle: of the
    epoch and weight set with the highest overall mAP on the test set, None where not every epoch was kept.
    """

    scores: np.ndarray
    targets: str
    oracle: Oracle | None = None


@dataclass(frozen=True)
class Oracle:
    """The best-on-test number that papers print: overall, head, medium, tail mAP in percent, and what gave it."""

    scores: tuple[float | None, ...]
    epoch: int
    weight_set: str


@dataclass(frozen=True)
class _Source:
    """What of a record is needed to sample it; small, for another process."""

    path: Path
    sha256: str
    weight_set: str
    groups: tuple[str, ...]
    num_images: int
    recorded: tuple[float | None, ...]
    epochs: tuple[tuple[int, Path, str], ...]

    @classmethod
    def of(cls, root: Path, record: Record) -> _Source:
        metrics, path = record.metrics, logits_path(root, record)
        return cls(
            path,
            record.logits.sha256,
            record.declared,
            tuple(record.groups.values()),
            record.num_test_images,
            (metrics.overall, *(getattr(metrics, group) for group in GROUPS)),
            tuple((epoch.epoch, path.with_name(epoch.file), epoch.sha256) for epoch in record.oracle),
        )


def samples(
    root: Path, records: Sequence[Record], reporter: Reporter | None = None
) -> Iterator[tuple[Record, Sample | StoreError]]:
    """Each record with its sample, in order, or with what keeps its numbers from being recomputed.

    What was sampled before comes from the cache; the rest is sampled by several processes where it is much.
    """
    from benchmark.data.images import cache_folder

    cache = cache_folder() / "replicates"
    sources = [_Source.of(root, record) for record in records]
    work = sum(s.num_images * len(s.groups) for s in sources if not _cached_path(cache, s).exists())
    workers = min(os.cpu_count() or 1, len(sources)) if work >= _MUCH else 1
    with (reporter or Reporter()).task("scoring reweighted test sets", len(records)) as task:
        for number, (record, sample) in enumerate(zip(records, _sample_all(sources, cache, workers), strict=True), 1):
            task.update(number)
            yield record, sample


def _sample_all(sources: Sequence[_Source], cache: Path, workers: int) -> Iterator[Sample | StoreError]:
    if workers == 1:
        yield from (_sample(source, cache) for source in sources)
        return
    chunk = max(1, min(_CHUNK, len(sources) // (4 * workers)))
    # Spawned, not forked: PyTorch's threads may be running here.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_sample, sources, [cache] * len(sources), chunksize=chunk)


def _sample(source: _Source, cache: Path) -> Sample | StoreError:
    try:
        logits, targets = read_logits(source.path, source.sha256)
        labels = hashlib.sha256(np.ascontiguousarray(targets)).hexdigest()
        return Sample(_scores(source, logits, targets, cache), labels, _oracle(source, targets, cache))
    except StoreError as error:
        return error


def _scores(source: _Source, logits: dict[str, np.ndarray], targets: np.ndarray, cache: Path) -> np.ndarray:
    """From the cache, else computed and cached. Raises StoreError when they are not those of the record."""
    path = _cached_path(cache, source)
    cached = _read_cached(path, _SHAPE)
    if cached is not None:
        return cached
    shape = (source.num_images, len(source.groups))
    if source.weight_set not in logits or targets.shape != shape:
        raise StoreError(
            f"{source.path}: no logits {source.weight_set!r} and labels of {shape[0]} images x {shape[1]} classes; "
            "run again with --rerun always"
        )
    values = logits[source.weight_set]
    _check(source.path, values, shape)
    scores = run_scores(values, targets, source.groups)
    for name, score, recorded in zip(("overall", *GROUPS), scores[:, 0].tolist(), source.recorded, strict=True):
        known = np.isfinite(score)
        if known != (recorded is not None) or (known and abs(score - recorded) > TOLERANCE):
            raise StoreError(
                f"{source.path}: the stored logits give {name} {score:.4f}, the record says {recorded}; one of them "
                "was changed: run again with --rerun always"
            )
    _write_cached(path, scores)
    return scores


def _oracle(source: _Source, targets: np.ndarray, cache: Path) -> Oracle | None:
    """Raises StoreError when the logits of an epoch are not those of the record."""
    best: Oracle | None = None
    for epoch, path, sha256 in source.epochs:
        tensors = read_tensors(path, sha256)
        for weight_set in sorted(tensors):
            scores = _measured(source, path, sha256, weight_set, tensors[weight_set], targets, cache)
            if np.isfinite(scores[0]) and (best is None or scores[0] > best.scores[0]):
                known = tuple(float(score) if np.isfinite(score) else None for score in scores)
                best = Oracle(known, epoch, weight_set)
    return best


def _measured(
    source: _Source, path: Path, sha256: str, weight_set: str, values: np.ndarray, targets: np.ndarray, cache: Path
) -> np.ndarray:
    """Overall, head, medium, tail mAP of an epoch's logits, float32 [4]."""
    cached_path = _cache_file(cache, sha256, weight_set, source.groups)
    cached = _read_cached(cached_path, _SHAPE[:1])
    if cached is not None:
        return cached
    _check(path, values, targets.shape)
    alone = np.ones((len(values), 1), np.float32)
    scores = group_means(class_scores(values, targets, alone), source.groups)[:, 0]
    _write_cached(cached_path, scores)
    return scores


def _check(path: Path, values: np.ndarray, shape: tuple[int, ...]) -> None:
    if values.shape != shape or values.dtype != np.float32:
        raise StoreError(f"{path}: not float32 logits of {shape[0]} images x {shape[1]} classes")
    if not np.isfinite(values).all():
        raise StoreError(f"{path}: the stored logits are not all finite; run again with --rerun always")


def _cached_path(cache: Path, source: _Source) -> Path:
    # The record's scores too: they were compared.
    return _cache_file(cache, source.sha256, source.weight_set, source.groups, SEED, REPLICATES, source.recorded)


def _cache_file(cache: Path, *facts: Any) -> Path:
    """Named by all that decides the content."""
    return cache / hashlib.sha256(canonical_json([VERSION, *facts]).encode()).hexdigest()


def _read_cached(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        return np.frombuffer(path.read_bytes(), np.float32).reshape(shape)
    except (OSError, ValueError):  # not there, or cut short
        return None


def _write_cached(path: Path, scores: np.ndarray) -> None:
    # A cache that cannot be written costs time, not numbers.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        draft.write_bytes(scores.tobytes())
        draft.rename(path)
