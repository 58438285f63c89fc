"""Two methods against each other, and `ltbench compare`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from kit.checks import refused
from kit.factories import make_scored, write_scored
from typer.testing import CliRunner

from benchmark.cli import app
from benchmark.evaluation import average_precision
from benchmark.leaderboard.board import load_board
from benchmark.leaderboard.contrast import contrast, find_tables
from benchmark.leaderboard.rows import METRICS
from benchmark.leaderboard.stats.comparison import compare
from benchmark.leaderboard.stats.resampling import class_scores, image_weights
from benchmark.store.logits import load_logits

RUNS = [make_scored(method, seed, skill) for method, skill in (("erm", 1.0), ("asl", 2.5)) for seed in range(3)]
RUNS += [
    make_scored("asl", seed, 2.0, spec={"config": {"gamma_neg": 2}, "config_overrides": {"gamma_neg": 2}})
    for seed in range(2)
]
RUNS += [make_scored("erm", 0, 1.0, spec={"protocol": "paper"}), make_scored("asl", 0, 2.0, spec={"protocol": "paper"})]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_scored(tmp_path_factory.mktemp("store"), RUNS)


@pytest.fixture(scope="module")
def tables(store):
    return load_board(store, store).tables


def run(*arguments: str):
    return CliRunner().invoke(app, ["compare", *arguments])


def class_scores_of(store, row) -> np.ndarray:
    """[seeds, classes, 1 + replicates], in percent."""
    pairs = [load_logits(store, record) for record in row.records]
    return np.stack([class_scores(logits["raw"], targets, image_weights(len(targets))) for logits, targets in pairs])


def class_ap(store, row) -> np.ndarray:
    """[seeds, classes], in percent."""
    pairs = [load_logits(store, record) for record in row.records]
    return np.stack([100 * average_precision(logits["raw"], targets) for logits, targets in pairs])


def test_differences_are_those_of_the_stored_logits(store, tables):
    [(table, a, b)] = find_tables(tables, "made-up", "controlled", "asl", "erm")
    found = contrast(store, table, a, b)
    wanted = class_ap(store, a).mean(axis=0) - class_ap(store, b).mean(axis=0)
    by_name = {change.name: change for change in found.classes}
    assert [by_name[name].difference for name in table.classes] == pytest.approx(wanted, abs=1e-3)
    sizes = [abs(change.difference) for change in found.classes]
    assert sizes == sorted(sizes, reverse=True), "those that moved most come first"
    overall = found.means[0]
    assert [change.name for change in found.means] == ["overall", "head", "medium", "tail"]
    assert overall.difference == pytest.approx(a.scores["Overall"].mean - b.scores["Overall"].mean, abs=1e-3)
    i, j = table.rows.index(a), table.rows.index(b)
    for change, column in zip(found.means, METRICS, strict=True):
        own = table.compare_by(column)
        assert change.p == own.p[i, j] and change.half_width == own.half_width[i, j], "the leaderboard's own test"
        assert (change.first, change.second) == (a.scores[column], b.scores[column])
    assert all(change.p_holm >= change.p for change in (*found.means, *found.classes))


def test_classes_are_compared_with_the_seed_variances_of_all_rows(store, tables):
    [(table, a, b)] = find_tables(tables, "made-up", "controlled", "asl", "erm")
    third = next(row for row in table.rows if row not in (a, b))
    found = {change.name: change for change in contrast(store, table, a, b).classes}
    alone = {change.name: change for change in contrast(store, replace(table, rows=(a, b)), a, b).classes}
    assert third.n == 2 and any(found[name].half_width != alone[name].half_width for name in found)
    for name, change in found.items():
        pair = [class_scores_of(store, row)[:, list(table.classes).index(name)] for row in (a, b)]
        others = [np.array([record.metrics.per_class[name] for record in third.records])]
        wanted = compare(pair, others)
        assert change.half_width == pytest.approx(wanted.half_width[0, 1]) and change.p == pytest.approx(wanted.p[0, 1])


def test_the_other_way_round_the_signs_change_and_nothing_else(store, tables):
    [(table, a, b)] = find_tables(tables, "made-up", "controlled", "asl", "erm")
    there, back = contrast(store, table, a, b), contrast(store, table, b, a)
    for one, other in zip(there.means + there.classes, back.means + back.classes, strict=True):
        assert (one.difference, one.first) == (-other.difference, other.second)
        assert one.p == pytest.approx(other.p) and one.half_width == pytest.approx(other.half_width)


def test_rows_are_found_by_label_and_by_method(tables):
    found = find_tables(tables, "made-up", "controlled", "asl (gamma_neg=2)", "erm")
    assert [(a.label, b.label) for _, a, b in found] == [("asl (gamma_neg=2)", "erm")]
    assert len(find_tables(tables, "made-up", None, "asl", "erm")) == 2, "each protocol that has both"


@pytest.mark.parametrize(
    "arguments,words",
    [
        (("made-op", None, "asl", "erm"), "did you mean 'made-up'"),
        (("made-up", "papers", "asl", "erm"), "did you mean 'paper'"),
        (("made-up", "paper", "asl", "emr"), "did you mean 'erm'"),
    ],
)
def test_what_is_not_there_is_named(tables, arguments, words):
    assert words in refused(find_tables, tables, *arguments)


def asl(gamma: int, seed: int, **spec):
    settings = {"gamma_neg": gamma}
    return make_scored("asl", seed, 2.0, spec={"config": settings, "config_overrides": settings, **spec})


def test_a_track_in_which_a_name_fits_several_rows_does_not_hide_one_that_has_both(tmp_path):
    one_epoch = {"overrides": {"epochs": 1}, "recipe": {"epochs": 1}}
    runs = [make_scored(method, 0, spec={"protocol": "demo"}) for method in ("asl", "erm")]
    runs += [asl(gamma, 0, protocol="demo", **one_epoch) for gamma in (1, 2)]
    runs += [make_scored("erm", 0, spec={"protocol": "demo", **one_epoch})]
    board = load_board(write_scored(tmp_path, runs), tmp_path)
    assert len(board.tables) == 2
    for protocol in (None, "demo"):
        [(table, a, b)] = find_tables(board.tables, "made-up", protocol, "asl", "erm")
        assert (a.label, b.label) == ("asl", "erm") and "epochs=1" not in table.title
    [ambiguous] = [table for table in board.tables if "epochs=1" in table.title]
    for pair in (("asl", "erm"), ("erm", "asl")):
        message = refused(find_tables, [ambiguous], "made-up", None, *pair)
        assert "'asl' has 2 rows" in message and "'asl (gamma_neg=1)', 'asl (gamma_neg=2)'" in message


def test_the_published_results_are_compared_only_where_ones_own_have_not_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scored(tmp_path / "results", [make_scored(method, 0) for method in ("asl", "erm", "rw")])
    own = write_scored(tmp_path / "results" / "local", [make_scored("erm", 0), asl(1, 0), asl(2, 0)])
    broken = next((own / "runs").glob("erm-s0-*")).with_name("erm-s1-0123456789ab") / "record.json"
    broken.parent.mkdir()
    broken.write_text('{"schema_version": 1, "\x1b[2Jspec": 0}')

    said = run("rw", "erm", "--dataset", "made-up")
    assert said.exit_code == 0 and said.stdout.count("A: rw") == 1
    assert said.stderr.splitlines()[0].startswith("results/local: no row 'rw' on made-up")
    assert said.stderr.splitlines()[0].endswith("; compared in results")
    assert f"left out: {broken.relative_to(tmp_path)}: " in said.stderr, "of a folder that was passed over"
    assert "\x1b" not in said.stderr, "a record's text does not steer the terminal"

    said = run("asl", "erm", "--dataset", "made-up")
    assert str(said.exception).startswith("results/local: 'asl' has 2 rows in ") and "left out: " in said.stderr
    said = run("asl (gamma_neg=1)", "erm", "--dataset", "made-up")
    assert said.exit_code == 0 and "compared in" not in said.stderr
    said = run("asl", "erm", "--dataset", "made-op")
    for folder in ("results/local", "results"):
        assert f"{folder}: no records of dataset 'made-op'" in str(said.exception)


def test_a_method_with_itself_is_refused(store, tables):
    [(table, a, _)] = find_tables(tables, "made-up", "paper", "asl", "erm")
    assert "given twice" in refused(contrast, store, table, a, a)


def test_the_command_prints_difference_interval_and_classes(store):
    said = run("asl", "erm", "--dataset", "made-up", "--protocol", "controlled", "--results", str(store))
    assert said.exit_code == 0, said.output
    assert "A: asl (3 seeds)\nB: erm (3 seeds)" in said.output and "sheep" in said.output
    assert max(map(len, said.output.splitlines())) <= 80
    overall = next(line for line in said.output.splitlines() if line.strip().startswith("overall"))
    assert overall.count("±") == 3
    data = json.loads(
        run("asl", "erm", "--dataset", "made-up", "--protocol", "paper", "--results", str(store), "--json").stdout
    )
    overall = data[0]["means"][0]
    assert overall["difference"] > 0 and overall["p"] is None, "one seed each: no test"
    said = run("asl", "erm", "--dataset", "made-up", "--protocol", "paper", "--results", str(store), "--classes", "0")
    assert "with one seed nothing is known" in said.output and "sheep" not in said.output
