"""The record: one validated JSON file a run, the only proof that the run is done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from benchmark.base.files import MOST_TEXT, read_regular
from benchmark.errors import StoreError
from benchmark.spec import NonNegative, RunSpec, Sha256, Strict, flatten

SCHEMA_VERSION: Literal[2] = 2
GROUPS = ("head", "medium", "tail")

# In percentage points: the same logits give the same numbers up to the order of a sum.
TOLERANCE = 1e-6
_ABSENT = object()

Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0)]
Some = Annotated[int, Field(ge=1)]
Group = Literal["head", "medium", "tail"]
WeightSet = Literal["raw", "ema"]
WEIGHT_SETS: tuple[WeightSet, ...] = ("raw", "ema")


class Metrics(Strict):
    """Scores of one weight set on one split, in percent. None: the group has no class with a positive."""

    overall: Percent | None = Field(description="mean average precision over classes with a positive")
    head: Percent | None
    medium: Percent | None
    tail: Percent | None
    cf1: Percent | None = Field(None, description="schema 1 alone: F1 of class means, sigmoid >= 0.5")
    of1: Percent | None = Field(None, description="schema 1 alone: F1 over all decisions, sigmoid >= 0.5")
    per_class: dict[str, Percent | None] = Field(description="average precision; None without a positive")

    def check_means(self, groups: dict[str, Group]) -> None:
        """Raise ValueError unless overall, head, medium and tail are the means of `per_class`."""
        if list(self.per_class) != list(groups):
            raise ValueError("per_class and groups name different classes")
        known: dict[str, list[float]] = {name: [] for name in ("overall", *GROUPS)}
        for name, group in groups.items():
            value = self.per_class[name]
            if value is not None:
                known["overall"].append(value)
                known[group].append(value)
        for name, values in known.items():
            mean, given = (sum(values) / len(values) if values else None), getattr(self, name)
            if not _agree(mean, given):
                raise ValueError(f"{name} is {given}, but the mean of its classes is {mean}")

    def numbers(self) -> dict[str, float | None]:
        """Every score by its name, that of a class as `per_class.<name>`."""
        named = self.model_dump(exclude={"per_class"}, exclude_unset=True)
        return named | {f"per_class.{name}": value for name, value in self.per_class.items()}

    @property
    def missing_classes(self) -> list[str]:
        """Classes without a positive: they are in no mean."""
        return [name for name, value in self.per_class.items() if value is None]


def whole(value: Any) -> Any:
    """A number unchanged, for a Literal. Raises ValueError for true and 1.0, which Python takes for 1."""
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def differing(first: Mapping[str, float | None], second: Mapping[str, float | None]) -> list[str]:
    """The names of the numbers in which two `Metrics.numbers` of the same classes do not agree."""
    return [name for name, value in first.items() if not _agree(value, second[name])]


def _check_named(changes: str, named: Mapping[str, Any], settings: str, made_with: Any) -> None:
    """Raise ValueError unless the settings of the run have every change that the record names."""
    for key, value in flatten(named).items():
        found = _setting(made_with, key)
        # Changes name a local file by its name, settings by its content.
        is_file = isinstance(found, str) and found.startswith("sha256:")
        if found != value and not is_file:
            has = "no such setting" if found is _ABSENT else repr(found)
            raise ValueError(f"{changes} has {key}={value!r}, and {settings} has {has}")


def _setting(settings: Any, key: str) -> Any:
    """The value of a dotted key in nested mappings or models; `_ABSENT` where there is none."""
    for part in key.split("."):
        settings = settings.get(part, _ABSENT) if isinstance(settings, dict) else getattr(settings, part, _ABSENT)
    return settings


def _agree(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second
    return abs(first - second) <= TOLERANCE


class EpochLog(Strict):
    """One epoch of training, counted through all stages. lr: the backbone's at the epoch's last step. val_overall: in
    percent."""

    epoch: Some
    loss: float
    lr: NonNegative
    val_overall: Percent | None = None
    stage: str = "training"


class Selection(Strict):
    """The epoch that was scored on the test set and the rule that chose it. epoch: from 1; 0 where nothing was
    trained."""

    rule: Literal["last", "best-val"]
    epoch: Annotated[int, Field(ge=0)]


class Timings(Strict):
    """Seconds of wall time, all attempts of the run together; images a second while training."""

    prepare_s: NonNegative
    train_s: NonNegative
    evaluate_s: NonNegative
    images_per_second: NonNegative

    @property
    def total_s(self) -> float:
        """Seconds of device time."""
        return self.prepare_s + self.train_s + self.evaluate_s


class Parameters(Strict):
    """Numbers of parameters."""

    all: Count
    trained: Count


class Environment(Strict):
    """Machine, software and code of the run; none of it is part of the run id."""

    code_digest: Sha256 = Field(description="over the harness's numeric modules and the method's own")
    git_commit: str | None = Field(description="of the harness's own checkout")
    git_dirty: bool | None
    python: str
    packages: dict[str, str]
    device: str
    gpu: str | None
    cuda: str | None
    precision: Literal["float32", "bfloat16 autocast"]
    host: str
    cpu_threads: Some
    scheduler: dict[str, str]
    processes: Annotated[int, Field(ge=1)] = Field(1, description="that trained together, one a GPU")


class LogitsFile(Strict):
    """The stored logits, one safetensors file.

    Of the test list: `raw` (and `ema`) float32 [N, C] and `targets` uint8 [N, C]. Of the validation list, where the
    record counts its images: `validation` float32 [M, C], of the declared weights, and `validation_targets`
    uint8 [M, C].
    """

    file: Annotated[str, Field(pattern=r"^logits-[0-9a-f]{16}\.safetensors$")]
    sha256: Sha256


class EpochLogits(Strict):
    """The test logits of one epoch (counted from 1), kept for the oracle alone: `raw` (and `ema`) float32 [N, C]."""

    epoch: Annotated[int, Field(ge=1)]
    file: Annotated[str, Field(pattern=r"^epoch-[0-9]{3,}-[0-9a-f]{16}\.safetensors$")]
    sha256: Sha256


class Record(Strict):
    """The result of a run.

    Schema 1 has CF1 and OF1 at a sigmoid of 0.5 in every `Metrics`, and no validation logits. Schema 2 has the
    validation logits, and no F1: F1 is computed from the logits.
    """

    schema_version: Literal[1, 2]
    run_id: Sha256
    spec: RunSpec
    method_title: str
    dataset_title: str
    groups: dict[str, Group] = Field(description="class name -> group, in class order")
    class_counts: dict[str, Count] = Field(description="class name -> training positives, in class order")
    num_train_images: Some
    num_test_images: Some
    num_validation_images: Annotated[int, Field(ge=1)] | None = Field(
        None, description="whose logits are stored; None without a validation list, and in schema 1"
    )
    declared: WeightSet
    results: dict[WeightSet, Metrics]
    validation: Metrics | None = Field(description="of the declared weights on the validation list")
    selection: Selection
    history: list[EpochLog]
    timings: Timings
    peak_memory_mb: NonNegative = Field(description="of the GPU where there is one, of the process otherwise")
    parameters: Parameters
    environment: Environment
    attempts: Annotated[int, Field(ge=1)]
    data_digests: dict[str, Sha256] = Field(description="split -> sha256 of the pixels as the network saw them")
    model_digest: Sha256 = Field(description="of the declared weights after training")
    logits: LogitsFile
    oracle: list[EpochLogits] = Field([], description="of every epoch of the last stage, where asked for")
    own_network: bool = Field(False, description="images are scored by another network than the recipe's backbone")
    episode: Count | None = Field(
        None, description="few-shot dataset: the episode whose support set was trained on, which is the seed's"
    )
    shared_images: Count = Field(0, description="in two lists under different names, where that was allowed")
    finished: str = Field(description="UTC, ISO 8601")

    @field_validator("schema_version", mode="before")
    @classmethod
    def _version_is_a_number(cls, value: Any) -> Any:
        return whole(value)

    @model_validator(mode="after")
    def _holds_together(self) -> Record:
        if self.run_id != self.spec.run_id:
            raise ValueError(f"run_id {self.run_id[:12]} is not that of its specification, {self.spec.run_id[:12]}")
        if self.declared not in self.results:
            raise ValueError(f"the declared weights {self.declared!r} have no results")
        if self.episode not in (None, self.spec.seed):
            raise ValueError(f"episode {self.episode} is not that of seed {self.spec.seed}")
        if list(self.groups) != list(self.class_counts):
            raise ValueError("groups and class_counts name different classes")
        if self.declared != self.spec.recipe.report or self.selection.rule != self.spec.recipe.selection:
            raise ValueError("the declared weights or the selection rule are not those of the recipe")
        if self.parameters.trained > self.parameters.all:
            raise ValueError("the trained parameters are more than there are")
        self._check_version()
        self._check_epochs()
        _check_named("overrides", self.spec.overrides, "recipe", self.spec.recipe)
        _check_named("config_overrides", self.spec.config_overrides, "config", self.spec.config)
        for metrics in (*self.results.values(), self.validation):
            if metrics is not None:
                metrics.check_means(self.groups)
        self._check_images()
        return self

    def _check_version(self) -> None:
        """Raise ValueError unless the fields are those of the schema version."""
        first = self.schema_version == 1
        for metrics in filter(None, (*self.results.values(), self.validation)):
            if {"cf1", "of1"} & metrics.model_fields_set != ({"cf1", "of1"} if first else set()):
                raise ValueError(f"schema version {self.schema_version} has {'both' if first else 'none'} of cf1, of1")
            if first and None in (metrics.cf1, metrics.of1):
                raise ValueError("cf1 or of1 is null")
        if (self.num_validation_images is not None) != (not first and self.validation is not None):
            raise ValueError("num_validation_images is for schema version 2 with validation scores, and only for it")

    def _check_images(self) -> None:
        """Raise ValueError unless each list has a digest, and no class has more images than there are."""
        lists = {"train", "test"} | ({"val"} if self.num_validation_images is not None else set())
        # Schema 1 does not say whether there was a validation list.
        most = lists | {"val"} if self.schema_version == 1 else lists
        if not lists <= self.data_digests.keys() <= most:
            found = ", ".join(sorted(self.data_digests)) or "none"
            raise ValueError(f"data_digests are those of {found}, and the run has {', '.join(sorted(lists))}")
        for name, count in self.class_counts.items():
            if count > self.num_train_images:
                raise ValueError(f"class_counts has {count} for {name!r}, of {self.num_train_images} training images")

    def _check_epochs(self) -> None:
        """Raise ValueError unless history, selection and oracle name the recipe's epochs, or none of them any."""
        last, selected = self.spec.recipe.epochs if self.history else 0, self.selection.epoch
        # Their number is compared first: a damaged recipe may name any, and a list of them would take all memory.
        epochs = [epoch.epoch for epoch in self.history]
        if len(epochs) != last or epochs != list(range(1, last + 1)):
            raise ValueError(f"history does not list the {last} epochs of the recipe, one after the other")
        if selected > last or (selected == 0) != (last == 0):
            raise ValueError(f"the selected epoch is {selected}, and {last} were trained")
        if self.selection.rule == "last" and selected != last:
            raise ValueError(f"the selected epoch is {selected}, and rule 'last' selects {last}")
        of_last_stage = [epoch.epoch for epoch in self.history if epoch.stage == self.history[-1].stage]
        if self.oracle and [epoch.epoch for epoch in self.oracle] != of_last_stage:
            raise ValueError("oracle does not name every epoch of the last stage once")

    @property
    def metrics(self) -> Metrics:
        """The scores of the declared weight set: the numbers that count."""
        return self.results[self.declared]

    @property
    def folder_name(self) -> str:
        """Name of the run's folder."""
        return self.spec.folder_of(self.run_id)

    def to_json(self) -> str:
        """The text of record.json. A record of an older version is written as it was read, without later fields."""
        return json.dumps(self.model_dump(mode="json", exclude_unset=True), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_file(cls, path: Path) -> Record:
        """Read and validate a record. Raises StoreError, naming the file, when it is damaged."""
        try:
            content = read_regular(path, MOST_TEXT)
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from None
        return cls.from_bytes(content, str(path))

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> Record:
        """Validate the content of a record's file. where: its path, for the message. Raises StoreError."""
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise StoreError(f"{where}: {_fault(content, error)}") from None


def _fault(content: bytes, refusal: ValidationError) -> str:
    """Why the content of a file is not a record: truncated, of another version, or the first invalid value."""
    try:
        data: Any = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        return f"the record is truncated or not JSON ({error}); remove the file and run again"
    version = data.get("schema_version") if isinstance(data, dict) else None
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        return (
            f"schema version {version!r} is not known to this version of ltbench (known: 1 to {SCHEMA_VERSION}); "
            "update ltbench"
        )
    first = refusal.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "record"
    problem = first["msg"].removeprefix("Value error, ")
    return (
        f"not a valid record: {' '.join(place.split())}: {problem}; restore the file, or run again with --rerun always"
    )
