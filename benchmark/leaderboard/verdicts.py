"""Published results beside measured ones: a method's printed scores, and its scores here."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmark.data.dataset import DATASETS
from benchmark.data.registered import registered
from benchmark.leaderboard.cells import MISSING, difference_text, number_text
from benchmark.leaderboard.published import PublishedResult, load_published
from benchmark.leaderboard.rows import METRICS, Row
from benchmark.leaderboard.stats.statistics import Estimate
from benchmark.leaderboard.tables import Table
from benchmark.leaderboard.tracks import Track, settings_text
from benchmark.store.records import TOLERANCE, Group

PROTOCOL = "paper"

# A printed value may be any that rounds to its two digits.
_ROUNDING = 0.005
_BACKBONES = {
    "ResNet-50": ("resnet50", "clip_rn50"),
    "ResNet-101": ("resnet101",),
    "ViT-B/16": ("vit_b_16", "clip_vit_b_16"),
}
# Patterns of weights' names. Other tags of open_clip and torchvision's SWAG weights were trained on other images.
_PRETRAINING = {"ImageNet": re.compile(r"IMAGENET1K_V\d+"), "CLIP": re.compile(r"[^:]+:openai")}
_OTHER_SPLIT = "measured on PLT-VOC / PLT-COCO, another benchmark"
# Caveats that rule out a comparison, whatever is measured here -> the reason.
_SOMETHING_ELSE = {
    _OTHER_SPLIT: "another benchmark",
    "loader without mean/std normalisation": "its images were not normalised",
}
_BEST, _LAST = "best on test", "last"
_BEST_NOTE = "best epoch picked on the test set"
_DOES_NOT_ADD_UP = "the printed groups do not average to the printed overall, over the classes of this split"
_EXCHANGED = f"{_DOES_NOT_ADD_UP}; with medium and tail exchanged they do"

Kind = Literal["within", "above", "below", "not comparable", "not measured"]


@dataclass(frozen=True)
class Verdict:
    """The result of comparing a published value with a measured one.

    within: the published value, taken as one run, is in the 95 % prediction interval of our seeds and of the test
    images. above, below: it is not, and the measured mean is above or below it. reasons: why it is not comparable or
    not measured.
    """

    kind: Kind
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishedScore:
    """One score of one published result, in percent.

    last: of the last epoch, where both are published. compared: the score that ours is compared with: the last epoch's
    where it is published, since ours is of the last epoch, otherwise the printed one. verdict: None where compared is.
    """

    printed: float | None
    last: float | None
    compared: float | None
    measured: Estimate | None
    verdict: Verdict | None

    @property
    def difference(self) -> float | None:
        """Measured minus compared, in points; None where either is missing."""
        return None if self.compared is None or self.measured is None else self.measured.mean - self.compared

    @property
    def gap(self) -> float | None:
        """The score of the best epoch on the test set minus that of the last, in points; None where one is missing."""
        return None if self.printed is None or self.last is None else self.printed - self.last

    @property
    def printed_text(self) -> str:
        """`80.12`, a dash where nothing was printed."""
        return number_text(self.printed)

    @property
    def last_text(self) -> str:
        """`79.02`, a dash for none."""
        return number_text(self.last)

    @property
    def gap_text(self) -> str:
        """`1.10`, a dash for none; a zero has no minus."""
        return MISSING if self.gap is None else f"{self.gap:z.2f}"

    @property
    def difference_text(self) -> str:
        """`+1.23`, a dash for none; a zero has no minus."""
        return difference_text(self.difference)


@dataclass(frozen=True)
class Measured:
    """A row of ours and its track."""

    track: Track
    row: Row


@dataclass(frozen=True)
class PublishedRow:
    """One published result beside ours.

    last: for a result of the best epoch on the test set, the published result of the same log's last epoch. scores: a
    table's mAP column -> comparison. notes: numbers of footnotes.
    """

    result: PublishedResult
    last: PublishedResult | None
    measured: Measured | None
    scores: dict[str, PublishedScore]
    notes: tuple[int, ...]

    @property
    def variant(self) -> str:
        """The result's variant, and that of the last epoch where it differs."""
        return self._with_last(self.result.variant, None if self.last is None else self.last.variant)

    @property
    def source(self) -> str:
        """The result's source, and that of the last epoch where it differs."""
        return self._with_last(self.result.source, None if self.last is None else self.last.source)

    @property
    def our_label(self) -> str:
        """The label of our row beside the result, measured or not; a dash where the method is not implemented here."""
        return (self.measured.row.label if self.measured else self.result.row_label) or MISSING

    @property
    def verdict(self) -> Verdict:
        """The verdict on the overall mAP."""
        verdict = self.scores["Overall"].verdict
        assert verdict is not None  # there is always a printed overall value
        return verdict

    @staticmethod
    def _with_last(text: str, last: str | None) -> str:
        return text if last in (None, text) else f"{text}; last epoch: {last}"


@dataclass(frozen=True)
class PublishedTable:
    """All published results of one dataset, in the file's order; two epochs of one log are one row.

    footnotes: the file's caveats, and those on results whose own numbers contradict each other; number n is
    `footnotes[n - 1]`.
    """

    dataset: str
    title: str
    rows: tuple[PublishedRow, ...]
    footnotes: tuple[str, ...]


def published(tables: Iterable[Table], results: Sequence[PublishedResult] | None = None) -> list[PublishedTable]:
    """One table for each dataset that has a track of protocol `paper` without changes, or that a dataset with one extends.

    Beside each published result is our nearest row: first one on the dataset's registered lists, then one that differs
    least in backbone, pretraining and image size, then one of the newest protocol and method. results: those of the
    packaged file when None.
    """
    measured = _measured_by_dataset(tables)
    by_dataset = _by_dataset(load_published() if results is None else results)
    return [_published_table(name, lines, measured[name]) for name, lines in by_dataset.items() if name in measured]


def unmeasured(tables: Iterable[Table], results: Sequence[PublishedResult] | None = None) -> dict[str, int]:
    """Title -> number of published results, for the datasets that `published` leaves out; two epochs count as one."""
    measured = _measured_by_dataset(tables)
    by_dataset = _by_dataset(load_published() if results is None else results)
    return {
        DATASETS.get(name).card.title: len(_with_last_epochs(lines))
        for name, lines in by_dataset.items()
        if name not in measured
    }


def _by_dataset(results: Iterable[PublishedResult]) -> dict[str, list[PublishedResult]]:
    by_dataset = defaultdict(list)
    for line in results:
        by_dataset[line.dataset].append(line)
    return by_dataset


def _with_last_epochs(lines: Sequence[PublishedResult]) -> list[tuple[PublishedResult, PublishedResult | None]]:
    """Each result; one of the best epoch on the test set with that of the same log's last epoch, if published."""
    best = {line.log for line in lines if line.epoch == _BEST}
    last = {line.log: line for line in lines if line.epoch == _LAST and line.log in best}
    return [
        (line, last.get(line.log) if line.epoch == _BEST else None) for line in lines if line is not last.get(line.log)
    ]


def _measured_by_dataset(tables: Iterable[Table]) -> dict[str, list[Measured]]:
    measured: dict[str, list[Measured]] = defaultdict(list)
    for table in tables:
        if table.track.protocol == PROTOCOL and not table.track.overrides:
            name = table.track.dataset
            # A dataset with other lists than the published ones is shown beside them, and said to be another.
            name = DATASETS.get(name).card.extends or name if name in DATASETS else name
            measured[name] += [Measured(table.track, row) for row in table.rows]
    return measured


def _published_table(dataset: str, lines: Sequence[PublishedResult], measured: Sequence[Measured]) -> PublishedTable:
    here = registered(dataset)
    assert here is not None  # published results are of registered datasets
    fingerprint = here.fingerprint
    pairs = _with_last_epochs(lines)
    classes = Counter(here.groups.values())
    # The caveats of a result and its last epoch together, each once.
    caveats = [
        tuple(dict.fromkeys(caveat for line in pair if line for caveat in _caveats(line, classes))) for pair in pairs
    ]
    footnotes = tuple(dict.fromkeys(caveat for each in caveats for caveat in each))
    numbers = {caveat: number for number, caveat in enumerate(footnotes, 1)}
    candidates = defaultdict(list)
    for item in measured:
        spec = item.row.records[0].spec
        candidates[spec.method, settings_text(spec.config_overrides)].append(item)
    rows = [
        _published_row(
            line,
            last,
            _nearest(line, candidates.get((line.measured_by or "", line.settings), []), fingerprint),
            fingerprint,
            tuple(sorted({numbers[caveat] for caveat in each})),
        )
        for (line, last), each in zip(pairs, caveats, strict=True)
    ]
    return PublishedTable(dataset, DATASETS.get(dataset).card.title, tuple(rows), footnotes)


def _caveats(result: PublishedResult, classes: Mapping[Group, int]) -> tuple[str, ...]:
    """The caveats of a result, with those that follow from its own numbers. classes: number of each group."""
    own = (_contradiction(result, classes), _BEST_NOTE if result.epoch == _BEST else None)
    return (*result.caveats, *filter(None, own))


def _contradiction(result: PublishedResult, classes: Mapping[Group, int]) -> str | None:
    """The contradiction between the printed groups and the printed overall; None where they agree."""
    means = {group: getattr(result, group) for group in classes}
    if None in means.values() or _OTHER_SPLIT in result.caveats:
        return None

    def adds_up(means: Mapping[Group, float]) -> bool:
        overall = sum(means[group] * count for group, count in classes.items()) / sum(classes.values())
        # The groups are rounded, and so is the overall.
        return abs(overall - result.overall) <= 2 * _ROUNDING + TOLERANCE

    if adds_up(means):
        return None
    exchanged = means | {"medium": means["tail"], "tail": means["medium"]}
    return _EXCHANGED if adds_up(exchanged) else _DOES_NOT_ADD_UP


def _nearest(result: PublishedResult, candidates: Sequence[Measured], fingerprint: str) -> Measured | None:
    """The candidate to compare with a published result, chosen without regard to scores."""

    def distance(item: Measured) -> tuple:
        return (
            item.track.fingerprint != fingerprint,
            len(_differences(result, item.track, fingerprint)),
            -item.track.protocol_version,
            item.track.weights,  # IMAGENET1K_V1, which these papers had, before later ones
            -item.row.records[0].spec.method_version,
            -item.row.n,
        )

    def newest(item: Measured) -> tuple:
        return max(record.finished for record in item.row.records), item.track.slug, item.row.label

    return min(sorted(candidates, key=newest, reverse=True), key=distance, default=None)


def _published_row(
    result: PublishedResult,
    last: PublishedResult | None,
    measured: Measured | None,
    fingerprint: str,
    notes: tuple[int, ...],
) -> PublishedRow:
    against = last or result
    obstacle = _obstacle(against, measured, fingerprint)
    scores = {}
    for column, key in METRICS.items():
        compared = getattr(against, key)
        score = None if measured is None else measured.row.scores[column]
        verdict = None if compared is None else obstacle or _verdict(compared, score)
        printed, last_epoch = getattr(result, key), None if last is None else getattr(last, key)
        scores[column] = PublishedScore(printed, last_epoch, compared, score, verdict)
    return PublishedRow(result, last, measured, scores, notes)


def _obstacle(result: PublishedResult, measured: Measured | None, fingerprint: str) -> Verdict | None:
    """The verdict on a result that cannot be compared, whatever its scores; None for a comparable result."""
    reasons = [_SOMETHING_ELSE[caveat] for caveat in result.caveats if caveat in _SOMETHING_ELSE]
    if measured is not None:
        reasons += _differences(result, measured.track, fingerprint)
    elif not reasons:
        missing = "not implemented here" if result.measured_by is None else f"no run of protocol {PROTOCOL}"
        return Verdict("not measured", (missing,))
    return Verdict("not comparable", tuple(reasons)) if reasons else None


def _differences(result: PublishedResult, track: Track, fingerprint: str) -> list[str]:
    """The differences between a track and the setting of a published result."""
    found = []
    if track.dataset != result.dataset:
        found.append(f"measured on {track.dataset}, which has another list")
    elif track.fingerprint != fingerprint:
        found.append("the dataset's split differs")
    if track.backbone not in _BACKBONES.get(result.backbone, ()):
        found.append(f"backbone differs: printed {result.backbone}, measured {track.backbone}")
    pretraining = _PRETRAINING.get(result.pretraining)
    if pretraining is None or not pretraining.fullmatch(track.weights):
        found.append(f"pretraining differs: printed {result.pretraining}, measured {track.weights}")
    if track.image_size != result.image_size:
        found.append(f"image size differs: printed {result.image_size} px, measured {track.image_size} px")
    return found


def _verdict(printed: float, score: Estimate | None) -> Verdict:
    if score is None:
        return Verdict("not comparable", ("a seed has no value",))
    if score.prediction_half_width is None:
        return Verdict("not comparable", ("one seed only: no interval",))
    if abs(score.mean - printed) <= score.prediction_half_width + _ROUNDING:
        return Verdict("within")
    return Verdict("above" if score.mean > printed else "below")
