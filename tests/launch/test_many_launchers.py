"""Many processes that launch the same runs at the same time: each run is done once."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import Counter

import pytest
from kit.paths import kit_environment
from kit.runs import execute_plan
from kit.tiny import TINY, write_tiny_dataset

import benchmark.running.execute
from benchmark.errors import InputError
from benchmark.running.plan import make_plan
from benchmark.store.attempts import Attempts
from benchmark.store.claim import Claim, claimed
from benchmark.store.folder import RunFolder
from benchmark.store.runs import Store, load_records
from benchmark.training.loop import Trainer

pytestmark = pytest.mark.slow

PROCESSES, RUNS = 8, 1000


def test_of_many_launchers_exactly_one_does_each_run(tmp_path):
    dataset = write_tiny_dataset(tmp_path / "tiny", {"train": 5, "test": 5})
    results, log = tmp_path / "results", tmp_path / "log"
    command = [sys.executable, "-m", "kit.launchers", dataset, results, log, str(PROCESSES), str(RUNS)]
    done = subprocess.run(command, env=kit_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    begun = Counter(map(int, log.read_text().split()))
    assert {seed: times for seed, times in begun.items() if times > 1} == {}
    records = list(load_records(results))
    assert sorted(record.spec.seed for record in records) == sorted(begun) == list(range(RUNS))
    assert {record.attempts for record in records} == {1}
    for record in records:
        folder = results / "runs" / record.spec.folder_name
        left = {str(path.relative_to(folder)) for path in folder.rglob("*")}
        assert left == {"attempts", "lock", "record.json", "run.log", record.logits.file}


@pytest.mark.parametrize(
    ("rerun", "when"),
    [("missing", "record"), ("missing", "state"), ("missing", "claimed"), ("stale", "record"), ("stale", "claimed")],
)
def test_what_another_launcher_does_meanwhile_is_not_done_again(tiny, tmp_path, monkeypatch, rerun, when):
    """Another launcher does the whole run just when this one has looked where it stands, or is about to claim it."""
    plan = make_plan("erm", str(tiny), **TINY | {"epochs": 1})
    if rerun == "stale":
        execute_plan(plan, tmp_path)
        path = Store(tmp_path).folder(plan.spec).record_path
        record = json.loads(path.read_text())
        record["environment"]["code_digest"] = "0" * 64
        path.write_text(json.dumps(record))
    trained, others = [], []
    owner = benchmark.running.execute if when == "claimed" else RunFolder
    train, original = Trainer.run, getattr(owner, when)

    def counted(self):
        trained.append(self)
        return train(self)

    def interrupted(folder):
        found = original(folder)  # a claim begins only when it is entered
        if not others:
            with monkeypatch.context() as patch:
                patch.setattr(owner, when, original)
                others.append(execute_plan(plan, tmp_path, rerun=rerun))
        return found

    monkeypatch.setattr(Trainer, "run", counted)
    monkeypatch.setattr(owner, when, interrupted)
    assert execute_plan(plan, tmp_path, rerun=rerun) == others[0]
    assert len(trained) == 1


def test_an_attempt_that_is_withdrawn_while_it_is_looked_for_is_none(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    with claimed(folder) as claim:
        files = folder.attempts._files()
        claim.withdraw()
    monkeypatch.setattr(Attempts, "_files", lambda self: files)
    assert folder.state() == "pending"


def test_who_could_not_begin_takes_nothing_from_who_comes_next(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "results" / "runs" / "a")
    release = Claim.release
    with contextlib.ExitStack() as next_process:

        def releasing(self):
            release(self)
            monkeypatch.setattr(Claim, "release", release)
            next_process.enter_context(claimed(folder))

        monkeypatch.setattr(Claim, "release", releasing)
        with pytest.raises(InputError), claimed(folder):
            raise InputError("an image is missing")
        assert folder.state() == "running"
