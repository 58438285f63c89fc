"""The benchmark of many runs: its store is a real one, and the commands that it times work on it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from kit.paths import ROOT

from benchmark.audit.verify import verify
from benchmark.errors import InputError
from benchmark.store.folder import RunFolder
from benchmark.store.runs import load_records
from benchmark.tools import scale
from benchmark.ui.progress import Reporter

pytestmark = pytest.mark.slow

SIZE = replace(scale.MANY, runs=60)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(folder, what `build` says of it) of a store of 60 runs that are done."""
    folder = tmp_path_factory.mktemp("scale") / "store"
    return folder, scale.build(folder, SIZE, Reporter())


def test_the_store_holds_what_was_asked_for(built):
    folder, facts = built
    assert facts.states == {"done": 60, "failed": 3, "preempted": 4, "pending": 3} and facts.runs == 70
    assert facts.tracks * facts.rows * facts.seeds == 60
    states = [RunFolder(path).state() for path in (folder / "runs").iterdir()]
    assert {state: states.count(state) for state in facts.states} == facts.states


def test_the_records_are_valid_and_say_that_they_are_synthetic(built):
    folder, _ = built
    records = list(load_records(folder))
    assert len({record.run_id for record in records}) == 60
    for record in records:
        assert "synthetic" in record.method_title and "synthetic" in record.dataset_title
        assert len(record.metrics.per_class) == 10 and len(record.history) == 25
    assert [finding for finding in verify(folder, Reporter()).findings if finding.kind == "fault"] == []


def test_every_command_works_on_the_store(built):
    folder, _ = built
    limits = dict.fromkeys(scale.commands(folder), 60.0)
    timings = scale.measure(folder, replace(SIZE, limits_s=limits))
    assert [timing.command for timing in timings] == list(limits)
    assert all(timing.wall_s > 0 and timing.help_ratio > 0 for timing in timings)
    page = (folder / "leaderboard.md").read_text()
    assert "synthetic" in page and "60 records." in page and "excluded" not in page


@pytest.mark.parametrize(("runs", "tracks", "rows"), [(1, 1, 1), (60, 1, 6), (1000, 1, 100), (10_000, 10, 100)])
def test_the_sweep_is_as_large_as_asked_for(runs, tracks, rows):
    axes = scale.sweep_axes(replace(SIZE, runs=runs), Path("made/up"))
    assert len(axes["settings"]["recipe.optimizer.lr"]) == tracks
    values = [values for own in axes["methods"].values() if own for values in own.values()]
    assert sum(map(len, values)) == rows and all(len(set(some)) == len(some) for some in values)
    assert tracks * rows * len(axes["seeds"]) >= runs


def test_made_up_records_stay_out_of_the_results(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    for folder, reason in [(ROOT / "results" / "scale", "do not belong"), (tmp_path / "mine", "not empty")]:
        with pytest.raises(InputError, match=reason):
            scale.build(folder, SIZE, Reporter())
    assert not (ROOT / "results" / "scale").exists()


@pytest.mark.parametrize(("wall_s", "code"), [(9.9, 0), (10.0, 1)])
def test_the_exit_code_tells_whether_all_are_fast_enough(tmp_path, monkeypatch, capsys, wall_s, code):
    monkeypatch.setattr(scale, "measure", lambda folder, size: [scale.Timing("status", wall_s, 1.0, 2.0, 10.0)])
    assert scale.main(["--runs", "1", "--json", "--folder", str(tmp_path / "store")]) == code
    shown = json.loads(capsys.readouterr().out)
    assert shown["commands"][0]["within_limit"] == (code == 0) and shown["runs"] == 20
    assert scale.main(["--runs", "1"]) == code
    assert ("too slow: status" in capsys.readouterr().out) == (code == 1)


def test_a_number_of_runs_that_is_none_is_refused(capsys):
    assert scale.main(["--runs", "0"]) == 2
    assert capsys.readouterr().err.startswith("error: --runs 0: ")
