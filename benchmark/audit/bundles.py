"""Bundles: one finished run in one zip file, to carry it from one results folder to another.

    manifest.json           format, the run, and sha256 and size of every other member
    record.json             as it was stored
    logits-<sha>.safetensors, epoch-<number>-<sha>.safetensors    the tensors that the record names
    config.yaml             for people: the command that makes the run again, and its specification
    signature.json          where it was signed: a public key, and its signature of the manifest

A bundle comes from somebody else: nothing of it is written before all of it has been checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from benchmark import __version__
from benchmark.audit.names import untold_settings
from benchmark.audit.reproduce import command
from benchmark.audit.signatures import Signer, signed, signer, signing_key, trusted_keys
from benchmark.audit.verify import (
    LABELS,
    Checked,
    Files,
    SeedFacts,
    SharedFacts,
    check_record,
    files_of,
    is_seeded,
    labels_digests,
    logits_digest,
)
from benchmark.base.atomic import write_atomically
from benchmark.base.files import MOST_TEXT, file_digest, open_regular, read_regular
from benchmark.data.registered import registered
from benchmark.errors import InputError, StoreError
from benchmark.spec import Sha256, Strict
from benchmark.store.claim import claimed
from benchmark.store.folder import RunFolder
from benchmark.store.logits import VALIDATION_TARGETS
from benchmark.store.records import Record, differing, whole
from benchmark.store.runs import load_records

Outcome = Literal["imported", "restored", "already there"]

FORMAT = 1
_MANIFEST, _RECORD, _CONFIG, _SIGNATURE = "manifest.json", "record.json", "config.yaml", "signature.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_AGAIN = "get the bundle again, or have it exported again"

# Nothing larger is read, whatever a bundle says of itself.
MOST_TENSORS = 4 * 2**30
# Of a tensor file, what is not numbers.
_HEADER = 2**20

# What reading a zip file that is damaged or hostile may raise, beside OSError.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError, LookupError,
    OverflowError,
)  # fmt: skip


class Member(Strict):
    """A file in a bundle; size in bytes."""

    sha256: Sha256
    size: Annotated[int, Field(ge=0)]

    @classmethod
    def of(cls, content: bytes) -> Member:
        """What a manifest says of a content."""
        return cls(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


class Manifest(Strict):
    """What a bundle holds. run: the folder's name. ltbench: the version that wrote it."""

    format: Literal[1]
    run: str
    ltbench: str
    files: dict[str, Member]

    @field_validator("format", mode="before")
    @classmethod
    def _format_is_a_number(cls, value: object) -> object:
        return whole(value)


# --- export ------------------------------------------------------------------------------------------------------


def export(folder: RunFolder, out: Path | None = None, sign: Path | None = None) -> Path:
    """Write a finished run to a bundle; returns its path, by default `<run>.ltbench.zip` in the current folder.

    sign: the file of a private key. Raises StoreError when the run is not done, does not hold, or the bundle cannot be
    written, InputError when there is such a file already, or the key is none.
    """
    target = out or Path(f"{folder.path.name}.ltbench.zip")
    if os.path.lexists(target):
        problem = "is a folder; name a file" if target.is_dir() else "is there already; remove it, or name another file"
        raise InputError(f"{target}: {problem} with --out")
    key = None if sign is None else signing_key(sign)
    record = folder.record()
    if record is None:
        raise StoreError(f"{folder.path}: the run has no record; only finished runs can be exported")
    files = Files.in_folder(folder)
    _refuse_faults(check_record(record, files))
    members = {_RECORD: files.read(_RECORD), _CONFIG: _config(record)}
    members |= {name: files.read(name) for name in files_of(record)}
    manifest = _manifest(folder.path.name, members)
    signature = {} if key is None else {_SIGNATURE: signed(manifest, key)}
    write_atomically(target, _zipped({_MANIFEST: manifest, **members, **signature}))
    return target


def _refuse_faults(checked: Checked) -> None:
    if checked.faults:
        more = f" (and {len(checked.faults) - 1} more do not hold)" if len(checked.faults) > 1 else ""
        raise StoreError(f"{checked.faults[0]}{more}")


def _config(record: Record) -> bytes:
    facts = {"command": command(record), "spec": record.spec.model_dump(mode="json", exclude_unset=True)}
    return yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=10_000).encode()


def _manifest(run: str, members: dict[str, bytes]) -> bytes:
    sums = {name: Member.of(content) for name, content in members.items()}
    return Manifest(format=FORMAT, run=run, ltbench=__version__, files=sums).model_dump_json(indent=1).encode()


def _zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            # One date for all: the same run gives the same bundle, to the byte. Nothing is compressed: logits would
            # lose a tenth of their size for several times the wait.
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


# --- a bundle that somebody sent ---------------------------------------------------------------------------------


class _Bundle:
    """An open bundle: exactly the members of its manifest, each read no further than the manifest says.

    signer: whose key signed the manifest, None for nobody's.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        self._path = path
        self._archive = archive
        self._infos = self._checked_members()
        content = self._read_manifest()
        self.manifest = self._checked_manifest(content)
        self.signer = self._checked_signature(content)

    def refuse(self, problem: str) -> StoreError:
        """The error that says what is wrong with the bundle."""
        return StoreError(f"{self._path}: {problem}; {_AGAIN}")

    def _checked_members(self) -> dict[str, zipfile.ZipInfo]:
        infos: dict[str, zipfile.ZipInfo] = {}
        for info in self._archive.infolist():
            # What `filename` says has been made harmless already.
            name = info.orig_filename
            kind = stat.S_IFMT(info.external_attr >> 16)
            if not _NAME.fullmatch(name):
                raise self.refuse(f"member {name[:80]!r} is not a plain file name")
            if name in infos:
                raise self.refuse(f"member {name!r} is there twice")
            if kind not in (0, stat.S_IFREG):
                raise self.refuse(f"member {name!r} is not a plain file")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise self.refuse(f"member {name!r} is compressed in a way that bundles are not")
            infos[name] = info
        return infos

    def _read_manifest(self) -> bytes:
        if _MANIFEST not in self._infos:
            raise self.refuse(f"has no {_MANIFEST}, so it is no bundle of ltbench")
        return self._content(_MANIFEST, MOST_TEXT)

    def _checked_signature(self, manifest: bytes) -> Signer | None:
        if _SIGNATURE not in self._infos:
            return None
        try:
            return signer(self._content(_SIGNATURE, MOST_TEXT), manifest)
        except ValueError as error:
            raise self.refuse(f"{_SIGNATURE}: {error}") from None

    def _checked_manifest(self, content: bytes) -> Manifest:
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            raise self.refuse(_manifest_fault(content, error)) from None
        named, found = {_MANIFEST, *manifest.files}, self._infos.keys() - {_SIGNATURE}
        if named != found:
            wrong = sorted(named ^ found)[0]
            raise self.refuse(f"member {wrong[:80]!r} is {'missing' if wrong in named else 'not in the manifest'}")
        return manifest

    def check_files(self, record: Record) -> None:
        """Raise StoreError unless the members are those that the record names, and no larger than it says."""
        expected = {_RECORD, _CONFIG, *files_of(record)}
        if set(self.manifest.files) != expected:
            wrong = sorted(expected ^ set(self.manifest.files))[0]
            state = "missing" if wrong in expected else "nothing that the record names"
            raise self.refuse(f"member {wrong[:80]!r} is {state}")
        per_class = record.num_test_images * (4 * len(record.results) + 1) + 5 * (record.num_validation_images or 0)
        numbers = per_class * len(record.groups)
        for name in files_of(record):
            if self.manifest.files[name].size > numbers + _HEADER:
                size = self.manifest.files[name].size
                raise self.refuse(f"member {name!r} has {size} bytes, more than the {numbers} that the record tells of")

    def read(self, name: str) -> bytes:
        """A member, as the manifest says. Raises StoreError."""
        if name not in self.manifest.files:
            raise self.refuse(f"member {name!r} is missing")
        content = self._content(name, MOST_TEXT if name in (_RECORD, _CONFIG) else MOST_TENSORS)
        if Member.of(content) != self.manifest.files[name]:
            raise self.refuse(f"member {name!r} has another sha256 or size than the manifest says")
        return content

    def _content(self, name: str, most: int) -> bytes:
        info = self._infos[name]
        if info.file_size > most:
            raise self.refuse(f"member {name!r} has {info.file_size} bytes, more than the {most} that are read")
        with _reading(self._path), self._archive.open(info) as file:
            content = file.read(info.file_size + 1)
        if len(content) != info.file_size:
            raise self.refuse(f"member {name!r} has not the {info.file_size} bytes that the zip file says")
        return content


def _manifest_fault(content: bytes, refusal: ValidationError) -> str:
    with contextlib.suppress(ValueError, RecursionError, AttributeError):
        version = json.loads(content).get("format")
        if version != FORMAT or type(version) is not int:
            return f"{_MANIFEST}: format {version!r} is not known to this version of ltbench (known: {FORMAT})"
    first = refusal.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "manifest"
    return f"{_MANIFEST}: not a valid manifest: {place}: {first['msg']}"


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Any error of the zip file as a StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}; give the path of a bundle") from None
    except _DAMAGE as error:
        raise StoreError(f"{path}: not a whole zip file ({error}); {_AGAIN}") from None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Bundle]:
    with contextlib.ExitStack() as stack:
        with _reading(path):
            file = stack.enter_context(open_regular(path))
            archive = stack.enter_context(zipfile.ZipFile(file))
        yield _Bundle(path, archive)


# --- import ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Imported:
    """A bundle that was accepted. outcome: "restored" where the run was there and had lost files. note: what could not
    be checked. signer: whose key signed it, None for nobody's. owner: the name of that key where it is trusted."""

    run: str
    outcome: Outcome
    note: str
    signer: Signer | None = None
    owner: str | None = None


def import_bundle(path: Path, results: Path, trust: Path | None = None) -> Imported:
    """Check a bundle and put its run into a results folder, or the files that such a run there has lost.

    trust: a file of public keys; a bundle that none of them signed is refused.

    The record arrives last, so whatever happens on the way leaves no half of a run. Raises StoreError, after which
    nothing that held before is changed: the bundle is damaged or does not hold, its split is not the one known here,
    its data are not those of the runs there, another or a damaged record of the run is there, a process is at work on
    the run, or the folder cannot be written. Raises InputError for a file of keys that is none.
    """
    owners = None if trust is None else trusted_keys(trust)
    with _opened(path) as bundle:
        if owners is not None and bundle.signer not in owners:
            told = "is not signed" if bundle.signer is None else f"is signed by {bundle.signer.fingerprint}"
            raise StoreError(f"{path}: {told}, and {trust} holds no key that signed it; add its key, or ask its owner")
        content = bundle.read(_RECORD)
        record = Record.from_bytes(content, f"{path}: {_RECORD}")
        if bundle.manifest.run != record.folder_name:
            raise bundle.refuse(f"the manifest is of run {bundle.manifest.run[:80]!r}, the record {record.folder_name}")
        bundle.check_files(record)
        bundle.read(_CONFIG)
        checked = check_record(record, Files(bundle.read, f"{path}: ", _AGAIN))
        _refuse_faults(checked)
        folder = RunFolder(results / "runs" / record.folder_name)
        # What is there is compared by `ltbench verify`: its files are wanted, whatever other runs say.
        note = "" if _is_there(folder, content) else _compare(path, record, checked, results)
        outcome = _place(bundle, record, content, folder)
    owner = None if owners is None or bundle.signer is None else owners[bundle.signer]
    return Imported(record.folder_name, outcome, note, bundle.signer, owner)


def _compare(path: Path, record: Record, checked: Checked, results: Path) -> str:
    """Compare a new record with those of a results folder, as far as they can be read, in one pass.

    Returns what could not be compared. Raises StoreError where it has another split, or data or logits for which
    `ltbench verify` would blame it.
    """
    ref, labels = record.spec.dataset, checked.labels
    known: set[str] = set()
    shared, seeds = SharedFacts(), SeedFacts()
    shared.add(record.folder_name, record, labels)
    seeds.add(record.folder_name, record, checked.logits)
    # `check_record` has compared the labels of a registered dataset.
    wanted = set(labels) if registered(ref.name) is None else set()
    for other in load_records(results, problems=[]) if results.is_dir() else ():
        if other.spec.dataset.name == ref.name:
            known.add(other.spec.dataset.fingerprint)
        if other.spec.dataset.fingerprint == ref.fingerprint:
            # Those of one run that has them: to read the logits of all would take long.
            theirs = _labels(other, results) if wanted & _stored_labels(other) else {}
            wanted -= theirs.keys()
            shared.add(other.folder_name, other, theirs)
            if checked.logits is not None and _scores_alike(record, other):
                seeds.add(other.folder_name, other, _logits_digest(other, results))
    notes = [_split_note(path, record, known, results), untold_settings(record)]
    _refuse_differences(path, record, shared, results)
    for repeated in seeds.repeated():
        if repeated.run == record.folder_name:
            raise StoreError(f"{path}: {repeated}, in {results}; have the run made again that has the other's logits")
    return "; ".join(note for note in notes if note)


def _scores_alike(record: Record, other: Record) -> bool:
    """Whether two runs may have the same logits: they then have the same scores."""
    return is_seeded(other) and not differing(
        {name: value for name, value in record.metrics.numbers().items() if name.startswith("per_class.")},
        other.metrics.numbers(),
    )


def _logits_digest(record: Record, results: Path) -> str | None:
    """`logits_digest` of a run there, None where it cannot be read."""
    with contextlib.suppress(StoreError):
        return logits_digest(record, Files.in_folder(RunFolder(results / "runs" / record.folder_name)))
    return None


def _stored_labels(record: Record) -> set[str]:
    """Names of the labels that a run has beside its logits."""
    without = {LABELS[VALIDATION_TARGETS]} if record.num_validation_images is None else set()
    return {*LABELS.values()} - without


def _labels(record: Record, results: Path) -> dict[str, str]:
    """`labels_digests` of a run there, none where they cannot be read."""
    with contextlib.suppress(StoreError):
        return labels_digests(record, Files.in_folder(RunFolder(results / "runs" / record.folder_name)))
    return {}


def _split_note(path: Path, record: Record, known: set[str], results: Path) -> str:
    """What is to be said of the split of a dataset that is not registered; known: the fingerprints of the records
    under its name. Raises StoreError for another than those."""
    ref = record.spec.dataset
    if registered(ref.name) is not None:  # `check_record` has compared them
        return ""
    if not known:
        return f"dataset {ref.name!r} is neither registered nor in {results}: its split could not be compared"
    if ref.fingerprint not in known:
        raise StoreError(
            f"{path}: the split differs: dataset {ref.name!r} has the fingerprint {sorted(known)[0][:12]} in "
            f"{results}, the bundle has {ref.fingerprint[:12]}; import it into a folder of its own with --results"
        )
    return ""


def _refuse_differences(path: Path, record: Record, shared: SharedFacts, results: Path) -> None:
    for difference in shared.differences():
        if difference.run == record.folder_name:
            raise StoreError(
                f"{path}: {difference}, in {results}; import it into a folder of its own with --results, or have the "
                "run made again that has the wrong data"
            )


class _Undone(InputError):
    """Leaves a claim as if nothing had been started, which is what an import that fails comes to."""


def _place(bundle: _Bundle, record: Record, content: bytes, folder: RunFolder) -> Outcome:
    """Write what the run's folder has not of its files."""
    if _is_there(folder, content) and not _lost(folder, record):
        return "already there"
    if folder.path.is_symlink():
        raise StoreError(f"{folder.path}: is a link, and an import writes to no other place; remove the link")
    try:
        with claimed(folder) as claim:
            try:
                outcome = _fill(bundle, record, content, folder)
            except BaseException as error:
                raise _Undone("not imported") from error
            claim.withdraw()
    except _Undone as undone:
        raise undone.__cause__ from None
    return outcome


def _fill(bundle: _Bundle, record: Record, content: bytes, folder: RunFolder) -> Outcome:
    """`_place`, where nobody else can: somebody may have been faster."""
    if not _is_there(folder, content):
        _write(bundle, list(files_of(record)), content, folder)
        return "imported"
    lost = _lost(folder, record)
    if lost:
        _write(bundle, lost, None, folder)
    return "restored" if lost else "already there"


def _is_there(folder: RunFolder, content: bytes) -> bool:
    """Whether the same record is in the folder. Raises StoreError for another one, or what is left of one."""
    found, given = folder.record_digest(), hashlib.sha256(content).hexdigest()
    if found is None and not folder.record_path.is_symlink():
        return False
    if found == given:
        return True
    if damage := _damage(folder.record_path):
        raise StoreError(
            f"{folder.record_path}: the record there is damaged ({damage}); restore it, or remove the folder and "
            "import again"
        )
    raise StoreError(
        f"{folder.record_path}: is another record of this run (sha256 {found[:12]}) than the bundle's "
        f"({given[:12]}); keep it, or remove the folder and import again"
    )


def _damage(path: Path) -> str:
    """Why a record's file cannot be read or is no JSON; empty where it is some."""
    try:
        json.loads(read_regular(path))
    except OSError as error:
        return str(error.strerror or error)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return ""


def _lost(folder: RunFolder, record: Record) -> list[str]:
    """The files that a record names and that are not there, or not as it says."""
    return [name for name, sha256 in files_of(record).items() if not _is_file(folder.path / name, sha256)]


def _is_file(path: Path, sha256: str) -> bool:
    try:
        return file_digest(path) == sha256
    except OSError:
        return False


def _write(bundle: _Bundle, names: list[str], content: bytes | None, folder: RunFolder) -> None:
    """The tensors of these names first, by way of a folder beside the run's, then the record, where it is not there.
    Removes what it added when it fails."""
    added = [path for path in (folder.path / name for name in (*names, _RECORD)) if not os.path.lexists(path)]
    # The claim keeps others out: what is there was left by an import that was killed.
    draft = folder.path.with_name(f".{folder.path.name}.import")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir()
        for name in names:
            write_atomically(draft / name, bundle.read(name))
        for name in names:
            (draft / name).rename(folder.path / name)
        if content is not None:
            write_atomically(folder.record_path, content)
            folder.checkpoint_path.unlink(missing_ok=True)
    except BaseException as error:
        for path in added:
            with contextlib.suppress(OSError):
                path.unlink()
        if not isinstance(error, OSError):
            raise
        raise StoreError(
            f"{error.filename2 or error.filename or folder.path}: cannot be written: {error.strerror or error}; "
            "nothing was imported"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
