"""Speed of the metric compared with other libraries' average precision, and the difference of their results.

All of them score every size alternately, several times, in one process and one thread, so that other load on the
machine slows all alike. The report gives ratios of their times.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmark.errors import InputError, LtbenchError
from benchmark.evaluation import average_precision
from benchmark.ui.progress import Reporter

OURS = "ltbench"

Scorer = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Size:
    """A made-up test set of images x classes.

    positives: share of positive decisions. ties: round scores to eighths of their standard deviation, so that images
    share them.
    """

    images: int
    classes: int
    positives: float
    ties: bool


SIZES = tuple(
    Size(*numbers, ties)
    for numbers in ((107_859, 81, 0.03), (5_000, 80, 0.03), (5_000, 80, 0.3))
    for ties in (False, True)
)


@dataclass(frozen=True)
class Ratio:
    """Another library compared with the metric on one size.

    fastest, median: the library's time divided by ours, of the fastest repeats and of the median ones. difference: the
    largest of a class, of average precisions in [0, 1].
    """

    size: Size
    library: str
    fastest: float
    median: float
    difference: float


def libraries() -> dict[str, Scorer]:
    """Library and version -> its average precision of every class, called as in its documentation.

    Raises InputError where one is not installed.
    """
    metrics, torchmetrics = _installed("sklearn", "metrics"), _installed("torchmetrics", "functional.classification")

    def of_scikit_learn(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return metrics.average_precision_score(targets, logits, average=None)

    def of_torchmetrics(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        # It applies the sigmoid to scores outside 0 to 1, in float32.
        scores, labels = torch.from_numpy(logits), torch.from_numpy(targets).long()
        return torchmetrics.multilabel_average_precision(scores, labels, logits.shape[1], average="none").numpy()

    return {_named("sklearn", "scikit-learn"): of_scikit_learn, _named("torchmetrics"): of_torchmetrics}


def _installed(package: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(f"{package}.{module}")
    except ImportError as error:
        raise InputError(
            f"{package} cannot be imported ({error}); install what development needs: pip install -e '.[dev]'"
        ) from None


def _named(package: str, name: str = "") -> str:
    return f"{name or package} {importlib.import_module(package).__version__}"


def compare(size: Size, others: dict[str, Scorer], repeats: int) -> list[Ratio]:
    """Score one test set with the metric and the others, alternately, `repeats` times."""
    logits, targets = _problem(size)
    scorers = {OURS: average_precision, **others}
    seconds: dict[str, list[float]] = {name: [] for name in scorers}
    found = {}
    for _ in range(repeats):
        for name, scorer in scorers.items():
            started = time.perf_counter()
            found[name] = scorer(logits, targets)
            seconds[name].append(time.perf_counter() - started)
    return [
        Ratio(
            size,
            name,
            min(seconds[name]) / min(seconds[OURS]),
            float(np.median(seconds[name]) / np.median(seconds[OURS])),
            float(np.abs(found[name] - found[OURS]).max()),
        )
        for name in others
    ]


def _problem(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 and labels uint8 [images, classes]; positives score a standard deviation higher."""
    random = np.random.default_rng(0)
    shape = (size.images, size.classes)
    targets = (random.random(shape) < size.positives).astype(np.uint8)
    targets[0] = 1  # every class has a positive
    logits = random.standard_normal(shape, np.float32) + targets
    return np.round(8 * logits) / 8 if size.ties else logits, targets


def _report(comparisons: Sequence[Ratio], repeats: int, console: Console) -> None:
    table = Table(title=f"time of the library / time of {OURS}, {repeats} alternating repeats, one thread")
    table.add_column("test set, positives", no_wrap=True)
    table.add_column("library", no_wrap=True)
    for name in ("fastest", "median", "differs"):
        table.add_column(name, justify="right")
    for comparison in comparisons:
        size = comparison.size
        table.add_row(
            f"{size.images:,} x {size.classes}, {100 * size.positives:g} %{', ties' if size.ties else ''}",
            comparison.library,
            f"{comparison.fastest:.1f} x",
            f"{comparison.median:.1f} x",
            f"{comparison.difference:.0e}",
        )
    console.print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.tools.perf",
        description=__doc__.partition("\n")[0],
        epilog="examples:\n"
        "  python -m benchmark.tools.perf metric\n"
        "  python -m benchmark.tools.perf metric --repeats 20 --json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    metric = commands.add_parser("metric", help="average precision beside scikit-learn's and torchmetrics'")
    metric.add_argument("--repeats", type=int, default=5, help="times that each scores each size (default: 5)")
    metric.add_argument("--json", action="store_true", help="machine-readable output on stdout")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 when it was measured, 2 for a user's mistake."""
    args = _parser().parse_args(argv)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if args.repeats < 1:
            raise InputError(f"--repeats {args.repeats}: give at least 1")
        others = libraries()
        comparisons: list[Ratio] = []
        with Reporter(Console(stderr=True)).task("scoring", len(SIZES)) as task:
            for number, size in enumerate(SIZES, 1):
                comparisons += compare(size, others, args.repeats)
                task.update(number)
    except LtbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        torch.set_num_threads(threads)
    if args.json:
        facts = {"repeats": args.repeats, "cores": os.cpu_count(), "comparisons": [*map(asdict, comparisons)]}
        print(json.dumps(facts, indent=1))
    else:
        _report(comparisons, args.repeats, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
