"""A board as JSON: all of its content, for programs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from benchmark.leaderboard.board import Board
from benchmark.leaderboard.columns import columns
from benchmark.leaderboard.kinds import estimate_json
from benchmark.leaderboard.rounding import REPLICATE_DIGITS, number, p_value
from benchmark.leaderboard.rows import METRICS, Row
from benchmark.leaderboard.stats.comparison import POWER, Comparison
from benchmark.leaderboard.stats.resampling import REPLICATES
from benchmark.leaderboard.stats.statistics import CONFIDENCE, estimate
from benchmark.leaderboard.summary import Summary
from benchmark.leaderboard.tables import Detectable, Table
from benchmark.leaderboard.verdicts import PublishedRow, PublishedTable

EXTENSION = "json"
FORMAT = "ltbench leaderboard"
# Raise it when a key is removed or changes its meaning; new keys do not count.
VERSION = 2


def write(board: Board, raw: bool = False) -> str:
    """The board as JSON: ASCII, keys sorted, one spelling for equal boards; null where there is no value.

    Scores and differences are mAP (or F1) in percent and percent points, times in seconds, means over seeds. `details`
    are scores beside the metric, in percent or points; `threshold` is a logit.
    Half-widths are those of 95 % intervals: `half_width` for both noises, `seeds` and `images` its parts; where one
    part is null, `half_width` is the other. Lists of methods, rows of a comparison's matrices and `class_scores` are in
    the order of the table's rows and of its classes. In a matrix the value at [i][j] is of row i minus row j;
    `half_width`, `p` and `p_holm` are null for two rows that are not compared, for want of logits or of a second seed.

    A published result that is the best epoch on the test set may have the same log's `last_epoch` (else null): its
    `gap` is printed minus last epoch, and its `difference` and `verdict` are against the last epoch.
    """
    data = {
        "format": FORMAT,
        "version": VERSION,
        "confidence": CONFIDENCE,
        "replicates": REPLICATES,
        "num_records": board.num_records,
        "tracks": [_track(table, board.runs) for table in board.tables],
        "summaries": [_summary(summary) for summary in board.summaries],
        "published": [_published(table) for table in board.published],
        "excluded": list(board.excluded),
    }
    return json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _track(table: Table, runs: str) -> dict[str, Any]:
    track = table.track
    return {
        "title": table.title,
        "slug": track.slug,
        "dataset": track.dataset,
        "dataset_title": track.dataset_title,
        "fingerprint": track.fingerprint,
        "protocol": track.protocol,
        "protocol_version": track.protocol_version,
        "backbone": track.backbone,
        "weights": track.weights,
        "weights_digest": track.weights_digest,
        "image_size": track.image_size,
        "overrides": track.overrides,
        "train_images": table.num_train_images,
        "test_images": table.num_test_images,
        "classes": [
            {"name": name, "group": group, "train_images": count} for name, (group, count) in table.classes.items()
        ],
        "classes_without_test_positive": table.missing_classes,
        "rows": [_row(table, row, runs) for row in table.rows],
        "comparison": None if table.comparison is None else _comparison(table, table.comparison),
        "baseline": table.baseline and table.baseline.label,
        "detectable": table.detectable and _detectable(table.detectable),
    }


def _row(table: Table, row: Row, runs: str) -> dict[str, Any]:
    spec = row.records[0].spec
    data: dict[str, Any] = {
        "method": spec.method,
        "method_version": spec.method_version,
        "config": spec.config,
        "config_overrides": spec.config_overrides,
        "runs": [
            {
                "seed": record.spec.seed,
                "run_id": record.run_id,
                "record": f"{runs}/{record.folder_name}/record.json",
                "overall": number(record.metrics.overall),
            }
            for record in row.records
        ],
        "class_scores": [estimate_json(row.class_scores(name)) for name in table.classes],
        "oracle_gap": estimate_json(row.oracle_gap),
        "times": {
            name: estimate_json(estimate([getattr(record.timings, name) for record in row.records]))
            for name in ("prepare_s", "train_s", "evaluate_s", "total_s")
        },
        "device": row.device,
        "code_versions": row.code_versions,
    }
    for column in columns():
        if column.json:
            *path, name = column.json.split(".")
            inner = data
            for part in path:
                inner = inner.setdefault(part, {})
            inner[name] = column.kind.json(column.value(table, row))
    return data


def _detectable(found: Detectable) -> dict[str, Any]:
    """Differences in percent points, and the numbers of comparisons that p-values are corrected for."""
    return {
        "power": POWER,
        "one_comparison": number(found.pair, REPLICATE_DIGITS),
        "with_baseline": number(found.with_baseline, REPLICATE_DIGITS),
        "others": found.others,
        "all_pairs": number(found.all_pairs, REPLICATE_DIGITS),
        "pairs": found.pairs,
    }


def _comparison(table: Table, comparison: Comparison) -> dict[str, Any]:
    return {
        "score": "overall",
        "methods": [row.label for row in table.rows],
        "difference": _matrix(comparison.difference),
        "half_width": _matrix(comparison.half_width),
        "p": _p_values(comparison.p),
        "p_holm": _p_values(comparison.p_holm),
    }


def _matrix(values: np.ndarray) -> list[list[float | None]]:
    return [[number(value, REPLICATE_DIGITS) for value in row] for row in values.tolist()]


def _p_values(values: np.ndarray) -> list[list[float | None]]:
    return [[p_value(value) for value in row] for row in values.tolist()]


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        "title": summary.title,
        "score": "overall",
        "datasets": list(summary.datasets),
        "rows": [
            {"label": label, "scores": [estimate_json(score) for score in scores]}
            for label, scores in summary.rows.items()
        ],
    }


def _published(table: PublishedTable) -> dict[str, Any]:
    return {
        "dataset": table.dataset,
        "title": table.title,
        "rows": [_published_row(row) for row in table.rows],
        "footnotes": list(table.footnotes),
    }


def _published_row(row: PublishedRow) -> dict[str, Any]:
    measured = row.measured
    return {
        "reported": row.result.model_dump(mode="json"),
        "last_epoch": row.last and row.last.model_dump(mode="json"),
        "measured": None if measured is None else {"track": measured.track.slug, "label": measured.row.label},
        "scores": {
            METRICS[column]: {
                "printed": score.printed,
                "last_epoch": score.last,
                "gap": number(score.gap),
                "measured": estimate_json(score.measured),
                "difference": number(score.difference),
                "verdict": score.verdict and {"kind": score.verdict.kind, "reasons": list(score.verdict.reasons)},
            }
            for column, score in row.scores.items()
        },
        "footnotes": list(row.notes),
    }
