"""Published results of methods, each with its source and its caveats."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from benchmark.errors import InputError
from benchmark.registry import did_you_mean
from benchmark.spec import Name, Strict, parse
from benchmark.store.records import Percent

PUBLISHED_FILE = Path(__file__).with_name("published.csv")
_NUMBER = re.compile(r"\d+(\.\d+)?")

Text = Annotated[str, Field(min_length=1)]


class PublishedResult(Strict):
    """One published result: a line of `published.csv`. Scores are mAP in percent, None where none was printed."""

    dataset: Name
    method: Text = Field(description="as printed")
    variant: Text = Field(description="printed by the authors, re-run by others, of a repository or a log")
    epoch: Literal["best on test", "last"] | None = Field(description="whose scores these are; empty where not known")
    backbone: Text
    pretraining: Text
    image_size: Annotated[int, Field(ge=1)] = Field(description="pixels")
    overall: Percent
    head: Percent | None
    medium: Percent | None
    tail: Percent | None
    source: Text
    caveat: str = Field(description="caveats, divided by semicolons")
    measured_by: Name | None = Field(description="the registered method that is the same, if any")
    settings: str = Field(description="the settings with which it is, as a table's row names them")

    @model_validator(mode="after")
    def _settings_are_of_a_method(self) -> PublishedResult:
        if self.settings and self.measured_by is None:
            raise ValueError(f"settings {self.settings!r} without measured_by")
        return self

    @property
    def log(self) -> tuple:
        """A key that is equal for results of one training log, which differ in their epoch alone."""
        network = self.backbone, self.pretraining, self.image_size
        return self.dataset, self.method, *network, self.measured_by, self.settings

    @property
    def caveats(self) -> tuple[str, ...]:
        """The caveats as a list."""
        return tuple(part for part in map(str.strip, self.caveat.split(";")) if part)

    @property
    def setting(self) -> str:
        """Backbone, pretraining and image size, as text."""
        return f"{self.backbone}, {self.pretraining}, {self.image_size} px"

    @property
    def row_label(self) -> str | None:
        """The label of the row of ours that measures the same method; None where there is no such method."""
        return f"{self.measured_by} ({self.settings})" if self.settings else self.measured_by


def load_published(path: Path = PUBLISHED_FILE) -> list[PublishedResult]:
    """The published results in a file. Raises InputError, naming file and line, for a faulty line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(_read(path, file))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a UTF-8 text file: {error}") from None


def _read(path: Path, file: Iterable[str]) -> Iterator[PublishedResult]:
    reader = csv.reader(file, strict=True)
    try:
        columns = next(reader, [])
        _check_columns(columns, f"{path}:1")
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            if len(cells) != len(columns):
                raise InputError(f"{where}: {len(cells)} values, but the first line names {len(columns)} columns")
            values = {column: _value(column, cell) for column, cell in zip(columns, cells, strict=True)}
            yield parse(PublishedResult, values, where)
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not CSV: {error}") from None


def _check_columns(columns: Sequence[str], where: str) -> None:
    known = list(PublishedResult.model_fields)
    for column in columns:
        if column not in known:
            raise InputError(f"{where}: unknown column {column!r}{did_you_mean(column, known)}")
    for column in known:
        if columns.count(column) != 1:
            raise InputError(f"{where}: column {column!r} is there {columns.count(column)} times; give it once")


def _value(column: str, cell: str) -> Any:
    """A cell as a value to validate. A malformed number stays text, which the validation refuses."""
    if column in ("epoch", "overall", "head", "medium", "tail", "measured_by") and not cell:
        return None
    if column in ("overall", "head", "medium", "tail", "image_size") and _NUMBER.fullmatch(cell):
        return float(cell) if "." in cell else int(cell)
    return cell
