"""From records to scores under every replicate: read from the stored logits, kept in the cache, in several processes.

A record's numbers are used only where its logits are there, are the ones it names, and give every number of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmark.base.processes import cores, spawned
from benchmark.errors import RunFailed, StoreError
from benchmark.evaluation import numbers_again, score
from benchmark.leaderboard.cache import cache_file, kept_in, read_cached, write_cached
from benchmark.leaderboard.stats.resampling import (
    REPLICATES,
    SEED,
    class_scores,
    group_means,
    replicate_weights,
    run_scores,
)
from benchmark.leaderboard.stats.secondary import STATISTICS, AtThreshold, secondary
from benchmark.store.logits import StoredLogits, logits_path, read_logits, read_tensors
from benchmark.store.records import GROUPS, Group, Record, differing
from benchmark.ui.progress import Reporter

# Scored images times classes from which starting processes pays.
_MUCH = 1_000_000
_CHUNK = 32
# Scored images times classes below which a cached file costs as much as the scores.
_WORTH_KEEPING = 10_000
# Scored images times classes, of all runs together, whose cached numbers are computed again in part at each load: one
# to three seconds on one core. Of more runs than that, some are chosen at random.
_COMPARED = 10_000_000
_SCORES = (np.float32, (1 + len(GROUPS), 1 + REPLICATES))
_SECONDARY = (np.float64, (len(STATISTICS),))
_EPOCH = (np.float64, (1 + len(GROUPS),))


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
    validation_targets: sha256 of the labels of the validation list, None where its logits are not stored. secondary:
    scores beside the metric. at_threshold: those at the row's threshold, None where there is none; see
    `thresholds`.
    """

    scores: np.ndarray
    targets: str
    oracle: Oracle | None = None
    validation_targets: str | None = None
    secondary: dict[str, float] | None = None
    at_threshold: AtThreshold | None = None

    def beside(self, key: str) -> float | None:
        """A number of `secondary` or `at_threshold` by its name, None where it is missing."""
        value = (self.secondary or {}).get(key, getattr(self.at_threshold, key, np.nan))
        return None if np.isnan(value) else value


@dataclass(frozen=True)
class _Source:
    """What of a record is needed to sample it, plain values for another process; numbers: weight set -> its numbers in
    the record; validation: number of images and numbers, where their logits are stored; cached: where its replicates
    are; compared: the replicate that is computed again where they come from the cache, 0 for none."""

    path: Path
    sha256: str
    weight_set: str
    groups: dict[str, Group]
    num_images: int
    numbers: dict[str, dict[str, float | None]]
    validation: tuple[int, dict[str, float | None]] | None
    epochs: tuple[tuple[int, Path, str], ...]
    cache: Path
    cached: Path
    compared: int = 0

    @classmethod
    def of(cls, root: Path, record: Record, cache: Path) -> _Source:
        path = logits_path(root, record)
        numbers = {name: metrics.numbers() for name, metrics in record.results.items()}
        validation = None
        if record.num_validation_images is not None and record.validation is not None:
            validation = record.num_validation_images, record.validation.numbers()
        # The record's numbers too: they are compared before anything is kept.
        facts = [record.logits.sha256, record.declared, record.groups, record.num_test_images, numbers, validation]
        return cls(
            path,
            record.logits.sha256,
            record.declared,
            record.groups,
            record.num_test_images,
            numbers,
            validation,
            tuple((epoch.epoch, path.with_name(epoch.file), epoch.sha256) for epoch in record.oracle),
            cache,
            cache_file(cache, *facts, SEED, REPLICATES, list(STATISTICS)),
        )


def samples(
    root: Path, records: Sequence[Record], reporter: Reporter | None = None
) -> list[tuple[Record, Sample | StoreError]]:
    """Each record with its sample, in order, or with what keeps its numbers from being recomputed.

    What was sampled before comes from the cache, as far as it fits the logits (see `_fits`); the rest is sampled by
    several processes where it is much. Raises StoreError when a process is killed.
    """
    cache = kept_in("replicates")
    sources = _compared([_Source.of(root, record, cache) for record in records])
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


def _compared(sources: Sequence[_Source]) -> list[_Source]:
    """The sources, with those chosen that are compared with the cache: nobody knows which before, nor in what."""
    chance = random.SystemRandom()
    replicate, room = chance.randint(1, REPLICATES), _COMPARED
    found = list(sources)
    for i in chance.sample(range(len(sources)), len(sources)):
        room -= sources[i].num_images * len(sources[i].groups)
        if room >= 0:
            found[i] = replace(sources[i], compared=replicate)
    return found


def _sample_all(sources: Sequence[_Source], workers: int) -> Iterator[Sample | StoreError]:
    if workers == 1:
        yield from map(_sample, sources)
        return
    chunk = max(1, min(_CHUNK, len(sources) // (4 * workers)))
    with spawned(workers) as pool:
        yield from pool.map(_sample, sources, chunksize=chunk)


def _sample(source: _Source) -> Sample | StoreError:
    try:
        stored = read_logits(source.path, source.sha256)
        scores, beside = _scores(source, stored)
        labels = _digest(stored.targets)
        validation = None if source.validation is None or stored.validation is None else _digest(stored.validation[1])
        return Sample(scores, labels, _oracle(source, stored.targets, labels), validation, beside)
    except StoreError as error:
        return error


def _digest(labels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(labels)).hexdigest()


def _scores(source: _Source, stored: StoredLogits) -> tuple[np.ndarray, dict[str, float]]:
    """Replicates and what stands beside them: from the cache, else checked against the record, computed and cached.
    Raises StoreError when the logits do not give the record's numbers."""
    cached = read_cached(source.cached, _SCORES, _SECONDARY)
    if cached is not None:
        beside = dict(zip(STATISTICS, cached[1].tolist(), strict=True))
        if _fits(source, stored, cached[0], beside):
            # The name says that these logits gave these numbers.
            return cached[0], beside
    again = {}
    for weight_set, recorded in source.numbers.items():
        given = stored.logits.get(weight_set)
        again[weight_set] = _check_numbers(source, weight_set, recorded, given, stored.targets, source.num_images)
    if source.validation is not None:
        num_images, recorded = source.validation
        given, labels = stored.validation or (None, stored.targets)
        _check_numbers(source, "validation", recorded, given, labels, num_images)
    values = stored.logits[source.weight_set]
    scores = run_scores(values, stored.targets, tuple(source.groups.values()))
    class_ap = _floats([again[source.weight_set][f"per_class.{name}"] for name in source.groups])
    beside = secondary(values, stored.targets, class_ap)
    if values.size >= _WORTH_KEEPING:
        write_cached(source.cached, scores, _array(beside))
    return scores, beside


def _fits(source: _Source, stored: StoredLogits, scores: np.ndarray, beside: dict[str, float]) -> bool:
    """Whether cached numbers are those of the logits, as far as that costs little: the scores without weights are in
    the record, and so is the spread over classes; one replicate, and what stands beside, are computed again."""
    recorded = source.numbers[source.weight_set]
    class_ap = _floats([recorded[f"per_class.{name}"] for name in source.groups])
    known = class_ap[~np.isnan(class_ap)]
    means = _floats([recorded[name] for name in ("overall", *GROUPS)])
    told = np.array([*scores[:, 0], beside["ap_std"] if len(known) else np.nan])
    if not _alike(told, np.array([*means, known.std() if len(known) else np.nan])):
        return False
    values = stored.logits.get(source.weight_set)
    if not source.compared or values is None or values.shape != (source.num_images, len(source.groups)):
        return True
    weights = replicate_weights(len(values), source.compared)
    again = group_means(class_scores(values, stored.targets, weights), tuple(source.groups.values()))
    beside_again = secondary(values, stored.targets, class_ap)
    return _alike(scores[:, source.compared], again[:, 0]) and _alike(_array(beside), _array(beside_again))


def _floats(numbers: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if number is None else number for number in numbers], dtype=np.float64)


def _array(beside: dict[str, float]) -> np.ndarray:
    return np.array(list(beside.values()))


def _alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether percentages are the same but for the last digits of float32."""
    return np.allclose(first, second, rtol=0, atol=1e-3, equal_nan=True)


def _check_numbers(
    source: _Source,
    name: str,
    recorded: dict[str, float | None],
    values: np.ndarray | None,
    targets: np.ndarray,
    num_images: int,
) -> dict[str, float | None]:
    """The numbers that these logits give. Raises StoreError unless they are those that the record has of them."""
    if values is None:
        raise StoreError(f"{source.path}: holds no logits {name!r}; run again with --rerun always")
    _check(source, source.path, values, targets, num_images)
    with _told_of(source.path):
        again = numbers_again(recorded, values, targets, source.groups)
    for number in differing(again, recorded):
        raise StoreError(
            f"{source.path}: the stored logits {name!r} give {number} {again[number]}, the record says "
            f"{recorded[number]}; one of them was changed: run again with --rerun always"
        )
    return again


def _oracle(source: _Source, targets: np.ndarray, labels: str) -> Oracle | None:
    """Raises StoreError when the logits of an epoch are not those of the record."""
    best = _best_epoch(source, targets, labels)
    if best is not None and source.compared:
        _, path, sha256 = next(epoch for epoch in source.epochs if epoch[0] == best.epoch)
        again = _epoch_scores(source, path, read_tensors(path, sha256)[best.weight_set], targets)
        if not _alike(_floats(best.scores), again):
            return _best_epoch(source, targets, labels, anew=True)
    return best


def _best_epoch(source: _Source, targets: np.ndarray, labels: str, anew: bool = False) -> Oracle | None:
    """anew: whatever is in the cache."""
    best: Oracle | None = None
    for epoch, path, sha256 in source.epochs:
        tensors = read_tensors(path, sha256)
        for weight_set in sorted(tensors):
            file = cache_file(source.cache, sha256, weight_set, labels, source.groups)
            cached = None if anew else read_cached(file, _EPOCH)
            scores = cached[0] if cached else _epoch_scores(source, path, tensors[weight_set], targets)
            if cached is None:
                write_cached(file, scores)
            if np.isfinite(scores[0]) and (best is None or scores[0] > best.scores[0]):
                known = tuple(float(score) if np.isfinite(score) else None for score in scores)
                best = Oracle(known, epoch, weight_set)
    return best


def _epoch_scores(source: _Source, path: Path, values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Overall, head, medium, tail mAP, float64 [4], by the evaluator: those of the scored epoch are the record's."""
    _check(source, path, values, targets, source.num_images)
    with _told_of(path):
        metrics = score(values, targets, source.groups)
    scores = [metrics.overall, *(getattr(metrics, group) for group in GROUPS)]
    return _floats(scores)


def _check(source: _Source, path: Path, values: np.ndarray, targets: np.ndarray, num_images: int) -> None:
    shape = (num_images, len(source.groups))
    if values.shape != shape or targets.shape != shape or (values.dtype, targets.dtype) != (np.float32, np.uint8):
        raise StoreError(
            f"{path}: not float32 logits and uint8 labels of {shape[0]} images x {shape[1]} classes; run again with "
            "--rerun always"
        )


@contextlib.contextmanager
def _told_of(path: Path) -> Iterator[None]:
    try:
        yield
    except RunFailed as error:
        raise StoreError(f"{path}: {error}; run again with --rerun always") from None
