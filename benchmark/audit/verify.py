"""Whether stored runs hold: records against their logits, logits against their lists, runs against each other."""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from benchmark.audit.names import misnamed, untold_settings
from benchmark.audit.undeclared import undeclared_change
from benchmark.base.files import read_regular
from benchmark.data.augment import training_cache_size
from benchmark.data.registered import registered, registered_split, usual
from benchmark.errors import RunFailed, StoreError
from benchmark.evaluation import numbers_again
from benchmark.method import METHODS
from benchmark.running.environment import code_digest
from benchmark.spec import canonical_json
from benchmark.store.logits import TARGETS, VALIDATION, VALIDATION_TARGETS, tensors_of
from benchmark.store.records import Record, differing
from benchmark.store.runs import RunFolder, record_paths
from benchmark.training.inference import scoring_cache_size
from benchmark.ui.progress import Reporter, plural

Kind = Literal["fault", "stale", "note"]

# Labels in a file of logits: tensor -> what a message calls them.
LABELS = {TARGETS: "test labels", VALIDATION_TARGETS: "validation labels"}

# Share of the spread of a run's test logits by which they may differ when they are computed again: far above what
# another GPU or another order of sums makes of them, far below what another epoch does.
_SAME_LOGITS = 0.01


@dataclass(frozen=True)
class Finding:
    """Something about a stored run. fault: it does not hold. stale: it was made by other code. note: worth knowing.

    run: its folder's name. message: one line that names file, value and remedy.
    """

    run: str
    kind: Kind
    message: str


@dataclass(frozen=True)
class Verification:
    """What `verify` found. records: how many there are; scored: how many were scored again from their logits."""

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
        told = [f"{self.scored} scored again", plural(faults, "fault"), f"{stale} stale"]
        return f"{plural(self.records, 'record')}: {', '.join(told + [plural(notes, 'note')] * bool(notes))}"


@dataclass(frozen=True)
class Files:
    """The files of one run, wherever they are.

    read: the content of a file by its name; raises StoreError. where: what stands before a file's name in a message.
    remedy: what to do about a file that is not as it was.
    """

    read: Callable[[str], bytes]
    where: str
    remedy: str

    @classmethod
    def in_folder(cls, folder: RunFolder) -> Files:
        """Those of a results folder."""
        remedy = "restore the file, or run again with --rerun always"

        def read(name: str) -> bytes:
            try:
                return read_regular(folder.path / name)
            except OSError as error:
                problem = f"cannot be read: {error.strerror or error}"
                raise StoreError(f"{folder.path / name}: {problem}; {remedy}") from None

        return cls(read, f"{folder.path}/", remedy)

    def fault(self, name: str, problem: str) -> str:
        """The message of a fault in a file."""
        return f"{self.where}{name}: {problem}; {self.remedy}"


@dataclass
class Checked:
    """What comes out of comparing a record with its files.

    faults: messages. scored: whether its logits could be scored. labels: see `labels_digests`; none where they could
    not be read. logits: see `logits_digest`; None where they could not be read, or say nothing of the seed.
    """

    faults: list[str] = field(default_factory=list)
    scored: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    logits: str | None = None


def verify(results: Path | str, reporter: Reporter | None = None) -> Verification:
    """Check every run of a results folder that has a record; one run's logits are held at a time.

    Raises StoreError when there is no such folder, InputError when a method or dataset here cannot be loaded.
    """
    results, reporter = Path(results), reporter or Reporter()
    if not results.is_dir():
        raise StoreError(f"{results}: no such results folder; name one with --results")
    folders = [RunFolder(path.parent) for path in record_paths(results)]
    findings: list[Finding] = []
    shared = SharedFacts()
    seeds = SeedFacts()
    scored = 0
    with reporter.task("verifying", len(folders)) as task:
        for done, folder in enumerate(folders):
            task.update(done, folder.path.name)
            try:
                record = folder.record()
            except StoreError as error:
                findings.append(Finding(folder.path.name, "fault", str(error)))
                continue
            if record is None:  # removed meanwhile
                continue
            checked = check_record(record, Files.in_folder(folder))
            scored += checked.scored
            findings += [Finding(folder.path.name, "fault", message) for message in checked.faults]
            findings += _notes(folder, record)
            shared.add(folder.path.name, record, checked.labels)
            seeds.add(folder.path.name, record, checked.logits)
    findings += [_difference_fault(results, difference) for difference in shared.differences()]
    findings += [_repeated_fault(results, repeated) for repeated in seeds.repeated()]
    return Verification(len(folders), scored, sorted(findings, key=lambda finding: finding.run))


def check_record(record: Record, files: Files) -> Checked:
    """Compare a record with its files, and with the registered dataset, protocol and method of its names."""
    try:
        tensors = _logits(record, files)
    except StoreError as error:
        tensors, checked = None, Checked([str(error)])
    else:
        checked = _score_again(record, tensors, files)
    checked.faults[:0] = split_faults(record, files)
    change = undeclared_change(record)
    problems = [*misnamed(record), *([] if change is None else [change])]
    checked.faults += [files.fault("record.json", problem) for problem in problems]
    checked.faults += _epoch_faults(record, tensors, files)
    return checked


def _score_again(record: Record, tensors: Mapping[str, np.ndarray], files: Files) -> Checked:
    targets = tensors[TARGETS]
    checked = Checked(_target_faults(tensors, record, files), labels=_digests(tensors))
    checked.logits = _logits_digest(record, tensors)
    scored = [(f"results.{name}", metrics, tensors[name], targets) for name, metrics in record.results.items()]
    if record.validation is not None and record.num_validation_images is not None:
        scored.append(("validation", record.validation, tensors[VALIDATION], tensors[VALIDATION_TARGETS]))
    try:
        for place, metrics, logits, labels in scored:
            recorded = metrics.numbers()
            again = numbers_again(recorded, logits, labels, record.groups)
            checked.faults += _score_faults(place, recorded, again, files)
    except RunFailed as error:
        checked.faults.append(files.fault(record.logits.file, str(error)))
    else:
        checked.scored = True
    return checked


def labels_digests(record: Record, files: Files) -> dict[str, str]:
    """sha256 of the labels stored with a run, by their names in `LABELS`. Raises StoreError where its logits are not
    what the record says."""
    return _digests(_logits(record, files))


def logits_digest(record: Record, files: Files) -> str | None:
    """sha256 of a run's test logits, which no run with another seed has; None for a run without training and for logits
    that are the same for all images. Raises StoreError where they are not what the record says."""
    return _logits_digest(record, _logits(record, files))


def _logits_digest(record: Record, tensors: Mapping[str, np.ndarray]) -> str | None:
    logits = tensors[record.declared]
    if not is_seeded(record) or (logits == logits[0]).all():
        return None
    return hashlib.sha256(logits.tobytes()).hexdigest()


def is_seeded(record: Record) -> bool:
    """Whether the seed decides anything: where nothing is trained, all seeds give the same."""
    return bool(record.history) and record.parameters.trained > 0


def _digests(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    return {what: hashlib.sha256(tensors[key].tobytes()).hexdigest() for key, what in LABELS.items() if key in tensors}


def _logits(record: Record, files: Files) -> dict[str, np.ndarray]:
    """The stored logits and labels of a record. Raises StoreError where they are not what it says."""
    tensors = _tensors(files, record.logits.file, record.logits.sha256)
    _check_tensors(tensors, record, files, record.logits.file, _test_tensors(record) | _validation_tensors(record))
    return tensors


def _tensors(files: Files, name: str, sha256: str) -> dict[str, np.ndarray]:
    try:
        return tensors_of(files.read(name), sha256)
    except ValueError as error:
        raise StoreError(files.fault(name, str(error))) from None


def _weight_tensors(record: Record) -> dict[str, tuple[type, int]]:
    """Test logits by their names: dtype and number of images."""
    return dict.fromkeys(record.results, (np.float32, record.num_test_images))


def _test_tensors(record: Record) -> dict[str, tuple[type, int]]:
    return _weight_tensors(record) | {TARGETS: (np.uint8, record.num_test_images)}


def _validation_tensors(record: Record) -> dict[str, tuple[type, int]]:
    images = record.num_validation_images
    return {} if images is None else {VALIDATION: (np.float32, images), VALIDATION_TARGETS: (np.uint8, images)}


def _check_tensors(
    tensors: Mapping[str, np.ndarray], record: Record, files: Files, name: str, expected: Mapping[str, tuple[type, int]]
) -> None:
    """Raise StoreError unless a file holds the tensors expected of the record, finite."""
    if set(tensors) != set(expected):
        found = ", ".join(sorted(tensors)) or "nothing"
        raise StoreError(files.fault(name, f"it holds {found} instead of {', '.join(sorted(expected))}"))
    for key, values in tensors.items():
        kind, images = expected[key]
        dtype, shape = np.dtype(kind), (images, len(record.groups))
        if values.dtype != dtype or values.shape != shape or not values.size:
            found = f"{values.dtype} {list(values.shape)}"
            raise StoreError(files.fault(name, f"{key} is {found}; {dtype} {list(shape)} is what the record tells of"))
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            problem = f"{key} is {values[row, column]} at image {row}, class {column}, which is not finite"
            raise StoreError(files.fault(name, problem))


def _score_faults(
    place: str, recorded: Mapping[str, float | None], again: Mapping[str, float | None], files: Files
) -> list[str]:
    """At most one message: the first number that is not what the logits give, and how many are not."""
    wrong = differing(again, recorded)
    if not wrong:
        return []
    first, more = wrong[0], f" (and {len(wrong) - 1} more numbers differ)" if len(wrong) > 1 else ""
    problem = f"{place}.{first} is {recorded[first]}, and the logits score {again[first]}{more}"
    return [files.fault("record.json", problem)]


def _epoch_faults(record: Record, scored: Mapping[str, np.ndarray] | None, files: Files) -> Iterator[str]:
    """scored: the record's own logits, where they could be read."""
    for epoch in record.oracle:
        try:
            tensors = _tensors(files, epoch.file, epoch.sha256)
            _check_tensors(tensors, record, files, epoch.file, _weight_tensors(record))
        except StoreError as error:
            yield str(error)
            continue
        if scored is not None and epoch.epoch == record.selection.epoch:
            for name, values in tensors.items():
                most = np.abs(values - scored[name]).max()
                if most > _SAME_LOGITS * scored[name].std():
                    problem = f"{name} differs by up to {most:.3g} from the record's logits, which are of this epoch"
                    yield files.fault(epoch.file, problem)


# --- lists -------------------------------------------------------------------------------------------------------


def split_faults(record: Record, files: Files) -> list[str]:
    """What a record says of its dataset and the registered one of that name does not. Raises InputError."""
    ref = record.spec.dataset
    dataset = registered(ref.name)
    if dataset is None:
        return []
    if dataset.fingerprint != ref.fingerprint:
        return [
            f"{files.where}record.json: the split differs: dataset {ref.name!r} has the fingerprint "
            f"{dataset.fingerprint[:12]} here, the record has {ref.fingerprint[:12]}; keep results of other lists "
            "under another dataset name, or run again"
        ]
    recorded = (record.groups, record.class_counts, record.num_train_images, record.num_test_images)
    validation = [len(dataset.splits["val"])] if "val" in dataset.splits else [None]
    if record.schema_version == 1:
        validation.append(None)  # it came without validation logits
    if record.num_validation_images not in validation:
        problem = f"num_validation_images is not that of dataset {ref.name!r}"
        return [files.fault("record.json", problem)]
    counts = dict(zip(dataset.classes, dataset.class_counts.tolist(), strict=True))
    if recorded != (dataset.groups, counts, len(dataset.splits["train"]), len(dataset.splits["test"])):
        problem = f"groups, class_counts or numbers of images are not those of dataset {ref.name!r}"
        return [files.fault("record.json", problem)]
    return []


def _target_faults(tensors: Mapping[str, np.ndarray], record: Record, files: Files) -> list[str]:
    dataset = registered_split(record)
    if dataset is None:
        return []
    faults = []
    for key, split in ((TARGETS, "test"), (VALIDATION_TARGETS, "val")):
        known = dataset.splits.get(split)  # a list that is not there is told of by `split_faults`
        if key in tensors and known is not None and not np.array_equal(tensors[key], known.targets):
            problem = f"{key} are not those of the {split} list of dataset {record.spec.dataset.name!r}"
            faults.append(files.fault(record.logits.file, problem))
    return faults


# --- notes -------------------------------------------------------------------------------------------------------


def _notes(folder: RunFolder, record: Record) -> Iterator[Finding]:
    """Staleness, and files that nothing names."""
    run, method = folder.path.name, record.spec.method
    if method not in METHODS:
        told = f"unknown method: cannot tell whether stale ({method!r} is not registered here)"
        yield Finding(run, "note", f"{folder.record_path}: {told}")
    elif (now := code_digest(METHODS.get(method))) != (then := record.environment.code_digest):
        told = f"made by code {then[:12]}, and the present code is {now[:12]}; --rerun stale runs it again"
        yield Finding(run, "stale", f"{folder.record_path}: {told}")
    if method in METHODS and (untold := untold_settings(record)):
        yield Finding(run, "note", f"{folder.record_path}: {untold}")
    for name in _strays(folder, record):
        yield Finding(run, "note", f"{folder.path / name}: no record names this file; remove it if it is not yours")


def _strays(folder: RunFolder, record: Record) -> list[str]:
    # A lease that cannot be read is no fault of the record's; `ltbench status` names it.
    with contextlib.suppress(StoreError):
        if folder.holder() is not None:
            return []  # the files of an attempt that goes on have no record yet
    known = {"record.json", "lease.json", "lock", "attempts", folder.log_path.name, folder.checkpoint_path.name}
    known |= set(files_of(record))
    try:
        return sorted(path.name for path in folder.path.iterdir() if path.name not in known)
    except OSError as error:
        raise StoreError(f"{folder.path}: cannot be read: {error.strerror or error}") from None


def files_of(record: Record) -> dict[str, str]:
    """The files of tensors that a record names: name -> sha256."""
    return {part.file: part.sha256 for part in (record.logits, *record.oracle)}


# --- runs against each other -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """A run that has other data than another run on the same lists.

    what: the data, as a message names it. digest, others: sha256 of this run's and of the other's.
    """

    run: str
    what: str
    digest: str
    other: str
    others: str

    def __str__(self) -> str:
        return (
            f"its {self.what} have the digest {self.digest[:12]}, those of {self.other} on the same lists "
            f"{self.others[:12]}"
        )


class SharedFacts:
    """What the runs of one dataset must have in common, whether or not the dataset is registered here."""

    def __init__(self) -> None:
        self._facts: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)

    def add(self, run: str, record: Record, labels: Mapping[str, str]) -> None:
        """Note what the record of a run says. labels: `labels_digests`, as far as they are known."""
        for what, digest in _facts(record, labels).items():
            self._facts[record.spec.dataset.fingerprint, what].append((run, digest))

    def differences(self) -> Iterator[Difference]:
        """One for each run that differs from most of those that should be as it is; for all where there is no
        majority."""
        for (_, what), facts in self._facts.items():
            told = usual(digest for _, digest in facts)
            for run, digest in facts:
                if digest != told:
                    other, others = next((other, theirs) for other, theirs in facts if theirs != digest)
                    yield Difference(run, what, digest, other, others)


@dataclass(frozen=True)
class Repeated:
    """A run whose logits are those of a run with another seed."""

    run: str
    other: str

    def __str__(self) -> str:
        return f"its test logits are bit for bit those of {self.other}, and no other seed trains the same network"


class SeedFacts:
    """What runs with different seeds must not have in common."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)

    def add(self, run: str, record: Record, logits: str | None) -> None:
        """Note what is known of a run; logits: `logits_digest`."""
        if logits is not None:
            self._runs[record.spec.dataset.fingerprint, logits].append((run, record.spec.seed))

    def repeated(self) -> Iterator[Repeated]:
        """One for each run that has the logits of another seed: nothing says whose they are."""
        for runs in self._runs.values():
            for run, seed in runs:
                other = next((other for other, theirs in runs if theirs != seed), None)
                if other is not None:
                    yield Repeated(run, other)


def _repeated_fault(results: Path, repeated: Repeated) -> Finding:
    path = RunFolder(results / "runs" / repeated.run).record_path
    return Finding(repeated.run, "fault", f"{path}: {repeated}; run again with --rerun always")


def _facts(record: Record, labels: Mapping[str, str]) -> dict[str, str]:
    """What a run has of the data that runs share: as a message names it -> digest."""
    facts = {}
    if registered_split(record) is None:  # otherwise both were compared with the lists themselves
        counts = canonical_json([record.groups, record.class_counts])
        facts["groups and class counts"] = hashlib.sha256(counts.encode()).hexdigest()
        facts |= labels
    for split, size in _image_sizes(record).items():
        facts[f"{split} images at {size} px, {record.spec.weights.interpolation},"] = record.data_digests[split]
    return facts


def _difference_fault(results: Path, difference: Difference) -> Finding:
    path = RunFolder(results / "runs" / difference.run).record_path
    return Finding(difference.run, "fault", f"{path}: {difference}; run the one again that has the wrong data")


def _image_sizes(record: Record) -> dict[str, int]:
    """Split -> side of its decoded images, in pixels, as far as that is known; with the interpolation it decides the
    pixels."""
    recipe, method = record.spec.recipe, record.spec.method
    scoring = scoring_cache_size(recipe.image_size, recipe.test_time)
    sizes = {"val": scoring, "test": scoring}
    if method in METHODS:
        on_images = METHODS.get(method).trains_on == "images"
        sizes["train"] = training_cache_size(recipe.image_size, recipe.augment) if on_images else recipe.image_size
    return {split: size for split, size in sizes.items() if split in record.data_digests}
