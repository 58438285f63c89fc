"""Speed of `ltbench` with many runs, or large ones: builds a synthetic store and times the commands that read it.

The store has records and logits as of a real sweep, with made-up numbers, and runs that failed, were interrupted or
never began. It is for timing alone: every record says that it is synthetic.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.numpy import save as save_safetensors

from benchmark.errors import InputError, LtbenchError, RunFailed, RunInterrupted
from benchmark.evaluation import score
from benchmark.launch.product import Sweep, expand
from benchmark.running.environment import CHECKOUT, describe
from benchmark.running.plan import Plan
from benchmark.spec import parse
from benchmark.store.claim import claimed
from benchmark.store.records import (
    SCHEMA_VERSION,
    Environment,
    EpochLog,
    LogitsFile,
    Parameters,
    Record,
    Selection,
    Timings,
)
from benchmark.store.runs import Store
from benchmark.ui.progress import Reporter

# Method -> the setting whose values make its rows. The last method of the sweep has no run that is done.
VARIED = {"asl": "gamma_neg", "cb-focal": "neg_scale", "db": "neg_scale", "db-focal": "neg_scale", "focal": "gamma"}
UNFINISHED = "rw"
TITLE = "synthetic, for timing"


@dataclass(frozen=True)
class Size:
    """The size of a store.

    rows: the most of a track. images, classes: of the test set. limits_s: seconds that each command may take.
    """

    runs: int
    rows: int
    seeds: int
    images: int
    classes: int
    limits_s: dict[str, float]


MANY = Size(
    10_000, 100, 10, 100, 10, {"sweep --dry-run": 10, "status": 10, "leaderboard": 20, "leaderboard --check": 20}
)
# As many test images and classes as NUS-WIDE's.
LARGE = Size(50, 10, 5, 50_000, 81, {"leaderboard": 300, "leaderboard --check": 60, "verify": 300})


@dataclass(frozen=True)
class Scale:
    """A store that was built: the axes of the sweep, and the number of runs by state."""

    tracks: int
    rows: int
    seeds: int
    states: dict[str, int]

    @property
    def runs(self) -> int:
        """Runs of the sweep."""
        return sum(self.states.values())


@dataclass(frozen=True)
class Timing:
    """The time of one command as a process. cpu_s: user and system time of it and its children."""

    command: str
    wall_s: float
    cpu_s: float
    help_ratio: float
    limit_s: float

    @property
    def within_limit(self) -> bool:
        """Whether it took less than its limit."""
        return self.wall_s < self.limit_s


def sweep_axes(size: Size, dataset: Path) -> dict[str, Any]:
    """The axes of a sweep with at least `size.runs` runs that are done, and a few that are not."""
    tracks = math.ceil(size.runs / (size.rows * size.seeds))
    rows = math.ceil(size.runs / (tracks * size.seeds))
    methods: dict[str, Any] = {}
    for row in range(rows):
        method = list(VARIED)[row % len(VARIED)]
        methods.setdefault(method, {VARIED[method]: []})[VARIED[method]].append(1.0 + row // len(VARIED) / 2)
    return {
        "methods": methods | {UNFINISHED: None},
        "datasets": str(dataset),
        "protocols": "demo",
        "settings": {"recipe.optimizer.lr": [round(1e-3 * (1 + track), 6) for track in range(tracks)]},
        "seeds": list(range(size.seeds)),
    }


def write_dataset(folder: Path, size: Size) -> Path:
    """Write a dataset folder and return it. Classes have 200 down to 2 training images, which are empty files."""
    folder.mkdir()
    names = [f"class {index}" for index in range(size.classes)]
    counts = np.geomspace(200, 2, size.classes).astype(int)
    train = [f"train/{index}-{i}.png {index}" for index, count in enumerate(counts) for i in range(count)]
    test = [" ".join([f"test/{i}.png", *map(str, np.flatnonzero(row))]) for i, row in enumerate(_labels(size).tolist())]
    for name, lines in (("classes", names), ("train", train), ("test", test)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for line in [*train, *test]:
        image = folder / line.split(" ")[0]
        image.parent.mkdir(exist_ok=True)
        image.touch()
    return folder


def _labels(size: Size) -> np.ndarray:
    """uint8 [images, classes]: about two labels an image, the first classes more often."""
    rates = np.geomspace(1, 0.1, size.classes)
    labels = np.random.default_rng(0).random((size.images, size.classes)) < 2 * rates / rates.sum()
    labels[:2] = True  # every class has a positive
    return labels.astype(np.uint8)


def build(folder: Path, size: Size, reporter: Reporter) -> Scale:
    """Fill `folder` with a sweep (sweep.yaml) and its store (runs/).

    Raises InputError unless the folder is new or empty, and outside the published results.
    """
    if folder.resolve().is_relative_to(CHECKOUT / "results"):
        raise InputError(f"--folder {folder}: made-up records do not belong in the results; give another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"--folder {folder}: not empty; give a new one")
    except OSError as error:
        raise InputError(f"--folder {folder}: cannot be used ({error.strerror or error}); give another") from None
    axes = sweep_axes(size, write_dataset(folder / "dataset", size))
    (folder / "sweep.yaml").write_text(json.dumps(axes, indent=1), encoding="utf-8")  # JSON is YAML
    reporter.line("planning the sweep")
    plans, _ = expand(parse(Sweep, axes, "sweep"))
    states = {"done": 0, "failed": 0, "preempted": 0, "pending": 0}
    store, maker = Store(folder), _RecordMaker()
    with reporter.task("writing records", len(plans)) as task:
        for number, plan in enumerate(plans, 1):
            run = store.folder(plan.spec)
            if plan.spec.method != UNFINISHED:
                state = "done"
                run.path.mkdir(parents=True)
                record, logits = maker.make(plan)
                (run.path / record.logits.file).write_bytes(logits)
                run.record_path.write_text(record.to_json(), encoding="utf-8")
            else:
                state = ("failed", "preempted", "pending")[number % 3]
                with contextlib.suppress(RunFailed, RunInterrupted), claimed(run) as claim:
                    if state == "failed":
                        raise RunFailed("out of memory (synthetic)", cause="oom")
                    if state == "preempted":
                        raise RunInterrupted("stopped (synthetic)")
                    claim.withdraw()
            states[state] += 1
            task.update(number)
    tracks = len(axes["settings"]["recipe.optimizer.lr"])
    return Scale(tracks, states["done"] // (tracks * size.seeds), size.seeds, states)


class _RecordMaker:
    """Makes valid records with made-up numbers, the same at every call of the program."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._environments: dict[str, Environment] = {}

    def make(self, plan: Plan) -> tuple[Record, bytes]:
        """A record of a planned run, and the content of its logits' file."""
        spec, dataset = plan.spec, plan.dataset
        if spec.method not in self._environments:
            real = describe(plan.code_digest, torch.device("cpu"), amp=False)
            self._environments[spec.method] = real.model_copy(update={"host": "synthetic"})
        targets = dataset.splits["test"].targets
        # The mean depends on the method, the skill on class and run.
        skill = self._random.normal(1.0 + len(spec.method) / 10, 0.3, targets.shape[1])
        logits = self._random.standard_normal(targets.shape, np.float32) + (skill * targets).astype(np.float32) - 2
        metrics = score(logits, targets, dataset.groups)
        content = save_safetensors({"targets": targets, "raw": logits, "ema": logits})
        digest = hashlib.sha256(content).hexdigest()
        epochs = spec.recipe.epochs
        losses = np.linspace(0.6, 0.1, epochs) + self._random.normal(0, 0.01, epochs)
        record = Record(
            schema_version=SCHEMA_VERSION,
            run_id=spec.run_id,
            spec=spec,
            method_title=f"{plan.method.title} ({TITLE})",
            dataset_title=f"{dataset.card.title} ({TITLE})",
            groups=dataset.groups,
            class_counts=dict(zip(dataset.classes, dataset.class_counts.tolist(), strict=True)),
            num_train_images=len(dataset.splits["train"]),
            num_test_images=len(dataset.splits["test"]),
            declared=spec.recipe.report,
            results={"raw": metrics, "ema": metrics},
            validation=None,
            selection=Selection(rule=spec.recipe.selection, epoch=epochs),
            history=[
                EpochLog(
                    epoch=epoch, loss=loss, lr=spec.recipe.optimizer.lr / epoch, val_overall=None, stage="training"
                )
                for epoch, loss in enumerate(losses.tolist(), 1)
            ],
            timings=Timings(
                prepare_s=self._random.uniform(1, 2),
                train_s=self._random.uniform(60, 90),
                evaluate_s=self._random.uniform(2, 4),
                images_per_second=self._random.uniform(400, 500),
            ),
            peak_memory_mb=self._random.uniform(500, 600),
            parameters=Parameters(all=198_000, trained=198_000),
            environment=self._environments[spec.method],
            attempts=1,
            data_digests=dict.fromkeys(dataset.splits, "0" * 64),
            model_digest=self._digest(),
            logits=LogitsFile(file=f"logits-{digest[:16]}.safetensors", sha256=digest),
            finished="2000-01-01T00:00:00+00:00",
        )
        return record, content

    def _digest(self) -> str:
        return self._random.bytes(32).hex()


def commands(folder: Path) -> dict[str, list[str]]:
    """Name -> arguments of the commands that are timed on a store."""
    store = ["--results", str(folder)]
    return {
        "sweep --dry-run": ["sweep", "--file", str(folder / "sweep.yaml"), *store, "--dry-run"],
        "status": ["status", *store],
        "leaderboard": ["leaderboard", *store],
        "leaderboard --check": ["leaderboard", *store, "--check"],
        "verify": ["verify", *store],
    }


def measure(folder: Path, size: Size) -> list[Timing]:
    """Time the commands that have a limit, on the store in `folder` and with an empty cache.

    The first leaderboard therefore computes everything and draws all pictures. Raises InputError when a command fails.
    """
    help_s, _ = _seconds(["--help"], folder)
    timings = []
    for name, limit_s in size.limits_s.items():
        wall_s, cpu_s = _seconds(commands(folder)[name], folder)
        timings.append(Timing(name, wall_s, cpu_s, wall_s / help_s, limit_s))
    return timings


def _seconds(arguments: list[str], folder: Path) -> tuple[float, float]:
    before, started = _children_cpu_s(), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
        env=os.environ | {"LTBENCH_CACHE": str(folder / "cache")},
    )
    if done.returncode:
        raise InputError(f"ltbench {' '.join(arguments)}: failed: {' '.join(done.stderr.split())[-500:]}")
    return time.monotonic() - started, _children_cpu_s() - before


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _report(scale: Scale, timings: Sequence[Timing], console: Console) -> None:
    states = ", ".join(f"{count:,} {state}" for state, count in scale.states.items())
    table = Table(
        title=f"{scale.runs:,} runs ({states}): {scale.tracks} tracks x {scale.rows} rows x {scale.seeds} seeds done; "
        f"{os.cpu_count()} cores"
    )
    table.add_column("command", no_wrap=True)
    for name in ("wall s", "CPU s", "x ltbench --help", "limit s", "within"):
        table.add_column(name, justify="right")
    for timing in timings:
        numbers = [f"{value:.1f}" for value in (timing.wall_s, timing.cpu_s, timing.help_ratio)]
        table.add_row(
            f"ltbench {timing.command}", *numbers, f"{timing.limit_s:g}", "yes" if timing.within_limit else "no"
        )
    console.print(table)
    slow = [timing.command for timing in timings if not timing.within_limit]
    console.print(f"too slow: {', '.join(slow)}" if slow else "every command is within its limit", highlight=False)


@contextlib.contextmanager
def _working_folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="ltbench-scale-") as folder:
        yield Path(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.tools.scale",
        description=f"{__doc__.partition(chr(10))[0]} Exit code 1 when one takes longer than it may.",
        epilog="examples:\n"
        "  python -m benchmark.tools.scale\n"
        "  python -m benchmark.tools.scale --large\n"
        "  python -m benchmark.tools.scale --runs 1000 --folder /tmp/scale --json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--runs", type=int, help="runs that are done, rounded up to fill the sweep (default: 10000, with --large 50)"
    )
    parser.add_argument(
        "--large", action="store_true", help="test sets of NUS-WIDE's size: 10 methods x 5 seeds, 50,000 x 81 logits"
    )
    parser.add_argument("--folder", type=Path, help="where to build the store, and leave it (default: a temporary one)")
    parser.add_argument("--json", action="store_true", help="machine-readable output on stdout")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 when every command is fast enough, 1 when one is not, 2 for a user's mistake."""
    args = _parser().parse_args(argv)
    try:
        size = LARGE if args.large else MANY
        if args.runs is not None:
            if args.runs < 1:
                raise InputError(f"--runs {args.runs}: give at least 1")
            size = replace(size, runs=args.runs)
        with _working_folder(args.folder) as folder:
            scale = build(folder, size, Reporter(Console(stderr=True)))
            timings = measure(folder, size)
    except LtbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        rows = [asdict(timing) | {"within_limit": timing.within_limit} for timing in timings]
        facts = asdict(scale) | {"runs": scale.runs, "cores": os.cpu_count()}
        facts |= {"images": size.images, "classes": size.classes}
        print(json.dumps(facts | {"commands": rows}, indent=1))
    else:
        _report(scale, timings, Console())
    return 0 if all(timing.within_limit for timing in timings) else 1


if __name__ == "__main__":
    sys.exit(main())
