"""Bundles: one finished run in one file, to copy it from one results folder to another.

`archive` is the file's format, `judge` decides whether the run holds, and `arrival` writes it to a results folder.
A bundle is untrusted: nothing of it is written before all of it has been checked.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmark.audit.agreement import Agreement, may_repeat
from benchmark.audit.archive import CONFIG, Bundle, opened, packed
from benchmark.audit.arrival import Outcome, arrive, is_there
from benchmark.audit.files import RECORD, Files, FolderFiles, Stated, files_of, load
from benchmark.audit.judge import Judged, judge
from benchmark.audit.names import unknown_settings
from benchmark.audit.reproduce import command
from benchmark.audit.signatures import Signer, signing_key, trusted_keys
from benchmark.base.atomic import write_atomically
from benchmark.data.registered import registered
from benchmark.errors import InputError, StoreError
from benchmark.store.folder import RunFolder
from benchmark.store.records import Record
from benchmark.store.runs import load_records


def export(folder: RunFolder, out: Path | None = None, sign: Path | None = None) -> Path:
    """Write a finished run to a bundle; returns its path, by default `<run>.ltbench.zip` in the current folder.

    sign: the file of a private key. Raises StoreError when the run is not done, does not hold, or the bundle cannot be
    written, InputError when the file exists already, or the key is not valid.
    """
    target = out or Path(f"{folder.path.name}.ltbench.zip")
    if os.path.lexists(target):
        problem = "is a folder; name a file" if target.is_dir() else "is there already; remove it, or name another file"
        raise InputError(f"{target}: {problem} with --out")
    key = None if sign is None else signing_key(sign)
    record = folder.record()
    if record is None:
        raise StoreError(f"{folder.path}: the run has no record; only finished runs can be exported")
    files = _KeptFiles(folder.path)
    _judged(record, files)
    members = {RECORD: files.read(RECORD), CONFIG: _config(record)}
    members |= {name: files.read(name) for name in files_of(record)}
    write_atomically(target, packed(folder.path.name, members, key))
    return target


class _KeptFiles(FolderFiles):
    """Files that are read once, so that the packed content is the judged content."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._kept: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        if name not in self._kept:
            self._kept[name] = super().read(name)
        return self._kept[name]


def _judged(record: Record, files: Files) -> Judged:
    """The judge's verdict on a run. Raises StoreError where the run does not hold."""
    judged = judge(record, files)
    if judged.faults:
        more = f" (and {len(judged.faults) - 1} more do not hold)" if len(judged.faults) > 1 else ""
        raise StoreError(f"{judged.faults[0]}{more}")
    return judged


def _config(record: Record) -> bytes:
    facts = {"command": command(record), "spec": record.spec.model_dump(mode="json", exclude_unset=True)}
    return yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=10_000).encode()


@dataclass(frozen=True)
class Imported:
    """A bundle that was accepted.

    note: what could not be checked. signer: the key that signed it, None for an unsigned bundle. owner: name of the
    key's owner, where the key is trusted.
    """

    run: str
    outcome: Outcome
    note: str
    signer: Signer | None = None
    owner: str | None = None


def import_bundle(path: Path, results: Path, trust: Path | None = None) -> Imported:
    """Check a bundle and write its run to a results folder, or the files that this run lacks there.

    trust: a file of public keys; a bundle that none of them signed is refused.

    The record is written last, so that an interruption leaves no partial run. Raises StoreError, after which nothing is
    changed: the bundle is damaged or does not hold, its split differs from the known one, its data differ from those of
    the runs there, or it cannot be written (see `arrival.arrive`). Raises InputError for a file without keys.
    """
    owners = None if trust is None else trusted_keys(trust)
    with opened(path) as bundle:
        if owners is not None and bundle.signer not in owners:
            whose = "is not signed" if bundle.signer is None else f"is signed by {bundle.signer.fingerprint}"
            raise StoreError(f"{path}: {whose}, and {trust} holds no key that signed it; add its key, or ask its owner")
        content = bundle.read(RECORD)
        record = _checked_record(path, bundle, content)
        judged = _judged(record, bundle)
        folder = RunFolder(results / "runs" / record.folder_name)
        # A record that is already there is not compared with other runs: `ltbench verify` does that.
        note = "" if is_there(folder, content) else _compare(path, record, judged, results)
        outcome = arrive(folder, record, content, bundle.read)
    owner = None if owners is None or bundle.signer is None else owners[bundle.signer]
    return Imported(record.folder_name, outcome, note, bundle.signer, owner)


def _checked_record(path: Path, bundle: Bundle, content: bytes) -> Record:
    """The record of a bundle, whose members must be those that the record names."""
    record = Record.from_bytes(content, f"{path}: {RECORD}")
    if bundle.manifest.run != record.folder_name:
        raise bundle.refuse(f"the manifest is of run {bundle.manifest.run[:80]!r}, the record {record.folder_name}")
    bundle.check_files(Stated.of(record))
    bundle.read(CONFIG)
    return record


def _compare(path: Path, record: Record, judged: Judged, results: Path) -> str:
    """Compare a new record with those of a results folder, as far as they can be read, in one pass.

    Returns what could not be compared. Raises StoreError where it has another split, or data or logits that
    `ltbench verify` would report as its fault.
    """
    ref = record.spec.dataset
    known: set[str] = set()
    agreement = Agreement()
    agreement.add(record.folder_name, record, judged.labels, judged.logits)
    # The judge has compared the labels of a registered dataset.
    wanted = set() if registered(ref.name) is not None else set(judged.labels)
    for other in load_records(results, problems=[]) if results.is_dir() else ():
        if other.spec.dataset.name == ref.name:
            known.add(other.spec.dataset.fingerprint)
        if other.spec.dataset.fingerprint == ref.fingerprint:
            stated = Stated.of(other)
            labels, logits = {}, None
            # Not all logits are read, which takes long: the labels of one run that has them, and the logits of those
            # with the same score.
            repeats = judged.logits is not None and stated.seeded and bool(may_repeat([record, other]))
            if repeats or wanted & stated.tensors.keys():
                with contextlib.suppress(StoreError):
                    contents = load(stated, FolderFiles(results / "runs" / other.folder_name))
                    labels = contents.labels if wanted else {}
                    logits = contents.logits if repeats else None
            wanted -= labels.keys()
            agreement.add(other.folder_name, other, labels, logits)
    notes = [_split_note(path, record, known, results), unknown_settings(record)]
    _refuse_disagreement(path, record, agreement, results)
    return "; ".join(note for note in notes if note)


def _split_note(path: Path, record: Record, known: set[str], results: Path) -> str:
    """A note on the split of a dataset that is not registered; empty where its split is known.

    known: the fingerprints of the records under the dataset's name. Raises StoreError for another one.
    """
    ref = record.spec.dataset
    if registered(ref.name) is not None:  # the judge has compared them
        return ""
    if not known:
        return f"dataset {ref.name!r} is neither registered nor in {results}: its split could not be compared"
    if ref.fingerprint not in known:
        raise StoreError(
            f"{path}: the split differs: dataset {ref.name!r} has the fingerprint {sorted(known)[0][:12]} in "
            f"{results}, the bundle has {ref.fingerprint[:12]}; import it into a folder of its own with --results"
        )
    return ""


def _refuse_disagreement(path: Path, record: Record, agreement: Agreement, results: Path) -> None:
    for found in agreement.disagreements():
        if found.run == record.folder_name:
            raise StoreError(
                f"{path}: {found.problem}, in {results}; import it into a folder of its own with --results, or have "
                "the wrong run made again"
            )
