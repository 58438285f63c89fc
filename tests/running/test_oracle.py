"""Test logits of every epoch, kept on request: they change nothing else, and come back whole after a stop."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from kit.runs import execute_plan, execute_with_stops, outcome
from kit.tiny import TINY
from kit.trainers import stopping
from safetensors.numpy import load_file
from typer.testing import CliRunner

from benchmark.cli import app
from benchmark.errors import RunInterrupted
from benchmark.running.plan import make_plan
from benchmark.store.logits import load_logits
from benchmark.store.runs import Store

STEPS = 6  # of the two epochs


def tiny_plan(tiny, method="erm", **changes):
    settings = TINY["settings"] | changes.pop("settings", {})
    return make_plan(method, str(tiny), **(TINY | {"settings": settings} | changes))


def epochs_of(plan, results, record):
    folder = Store(results).folder(plan.spec).path
    for epoch in record.oracle:
        assert hashlib.sha256((folder / epoch.file).read_bytes()).hexdigest() == epoch.sha256
    assert sorted(path.name for path in folder.glob("epoch-*")) == [epoch.file for epoch in record.oracle]
    return [load_file(folder / epoch.file) for epoch in record.oracle]


@pytest.mark.parametrize("method", ["erm", "ltml"])
@pytest.mark.slow
def test_keeping_epochs_changes_nothing_else(tiny, tmp_path, method):
    plain = execute_plan(tiny_plan(tiny, method), tmp_path / "plain")
    plan = tiny_plan(tiny, method, oracle=True)
    watched = execute_plan(plan, tmp_path / "watched")
    assert plain.oracle == [] and [epoch.epoch for epoch in watched.oracle] == [1, 2]
    assert {**outcome(watched), "oracle": []} == outcome(plain)
    assert "oracle" not in json.loads(plain.to_json()), "a record without them reads as the older ones do"
    first, last = epochs_of(plan, tmp_path / "watched", watched)
    final, _ = load_logits(tmp_path / "watched", watched)
    assert set(last) == set(final) == {"raw", "ema"}
    for name in final:
        assert np.array_equal(last[name], final[name]), "the last epoch is the one that was scored"
        assert not np.array_equal(first[name], last[name])


def test_only_the_last_stage_has_epochs_to_choose_from(tiny, tmp_path):
    plan = make_plan(
        "hp-dval", str(tiny), protocol="demo-clip", epochs=3, settings={"recipe.batch_size": 8}, oracle=True
    )
    record = execute_plan(plan, tmp_path)
    stages = {entry.epoch: entry.stage for entry in record.history}
    assert [epoch.epoch for epoch in record.oracle] == [n for n, stage in stages.items() if stage == stages[3]]
    assert len(record.oracle) < 3


@pytest.mark.parametrize("stops", [{1}, {3, 4}, {1, 2, 3, 4, 5}], ids=str)
@pytest.mark.slow
def test_a_stopped_run_ends_with_the_same_epochs(tiny, tmp_path, stops):
    plan = tiny_plan(tiny, oracle=True)
    undisturbed = execute_plan(plan, tmp_path / "one")
    again = execute_with_stops(plan, tmp_path / "two", stops, STEPS)
    assert outcome(again) == outcome(undisturbed) and len(again.oracle) == 2
    epochs_of(plan, tmp_path / "two", again)


def stopped_at(plan, results, step):
    with pytest.raises(RunInterrupted), stopping(lambda trainer: trainer.progress.step == step):
        execute_plan(plan, results)


def test_a_checkpoint_without_epochs_is_not_continued_where_they_are_wanted(tiny, tmp_path):
    stopped_at(tiny_plan(tiny), tmp_path, 4)
    plan = tiny_plan(tiny, oracle=True)
    record = execute_plan(plan, tmp_path)
    log = Store(tmp_path).folder(plan.spec).log_path.read_text()
    assert "without keeping the logits of every epoch; starting anew" in log
    assert [epoch.epoch for epoch in record.oracle] == [1, 2]


def test_a_checkpoint_with_epochs_goes_on_without(tiny, tmp_path):
    stopped_at(tiny_plan(tiny, oracle=True), tmp_path, 4)
    plan = tiny_plan(tiny)
    record = execute_plan(plan, tmp_path)
    folder = Store(tmp_path).folder(plan.spec)
    assert "going on from step 4" in folder.log_path.read_text()
    assert record.oracle == [] and not list(folder.path.glob("epoch-*")), "what no record names is not kept"


@pytest.mark.slow
def test_a_done_run_is_not_made_anew_for_its_epochs_and_says_so(tiny, tmp_path):
    before = execute_plan(tiny_plan(tiny), tmp_path)
    arguments = ["--dataset", str(tiny), "--protocol", "demo", "--image-size", "16", "--epochs", "2", "--set"]
    arguments += ["recipe.batch_size=8", "--oracle", "--results", str(tmp_path)]
    said = CliRunner().invoke(app, ["run", "--method", "erm", *arguments])
    assert said.exit_code == 0 and "--rerun always makes it anew" in said.output
    said = CliRunner().invoke(app, ["sweep", "--methods", "erm", "--datasets", *arguments[1:], "--dry-run"])
    assert "1 done runs have no logits of every epoch" in said.output
    after = execute_plan(tiny_plan(tiny, oracle=True), tmp_path)
    assert after == before
    assert len(execute_plan(tiny_plan(tiny, oracle=True), tmp_path, rerun="always").oracle) == 2


def test_nothing_trained_has_no_epochs(tiny, tmp_path):
    plan = make_plan("clip-zero-shot", str(tiny), protocol="demo-clip", oracle=True)
    assert execute_plan(plan, tmp_path).oracle == []
