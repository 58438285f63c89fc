"""From records to scores under every replicate: read from the stored logits, kept in the cache, in several processes.

A record's numbers are used only where its logits are there, are the ones it names, and give every number of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import RunFailed, StoreError
from benchmark.evaluation import score
from benchmark.leaderboard.resampling import REPLICATES, SEED, run_scores
from benchmark.processes import cores, spawned
from benchmark.progress import Reporter
from benchmark.records import GROUPS, Group, Metrics, Record, differing
from benchmark.spec import canonical_json
from benchmark.store import logits_path, read_logits, read_tensors

# Raise it when the replicates of the same logits change.
VERSION = 2
# Scored images times classes from which starting processes pays.
_MUCH = 1_000_000
_CHUNK = 32
# Scored images times classes below which a cached file costs as much as the scores.
_WORTH_KEEPING = 10_000
_SHAPE = (1 + len(GROUPS), 1 + REPLICATES)
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Oracle:
    """The best-on-test number that papers print: overall, head, medium, tail mAP in percent, and what gave it."""

    scores: tuple[float | None, ...]
    epoch: int
    weight_set: str


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
class _Source:
    """What of a record is needed to sample it, plain values for another process; numbers: weight set -> its numbers in
    the record; cached: where its replicates are."""

    path: Path
    sha256: str
    weight_set: str
    groups: dict[str, Group]
    num_images: int
    numbers: dict[str, dict[str, float | None]]
    epochs: tuple[tuple[int, Path, str], ...]
    cache: Path
    cached: Path

    @classmethod
    def of(cls, root: Path, record: Record, cache: Path) -> _Source:
        path = logits_path(root, record)
        numbers = {name: metrics.numbers() for name, metrics in record.results.items()}
        # The record's numbers too: they are compared before anything is kept.
        facts = [record.logits.sha256, record.declared, record.groups, record.num_test_images, numbers]
        return cls(
            path,
            record.logits.sha256,
            record.declared,
            record.groups,
            record.num_test_images,
            numbers,
            tuple((epoch.epoch, path.with_name(epoch.file), epoch.sha256) for epoch in record.oracle),
            cache,
            _cache_file(cache, *facts, SEED, REPLICATES),
        )


def samples(
    root: Path, records: Sequence[Record], reporter: Reporter | None = None
) -> list[tuple[Record, Sample | StoreError]]:
    """Each record with its sample, in order, or with what keeps its numbers from being recomputed.

    What was sampled before comes from the cache; the rest is sampled by several processes where it is much. Raises
    StoreError when a process is killed.
    """
    from benchmark.data.images import cache_folder

    cache = cache_folder() / "replicates"
    sources = [_Source.of(root, record, cache) for record in records]
    work = sum(source.num_images * len(source.groups) for source in sources if not source.cached.exists())
    workers = min(cores(), len(sources)) if work >= _MUCH else 1
    # Test sets of one size after each other: the weights are drawn once for all of them.
    order = sorted(range(len(sources)), key=lambda i: sources[i].num_images)
    found: dict[int, Sample | StoreError] = {}
    with (reporter or Reporter()).task("scoring reweighted test sets", len(records)) as task:
        for i, sample in zip(order, _sample_all([sources[i] for i in order], workers), strict=True):
            found[i] = sample
            task.update(len(found))
    return [(record, found[i]) for i, record in enumerate(records)]


def _sample_all(sources: Sequence[_Source], workers: int) -> Iterator[Sample | StoreError]:
    if workers == 1:
        yield from map(_sample, sources)
        return
    chunk = max(1, min(_CHUNK, len(sources) // (4 * workers)))
    with spawned(workers) as pool:
        yield from pool.map(_sample, sources, chunksize=chunk)


def _sample(source: _Source) -> Sample | StoreError:
    try:
        logits, targets = read_logits(source.path, source.sha256)
        scores = _replicates(source, logits, targets)
        labels = hashlib.sha256(np.ascontiguousarray(targets)).hexdigest()
        return Sample(scores, labels, _oracle(source, targets, labels))
    except StoreError as error:
        return error


def _replicates(source: _Source, logits: dict[str, np.ndarray], targets: np.ndarray) -> np.ndarray:
    """From the cache, else checked against the record, computed and cached. Raises StoreError when the logits do not
    give the record's numbers."""
    cached = _read_cached(source.cached, np.float32, _SHAPE)
    if cached is not None:  # the name says that these logits gave these numbers
        return cached
    for weight_set, recorded in source.numbers.items():
        _check_numbers(source, weight_set, recorded, logits.get(weight_set), targets)
    values = logits[source.weight_set]
    scores = run_scores(values, targets, tuple(source.groups.values()))
    if values.size >= _WORTH_KEEPING:
        _write_cached(source.cached, scores)
    return scores


def _check_numbers(
    source: _Source, weight_set: str, recorded: dict[str, float | None], values: np.ndarray | None, targets: np.ndarray
) -> None:
    """Raise StoreError unless these logits give the numbers that the record has of a weight set."""
    if values is None:
        raise StoreError(f"{source.path}: holds no logits {weight_set!r}; run again with --rerun always")
    _check(source, source.path, values, targets)
    again = _metrics(source, source.path, values, targets).numbers()
    for name in differing(again, recorded):
        raise StoreError(
            f"{source.path}: the stored logits {weight_set!r} give {name} {again[name]}, the record says "
            f"{recorded[name]}; one of them was changed: run again with --rerun always"
        )


def _oracle(source: _Source, targets: np.ndarray, labels: str) -> Oracle | None:
    """Raises StoreError when the logits of an epoch are not those of the record."""
    best: Oracle | None = None
    for epoch, path, sha256 in source.epochs:
        tensors = read_tensors(path, sha256)
        for weight_set in sorted(tensors):
            file = _cache_file(source.cache, sha256, weight_set, labels, source.groups)
            scores = _read_cached(file, np.float64, _SHAPE[:1])
            if scores is None:
                scores = _epoch_scores(source, path, tensors[weight_set], targets)
                _write_cached(file, scores)
            if np.isfinite(scores[0]) and (best is None or scores[0] > best.scores[0]):
                known = tuple(float(score) if np.isfinite(score) else None for score in scores)
                best = Oracle(known, epoch, weight_set)
    return best


def _epoch_scores(source: _Source, path: Path, values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Overall, head, medium, tail mAP, float64 [4], by the evaluator: those of the scored epoch are the record's."""
    _check(source, path, values, targets)
    metrics = _metrics(source, path, values, targets)
    scores = [metrics.overall, *(getattr(metrics, group) for group in GROUPS)]
    return np.array([np.nan if score is None else score for score in scores])


def _check(source: _Source, path: Path, values: np.ndarray, targets: np.ndarray) -> None:
    shape = (source.num_images, len(source.groups))
    if values.shape != shape or targets.shape != shape or (values.dtype, targets.dtype) != (np.float32, np.uint8):
        raise StoreError(
            f"{path}: not float32 logits and uint8 labels of {shape[0]} images x {shape[1]} classes; run again with "
            "--rerun always"
        )


def _metrics(source: _Source, path: Path, values: np.ndarray, targets: np.ndarray) -> Metrics:
    try:
        return score(values, targets, source.groups)
    except RunFailed as error:
        raise StoreError(f"{path}: {error}; run again with --rerun always") from None


def _cache_file(cache: Path, *facts: Any) -> Path:
    """Named by all that decides the content."""
    return cache / hashlib.sha256(canonical_json([VERSION, *facts]).encode()).hexdigest()


def _read_cached(path: Path, dtype: type, shape: tuple[int, ...]) -> np.ndarray | None:
    """None for a file that is not there or not whole."""
    with contextlib.suppress(OSError, ValueError):
        content = path.read_bytes()
        if hashlib.sha256(content[_DIGEST_BYTES:]).digest() == content[:_DIGEST_BYTES]:
            return np.frombuffer(content, dtype, offset=_DIGEST_BYTES).reshape(shape)
    return None


def _write_cached(path: Path, scores: np.ndarray) -> None:
    # A cache that cannot be written costs time, not numbers.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        content = scores.tobytes()
        draft.write_bytes(hashlib.sha256(content).digest() + content)
        draft.rename(path)
