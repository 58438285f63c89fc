"""Comparison of runs: runs on the same lists share their data, and no two seeds share their logits."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmark.data.registered import majority, registered_split
from benchmark.data.sizes import scoring_size, training_size
from benchmark.store.logits import TARGETS, VALIDATION_TARGETS
from benchmark.store.records import TOLERANCE, Record

# Labels in a file of logits: tensor -> their name in a message.
_LABELS = {TARGETS: "test labels", VALIDATION_TARGETS: "validation labels"}
_DATASET = "classes, groups and numbers of images"
_TRAINING = "numbers of training images"
# The lists whose images every run decodes as its recipe says. The training images depend on the method too.
SCORED = ("val", "test")


@dataclass(frozen=True)
class Disagreement:
    """A run whose data contradict those of other runs. problem, remedy: parts of a message."""

    run: str
    problem: str
    remedy: str


class Agreement:
    """Gathers facts that runs must share, or must not share, in one pass over them.

    images: the lists whose images are compared; those of "train" need the methods, which load PyTorch.
    """

    def __init__(self, images: Collection[str] = ("train", *SCORED)) -> None:
        self._images = images
        # (dataset fingerprint, name of a fact) -> run and its fact
        self._shared: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        # (dataset fingerprint, digest of logits) -> run and seed
        self._logits: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)

    def add(self, run: str, record: Record, labels: Mapping[str, str], logits: str | None) -> None:
        """Add the facts of a run. labels, logits: of `Contents`, as far as they were read."""
        lists = record.spec.dataset.fingerprint
        for what, fact in self._facts(record, labels):
            self._shared[lists, what].append((run, fact))
        if logits is not None:
            self._logits[lists, logits].append((run, record.spec.seed))

    def _facts(self, record: Record, labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """(name in a message; digest, or text) of each fact that runs on the same lists share."""
        if registered_split(record) is None:  # otherwise `audit.lists` compares both with the lists themselves
            training = [record.class_counts, record.num_train_images]
            if record.episode is None:
                yield _DATASET, json.dumps([record.groups, *training, record.num_test_images])
            else:
                yield _DATASET, json.dumps([record.groups, record.num_test_images])
                yield f"{_TRAINING}{_of_episode(record)}", json.dumps(training)
            yield from ((_LABELS[key], digest) for key, digest in labels.items())
        for split, size in image_sizes(record, self._images).items():
            list_of = _of_episode(record) if split == "train" else ""
            what = f"{split} images{list_of} at {size} px, {record.spec.weights.interpolation},"
            yield what, record.data_digests[split]

    def disagreements(self) -> Iterator[Disagreement]:
        """Each run that has other data than most runs on the same lists, or the logits of another seed.

        All runs on these lists where there is no majority.
        """
        for (_, what), facts in self._shared.items():
            yield from _differences(what, facts)
        for runs in self._logits.values():
            for run, seed in runs:
                other = next((other for other, theirs in runs if theirs != seed), None)
                if other is not None:
                    problem = (
                        f"its test logits are bit for bit those of {other}, and no other seed trains the same network"
                    )
                    yield Disagreement(run, problem, "run again with --rerun always")


def _of_episode(record: Record) -> str:
    """The end of a fact's name that only runs of one episode of a few-shot dataset share."""
    return "" if record.episode is None else f" of episode {record.episode}"


def _differences(what: str, facts: Sequence[tuple[str, str]]) -> Iterator[Disagreement]:
    examples: dict[str, str] = {}
    for run, fact in facts:
        examples.setdefault(fact, run)
    if len(examples) == 1:
        return
    common = majority(fact for _, fact in facts)
    remedy = "run the one again that has the wrong data" + (": nothing says which is right" if common is None else "")
    for run, fact in facts:
        if fact != common:
            other = common or next(other for other in examples if other != fact)
            problem = f"its {what} have the digest {_shown(fact)}, those of {examples[other]} on the same lists"
            yield Disagreement(run, f"{problem} {_shown(other)}", remedy)


def _shown(fact: str) -> str:
    return (fact if len(fact) == 64 else hashlib.sha256(fact.encode()).hexdigest())[:12]


def image_sizes(record: Record, splits: Collection[str]) -> dict[str, int]:
    """Split -> side of its decoded images, in pixels, as far as it is known.

    Side and interpolation together decide the pixels.
    """
    recipe, method = record.spec.recipe, record.spec.method
    scored = scoring_size(recipe.image_size, recipe.test_time)
    sizes = {split: scored for split in SCORED if split in splits and split in record.data_digests}
    if "train" in splits and "train" in record.data_digests:
        from benchmark.method import METHODS  # which imports PyTorch

        if method in METHODS:
            on_images = METHODS.get(method).trains_on == "images"
            sizes["train"] = training_size(recipe.image_size, recipe.augment) if on_images else recipe.image_size
    return sizes


def may_repeat(records: Iterable[Record]) -> set[str]:
    """The ids of the runs that may have the logits of another run: those that have its score."""
    scored: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for record in records:
        overall = record.metrics.overall
        scored[record.spec.dataset.fingerprint].append((-1.0 if overall is None else overall, record.run_id))
    found: set[str] = set()
    for runs in scored.values():
        runs.sort()
        for (score, run), (next_score, next_run) in itertools.pairwise(runs):
            if next_score - score <= TOLERANCE:
                found |= {run, next_run}
    return found
