"""Verification of stored runs: records against their logits, logits against their lists, runs against each other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark.audit.agreement import Agreement
from benchmark.audit.code_digest import code_digest_of
from benchmark.audit.files import FolderFiles, files_of
from benchmark.audit.judge import judge
from benchmark.audit.names import unknown_settings
from benchmark.errors import StoreError
from benchmark.method import METHODS
from benchmark.store.folder import RunFolder
from benchmark.store.records import Record
from benchmark.store.runs import record_paths
from benchmark.ui.progress import Reporter, plural

Kind = Literal["fault", "stale", "note"]


@dataclass(frozen=True)
class Finding:
    """A finding about a stored run. fault: it does not hold. stale: other code made it. note: worth knowing.

    run: its folder's name. message: one line that names file, value and remedy.
    """

    run: str
    kind: Kind
    message: str


@dataclass(frozen=True)
class Verification:
    """The result of `verify`. records: number of records; scored: number of those scored again from their logits."""

    records: int
    scored: int
    findings: list[Finding]

    def of_kind(self, kind: Kind) -> list[Finding]:
        """The findings of one kind, in order."""
        return [finding for finding in self.findings if finding.kind == kind]

    @property
    def faulty_runs(self) -> int:
        """Number of runs that do not hold."""
        return len({finding.run for finding in self.of_kind("fault")})

    @property
    def summary(self) -> str:
        """`75 records: 75 scored again, 0 faults, 3 stale`."""
        faults, stale, notes = (len(self.of_kind(kind)) for kind in ("fault", "stale", "note"))
        counts = [f"{self.scored} scored again", plural(faults, "fault"), f"{stale} stale"]
        return f"{plural(self.records, 'record')}: {', '.join(counts + [plural(notes, 'note')] * bool(notes))}"


def verify(results: Path | str, reporter: Reporter | None = None) -> Verification:
    """Check every run of a results folder that has a record; the logits of one run are in memory at a time.

    reporter: shows the progress, none by default. Raises StoreError when there is no such folder, InputError when a
    method or dataset here cannot be loaded.
    """
    results = Path(results)
    if not results.is_dir():
        raise StoreError(f"{results}: no such results folder; name one with --results")
    folders = [RunFolder(path.parent) for path in record_paths(results)]
    findings: list[Finding] = []
    agreement = Agreement()
    scored = 0
    with (reporter or Reporter()).task("verifying", len(folders)) as task:
        for done, folder in enumerate(folders):
            run = folder.path.name
            task.update(done, run)
            try:
                record = folder.record()
            except StoreError as error:
                findings.append(Finding(run, "fault", str(error)))
                continue
            if record is None:  # removed meanwhile
                continue
            judged = judge(record, FolderFiles(folder.path))
            scored += judged.scored
            findings += [Finding(run, "fault", message) for message in judged.faults]
            findings += _notes(folder, record)
            agreement.add(run, record, judged.labels, judged.logits)
    for found in agreement.disagreements():
        path = RunFolder(results / "runs" / found.run).record_path
        findings.append(Finding(found.run, "fault", f"{path}: {found.problem}; {found.remedy}"))
    return Verification(len(folders), scored, sorted(findings, key=lambda finding: finding.run))


def _notes(folder: RunFolder, record: Record) -> Iterator[Finding]:
    """Findings on staleness, and on files that no record names."""
    run, method = folder.path.name, record.spec.method
    if method not in METHODS:
        problem = f"unknown method: cannot tell whether stale ({method!r} is not registered here)"
        yield Finding(run, "note", f"{folder.record_path}: {problem}")
    elif (now := code_digest_of(record)) is None:
        problem = "cannot tell whether stale: its settings, backbone or samplers are not those of a method here"
        yield Finding(run, "note", f"{folder.record_path}: {problem}")
    elif now != (then := record.environment.code_digest):
        problem = f"made by code {then[:12]}, and the present code is {now[:12]}; --rerun stale runs it again"
        yield Finding(run, "stale", f"{folder.record_path}: {problem}")
    if method in METHODS and (unknown := unknown_settings(record)):
        yield Finding(run, "note", f"{folder.record_path}: {unknown}")
    for name in _strays(folder, record):
        yield Finding(run, "note", f"{folder.path / name}: no record names this file; remove it if it is not yours")


def _strays(folder: RunFolder, record: Record) -> list[str]:
    # A damaged lease is no fault of the record; `ltbench status` reports it.
    with contextlib.suppress(StoreError):
        if folder.holder() is not None:
            return []  # the files of a running attempt have no record yet
    known = {"record.json", "lease.json", "lock", "attempts", folder.log_path.name, folder.checkpoint_path.name}
    known |= set(files_of(record))
    try:
        return sorted(path.name for path in folder.path.iterdir() if path.name not in known)
    except OSError as error:
        raise StoreError(f"{folder.path}: cannot be read: {error.strerror or error}") from None
