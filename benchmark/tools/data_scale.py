"""Time and memory that a dataset with many images takes: makes one of NUS-WIDE's size and one of real files.

The first has as many lines as NUS-WIDE and files of a few bytes: for what happens before images are decoded. The second
has photograph-like JPEG files of 500 x 375 pixels: for decoding them, and for the batches of training and scoring.
Each is measured in a process of its own. A network's own time and memory do not depend on the number of images.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmark.data.dataset import find_dataset
from benchmark.data.images import CachedImages
from benchmark.errors import InputError, LtbenchError
from benchmark.ui.progress import Reporter

T = TypeVar("T")

# NUS-WIDE's official division, and its concepts.
TRAIN, TEST, CLASSES = 161_789, 107_859, 81
_IN_A_FOLDER = 400
_SAMPLED_EVERY_S = 0.02


@dataclass(frozen=True)
class Memory:
    """The most memory of a process, in MB. own: that no file backs; files: pages of files that are mapped."""

    resident: float
    own: float
    files: float


@dataclass(frozen=True)
class Step:
    """One thing that was measured. images: that it was done to; cpu_s: user and system time of all threads."""

    name: str
    images: int
    wall_s: float
    cpu_s: float
    memory: Memory


def write_lists(folder: Path, train: int, test: int, seed: int = 0) -> list[str]:
    """Write a dataset folder without its images, and return their paths: about two labels an image, the first classes
    more often."""
    folder.mkdir()
    (folder / "classes.txt").write_text("".join(f"concept {i}\n" for i in range(CLASSES)), encoding="utf-8")
    rates = np.geomspace(1, 0.01, CLASSES)
    rng = np.random.default_rng(seed)
    written: list[str] = []
    for name, count in (("train", train), ("test", test)):
        labels = rng.random((count, CLASSES)) < 1.9 * rates / rates.sum()
        labels[:CLASSES] |= np.eye(min(count, CLASSES), CLASSES, dtype=bool)
        first = len(written)
        paths = [f"images/{i // _IN_A_FOLDER:04d}/{i:06d}.jpg" for i in range(first, first + count)]
        lines = (" ".join([path, *map(str, np.flatnonzero(row))]) for path, row in zip(paths, labels, strict=True))
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        written += paths
    return written


def fill(folder: Path, paths: Sequence[str], content: Callable[[int], bytes], reporter: Reporter) -> None:
    """Write the files of a dataset. content: of the file with a number."""
    with reporter.task("writing images", len(paths)) as task:
        for number, path in enumerate(paths):
            file = folder / path
            if number % _IN_A_FOLDER == 0:
                file.parent.mkdir(parents=True)
            file.write_bytes(content(number))
            task.update(number + 1)


def photograph(number: int) -> bytes:
    """A JPEG file of 500 x 375 pixels and about 100 kB: soft colours, and grain."""
    rng = np.random.default_rng(number)
    soft = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((500, 375), Image.Resampling.BICUBIC)
    # One grain for all, shifted: drawing it takes longer than the rest.
    grain = np.roll(_GRAIN, rng.integers(0, 375, 2).tolist(), (0, 1))
    pixels = np.clip(np.asarray(soft, np.int16) + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


_GRAIN = np.random.default_rng(0).integers(-26, 27, (375, 500, 1)).astype(np.int16)


def timed(name: str, images: int, function: Callable[[], object]) -> Step:
    """Call a function, and measure its time and the most memory of this process meanwhile."""
    most = {"VmRSS": 0, "RssAnon": 0, "RssFile": 0}
    done = threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLED_EVERY_S):
            for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
                key, _, value = line.partition(":")
                if key in most:
                    most[key] = max(most[key], int(value.split()[0]))

    watch = threading.Thread(target=sample)
    watch.start()
    started, cpu_before = time.monotonic(), time.process_time()
    try:
        function()
    finally:
        wall_s, cpu_s = time.monotonic() - started, time.process_time() - cpu_before
        done.set()
        watch.join()
    resident, own, files = (round(kilobytes / 1024, 1) for kilobytes in most.values())
    return Step(name, images, round(wall_s, 2), round(cpu_s, 2), Memory(resident, own, files))


def measure_lists(folder: Path, images: int) -> list[Step]:
    """What a run does before it decodes, on a dataset folder."""
    from benchmark.running.plan import make_plan

    dataset = find_dataset(str(folder)).open()
    source, splits = dataset.source, dataset.splits.values()
    paths = [path for split in splits for path in split.paths]
    steps = {
        "open the dataset": lambda: find_dataset(str(folder)).open(),
        "look for the images": lambda: source.check(splits),
        "digests of the images, first time": lambda: source.digests(paths),
        "digests of the images, remembered": lambda: source.digests(paths),
        "fingerprint": lambda: find_dataset(str(folder)).open().fingerprint,
        "plan of a run": lambda: make_plan("erm", str(folder), protocol="demo"),
        "plan of another run": lambda: make_plan("asl", str(folder), protocol="demo"),
    }
    return [timed(name, images, step) for name, step in steps.items()]


def measure_images(folder: Path, images: int, size: int) -> list[Step]:
    """Decoding at a size in pixels, and all images once as training and once as scoring get them; no network."""
    import torch

    from benchmark.running.images import prepare_images
    from benchmark.running.plan import make_plan
    from benchmark.running.score import make_normalizer
    from benchmark.training.batches import Batches
    from benchmark.training.inference import map_images
    from benchmark.training.setup import ImageSet, Runtime, TrainingConfig, TrainingData

    plan = make_plan("erm", str(folder), protocol="demo", image_size=size)
    reporter, device = Reporter(Console(stderr=True)), torch.device("cpu")

    def decode() -> None:
        cached.update(prepare_images(plan, reporter))

    def train() -> None:
        data = ImageSet(cached["train"].load(), plan.dataset.splits["train"].targets)
        training = TrainingData(data, None, plan.dataset.groups, make_normalizer(plan, device))
        config = TrainingConfig(plan.spec.recipe, ("class-aware",), (), seed=0)
        batches = Batches(training, config, of_images=True, runtime=Runtime(device, reporter))
        for step in range(batches.steps_per_epoch):
            batches.of_step(step)

    def score() -> None:
        map_images(lambda batch: batch.mean(dim=(2, 3)), torch.nn.Identity(), cached["test"].load(), device)

    cached: dict[str, CachedImages] = {}
    decoding = timed(f"decode at {size} px", images, decode)
    trained, scored = (cached[name].num_images for name in ("train", "test"))
    return [
        decoding,
        timed(f"batches of an epoch at {size} px", trained, train),
        timed(f"batches of scoring at {size} px", scored, score),
    ]


def _alone(function: Callable[..., T], *arguments: object) -> T:
    """The result of a function in a process of its own, whose memory nothing else has touched."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(folder: Path, listed: int, images: int, sizes: Sequence[int], reporter: Reporter) -> list[Step]:
    """Make both datasets in an empty folder and measure."""
    os.environ["LTBENCH_CACHE"] = str(folder / "cache")
    steps: list[Step] = []
    share = TRAIN / (TRAIN + TEST)
    if listed:
        lists = folder / "lists"
        train = round(listed * share)
        fill(lists, write_lists(lists, train, listed - train), lambda number: b"%d" % number, reporter)
        time.sleep(3)  # digests of files that were written just now are not remembered
        steps += _alone(measure_lists, lists, listed)
    if images:
        files = folder / "files"
        train = round(images * share)
        fill(files, write_lists(files, train, images - train), photograph, reporter)
        time.sleep(3)
        for size in sizes:
            steps += _alone(measure_images, files, images, size)
    return steps


def _report(steps: Sequence[Step], console: Console) -> None:
    table = Table(title=f"{os.cpu_count()} cores; MB resident: at most, while it lasts")
    table.add_column("step", no_wrap=True)
    for name in ("images", "wall s", "CPU s", f"for {TRAIN + TEST:,}", "MB resident", "own", "files"):
        table.add_column(name, justify="right")
    for step in steps:
        memory = [f"{value:,.0f}" for value in (step.memory.resident, step.memory.own, step.memory.files)]
        whole = step.cpu_s * (TRAIN + TEST) / step.images
        table.add_row(
            step.name, f"{step.images:,}", f"{step.wall_s:.1f}", f"{step.cpu_s:.1f}", f"{whole:,.0f}", *memory
        )
    console.print(table)


@contextlib.contextmanager
def _working_folder(given: Path | None) -> Iterator[Path]:
    if given is None:
        with tempfile.TemporaryDirectory(prefix="ltbench-data-scale-") as folder:
            yield Path(folder)
        return
    try:
        given.mkdir(parents=True, exist_ok=True)
        if any(given.iterdir()):
            raise InputError(f"--folder {given}: not empty; give a new one")
    except OSError as error:
        raise InputError(f"--folder {given}: cannot be used ({error.strerror or error}); give another") from None
    yield given.absolute()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.tools.data_scale",
        description=__doc__.partition(chr(10))[0],
        epilog="examples:\n"
        "  python -m benchmark.tools.data_scale\n"
        "  python -m benchmark.tools.data_scale --listed 0 --images 3000 --sizes 64 --folder /tmp/many --json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--listed", type=int, default=TRAIN + TEST, help="lines of the first dataset (%(default)s)")
    parser.add_argument(
        "--images", type=int, default=30_000, help="JPEG files of the second (%(default)s), 100 kB each"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224], help="image sizes, in pixels (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where to make both, and leave them (default: a temporary one)")
    parser.add_argument("--json", action="store_true", help="machine-readable output on stdout")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0, or 2 for a user's mistake."""
    args = _parser().parse_args(argv)
    try:
        for name in ("listed", "images"):
            if 0 < getattr(args, name) < 2 * CLASSES or getattr(args, name) < 0:
                raise InputError(f"--{name} {getattr(args, name)}: give 0, or at least {2 * CLASSES}")
        with _working_folder(args.folder) as folder:
            steps = measure(folder, args.listed, args.images, args.sizes, Reporter(Console(stderr=True)))
    except LtbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps({"cores": os.cpu_count(), "steps": [asdict(step) for step in steps]}, indent=1))
    else:
        _report(steps, Console(width=120))
    return 0


if __name__ == "__main__":
    sys.exit(main())
