"""Tables: one a track, one row a method, from records to numbers and text."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchmark.errors import StoreError
from benchmark.leaderboard.samples import Sample
from benchmark.leaderboard.stats.comparison import POWER, Comparison, compare
from benchmark.leaderboard.stats.resampling import REPLICATES
from benchmark.leaderboard.stats.statistics import CONFIDENCE, Estimate, estimate, noise_half_width
from benchmark.leaderboard.tracks import Track, settings_text, titles
from benchmark.spec import canonical_json
from benchmark.store.records import GROUPS, Parameters, Record
from benchmark.ui.progress import duration, plural
from benchmark.ui.text import plain

if TYPE_CHECKING:
    import pandas as pd
    import rich.table

MISSING = "–"
VARIOUS = "various"
# Of a ± that covers one of both noises.
SEEDS_MARK, IMAGES_MARK = "ˢ", "ⁱ"
MARKS = f"{SEEDS_MARK} over seeds alone; {IMAGES_MARK} over test images alone"


@dataclass(frozen=True)
class Row:
    """One method with one configuration in one track: its records, one a seed, sorted by seed.

    label: method, version where a track holds several, what the user changed in its configuration, and `mark`. samples:
    of each record, None for one that has none. mark: a digest, where the rest of the label fits several rows.
    """

    label: str
    records: tuple[Record, ...]
    samples: tuple[Sample | None, ...] = field(compare=False, repr=False)
    mark: str = ""

    def label_among(self, versioned: Container[str]) -> str:
        """The label beside rows of other tracks; versioned: methods whose version tells these rows apart."""
        return _label(self.records[0], versioned) + self.mark

    @property
    def title(self) -> str:
        """The method's title, as its last record gives it."""
        return plain(max(self.records, key=lambda record: (record.finished, record.run_id)).method_title)

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.records)

    @property
    def seeds(self) -> str:
        """The seeds, as text."""
        return ", ".join(str(record.spec.seed) for record in self.records)

    @cached_property
    def scores(self) -> dict[str, Estimate | None]:
        """Column -> mean over seeds with its interval, in percent; None where a seed has no value."""
        means = {
            column: estimate([getattr(record.metrics, key) for record in self.records], self._noise.get(column))
            for column, key in Table.MAP_COLUMNS.items()
        }
        return means | {column: self._beside(key) for column, key in Table.F1_COLUMNS.items()}

    @cached_property
    def details(self) -> dict[str, Estimate | None]:
        """Column -> mean over seeds of what stands beside the metric, in percent or points. A network that was not
        trained claims no probabilities: it has no calibration error."""
        found = {column: self._beside(key) for column, key in Table.DETAILS.items()}
        return found if self.epochs else found | {Table.ECE: None}

    @property
    def threshold(self) -> float | None:
        """The logit from which on a label is chosen in the columns of the validation list, None without one."""
        found = {sample and sample.beside("threshold") for sample in self.samples}
        return found.pop() if len(found) == 1 else None

    def _beside(self, key: str) -> Estimate | None:
        return estimate([sample and sample.beside(key) for sample in self.samples])

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
        return {name: noise_half_width(row) for name, row in zip(Table.MAP_COLUMNS, means, strict=True)}

    @property
    def oracle(self) -> Estimate | None:
        """Overall mAP of the epoch that is best on the test set, mean over seeds; None where it was not asked for."""
        return self._over_oracles(lambda best, record: best)

    @property
    def oracle_gap(self) -> Estimate | None:
        """By how many points that is above the honest number, mean over seeds."""
        return self._over_oracles(lambda best, record: best - record.metrics.overall)

    def _over_oracles(self, value: Callable[[float, Record], float]) -> Estimate | None:
        oracles = [sample and sample.oracle for sample in self.samples]
        if None in oracles:
            return None
        return estimate([value(o.scores[0], record) for o, record in zip(oracles, self.records, strict=True)])

    def class_scores(self, name: str) -> Estimate | None:
        """Average precision of one class, in percent, with the seeds' interval; None where a seed has no value."""
        return estimate([record.metrics.per_class[name] for record in self.records])

    @property
    def parameter_counts(self) -> Parameters | None:
        """Numbers of parameters, None where the seeds differ in them."""
        first = self.records[0].parameters
        return first if all(record.parameters == first for record in self.records) else None

    @property
    def parameters(self) -> str:
        """Trained / all parameters, in millions."""
        counts = self.parameter_counts
        return VARIOUS if counts is None else f"{_millions(counts.trained)} / {_millions(counts.all)}"

    @property
    def epochs(self) -> int:
        """Epochs trained, the same for all seeds since the recipe is: the recipe's, or 0 where nothing was trained."""
        first = self.records[0]
        return first.spec.recipe.epochs if first.history else 0

    @property
    def weights(self) -> str:
        """The weight set whose numbers count."""
        return {"raw": "raw", "ema": "EMA"}[self.records[0].declared]

    @property
    def selection(self) -> str:
        """The rule that chose the epoch."""
        return self.records[0].selection.rule

    @property
    def test_time(self) -> str:
        """What a test image was scored on."""
        test_time = self.records[0].spec.recipe.test_time
        return f"five-crop (margin {test_time.margin})" if test_time.views == "five-crop" else test_time.views

    @property
    def train_s(self) -> float:
        """Training time in seconds, mean over seeds."""
        times = estimate([record.timings.train_s for record in self.records])
        assert times is not None  # a record always has its times
        return times.mean

    @property
    def device(self) -> str:
        """What the training time was measured on."""
        return _common(_device(record) for record in self.records)

    @property
    def code_versions(self) -> int:
        """Number of different versions of the code among the seeds."""
        return len({record.environment.code_digest for record in self.records})


@dataclass(frozen=True)
class Against:
    """A row minus the baseline, in percent points: with the half width of its own 95 % interval, its p-value, and that
    corrected for all comparisons with the baseline (Holm)."""

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

    pair: of a row with the baseline, or of any two rows where there is no baseline, for one comparison alone.
    with_baseline: where all `others` rows are compared with the baseline, None without one. all_pairs: where all
    `pairs` are compared.
    """

    pair: float
    with_baseline: float | None
    others: int
    all_pairs: float
    pairs: int

    @property
    def text(self) -> str:
        """In a sentence."""
        baseline = Table.BASELINE_LABEL
        alone = "of two methods" if self.with_baseline is None else f"of one method with {baseline}"
        parts = [f"{_number(self.pair)} in one comparison {alone}"]
        if self.others > 1:
            parts.append(f"{_number(self.with_baseline)} where all {self.others} are compared with {baseline}")
        if self.pairs > 1:
            parts.append(f"{_number(self.all_pairs)} where all {self.pairs} pairs are compared")
        return f"Differences of overall mAP found with {100 * POWER:.0f} % power, in points: {', '.join(parts)}."


@dataclass(frozen=True)
class Table:
    """The table of one track, best overall mAP first. It names its own columns.

    classes: name -> (group, number of training images), in class order.
    """

    RANK: ClassVar = "Rank"
    METHOD: ClassVar = "Method"
    N: ClassVar = "n"
    BASELINE: ClassVar = "vs ERM"
    WINS: ClassVar = "W / T / L"
    ORACLE: ClassVar = "Oracle (not ranked)"
    SEEDS: ClassVar = "Seeds"
    PARAMETERS: ClassVar = "Parameters trained / all (M)"
    EPOCHS: ClassVar = "Epochs"
    WEIGHTS: ClassVar = "Weights"
    SELECTION: ClassVar = "Selection rule"
    TEST_TIME: ClassVar = "Test-time"
    TRAIN_TIME: ClassVar = "Train time"
    BASELINE_LABEL: ClassVar = "erm"
    MAP_COLUMNS: ClassVar = {"Overall": "overall", "Head": "head", "Medium": "medium", "Tail": "tail"}
    TOP3_COLUMNS: ClassVar = {"CF1 top-3": "cf1_top3", "OF1 top-3": "of1_top3"}
    VALIDATION_COLUMNS: ClassVar = {"CF1 val": "cf1_val", "OF1 val": "of1_val"}
    F1_COLUMNS: ClassVar = TOP3_COLUMNS | VALIDATION_COLUMNS
    SCORES: ClassVar = MAP_COLUMNS | F1_COLUMNS
    ECE: ClassVar = "ECE"
    DETAILS: ClassVar = {"AP std": "ap_std", "Micro AP": "micro_ap", "LRAP": "lrap", ECE: "ece"}
    THRESHOLD: ClassVar = "Threshold (logit)"
    FACTS: ClassVar[dict[str, Callable[[Row], str]]] = {
        PARAMETERS: lambda row: row.parameters,
        EPOCHS: lambda row: str(row.epochs),
        WEIGHTS: lambda row: row.weights,
        SELECTION: lambda row: row.selection,
        TEST_TIME: lambda row: row.test_time,
        TRAIN_TIME: lambda row: f"{duration(row.train_s)} ({row.device})",
    }

    track: Track
    title: str
    rows: tuple[Row, ...]
    classes: dict[str, tuple[str, int]]
    num_train_images: int
    num_test_images: int

    @property
    def columns(self) -> list[str]:
        """The columns' names, in order."""
        baseline = [] if self.baseline is None else [self.BASELINE]
        oracle = [self.ORACLE] if self.has_oracle else []
        # Those of the validation list where any row has them.
        f1 = self.F1_COLUMNS if any(row.threshold is not None for row in self.rows) else self.TOP3_COLUMNS
        compared = [*baseline, self.WINS, *oracle]
        return [self.RANK, self.METHOD, *self.MAP_COLUMNS, *compared, *f1, *self.FACTS, self.SEEDS]

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
        place = list(self.MAP_COLUMNS).index(column)
        unknown = np.full((1, 1 + REPLICATES), np.nan)
        return compare([unknown if row.replicates is None else row.replicates[:, place] for row in self.rows])

    @cached_property
    def baseline(self) -> Row | None:
        """The row `erm`, without changed settings; None where it is not there or compared with no other row."""
        for index, row in enumerate(self.rows):
            if row.label == self.BASELINE_LABEL and self.comparison and not np.isnan(self.comparison.p[index]).all():
                return row
        return None

    @cached_property
    def against_baseline(self) -> dict[str, Against | None]:
        """Row's label -> its overall mAP against the baseline's; None for the baseline itself and for a row that cannot
        be compared with it."""
        found: dict[str, Against | None] = {row.label: None for row in self.rows}
        if self.baseline is not None:
            at = self.rows.index(self.baseline)
            for i, (row, p_holm) in enumerate(zip(self.rows, self.comparison.against(at).tolist(), strict=True)):
                if not np.isnan(p_holm):
                    arrays = (self.comparison.difference, self.comparison.half_width, self.comparison.p)
                    found[row.label] = Against(*(float(values[i, at]) for values in arrays), p_holm)
        return found

    @cached_property
    def detectable(self) -> Detectable | None:
        """What differences of overall mAP can be found; None where no two rows are compared."""
        pairs = 0 if self.comparison is None else int(np.count_nonzero(~np.isnan(self.comparison.p))) // 2
        if not pairs:
            return None
        of_all = self.comparison.detectable(comparisons=pairs)
        if self.baseline is None:
            return Detectable(self.comparison.detectable(), None, 0, of_all, pairs)
        at = self.rows.index(self.baseline)
        others = sum(against is not None for against in self.against_baseline.values())
        one, family = (self.comparison.detectable(at, comparisons=number) for number in (1, others))
        return Detectable(one, family, others, of_all, pairs)

    @cached_property
    def ranks(self) -> dict[str, int | None]:
        """Row's label -> rank group, from 1: tied with the best. None for a row that cannot be compared."""
        groups = self.comparison.rank_groups if self.comparison else [None] * len(self.rows)
        return {row.label: group for row, group in zip(self.rows, groups, strict=True)}

    @cached_property
    def wins(self) -> dict[str, tuple[int, int, int] | None]:
        """Row's label -> (wins, ties, losses) against the others; None for a row that cannot be compared."""
        return {
            row.label: self.comparison.counts(i) if self.ranks[row.label] is not None else None
            for i, row in enumerate(self.rows)
        }

    @property
    def facts(self) -> str:
        """How many images and classes there are, in a sentence."""
        return (
            f"{self.num_train_images:,} training images, {self.num_test_images:,} test images, {len(self.classes)} "
            f"classes (training images of each): {', '.join(map(self._group_size, GROUPS))}."
        )

    def _group_size(self, group: str) -> str:
        counts = sorted(count for name, count in self.classes.values() if name == group)
        if not counts:
            return f"0 {group}"
        span = f"{counts[0]:,}" if counts[0] == counts[-1] else f"{counts[0]:,} to {counts[-1]:,}"
        return f"{len(counts)} {group} ({span})"

    @property
    def run_ids(self) -> set[str]:
        """The runs that the table is made of."""
        return {record.run_id for row in self.rows for record in row.records}

    @property
    def missing_classes(self) -> list[str]:
        """Classes without a test positive in some record, in class order."""
        missing = {name for row in self.rows for record in row.records for name in record.metrics.missing_classes}
        return [name for name in self.classes if name in missing]

    @cached_property
    def _best(self) -> dict[str, set[str]]:
        best = {column: are_best([row.scores[column] for row in self.rows]) for column in self.MAP_COLUMNS}
        return {
            column: {row.label for row, is_best in zip(self.rows, flags, strict=True) if is_best}
            for column, flags in best.items()
        }

    def is_best(self, row: Row, column: str) -> bool:
        """Whether the row's mean is the column's best, at the precision shown; mAP columns only."""
        return row.label in self._best.get(column, ())

    def to_pandas(self) -> pd.DataFrame:
        """The table as numbers: means and half-widths in percent (missing: NaN), times in seconds."""
        import pandas as pd

        values = value_columns()
        return pd.DataFrame([{name: _or_nan(value(self, row)) for name, value in values.items()} for row in self.rows])

    def to_rich(self) -> rich.table.Table:
        """The essential columns for a terminal of 80 columns: a score is never broken over two lines."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        # Text, not str: rich would read square brackets in a name as markup.
        table = RichTable(
            title=Text(self.title, style="bold"),
            caption=Text(f"mAP in percent, mean ± 95 % interval over seeds and test images\n{MARKS}"),
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
            title_justify="left",
            caption_justify="left",
        )
        table.add_column(self.RANK, justify="right")
        table.add_column(self.METHOD, overflow="fold", min_width=8)
        table.add_column(self.N, justify="right")
        for column in self.MAP_COLUMNS:
            table.add_column(column, justify="right", no_wrap=True)
        for row in self.rows:
            scores = [
                Text(score_text(row.scores[column]), style="bold" if self.is_best(row, column) else "")
                for column in self.MAP_COLUMNS
            ]
            rank = self.ranks[row.label]
            table.add_row(Text(rank_text(rank)), Text(row.label), Text(str(row.n)), *scores)
        return table


def value_columns() -> dict[str, Callable[[Table, Row], Any]]:
    """Column of `Table.to_pandas` -> a row's value in it, None where it is missing."""
    columns: dict[str, Callable[[Table, Row], Any]] = {
        Table.RANK: lambda table, row: table.ranks[row.label],
        Table.METHOD: lambda table, row: row.label,
        "Title": lambda table, row: row.title,
    }
    for column in Table.SCORES:
        columns |= _score_columns(column)
    for column in Table.DETAILS:
        columns |= _estimate_columns(column, lambda row, column=column: row.details[column])
    return columns | {
        Table.THRESHOLD: lambda table, row: row.threshold,
        Table.N: lambda table, row: row.n,
        Table.BASELINE: lambda table, row: (found := table.against_baseline[row.label]) and found.difference,
        f"{Table.BASELINE} ±": lambda table, row: (found := table.against_baseline[row.label]) and found.half_width,
        f"{Table.BASELINE} p (Holm)": lambda table, row: (found := table.against_baseline[row.label]) and found.p_holm,
        "Wins": lambda table, row: (counts := table.wins[row.label]) and counts[0],
        "Ties": lambda table, row: (counts := table.wins[row.label]) and counts[1],
        "Losses": lambda table, row: (counts := table.wins[row.label]) and counts[2],
        "Oracle": lambda table, row: row.oracle and row.oracle.mean,
        "Oracle ± seeds": lambda table, row: row.oracle and row.oracle.seeds,
        Table.SEEDS: lambda table, row: row.seeds,
        "Parameters trained": lambda table, row: (counts := row.parameter_counts) and counts.trained,
        "Parameters all": lambda table, row: (counts := row.parameter_counts) and counts.all,
        Table.EPOCHS: lambda table, row: row.epochs,
        Table.WEIGHTS: lambda table, row: row.weights,
        Table.SELECTION: lambda table, row: row.selection,
        Table.TEST_TIME: lambda table, row: row.test_time,
        "Train time (s)": lambda table, row: row.train_s,
        "Device": lambda table, row: row.device,
    }


def _estimate_columns(
    column: str, value: Callable[[Row], Estimate | None], parts: Sequence[str] = ("seeds",)
) -> dict[str, Callable[[Table, Row], Any]]:
    """The mean and the parts of its interval; without replicates there is the seeds' part alone."""
    columns: dict[str, Callable[[Table, Row], Any]] = {column: lambda table, row: (score := value(row)) and score.mean}
    for part in parts:
        columns[f"{column} ± {part}"] = lambda table, row, part=part: (score := value(row)) and getattr(score, part)
    return columns


def _score_columns(column: str) -> dict[str, Callable[[Table, Row], Any]]:
    if column not in Table.MAP_COLUMNS:
        return _estimate_columns(column, lambda row: row.scores[column])
    columns = _estimate_columns(column, lambda row: row.scores[column], ("images", "seeds"))
    both = {f"{column} ±": lambda table, row: (score := row.scores[column]) and score.half_width}
    return {column: columns.pop(column)} | both | columns


def are_best(scores: Sequence[Estimate | None]) -> list[bool]:
    """Of each, whether its mean is the best of them, at the precision shown."""
    means = [None if score is None else score.mean for score in scores]
    best = max((mean for mean in means if mean is not None), default=None)
    return [mean is not None and _number(mean) == _number(best) for mean in means]


def score_text(score: Estimate | None, bold: Callable[[str], str] = str) -> str:
    """`84.21 ± 0.35`, with a mark where ± covers one noise alone; the mean alone where neither is known; a dash for a
    missing cell."""
    if score is None:
        return MISSING
    mean = bold(_number(score.mean))
    return mean if score.half_width is None else f"{mean} ± {_number(score.half_width)}{_mark(score)}"


def _mark(score: Estimate) -> str:
    if score.seeds is None:
        return IMAGES_MARK
    return SEEDS_MARK if score.images is None else ""


def part_texts(score: Estimate | None) -> tuple[str, str]:
    """The two parts of ±, over seeds and over test images: `± 0.75`, a dash where one is not known."""
    parts = (None, None) if score is None else (score.seeds, score.images)
    return tuple(MISSING if part is None else f"± {_number(part)}" for part in parts)


def against_text(against: Against | None) -> str:
    """`+1.23 ± 0.80`, with a star where it is told apart; a dash where there is no comparison."""
    if against is None:
        return MISSING
    return f"{against.difference:+z.2f} ± {_number(against.half_width)}{'*' if against.is_apart else ''}"


def cell_text(score: Estimate | None, bold: Callable[[str], str] = str) -> str:
    """`84.21 ± 0.35 (3)`: `score_text` with the number of seeds."""
    return MISSING if score is None else f"{score_text(score, bold)} ({score.n})"


def rank_text(rank: int | None) -> str:
    """The rank group, a dash for none."""
    return MISSING if rank is None else str(rank)


def counts_text(counts: tuple[int, int, int] | None) -> str:
    """Wins, ties and losses: `4 / 6 / 0`, a dash for none."""
    return MISSING if counts is None else " / ".join(map(str, counts))


def build_tables(records: Iterable[Record], samples: Mapping[str, Sample] | None = None) -> list[Table]:
    """One table a track, sorted. The order of the records does not matter. samples: run id -> sample of the run; the
    rows of runs that have none are not compared.

    A row holds records that differ in the seed alone: where two differ in anything else that decides a result
    (another version of the method, another mean and standard deviation for the images, another rule of
    selection), they stand in rows of their own. So a seed occurs twice in a row only when two records are of
    the same run, which raises StoreError: one of them is a copy, and nothing says which to believe.
    """
    by_track: dict[Track, list[Record]] = defaultdict(list)
    # Newest first, so that the titles shown are the newest.
    for record in sorted(records, key=lambda record: (record.finished, record.run_id), reverse=True):
        by_track[Track.from_record(record)].append(record)
    names = titles(by_track)
    return [
        _build_table(track, names[track], by_track[track], samples or {})
        for track in sorted(by_track, key=lambda track: track.sort_key)
    ]


def _build_table(track: Track, title: str, records: Sequence[Record], samples: Mapping[str, Sample]) -> Table:
    first = records[0]
    for record in records:
        if dataset_facts(record) != dataset_facts(first):
            raise StoreError(
                f"{place(record)}: classes, groups or numbers of images are not those of {place(first)}, though "
                "both name the same dataset fingerprint; remove the wrong one"
            )
    rows = sorted(_build_rows(records, samples), key=_rank)
    classes = {name: (group, first.class_counts[name]) for name, group in first.groups.items()}
    return Table(track, title, tuple(rows), classes, first.num_train_images, first.num_test_images)


def dataset_facts(record: Record) -> tuple:
    """What records of one dataset fingerprint have in common."""
    return record.groups, record.class_counts, record.num_train_images, record.num_test_images


def place(record: Record) -> str:
    """Where a record lies below its results folder."""
    return f"runs/{record.folder_name}/record.json"


def _rank(row: Row) -> tuple:
    overall = row.scores["Overall"]
    return overall is None, 0.0 if overall is None else -overall.mean, row.label


def _build_rows(records: Sequence[Record], samples: Mapping[str, Sample]) -> list[Row]:
    versioned = of_several_versions(records)
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[_label(record, versioned), _digest_without_seed(record)].append(record)
    uses = Counter(label for label, _ in groups)
    rows = []
    for (label, digest), group in groups.items():
        ordered = _by_seed(group)
        sampled = tuple(samples.get(record.run_id) for record in ordered)
        mark = "" if uses[label] == 1 else f" [{digest[:8]}]"
        rows.append(Row(label + mark, ordered, sampled, mark))
    return rows


def of_several_versions(records: Iterable[Record]) -> set[str]:
    """The methods that these records hold in more than one version."""
    versions = {(record.spec.method, record.spec.method_version) for record in records}
    return {method for method, count in Counter(method for method, _ in versions).items() if count > 1}


def _label(record: Record, versioned: Container[str]) -> str:
    spec = record.spec
    method = plain(spec.method) + (f" v{spec.method_version}" if spec.method in versioned else "")
    settings = settings_text(record.spec.config_overrides)
    return f"{method} ({settings})" if settings else method


def _digest_without_seed(record: Record) -> str:
    identity = record.spec.identity()
    del identity["seed"]
    return hashlib.sha256(canonical_json([identity, record.declared, record.selection.rule]).encode()).hexdigest()


def row_key(record: Record) -> tuple:
    """What the records of one row share, and no others."""
    return Track.from_record(record), _label(record, ()), _digest_without_seed(record)


def _by_seed(records: Sequence[Record]) -> tuple[Record, ...]:
    seeds = Counter(record.spec.seed for record in records)
    twice = [record for record in records if seeds[record.spec.seed] > 1]
    if twice:
        raise StoreError(f"{place(twice[0])}: {len(twice)} records hold the same run; remove the copies under runs/")
    return tuple(sorted(records, key=lambda record: record.spec.seed))


def _common(texts: Iterable[str]) -> str:
    different = set(texts)
    return different.pop() if len(different) == 1 else VARIOUS


def _device(record: Record) -> str:
    environment = record.environment
    if environment.gpu is not None:
        return plain(environment.gpu)
    return f"CPU, {plural(environment.cpu_threads, 'thread')}"


def _or_nan(value: Any) -> Any:
    return float("nan") if value is None else value


def _number(value: float) -> str:
    return f"{value:.2f}"


def _millions(count: int) -> str:
    millions = count / 1e6
    return f"{millions:.1f}" if millions >= 10 else f"{millions:.3f}"
