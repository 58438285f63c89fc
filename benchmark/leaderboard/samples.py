"""From records to scores under every replicate, computed from the stored logits and kept in the cache.

A record's numbers are used only where the judge of `benchmark.audit` finds no fault in its files.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmark.audit.agreement import may_repeat
from benchmark.audit.files import Contents, FolderFiles, Stated, load, load_epoch, numbers_of, score_again
from benchmark.base.processes import cores, spawned
from benchmark.errors import StoreError
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
from benchmark.store.logits import TARGETS
from benchmark.store.records import GROUPS, Record
from benchmark.ui.progress import Reporter

# Scored images times classes from which several processes are faster than one.
_MUCH = 1_000_000
_CHUNK = 32
# Scored images times classes below which reading a cached file takes as long as computing the scores.
_WORTH_KEEPING = 10_000
# Scored images times classes, over all runs, whose cached numbers are partly computed again at each load: one to three
# seconds on one core. Of more runs than that, some are chosen at random.
_COMPARED = 10_000_000
_SCORES = (np.float32, (1 + len(GROUPS), 1 + REPLICATES))
_SECONDARY = (np.float64, (len(STATISTICS),))
_EPOCH = (np.float64, (1 + len(GROUPS),))


@dataclass(frozen=True)
class Oracle:
    """The best-on-test number that papers print: overall, head, medium, tail mAP in percent, with its epoch and weight
    set."""

    scores: tuple[float | None, ...]
    epoch: int
    weight_set: str


@dataclass(frozen=True)
class Sample:
    """The numbers from the stored logits of a run.

    scores: float32 [4, 1 + REPLICATES], see `resampling.run_scores`. labels, logits: digests to compare runs by, see
    `audit.files.Contents`; logits is None where no other run can have them. oracle: of the epoch and weight set with
    the highest overall mAP on the test set, None where not every epoch was kept. secondary: scores beside the metric.
    at_threshold: scores at the row's threshold, None without one; see `thresholds`.
    """

    scores: np.ndarray
    labels: Mapping[str, str]
    logits: str | None = None
    oracle: Oracle | None = None
    secondary: dict[str, float] | None = None
    at_threshold: AtThreshold | None = None

    def beside(self, key: str) -> float | None:
        """A number of `secondary` or `at_threshold` by its name, None where it is missing."""
        value = (self.secondary or {}).get(key, getattr(self.at_threshold, key, np.nan))
        return None if np.isnan(value) else value


@dataclass(frozen=True)
class _Source:
    """The arguments for sampling a run, which can be sent to another process.

    cached: the file of its replicates in the cache. repeated: whether another run may have its logits. compared: the
    replicate that is computed again to check the cache, 0 for none.
    """

    stated: Stated
    files: FolderFiles
    cache: Path
    cached: Path
    repeated: bool
    compared: int = 0

    @classmethod
    def of(cls, root: Path, record: Record, cache: Path, repeated: bool = False) -> _Source:
        stated = Stated.of(record)
        # The record's numbers too: they are compared before anything is kept.
        facts = [stated.sha256, stated.declared, stated.groups, stated.num_images, stated.numbers, stated.validation]
        files = FolderFiles(root / "runs" / record.folder_name)
        return cls(stated, files, cache, cache_file(cache, *facts, SEED, REPLICATES, list(STATISTICS)), repeated)

    @property
    def num_scores(self) -> int:
        """Scored images times classes."""
        return self.stated.num_images * len(self.stated.groups)


def samples(
    root: Path, records: Sequence[Record], reporter: Reporter | None = None
) -> list[tuple[Record, Sample | StoreError]]:
    """Each record with its sample, in order, or with the fault in its files.

    Earlier samples come from the cache, where they fit the logits (see `_fits`). Many new ones are computed by several
    processes. Raises StoreError when a process is killed.
    """
    cache = kept_in("replicates")
    repeated = may_repeat(records)
    sources = _compared([_Source.of(root, record, cache, record.run_id in repeated) for record in records])
    missing = sum(source.num_scores for source in sources if not source.cached.exists())
    workers = min(cores(), len(sources)) if missing >= _MUCH else 1
    # By the size of the test set, so that the weights are drawn once for each size.
    order = sorted(range(len(sources)), key=lambda i: sources[i].stated.num_images)
    found: dict[int, Sample | StoreError] = {}
    with (reporter or Reporter()).task("scoring reweighted test sets", len(records)) as task:
        for i, sample in zip(order, _sample_all([sources[i] for i in order], workers), strict=True):
            found[i] = sample
            task.update(len(found))
    return [(record, found[i]) for i, record in enumerate(records)]


def _compared(sources: Sequence[_Source]) -> list[_Source]:
    """The sources, with a replicate to compare for some; run and replicate are random, so that no forger knows them."""
    chance = random.SystemRandom()
    replicate, room = chance.randint(1, REPLICATES), _COMPARED
    found = list(sources)
    for i in chance.sample(range(len(sources)), len(sources)):
        room -= sources[i].num_scores
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
        contents = load(source.stated, source.files)
        scores, beside = _scores(source, contents)
        logits = contents.logits if source.repeated else None
        return Sample(scores, contents.labels, logits, _oracle(source, contents), beside)
    except StoreError as error:
        return error


def _scores(source: _Source, contents: Contents) -> tuple[np.ndarray, dict[str, float]]:
    """Replicates and secondary scores: from the cache, or computed, checked against the record and cached.

    Raises StoreError when the logits do not give the record's numbers.
    """
    cached = read_cached(source.cached, _SCORES, _SECONDARY)
    if cached is not None:
        beside = dict(zip(STATISTICS, cached[1].tolist(), strict=True))
        if _fits(source, contents, cached[0], beside):
            # The file's name has the record's numbers: they were checked against these logits.
            return cached[0], beside
    again, faults = score_again(contents, source.files)
    if faults:
        raise StoreError(faults[0])
    stated, values = source.stated, contents.declared
    scores = run_scores(values, contents.targets, tuple(stated.groups.values()))
    class_ap = _floats([again[stated.declared][f"per_class.{name}"] for name in stated.groups])
    beside = secondary(values, contents.targets, class_ap)
    if values.size >= _WORTH_KEEPING:
        write_cached(source.cached, scores, _array(beside))
    return scores, beside


def _fits(source: _Source, contents: Contents, scores: np.ndarray, beside: dict[str, float]) -> bool:
    """Whether cached numbers are those of the logits, by checks that cost little.

    The unweighted scores and the spread over classes are compared with the record. Where the source has a replicate to
    compare, that replicate and the secondary scores are computed again.
    """
    stated = source.stated
    recorded = stated.numbers[stated.declared]
    class_ap = _floats([recorded[f"per_class.{name}"] for name in stated.groups])
    known = class_ap[~np.isnan(class_ap)]
    means = _floats([recorded[name] for name in ("overall", *GROUPS)])
    kept = np.array([*scores[:, 0], beside["ap_std"] if len(known) else np.nan])
    if not _alike(kept, np.array([*means, known.std() if len(known) else np.nan])):
        return False
    if not source.compared:
        return True
    values = contents.declared
    weights = replicate_weights(len(values), source.compared)
    again = group_means(class_scores(values, contents.targets, weights), tuple(stated.groups.values()))
    beside_again = secondary(values, contents.targets, class_ap)
    return _alike(scores[:, source.compared], again[:, 0]) and _alike(_array(beside), _array(beside_again))


def _floats(numbers: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if number is None else number for number in numbers], dtype=np.float64)


def _array(beside: dict[str, float]) -> np.ndarray:
    return np.array(list(beside.values()))


def _alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether percentages are equal up to the last digits of float32."""
    return np.allclose(first, second, rtol=0, atol=1e-3, equal_nan=True)


def _oracle(source: _Source, contents: Contents) -> Oracle | None:
    """Raises StoreError when the logits of an epoch are not what the record says."""
    best = _best_epoch(source, contents)
    if best is not None and source.compared:
        oracle, logits = best
        file = next(epoch.file for epoch in source.stated.epochs if epoch.number == oracle.epoch)
        if not _alike(_floats(oracle.scores), _epoch_scores(source, contents, file, logits)):
            best = _best_epoch(source, contents, anew=True)
    return None if best is None else best[0]


def _best_epoch(source: _Source, contents: Contents, anew: bool = False) -> tuple[Oracle, np.ndarray] | None:
    """The best epoch and its logits, by the scores in the cache; anew: without reading the cache."""
    best: tuple[Oracle, np.ndarray] | None = None
    highest = -np.inf
    for epoch in source.stated.epochs:
        tensors = load_epoch(epoch, contents, source.files)
        for weight_set in sorted(tensors):
            facts = epoch.sha256, weight_set, contents.labels[TARGETS], source.stated.groups
            file = cache_file(source.cache, *facts)
            cached = None if anew else read_cached(file, _EPOCH)
            scores = cached[0] if cached else _epoch_scores(source, contents, epoch.file, tensors[weight_set])
            if cached is None:
                write_cached(file, scores)
            if np.isfinite(scores[0]) and scores[0] > highest:
                highest = scores[0]
                known = tuple(float(score) if np.isfinite(score) else None for score in scores)
                best = Oracle(known, epoch.number, weight_set), tensors[weight_set]
    return best


def _epoch_scores(source: _Source, contents: Contents, file: str, logits: np.ndarray) -> np.ndarray:
    """Overall, head, medium, tail mAP, float64 [4], by the evaluator, which gives the record's for the scored epoch."""
    numbers = numbers_of(logits, contents, source.files, file, {})
    return _floats([numbers[name] for name in ("overall", *GROUPS)])
