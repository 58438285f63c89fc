"""The leaderboard as data: from the records and logits of a results folder to tables, for pages and exports."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.audit.agreement import SCORED, Agreement, Disagreement
from benchmark.audit.files import RECORD, FolderFiles
from benchmark.audit.judge import record_faults
from benchmark.audit.lists import label_faults
from benchmark.base.memory import paused_collections
from benchmark.errors import StoreError
from benchmark.leaderboard.build import build_tables
from benchmark.leaderboard.samples import Sample, samples
from benchmark.leaderboard.summary import Summary, summaries
from benchmark.leaderboard.tables import Table
from benchmark.leaderboard.thresholds import thresholds
from benchmark.leaderboard.verdicts import PublishedTable, published
from benchmark.store.records import Record
from benchmark.store.runs import load_records
from benchmark.ui.progress import Reporter


@dataclass(frozen=True)
class Board:
    """The content of a leaderboard.

    published: printed numbers beside measured ones. excluded: one line for each excluded record, with the reason.
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
    """The board of these records. sampled: run id -> sample of the run."""
    tables = build_tables(records, sampled)
    return Board(tuple(tables), tuple(summaries(tables)), tuple(published(tables)), tuple(sorted(excluded)), runs)


def load_board(
    results: Path,
    out: Path,
    problems: list[StoreError] | None = None,
    reporter: Reporter | None = None,
    of: Iterable[Record] | None = None,
) -> Board:
    """The board of a results folder, for a page in the folder `out`. of: only these of its records.

    A damaged record, one with a fault that the judge finds, and one that contradicts the others about its dataset are
    excluded: the board names each with its first fault, and `problems` gets that fault. Raises StoreError when there is
    no such folder.
    """
    problems = [] if problems is None else problems
    with paused_collections():
        records = load_records(results, problems) if of is None else of
        whole, sampled = _judged(results, records, problems, reporter)
        # Relative to the results folder, so that the page is the same wherever the folder is.
        excluded = [str(problem).removeprefix(f"{results}{os.sep}") for problem in problems]
        for run, scores in thresholds(results, whole, reporter).items():
            sampled[run] = replace(sampled[run], at_threshold=scores)
        runs = Path(os.path.relpath((results / "runs").resolve(), out.resolve())).as_posix()
        return make_board(whole, sampled, excluded, runs)


def _judged(
    results: Path, records: Iterable[Record], problems: list[StoreError], reporter: Reporter | None
) -> tuple[list[Record], dict[str, Sample]]:
    """The records without a fault, and their samples by run id; the first fault of each other goes to `problems`.

    Only `ltbench verify` checks the names in a record, the settings of its method and its training images: it must load
    PyTorch for that, which takes seconds. Stale records are shown, as their numbers are valid.
    """
    sound = []
    for record in records:
        faults = record_faults(record, _files(results, record))
        if faults:
            problems.append(StoreError(faults[0]))
        else:
            sound.append(record)
    agreement = Agreement(images=SCORED)
    sampled: dict[str, Sample] = {}
    for record, sample in samples(results, sound, reporter):
        if isinstance(sample, StoreError):
            problems.append(sample)
        elif faults := label_faults(record, sample.labels, _files(results, record)):
            problems.append(StoreError(faults[0]))
        else:
            agreement.add(record.folder_name, record, sample.labels, sample.logits)
            sampled[record.run_id] = sample
    odd: dict[str, Disagreement] = {}
    for found in agreement.disagreements():
        odd.setdefault(found.run, found)
    whole: list[Record] = []
    for record in sound:
        disagreement = odd.get(record.folder_name)
        if disagreement is not None:
            where = f"{_files(results, record).where}{RECORD}"
            problems.append(StoreError(f"{where}: {disagreement.problem}; {disagreement.remedy}"))
        elif record.run_id in sampled:
            whole.append(record)
    return whole, sampled


def _files(results: Path, record: Record) -> FolderFiles:
    return FolderFiles(results / "runs" / record.folder_name)
