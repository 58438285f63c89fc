"""Summaries: the methods of one setting over several datasets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from benchmark.leaderboard.build import of_several_versions
from benchmark.leaderboard.rows import Row
from benchmark.leaderboard.stats.statistics import Estimate
from benchmark.leaderboard.tables import Table
from benchmark.leaderboard.tracks import Track


@dataclass(frozen=True)
class Summary:
    """Overall mAP of methods on several datasets, all with one protocol, backbone, pretraining and image size.

    slug: an ASCII name that differs between settings. datasets: titles, the columns. measured: label -> the method's
    row on each dataset, None where it was not measured. A label names the version where the method has several on these
    datasets. No mean is taken over the datasets, as it would depend on the choice of datasets more than on the method.
    """

    title: str
    slug: str
    datasets: tuple[str, ...]
    measured: dict[str, tuple[Row | None, ...]]

    @property
    def rows(self) -> dict[str, tuple[Estimate | None, ...]]:
        """Label -> an estimate for each dataset, None where there is no row or a seed has no value."""
        return {
            label: tuple(None if row is None else row.scores["Overall"] for row in rows)
            for label, rows in self.measured.items()
        }


def summaries(tables: Iterable[Table]) -> list[Summary]:
    """One summary for each setting that was measured on two datasets or more; methods by name."""
    settings: dict[Track, list[Table]] = defaultdict(list)
    for table in tables:
        settings[setting_of(table.track)].append(table)
    return [_summary(setting, group) for setting, group in settings.items() if len(group) > 1]


def setting_of(track: Track) -> Track:
    """The track without its dataset."""
    return replace(track, dataset="", fingerprint="", dataset_title="")


def _summary(setting: Track, tables: Sequence[Table]) -> Summary:
    versioned = of_several_versions(record for table in tables for row in table.rows for record in row.records)
    columns = [{row.label_among(versioned): row for row in table.rows} for table in tables]
    labels = sorted({label for column in columns for label in column})
    # A table's title without the setting: the dataset, with a digest where two titles are the same.
    datasets = tuple(table.title.replace(f" · {setting.title}", "", 1) for table in tables)
    return Summary(
        setting.title,
        setting.slug,
        datasets,
        {label: tuple(column.get(label) for column in columns) for label in labels},
    )
