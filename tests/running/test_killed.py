"""Runs that are killed with SIGKILL at any moment end as if nothing had been."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kit.paths import kit_environment
from kit.runs import outcome
from kit.tiny import write_tiny_dataset

from benchmark.store.folder import RunFolder
from benchmark.store.logits import load_logits
from benchmark.store.records import Record
from benchmark.training.checkpoint import load_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc, to tell what is written"),
]

KILLED = -9
SEED = 20
STEPS = 96

# Where a process dies, and the largest n of "the n-th time" to draw from.
BEFORE_TRAINING = {
    "decoding": 20,
    "cache-part": 1,
    "cache-written": 1,
    "cache-renamed": 1,
    "lease-drafted": 1,
    "lease-linked": 1,
    "attempt-part": 1,
    "attempt-written": 1,
    "own-attempt-part": 1,
    "own-attempt-written": 1,
    "own-attempt-renamed": 1,
}
FIRST_STEP = {"step": 1}
TRAINING = {
    "step": 6,
    "backward": 6,
    "average": 6,
    "checkpoint-part": 2,
    "checkpoint-written": 2,
    "checkpoint-renamed": 2,
    "stage": 2,
    "validation": 1,
    "end": 6,
    "release": 6,
}
AFTER_TRAINING = {
    "scoring": 3,
    "logits-part": 1,
    "logits-written": 1,
    "logits-renamed": 1,
    "record-part": 1,
    "record-written": 1,
}
# Killed there, a process has not yet written down that it tried.
NO_ATTEMPT = {
    "lease-drafted",
    "lease-linked",
    "attempt-part",
    "attempt-written",
    "own-attempt-part",
    "own-attempt-written",
}
# Whoever goes on clears away the rest of what a killed process leaves.
FINISHED = {"attempts", "lock", "record.json", "run.log"}


@dataclass
class Helper:
    """The process that makes a new one for every call."""

    process: subprocess.Popen
    folder: str

    def run(self, root: Path, **order: Any) -> int:
        """How a new process of the run below `root` ended."""
        order |= {"results": str(root / "results"), "cache": str(root / "cache")}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def run_folder(self, root: Path) -> RunFolder:
        return RunFolder(root / "results" / self.folder)


def shuffle_labels(dataset: Path) -> None:
    """What is easy to learn has its best epoch first."""
    rng = random.Random(0)
    for path in (dataset / "train.txt", dataset / "val.txt", dataset / "test.txt"):
        images, labels = zip(*(line.split(" ", 1) for line in path.read_text().splitlines()), strict=True)
        shuffled = rng.sample(labels, len(labels))
        path.write_text("".join(f"{image} {label}\n" for image, label in zip(images, shuffled, strict=True)))


@pytest.fixture(scope="module")
def helper(tmp_path_factory) -> Iterator[Helper]:
    dataset = write_tiny_dataset(tmp_path_factory.mktemp("killed") / "tiny")
    shuffle_labels(dataset)
    command = [sys.executable, "-m", "kit.killed_run", str(dataset)]
    with subprocess.Popen(
        command, env=kit_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Helper(process, process.stdout.readline().strip())


@dataclass
class Undisturbed:
    record: Record
    logits: bytes
    images: dict[str, bytes]
    seconds: float


def cached_images(root: Path) -> dict[str, bytes]:
    """The image cache, as far as it is ever read; of its facts the digest, for when it was checked differs."""
    found = {path.name: path.read_bytes() for path in (root / "cache").glob("*.*") if path.suffix != ".tmp"}
    return found | {
        name: json.loads(content)["digest"].encode() for name, content in found.items() if name.endswith(".json")
    }


@pytest.fixture(scope="module")
def undisturbed(helper, tmp_path_factory) -> Undisturbed:
    root = tmp_path_factory.mktemp("undisturbed")
    started = time.monotonic()
    assert helper.run(root) == 0
    seconds = time.monotonic() - started
    folder = helper.run_folder(root)
    record = folder.record()
    assert len({entry.val_overall for entry in record.history}) > 5 and 9 < record.selection.epoch < 16
    return Undisturbed(record, (folder.path / record.logits.file).read_bytes(), cached_images(root), seconds)


def check_finished(folder: RunFolder, undisturbed: Undisturbed) -> Record:
    """Record (with metrics, history and the digest of the weights), logits and images are those of the undisturbed
    run; nothing else is left, and every attempt that had begun is on file."""
    record = folder.record()
    assert outcome(record) == outcome(undisturbed.record)
    assert cached_images(folder.path.parents[2]) == undisturbed.images
    assert (folder.path / record.logits.file).read_bytes() == undisturbed.logits
    load_logits(folder.path.parents[1], record)
    assert {path.name for path in folder.path.iterdir()} == FINISHED | {record.logits.file}
    attempts = {path.name for path in (folder.path / "attempts").iterdir()}
    assert attempts == {f"{number:03d}.json" for number in range(1, record.attempts)}
    return record


def moments(rng: random.Random) -> list[tuple[str, int]]:
    """Every place at least once, in the order of a run's parts; those of a part in any order."""
    drawn = []
    for places, more in ((BEFORE_TRAINING, 0), (FIRST_STEP, 0), (TRAINING, 6), (AFTER_TRAINING, 2)):
        names = [*places, *rng.choices(list(places), k=more)]
        rng.shuffle(names)
        drawn += [(name, rng.randint(1, places[name])) for name in names]
    return drawn


def saved_step(folder: RunFolder) -> int:
    state = load_checkpoint(folder.checkpoint_path)
    return 0 if state is None else state["step"]


def test_a_run_killed_at_every_kind_of_moment_ends_as_an_undisturbed_one(helper, undisturbed, tmp_path):
    folder = helper.run_folder(tmp_path)
    chosen = moments(random.Random(SEED))
    attempts = step = 0
    for number, (place, n) in enumerate(chosen, 1):
        told = f"seed {SEED}, kill {number} of {len(chosen)}: {place}, time {n}"
        assert helper.run(tmp_path, place=place, n=n) == KILLED, told
        attempts += place not in NO_ATTEMPT
        assert not folder.record_path.exists() and folder.state() == ("preempted" if attempts else "pending"), told
        assert len(list((folder.path / "attempts").glob("*.json"))) == attempts, told
        assert saved_step(folder) >= step, told
        step = saved_step(folder)
    assert len(chosen) >= 20 and step == STEPS
    assert helper.run(tmp_path) == 0
    assert check_finished(folder, undisturbed).attempts == attempts + 1


@pytest.mark.parametrize(
    ("kills", "state", "attempts"),
    [
        ([("lease-drafted", 1)], "pending", 1),
        ([("step", 1), ("attempt-written", 1)], "preempted", 2),
        ([("record-renamed", 1)], "done", 1),
        ([("release", STEPS + 1)], "done", 1),  # never stopped in a step, so released at its end
    ],
    ids=lambda value: value[-1][0] if isinstance(value, list) else "",
)
def test_what_a_killed_process_leaves_is_cleared_away(helper, undisturbed, tmp_path, kills, state, attempts):
    folder = helper.run_folder(tmp_path)
    for place, n in kills:
        assert helper.run(tmp_path, place=place, n=n) == KILLED
    assert folder.state() == state
    assert helper.run(tmp_path) == 0
    assert check_finished(folder, undisturbed).attempts == attempts


def test_a_run_killed_from_outside_at_random_times_ends_as_an_undisturbed_one(helper, undisturbed, tmp_path):
    rng = random.Random(SEED)
    for number in range(2):
        root, ends = tmp_path / str(number), [KILLED]
        folder = helper.run_folder(root)
        while ends[-1] == KILLED and len(ends) <= 4:
            ends.append(helper.run(root, after_s=rng.uniform(0, undisturbed.seconds)))
            assert ends[-1] in (KILLED, 0)
            assert (folder.state() == "done") == folder.record_path.exists()
        assert helper.run(root) == 0
        assert check_finished(folder, undisturbed).attempts <= len(ends)
