"""The runs of a board as JSON, from which the script of the HTML page builds a run's page when it is opened.

Parts that several records share are stored once, and referred to by number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from benchmark.audit.reproduce import command
from benchmark.leaderboard.board import Board
from benchmark.leaderboard.columns import Part, columns
from benchmark.leaderboard.rows import METRICS, WEIGHT_SETS
from benchmark.leaderboard.samples import Sample
from benchmark.leaderboard.stats.statistics import Estimate
from benchmark.leaderboard.tables import Table
from benchmark.store.records import EpochLog, Metrics, Record
from benchmark.ui.text import plain

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
# So that no text ends the script element.
_JSON_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
# The columns below the scores of one run.
_BESIDE = (Part.SECONDARY, Part.DETAIL)


def run_data(board: Board) -> str:
    """JSON of all runs. `records` has them by the first 12 digits of their ids, with indices into `shared`, `rows` and
    `tracks`. `columns` has the titles of the lists in them."""
    pool = _Pool()
    rows, records = [], []
    scored = columns(Part.METRIC, Part.SECONDARY)
    for number, table in enumerate(board.tables):
        for row in table.rows:
            ids = [short_id(record) for record in row.records]
            scores = [_interval_data(column.value(table, row)) for column in scored]
            rows.append({"track": number, "label": row.label, "runs": ids, "scores": scores})
            records += [
                f'"{id_}":{_record_json(record, sample, len(rows) - 1, pool)}'
                for id_, record, sample in zip(ids, row.records, row.samples, strict=True)
            ]
    tracks = [_track_data(table) for table in board.tables]
    titles = {
        "scores": list(METRICS),
        "beside": [column.title for column in columns(*_BESIDE)],
        "weight_sets": WEIGHT_SETS,
    }
    parts = {
        "columns": _dumps(titles),
        "runs": json.dumps(quote(board.runs)),
        "tracks": _dumps(tracks),
        "rows": _dumps(rows),
        "records": "{" + ",\n".join(records) + "}",
        "shared": "[" + ",\n".join(pool.fragments) + "]",
    }
    return "{" + ",\n".join(f'"{key}":{part}' for key, part in parts.items()) + "}"


class _Pool:
    """Pieces of JSON, each kept once and named by its number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._columns: dict[tuple, int] = {}

    @property
    def fragments(self) -> list[str]:
        """The pieces in the order of their numbers."""
        return list(self._numbers)

    def add(self, fragment: str) -> int:
        """The number of a piece of JSON."""
        return self._numbers.setdefault(fragment, len(self._numbers))

    def add_column(self, values: tuple) -> int:
        """The number of a list of numbers or texts; each list is encoded once."""
        if values not in self._columns:
            self._columns[values] = self.add(_dumps(values))
        return self._columns[values]


def _record_json(record: Record, sample: Sample | None, row: int, pool: _Pool) -> str:
    spec, environment, timings = record.spec, record.environment, record.timings
    data: dict[str, Any] = {
        "row": row,
        "id": record.run_id,
        "folder": record.folder_name,
        "title": pool.add(_dumps(record.method_title)),
        "seed": spec.seed,
        "spec": pool.add(spec.model_dump_json(exclude={"seed", "recipe", "weights"})),
        "recipe": pool.add(spec.recipe.model_dump_json()),
        "weights": pool.add(spec.weights.model_dump_json()),
        "environment": pool.add(environment.model_dump_json(exclude={"scheduler"})),
        "scheduler": pool.add(_dumps(environment.scheduler)),
        "declared": record.declared,
        "scores": {name: _scores(metrics) for name, metrics in record.results.items()},
        "validation": record.validation and _scores(record.validation),
        "classes": _percents(record.metrics.per_class.values()),
        "selection": [record.selection.rule, record.selection.epoch],
        "history": _history(record.history, pool),
        "timings": [_short_number(t) for t in (timings.prepare_s, timings.train_s, timings.evaluate_s)],
        "speed": _short_number(timings.images_per_second),
        "memory": round(record.peak_memory_mb),
        "parameters": [record.parameters.trained, record.parameters.all],
        "attempts": record.attempts,
        "data": pool.add(_dumps(record.data_digests)),
        "model": record.model_digest,
        "logits": record.logits.sha256,
        "finished": record.finished,
        "command": command(record),
    }
    if record.shared_images:
        data["shared"] = record.shared_images
    if sample is not None and sample.secondary is not None:
        data["beside"] = _beside(record, sample)
    if sample is not None and sample.oracle is not None:
        best = sample.oracle
        data["oracle"] = [_percents(best.scores), best.epoch, best.weight_set]
    return _dumps(data)


def _beside(record: Record, sample: Sample) -> list[float | None]:
    """The secondary scores, in the order of `beside` in the page's data."""
    found = (of_run for column in columns(*_BESIDE) for of_run in column.of_run.values())
    return _percents(of_run(record, sample) for of_run in found)


def _history(history: Sequence[EpochLog], pool: _Pool) -> dict[str, Any]:
    """The log as columns, since seeds share all columns but loss and validation."""
    columns: dict[str, Any] = {
        "epoch": pool.add_column(tuple(log.epoch for log in history)),
        "stage": pool.add_column(tuple(log.stage for log in history)),
        "lr": pool.add_column(tuple(_short_number(log.lr) for log in history)),
        "loss": [_short_number(log.loss) for log in history],
    }
    if any(log.val_overall is not None for log in history):
        columns["val"] = _percents(log.val_overall for log in history)
    return columns


def anchor(table: Table) -> str:
    """The id of a table on the page."""
    return f"track-{table.track.slug}"


def short_id(record: Record) -> str:
    """The name of a run in the page's data and addresses."""
    return record.run_id[:12]


def _track_data(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "anchor": anchor(table),
        "images": [table.num_train_images, table.num_test_images],
        "classes": [[plain(name), group, count] for name, (group, count) in table.classes.items()],
    }


def _scores(metrics: Metrics) -> list[float | None]:
    return _percents(getattr(metrics, key) for key in METRICS.values())


def _interval_data(score: Estimate | None) -> list[float | None]:
    """Mean, half width, and its parts over seeds and test images."""
    return _percents((score.mean, score.half_width, score.seeds, score.images) if score else [None] * 4)


def _percents(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 2) for value in values]


def _short_number(value: float) -> float:
    return float(f"{value:.4g}")


def _dumps(data: Any) -> str:
    return _ENCODER.encode(data)


def script_json(text: str) -> str:
    """JSON escaped for a script element."""
    for char, escaped in _JSON_ESCAPES.items():
        text = text.replace(char, escaped)
    return text
