"""The leaderboard as pandas frames, and what it takes to add a column, a statistic or an export: one file each."""

from __future__ import annotations

import json
import math

import pytest
from kit.factories import make_record, make_sample, make_scored, write_scored
from kit.pages import Page, rendered

import benchmark
from benchmark.errors import StoreError
from benchmark.leaderboard import columns as columns_module
from benchmark.leaderboard import exports
from benchmark.leaderboard.board import Board, load_board, make_board
from benchmark.leaderboard.columns import Column, Part, columns
from benchmark.leaderboard.exports import csv as csv_export
from benchmark.leaderboard.exports import json as json_export
from benchmark.leaderboard.exports import latex
from benchmark.leaderboard.files import check, write
from benchmark.leaderboard.formats import format_names
from benchmark.leaderboard.frame import results, table_rows
from benchmark.leaderboard.kinds import TEXT, WHOLE
from benchmark.leaderboard.pages.html import html_page
from benchmark.leaderboard.pages.markdown_page import markdown_page
from benchmark.leaderboard.pages.run_data import run_data
from benchmark.leaderboard.stats.secondary import STATISTICS, Statistic

RUNS = [make_scored(method, seed, skill) for method, skill in (("erm", 1.0), ("asl", 2.5)) for seed in range(2)]


@pytest.fixture
def store(tmp_path):
    return write_scored(tmp_path / "results", RUNS)


# Frames


def test_results_have_a_row_for_each_run(store):
    frame = benchmark.results(store)
    records = {record.run_id: record for record in benchmark.load_records(store)}
    assert list(frame["method"]) == ["asl", "asl", "erm", "erm"] and list(frame["seed"]) == [0, 1, 0, 1]
    assert set(frame["run_id"]) == set(records)
    for run in frame.itertuples():
        record = records[run.run_id]
        assert (run.overall, run.head, run.tail) == (
            record.metrics.overall,
            record.metrics.head,
            record.metrics.tail,
        )
        assert (run.label, run.protocol, run.image_size) == (record.spec.method, "controlled", 224)
        assert (run.epochs, run.weights, run.test_time, run.train_s) == (8, "raw", "none", 60.0)
        assert (run.parameters_trained, run.parameters_all) == (23_500_000, 25_600_000)
        assert 0 < run.lrap <= 100 and math.isnan(run.of1_val) and math.isnan(run.oracle)
    assert frame["overall"].dtype == frame["oracle"].dtype == "float64"


def test_means_of_the_results_are_those_of_the_tables(store):
    means = benchmark.results(str(store)).groupby("label")[["overall", "lrap"]].mean()
    rows = table_rows(load_board(store, store).tables).set_index("Method")
    assert means["overall"].to_dict() == pytest.approx(rows["Overall"].to_dict())
    assert means["lrap"].to_dict() == pytest.approx(rows["LRAP"].to_dict())


def test_a_run_that_the_leaderboard_leaves_out_is_an_error_or_told(store):
    folder = store / "runs" / RUNS[0].record.folder_name
    (folder / RUNS[0].record.logits.file).unlink()
    with pytest.raises(StoreError, match="logits"):
        results(store)
    problems: list[StoreError] = []
    assert len(results(store, problems)) == 3 and len(problems) == 1
    with pytest.raises(StoreError, match="no such"):
        results(store / "nothing")


def test_a_folder_without_runs_has_the_columns_of_all_frames(store, tmp_path):
    (tmp_path / "empty" / "runs").mkdir(parents=True)
    frame = results(tmp_path / "empty")
    assert len(frame) == 0 and list(frame) == list(results(store))


def test_rows_of_tables_have_types_whatever_is_missing():
    frame = table_rows(make_board([make_record(), make_record("asl", overall=None)]).tables)
    assert list(frame["Method"]) == ["erm", "asl"]
    assert frame["Overall"].tolist()[0] == 80.0 and math.isnan(frame["Overall"].tolist()[1])
    assert frame["Rank"].dtype == "Int64" and frame["Rank"].isna().all()
    assert list(table_rows(())) == list(frame)


def test_each_name_is_there_once():
    titles = [column.title for column in columns()]
    assert len(set(titles)) == len(titles)
    for names in (list(table_rows(())), [name for column in columns() for name in column.of_run]):
        assert len(set(names)) == len(names)
    places = [column.json for column in columns() if column.json]
    assert len(set(places)) == len(places)


# One file each


def board_of(*records) -> Board:
    samples = {record.run_id: make_sample(record) for record in records}
    return make_board(records, samples)


def test_a_further_column_is_one_entry(monkeypatch):
    memory = Column(
        "Memory (MB)",
        Part.FACT,
        WHOLE,
        lambda table, row: round(max(record.peak_memory_mb for record in row.records)),
        {"memory_mb": lambda record, sample: record.peak_memory_mb},
        json="memory_mb",
        paper="MB",
        help="the most of any seed",
    )
    monkeypatch.setattr(columns_module, "_FACTS", (*columns_module._FACTS, memory))
    board = board_of(*(make_record(method, seed) for method in ("erm", "asl") for seed in range(2)))
    for table in (rendered(markdown_page(board, {})).tables[0], Page(html_page(board, {})).tables[1]):
        at = table[0].index("Memory (MB)")
        assert [row[at] for row in table[1:]] == ["512", "512"]
    assert 'title="the most of any seed">Memory (MB)</th>' in html_page(board, {})
    [track] = json.loads(json_export.write(board))["tracks"]
    assert [row["memory_mb"] for row in track["rows"]] == [512, 512]
    assert csv_export.write(board).splitlines()[0].endswith(",Memory (MB),Run ids")
    assert r" & MB \\" in latex.write(board) and r" & 512 \\" in latex.write(board)


def test_a_further_column_is_in_the_results(store, monkeypatch):
    host = Column("Host", Part.EXPORT, TEXT, lambda table, row: None, {"host": lambda r, s: r.environment.host})
    monkeypatch.setattr(columns_module, "_FACTS", (*columns_module._FACTS, host))
    assert set(results(store)["host"]) == {"node1"}


def test_a_further_statistic_is_one_entry(store, monkeypatch):
    share = Statistic("Above 0", lambda found: 100 * (found.logits > 0).mean(), "decisions above 0, in percent")
    monkeypatch.setitem(STATISTICS, "positive_share", share)
    board = load_board(store, store)
    details = next(table for table in Page(html_page(board, {})).tables if "Above 0" in table[0])
    assert details[0] == ["Method", "AP std", "Micro AP", "LRAP", "ECE", "Above 0", "Threshold (logit)"]
    data, frame = json.loads(run_data(board)), results(store)
    at = data["columns"]["beside"].index("Above 0")
    for run in frame.itertuples():
        assert 0 < run.positive_share < 100
        assert data["records"][run.run_id[:12]]["beside"][at] == round(run.positive_share, 2)
    [track] = json.loads(json_export.write(board))["tracks"]
    means = {row["label"]: row["details"]["positive_share"]["mean"] for row in track["rows"]}
    assert means == pytest.approx(frame.groupby("label")["positive_share"].mean().to_dict(), abs=1e-6)
    assert ",Above 0,Above 0 ± seeds," in csv_export.write(board)


def test_a_further_export_is_one_module(store, tmp_path, monkeypatch):
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "names.py").write_text(
        'EXTENSION = "txt"\n\n\ndef write(board, raw=False):\n'
        '    return "".join(f"{row.label}\\n" for table in board.tables for row in table.rows)\n'
    )
    monkeypatch.setattr(exports, "__path__", [*exports.__path__, str(folder)])
    assert format_names() == ("md", "html", "csv", "json", "latex", "names")
    board = load_board(store, store)
    assert write(board, store, ["names"]) == [store / "leaderboard.txt"]
    assert (store / "leaderboard.txt").read_text() == "asl\nerm\n"
    (store / "leaderboard.txt").write_text("asl\n")
    assert any(line.startswith("leaderboard.txt: line 2") for line in check(board, store)), "as it is there"
