"""Tables: the rows of one track, compared with each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmark.leaderboard.cells import are_best, number_text
from benchmark.leaderboard.rows import METRICS, Row
from benchmark.leaderboard.stats.comparison import POWER, Comparison, compare
from benchmark.leaderboard.stats.resampling import REPLICATES
from benchmark.leaderboard.stats.statistics import CONFIDENCE
from benchmark.leaderboard.tracks import Track
from benchmark.store.records import GROUPS, Group
from benchmark.ui.progress import plural

# The label of the row that the others are compared with.
BASELINE_LABEL = "erm"


@dataclass(frozen=True)
class Against:
    """A row minus the baseline, in percent points, with the half width of its 95 % interval, its p-value, and the
    p-value corrected for all comparisons with the baseline (Holm)."""

    difference: float
    half_width: float
    p: float
    p_holm: float

    @property
    def is_apart(self) -> bool:
        """Whether the two are told apart at 95 %, corrected."""
        return self.p_holm <= 1 - CONFIDENCE


@dataclass(frozen=True)
class Detectable:
    """The smallest true differences in percent points that a table finds with 80 % power (`Comparison.detectable`).

    pair: in one comparison of a row with the baseline, or of any two rows where there is no baseline. with_baseline:
    where all `others` rows are compared with the baseline, None without one. all_pairs: where all `pairs` are compared.
    """

    pair: float
    with_baseline: float | None
    others: int
    all_pairs: float
    pairs: int

    @property
    def text(self) -> str:
        """The differences in a sentence."""
        baseline = BASELINE_LABEL
        alone = "of two methods" if self.with_baseline is None else f"of one method with {baseline}"
        parts = [f"{number_text(self.pair)} in one comparison {alone}"]
        if self.others > 1:
            parts.append(f"{number_text(self.with_baseline)} where all {self.others} are compared with {baseline}")
        if self.pairs > 1:
            parts.append(f"{number_text(self.all_pairs)} where all {self.pairs} pairs are compared")
        return f"Differences of overall mAP found with {100 * POWER:.0f} % power, in points: {', '.join(parts)}."


@dataclass(frozen=True)
class Table:
    """The table of one track, best overall mAP first.

    classes: name -> (group, number of training images), in class order. Numbers of training images are the largest of
    any episode in a few-shot table.
    """

    track: Track
    title: str
    rows: tuple[Row, ...]
    classes: dict[str, tuple[Group, int]]
    num_train_images: int
    num_test_images: int

    @cached_property
    def has_oracle(self) -> bool:
        """Whether any row has the best-on-test number."""
        return any(row.oracle is not None for row in self.rows)

    @cached_property
    def comparison(self) -> Comparison | None:
        """Every two rows compared by overall mAP, in the rows' order; None where no row has replicates."""
        return self.compare_by("Overall")

    def compare_by(self, column: str) -> Comparison | None:
        """Every two rows compared by an mAP column."""
        if all(row.replicates is None for row in self.rows):
            return None
        at = list(METRICS).index(column)
        unknown = np.full((1, 1 + REPLICATES), np.nan)
        return compare([unknown if row.replicates is None else row.replicates[:, at] for row in self.rows])

    @cached_property
    def baseline(self) -> Row | None:
        """The row `erm`, without changed settings; None where it is missing or not compared with any other row."""
        for index, row in enumerate(self.rows):
            if row.label == BASELINE_LABEL and self.comparison and not np.isnan(self.comparison.p[index]).all():
                return row
        return None

    @cached_property
    def against_baseline(self) -> dict[str, Against | None]:
        """Row's label -> its overall mAP against the baseline's; None for the baseline itself and for a row that cannot
        be compared with it."""
        found: dict[str, Against | None] = {row.label: None for row in self.rows}
        comparison = self.comparison
        if self.baseline is not None and comparison is not None:
            at = self.rows.index(self.baseline)
            for i, (row, p_holm) in enumerate(zip(self.rows, comparison.against(at).tolist(), strict=True)):
                if not np.isnan(p_holm):
                    difference, half_width = comparison.difference[i, at], comparison.half_width[i, at]
                    p = comparison.p[i, at]
                    found[row.label] = Against(float(difference), float(half_width), float(p), p_holm)
        return found

    @cached_property
    def detectable(self) -> Detectable | None:
        """The differences of overall mAP that can be found; None where no two rows are compared."""
        comparison = self.comparison
        if comparison is None:
            return None
        pairs = int(np.count_nonzero(~np.isnan(comparison.p))) // 2
        at = None if self.baseline is None else self.rows.index(self.baseline)
        others = sum(against is not None for against in self.against_baseline.values())
        pair, all_pairs = comparison.detectable(at), comparison.detectable(comparisons=pairs)
        if pair is None or all_pairs is None:
            return None
        family = None if at is None else comparison.detectable(at, comparisons=others)
        return Detectable(pair, family, others, all_pairs, pairs)

    @cached_property
    def ranks(self) -> dict[str, int | None]:
        """Row's label -> rank group, from 1: tied with the best. None for a row that cannot be compared."""
        groups = self.comparison.rank_groups if self.comparison else [None] * len(self.rows)
        return {row.label: group for row, group in zip(self.rows, groups, strict=True)}

    @cached_property
    def wins(self) -> dict[str, tuple[int, int, int] | None]:
        """Row's label -> (wins, ties, losses) against the others; None for a row that cannot be compared."""
        if self.comparison is None:
            return dict.fromkeys(self.ranks)
        return {
            row.label: self.comparison.counts(i) if self.ranks[row.label] is not None else None
            for i, row in enumerate(self.rows)
        }

    @cached_property
    def is_few_shot(self) -> bool:
        """Whether each seed trained on an episode of its own."""
        return self.rows[0].records[0].episode is not None

    @property
    def has_groups(self) -> bool:
        """Whether a mean over the classes of a group says more than the overall mean; in a few-shot table all classes
        may be in one group."""
        return not self.is_few_shot or len({group for group, _ in self.classes.values()}) > 1

    @property
    def episodes(self) -> str:
        """What the rows of a few-shot table are means over, in a sentence; empty for other tables."""
        if not self.is_few_shot:
            return ""
        fewest, most = (function(row.n for row in self.rows) for function in (min, max))
        number = f"{fewest} to {most} episodes" if fewest < most else plural(most, "episode")
        return f"Few-shot: a row is a mean over {number}; each seed trains on the support set of an episode of its own."

    @property
    def facts(self) -> str:
        """The numbers of images and classes, in a sentence; of a few-shot table what its rows are, too."""
        test = f"{self.num_test_images:,} test images, {len(self.classes)} classes"
        if self.is_few_shot:
            most = max(count for _, count in self.classes.values())
            return f"{self.episodes} At most {self.num_train_images:,} training images, {test} of at most {most} each."
        return (
            f"{self.num_train_images:,} training images, {test} (training images of each): "
            f"{', '.join(map(self._group_size, GROUPS))}."
        )

    def _group_size(self, group: str) -> str:
        counts = sorted(count for name, count in self.classes.values() if name == group)
        if not counts:
            return f"0 {group}"
        span = f"{counts[0]:,}" if counts[0] == counts[-1] else f"{counts[0]:,} to {counts[-1]:,}"
        return f"{len(counts)} {group} ({span})"

    @property
    def run_ids(self) -> set[str]:
        """The ids of the table's runs."""
        return {record.run_id for row in self.rows for record in row.records}

    @property
    def missing_classes(self) -> list[str]:
        """The classes without a test positive in any record, in class order."""
        missing = {name for row in self.rows for record in row.records for name in record.metrics.missing_classes}
        return [name for name in self.classes if name in missing]

    @cached_property
    def _best(self) -> dict[str, set[str]]:
        best = {column: are_best([row.scores[column] for row in self.rows]) for column in METRICS}
        return {
            column: {row.label for row, is_best in zip(self.rows, flags, strict=True) if is_best}
            for column, flags in best.items()
        }

    def is_best(self, row: Row, column: str) -> bool:
        """Whether the row's mean is the column's best, at the precision shown; mAP columns only."""
        return row.label in self._best.get(column, ())
