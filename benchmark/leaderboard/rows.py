"""Rows: one method with one configuration in one track, from its records and samples to numbers."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from benchmark.leaderboard.cells import VARIOUS
from benchmark.leaderboard.samples import Sample
from benchmark.leaderboard.stats.secondary import STATISTICS
from benchmark.leaderboard.stats.statistics import Estimate, estimate, noise_half_width
from benchmark.leaderboard.tracks import settings_text
from benchmark.store.records import GROUPS, Parameters, Record
from benchmark.ui.progress import plural
from benchmark.ui.text import plain

# Title -> name in records, of the mAP columns.
METRICS = {name.capitalize(): name for name in ("overall", *GROUPS)}
# Weight set -> its name on pages.
WEIGHT_SETS = {"raw": "raw", "ema": "EMA"}


@dataclass(frozen=True)
class Row:
    """One method with one configuration in one track: its records, one a seed, sorted by seed.

    label: method, its version where a track has several, the changed settings, and `mark`. samples: of each record,
    None for a record without one. mark: a digest, where the rest of the label fits several rows.
    """

    label: str
    records: tuple[Record, ...]
    samples: tuple[Sample | None, ...] = field(compare=False, repr=False)
    mark: str = ""

    def label_among(self, versioned: Container[str]) -> str:
        """The label among rows of other tracks. versioned: the methods of which these rows have several versions."""
        return label_of(self.records[0], versioned) + self.mark

    @property
    def title(self) -> str:
        """The method's title, as its last record gives it."""
        return plain(max(self.records, key=lambda record: (record.finished, record.run_id)).method_title)

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.records)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(record.spec.seed for record in self.records)

    @cached_property
    def scores(self) -> dict[str, Estimate | None]:
        """mAP column -> mean over seeds with its interval, in percent; None where a seed has no value."""
        return {
            column: estimate([getattr(record.metrics, key) for record in self.records], self._noise.get(column))
            for column, key in METRICS.items()
        }

    def beside(self, key: str) -> Estimate | None:
        """Mean over seeds of a secondary score, see `beside_metric`; None where a seed has no value."""
        return estimate(
            [beside_metric(record, sample, key) for record, sample in zip(self.records, self.samples, strict=True)]
        )

    @property
    def threshold(self) -> float | None:
        """The smallest logit that is a label in the columns CF1 val and OF1 val; None without one."""
        found = {None if sample is None else sample.beside("threshold") for sample in self.samples}
        return found.pop() if len(found) == 1 else None

    @cached_property
    def replicates(self) -> np.ndarray | None:
        """Overall, head, medium and tail of each seed, float32 [n, 4, 1 + replicates]; None where a seed has none."""
        known = [sample.scores for sample in self.samples if sample is not None]
        return np.stack(known) if len(known) == self.n else None

    @cached_property
    def _noise(self) -> dict[str, float | None]:
        """mAP column -> half of the 95 % interval that other test images would give, of the mean over seeds."""
        if self.replicates is None:
            return {}
        means = self.replicates.mean(axis=0)
        return {name: noise_half_width(row) for name, row in zip(METRICS, means, strict=True)}

    @property
    def oracle(self) -> Estimate | None:
        """Overall mAP of the epoch that is best on the test set, mean over seeds; None where a seed has none."""
        return estimate(self._best_on_test)

    @property
    def oracle_gap(self) -> Estimate | None:
        """The oracle minus the honest number in points, mean over seeds; None where a seed has no oracle."""
        honest = [record.metrics.overall for record in self.records]
        pairs = zip(self._best_on_test, honest, strict=True)
        return estimate([None if best is None or own is None else best - own for best, own in pairs])

    @property
    def _best_on_test(self) -> list[float | None]:
        oracles = [None if sample is None else sample.oracle for sample in self.samples]
        return [None if oracle is None else oracle.scores[0] for oracle in oracles]

    def class_scores(self, name: str) -> Estimate | None:
        """Average precision of one class, in percent, with the seeds' interval; None where a seed has no value."""
        return estimate([record.metrics.per_class[name] for record in self.records])

    @property
    def parameters(self) -> Parameters | None:
        """Numbers of parameters, None where the seeds differ in them."""
        first = self.records[0].parameters
        return first if all(record.parameters == first for record in self.records) else None

    @property
    def epochs(self) -> int:
        """Epochs trained; all seeds have the same recipe."""
        return epochs_of(self.records[0])

    @property
    def train_s(self) -> float:
        """Training time in seconds, mean over seeds."""
        times = estimate([record.timings.train_s for record in self.records])
        assert times is not None  # a record always has its times
        return times.mean

    @property
    def device(self) -> str:
        """The device of the training time, or that they are various."""
        return common(device_of(record) for record in self.records)

    @property
    def code_versions(self) -> int:
        """Number of different versions of the code among the seeds."""
        return len({record.environment.code_digest for record in self.records})


def beside_metric(record: Record, sample: Sample | None, key: str) -> float | None:
    """A secondary score of one run, by its name in `STATISTICS` or `AtThreshold`; None where it is missing.

    An untrained network gives no probabilities, and so has no statistics of them.
    """
    statistic = STATISTICS.get(key)
    if sample is None or (statistic and statistic.of_probabilities and not record.history):
        return None
    return sample.beside(key)


def label_of(record: Record, versioned: Container[str]) -> str:
    """The label of a record's row. versioned: methods with their version in the label."""
    spec = record.spec
    method = plain(spec.method) + (f" v{spec.method_version}" if spec.method in versioned else "")
    settings = settings_text(spec.config_overrides)
    return f"{method} ({settings})" if settings else method


def epochs_of(record: Record) -> int:
    """Epochs trained: the recipe's, or 0 where nothing was trained."""
    return record.spec.recipe.epochs if record.history else 0


def weights_of(record: Record) -> str:
    """The name of the declared weight set, whose numbers are ranked."""
    return WEIGHT_SETS[record.declared]


def views_of(record: Record) -> str:
    """The views of a test image."""
    test_time = record.spec.recipe.test_time
    return f"five-crop (margin {test_time.margin})" if test_time.views == "five-crop" else test_time.views


def device_of(record: Record) -> str:
    """The device of a run's training time."""
    environment = record.environment
    if environment.gpu is not None:
        return plain(environment.gpu)
    return f"CPU, {plural(environment.cpu_threads, 'thread')}"


def common(texts: Iterable[str]) -> str:
    """The common text, or `VARIOUS` where they differ."""
    different = set(texts)
    return different.pop() if len(different) == 1 else VARIOUS
