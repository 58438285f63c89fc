"""From records to tables: which records are one row, and which rows one table."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from benchmark.errors import StoreError
from benchmark.leaderboard.rows import Row, label_of
from benchmark.leaderboard.samples import Sample
from benchmark.leaderboard.tables import Table
from benchmark.leaderboard.tracks import Track, titles
from benchmark.spec import canonical_json
from benchmark.store.records import Record


def build_tables(records: Iterable[Record], samples: Mapping[str, Sample] | None = None) -> list[Table]:
    """One table for each track, sorted. The order of the records does not matter.

    samples: run id -> sample of the run; rows of runs without a sample are not compared.

    The records of a row differ in the seed alone. Records that differ in anything else that decides a result (the
    version of the method, the mean and standard deviation for the images, the selection rule) are different rows. So a
    seed occurs twice in a row only when two records are of the same run. That raises StoreError: one of them is a copy,
    and nothing says which one is right.
    """
    by_track: dict[Track, list[Record]] = defaultdict(list)
    # Newest first, so that the titles shown are the newest.
    for record in sorted(records, key=lambda record: (record.finished, record.run_id), reverse=True):
        by_track[Track.from_record(record)].append(record)
    names = titles(by_track)
    return [
        _build_table(track, names[track], by_track[track], samples or {})
        for track in sorted(by_track, key=lambda track: track.sort_key)
    ]


def _build_table(track: Track, title: str, records: Sequence[Record], samples: Mapping[str, Sample]) -> Table:
    first = records[0]
    for record in records:
        if dataset_facts(record) != dataset_facts(first):
            raise StoreError(
                f"{place(record)}: classes, groups or numbers of images are not those of {place(first)}, though "
                "both name the same dataset fingerprint; remove the wrong one"
            )
    rows = sorted(_build_rows(records, samples), key=_rank)
    most = {name: max(record.class_counts[name] for record in records) for name in first.groups}
    classes = {name: (group, most[name]) for name, group in first.groups.items()}
    num_train_images = max(record.num_train_images for record in records)
    return Table(track, title, tuple(rows), classes, num_train_images, first.num_test_images)


def dataset_facts(record: Record) -> tuple:
    """The facts that all records of one dataset fingerprint share; each episode has a training list of its own."""
    training = () if record.episode is not None else (record.class_counts, record.num_train_images)
    return record.groups, record.num_test_images, *training


def place(record: Record) -> str:
    """The path of a record below its results folder."""
    return f"runs/{record.folder_name}/record.json"


def _rank(row: Row) -> tuple:
    overall = row.scores["Overall"]
    return overall is None, 0.0 if overall is None else -overall.mean, row.label


def _build_rows(records: Sequence[Record], samples: Mapping[str, Sample]) -> list[Row]:
    versioned = of_several_versions(records)
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[label_of(record, versioned), _digest_without_seed(record)].append(record)
    uses = Counter(label for label, _ in groups)
    rows = []
    for (label, digest), group in groups.items():
        ordered = _by_seed(group)
        sampled = tuple(samples.get(record.run_id) for record in ordered)
        mark = "" if uses[label] == 1 else f" [{digest[:8]}]"
        rows.append(Row(label + mark, ordered, sampled, mark))
    return rows


def of_several_versions(records: Iterable[Record]) -> set[str]:
    """The methods of which these records have more than one version."""
    versions = {(record.spec.method, record.spec.method_version) for record in records}
    return {method for method, count in Counter(method for method, _ in versions).items() if count > 1}


def _digest_without_seed(record: Record) -> str:
    identity = record.spec.identity()
    del identity["seed"]
    return hashlib.sha256(canonical_json([identity, record.declared, record.selection.rule]).encode()).hexdigest()


def row_key(record: Record) -> tuple:
    """A key that is equal for the records of one row, and for no others."""
    return Track.from_record(record), label_of(record, ()), _digest_without_seed(record)


def _by_seed(records: Sequence[Record]) -> tuple[Record, ...]:
    seeds = Counter(record.spec.seed for record in records)
    twice = [record for record in records if seeds[record.spec.seed] > 1]
    if twice:
        raise StoreError(f"{place(twice[0])}: {len(twice)} records hold the same run; remove the copies under runs/")
    return tuple(sorted(records, key=lambda record: record.spec.seed))
