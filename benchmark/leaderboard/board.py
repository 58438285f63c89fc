"""The leaderboard as data: from the records and logits of a results folder to tables, for pages and exports."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.audit.undeclared import undeclared_recipe_change
from benchmark.base.memory import paused_collections
from benchmark.data.registered import majority, registered
from benchmark.errors import StoreError
from benchmark.leaderboard.published import PublishedTable, published
from benchmark.leaderboard.samples import Sample, samples
from benchmark.leaderboard.stats.thresholds import thresholds
from benchmark.leaderboard.summary import Summary, summaries
from benchmark.leaderboard.tables import Table, build_tables, dataset_facts, place
from benchmark.spec import canonical_json
from benchmark.store.records import Record
from benchmark.store.runs import load_records
from benchmark.ui.progress import Reporter


@dataclass(frozen=True)
class Board:
    """All that a leaderboard shows.

    published: printed numbers beside measured ones. excluded: one line for each record left out, with the reason.
    runs: the folder of the runs, relative to the page, with forward slashes.
    """

    tables: tuple[Table, ...]
    summaries: tuple[Summary, ...] = ()
    published: tuple[PublishedTable, ...] = ()
    excluded: tuple[str, ...] = ()
    runs: str = "runs"

    @property
    def num_records(self) -> int:
        """Number of records shown."""
        return sum(row.n for table in self.tables for row in table.rows)


def make_board(
    records: Iterable[Record],
    sampled: Mapping[str, Sample] | None = None,
    excluded: Sequence[str] = (),
    runs: str = "runs",
) -> Board:
    """The board of these records; sampled: run id -> sample of the run."""
    tables = build_tables(records, sampled)
    return Board(tuple(tables), tuple(summaries(tables)), tuple(published(tables)), tuple(sorted(excluded)), runs)


def load_board(
    results: Path,
    out: Path,
    problems: list[StoreError] | None = None,
    reporter: Reporter | None = None,
    of: Iterable[Record] | None = None,
) -> Board:
    """The board of a results folder, or `of` some of its records, for a page in the folder `out`.

    A record that is not whole, whose logits are not there or do not give its numbers, or that contradicts the others
    about its dataset, is left out, named on the board and appended to `problems`. Raises StoreError when there is no
    such folder.
    """
    problems = [] if problems is None else problems
    with paused_collections():
        records = _as_registered(load_records(results, problems) if of is None else of, problems)
        sampled: dict[str, Sample] = {}
        whole = []
        for record, sample in samples(results, records, reporter):
            if isinstance(sample, StoreError):
                problems.append(sample)
            else:
                sampled[record.run_id] = sample
                whole.append(record)
        labels = {record.run_id: sampled[record.run_id].targets for record in whole}
        facts = {record.run_id: repr(dataset_facts(record)) for record in whole}  # repr: dictionaries have no hash
        whole = _agreeing(whole, facts, "classes, groups or numbers of images", problems)
        whole = _agreeing(whole, labels, "labels of the test images", problems)
        whole = _agreeing(whole, _validation_labels(sampled), "labels of the validation images", problems)
        pixels = {record.run_id: record.data_digests["test"] for record in whole if "test" in record.data_digests}
        whole = _agreeing(whole, pixels, "pixels of the test images", problems, _prepared)
        # Without the way to the results folder: the page is the same wherever the folder lies.
        excluded = [str(problem).removeprefix(f"{results}{os.sep}") for problem in problems]
        for run, scores in thresholds(results, whole, reporter).items():
            sampled[run] = replace(sampled[run], at_threshold=scores)
        runs = Path(os.path.relpath((results / "runs").resolve(), out.resolve())).as_posix()
        return make_board(whole, sampled, excluded, runs)


def _validation_labels(sampled: Mapping[str, Sample]) -> dict[str, str]:
    """Run id -> what a run says of them; runs without validation logits say nothing."""
    found = {run: sample.validation_targets for run, sample in sampled.items()}
    return {run: labels for run, labels in found.items() if labels is not None}


def _as_registered(records: Iterable[Record], problems: list[StoreError]) -> list[Record]:
    """The records but for those of a registered dataset's name whose lists, classes or groups are others, and those
    that changed more of a registered protocol than they name."""
    kept = []
    for record in records:
        fault = _other_split(record) or _other_recipe(record)
        if fault is None:
            kept.append(record)
        else:
            problems.append(StoreError(f"{place(record)}: {fault}"))
    return kept


def _other_split(record: Record) -> str | None:
    dataset, made_on = registered(record.spec.dataset.name), record.spec.dataset.fingerprint
    if dataset is None or dataset.fingerprint == made_on:
        return None
    return (
        f"made on another split than the registered dataset {dataset.name!r} (fingerprint {made_on[:12]}, here "
        f"{dataset.fingerprint[:12]}); run again, or rename a dataset of your own"
    )


def _other_recipe(record: Record) -> str | None:
    change = undeclared_recipe_change(record)
    return None if change is None else f"{change}; run again with --rerun always"


def _fingerprint(record: Record) -> str:
    return record.spec.dataset.fingerprint


def _prepared(record: Record) -> str:
    """The dataset's fingerprint, and how its test images were prepared for the network."""
    recipe = record.spec.recipe
    return canonical_json(
        [_fingerprint(record), recipe.image_size, recipe.test_time.model_dump(), record.spec.weights.interpolation]
    )


def _agreeing(
    records: Sequence[Record],
    facts: Mapping[str, str],
    what: str,
    problems: list[StoreError],
    group: Callable[[Record], str] = _fingerprint,
) -> list[Record]:
    """The records that agree with most of their group. facts: run id -> what it says; one that says nothing agrees."""
    by_group: dict[str, list[str]] = defaultdict(list)
    groups = {record.run_id: group(record) for record in records}
    for record in records:
        if record.run_id in facts:
            by_group[groups[record.run_id]].append(facts[record.run_id])
    told = {name: majority(found) for name, found in by_group.items()}
    kept = []
    for record in records:
        fingerprint = _fingerprint(record)
        if record.run_id not in facts or facts[record.run_id] == told[groups[record.run_id]]:
            kept.append(record)
            continue
        others = (
            "most other records"
            if told[groups[record.run_id]] is not None
            else "another record, and nothing says which is right,"
        )
        problems.append(
            StoreError(
                f"{place(record)}: {what} are not those of {others} with the same dataset fingerprint "
                f"{fingerprint[:12]}; run again with --rerun always"
            )
        )
    return kept
