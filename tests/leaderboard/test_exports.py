"""The leaderboard as CSV, JSON and LaTeX."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.command import ltbench
from kit.factories import make_record, make_sample, make_scored, write_scored

from benchmark.data.dataset import DATASETS
from benchmark.leaderboard import tex
from benchmark.leaderboard.board import Board, make_board
from benchmark.leaderboard.exports import csv as csv_export
from benchmark.leaderboard.exports import json as json_export
from benchmark.leaderboard.exports import latex as latex_export
from benchmark.leaderboard.formats import export_names, file_name, format_names, load_export
from benchmark.leaderboard.frame import table_rows
from benchmark.leaderboard.pages.html import html_page
from benchmark.leaderboard.pages.markdown_page import markdown_page
from benchmark.leaderboard.rows import METRICS
from benchmark.spec import deep_merge

HOSTILE = "$_{}^~\\%&#` <script>alert('1')</script> \"--\" [x] *|\r\n\x07\x00 中文 😀 é ß Ș\u202e …"
TEXT_COLUMNS = {
    *("Track", "Dataset", "Fingerprint", "Protocol", "Backbone", "Pretrained weights", "Weights digest", "Overrides"),
    *("Method", "Title", "Seeds", "Weights", "Selection rule", "Test-time", "Device", "Run ids"),
}
OTHER_DATASET = {"spec": {"dataset": {"name": "coco-lt"}}, "dataset_title": "COCO-LT"}
GAP = {"results": {"raw": {"per_class": {"sofa": None, "sheep": None}}}}
needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")


def records_of(methods=("erm", "asl", "db-focal"), seeds=3, **changes):
    return [
        make_record(method, seed, 60.0 + 2.5 * i + 0.3 * seed, **changes)
        for i, method in enumerate(methods)
        for seed in range(seeds)
    ]


def board_of(*records, **options) -> Board:
    return make_board(records, {record.run_id: make_sample(record) for record in records}, **options)


def hostile_board() -> Board:
    changes = {
        "method_title": HOSTILE,
        "dataset_title": HOSTILE,
        "classes": {HOSTILE: 400, "猫\n": 3},
        "results": {"raw": {"per_class": {"猫\n": None}}},
        "spec": {
            "config": {HOSTILE: HOSTILE},
            "config_overrides": {HOSTILE: HOSTILE},
            "dataset": {"name": f"=1+1 {HOSTILE}"},
            "weights": {"name": HOSTILE, "digest": HOSTILE},
        },
    }
    other = deep_merge(changes, {"spec": {"dataset": {"name": "other"}}, "dataset_title": f"[{HOSTILE}"})
    return board_of(*records_of(**changes), *records_of(**other), excluded=[HOSTILE])


def published_records(**changes):
    """Of protocol paper on VOC-LT, beside which results were published."""
    fingerprint = DATASETS.get("voc-lt").open().fingerprint
    spec = {"spec": {"protocol": "paper", "protocol_version": 2, "dataset": {"fingerprint": fingerprint}}}
    return records_of(("erm", "db-focal", "ltml"), **deep_merge(spec, changes))


def parsed(csv: str) -> pd.DataFrame:
    """Read as the docstring of `exports.csv.write` says."""
    columns = csv.split("\n", 1)[0].split(",")
    numeric = {column: [""] for column in columns if column not in TEXT_COLUMNS}
    return pd.read_csv(io.StringIO(csv), keep_default_na=False, na_values=numeric, encoding="utf-8")


# All formats


@pytest.mark.parametrize("name", export_names())
def test_same_text_in_any_order_of_the_records(name):
    records = [*records_of(), *records_of(**OTHER_DATASET), *published_records(), make_record("rw", overall=None)]
    make = load_export(name).write
    first = make(board_of(*records))
    random.Random(0).shuffle(records)
    assert make(board_of(*records)) == first
    assert first.endswith("\n") and not first.endswith("\n\n")


def test_file_names():
    assert {name: file_name(name) for name in format_names()} == {
        "md": "leaderboard.md",
        "html": "leaderboard.html",
        "csv": "leaderboard.csv",
        "json": "leaderboard.json",
        "latex": "leaderboard.tex",
    }


# CSV


def test_csv_is_the_tables_as_pandas_gives_them():
    board = board_of(*records_of(), *records_of(**OTHER_DATASET), make_record("rw", **GAP))
    frame = parsed(csv_export.write(board))
    wanted = table_rows(board.tables)
    wanted = wanted.astype(dict.fromkeys(wanted.select_dtypes("Int64"), "float64"))
    assert list(frame["Track"]) == [table.title for table in board.tables for _ in table.rows]
    pd.testing.assert_frame_equal(
        frame[list(wanted)], wanted, check_dtype=False, check_exact=False, rtol=0, atol=0.5 * 10**-3
    )
    exact = [*METRICS, "CF1 top-3", "OF1 top-3", "CF1 val", "OF1 val"]
    np.testing.assert_allclose(frame[exact], wanted[exact], rtol=0, atol=1e-6)
    row = board.tables[0].rows[0]
    assert frame["Run ids"][0].split(" ") == [record.run_id for record in row.records]
    assert (frame["Image size"][0], frame["Protocol version"][0], frame["Overrides"][0]) == (224, 7, "")


def test_csv_writes_whole_numbers_whole_and_missing_values_empty():
    lines = csv_export.write(board_of(*records_of(), make_record("rw", **GAP))).splitlines()
    assert "nan" not in "".join(lines).lower() and "None" not in "".join(lines)
    frame = pd.read_csv(io.StringIO("\n".join(lines)), dtype=str, keep_default_na=False)
    by_method = frame.set_index("Method")
    assert by_method.loc["db-focal", ["Rank", "n", "Wins", "Ties", "Losses"]].tolist() == ["1", "3", "2", "0", "0"]
    single = by_method.loc["rw"]
    assert (single["Tail"], single["Tail ±"], single["Overall ± seeds"], single["Oracle"]) == ("", "", "", "")
    assert single["Overall ±"] == single["Overall ± images"] != "", "of one seed"
    assert (single["vs ERM"], single["vs ERM ±"], single["CF1 top-3 ± seeds"]) == ("", "", "")
    assert by_method.loc["erm", "vs ERM"] == "" and float(by_method.loc["db-focal", "vs ERM"]) == pytest.approx(5.0)
    assert float(by_method.loc["db-focal", "vs ERM p (Holm)"]) <= 0.05
    assert single["Rank"] == "" and single["n"] == "1"


def test_parameters_that_differ_between_seeds_have_no_number_in_any_format():
    records = [make_record("erm", seed, parameters={"all": 10_000_000 + 10 * seed, "trained": 7}) for seed in range(3)]
    board = board_of(*records, *records_of(("asl",)))
    frame = pd.read_csv(io.StringIO(csv_export.write(board)), dtype=str, keep_default_na=False).set_index("Method")
    columns = ["Parameters trained", "Parameters all"]
    assert frame.loc["erm", columns].tolist() == ["", ""]
    assert frame.loc["asl", columns].tolist() == ["23500000", "25600000"]
    rows = {row["label"]: row["parameters"] for row in loaded(board)["tracks"][0]["rows"]}
    assert rows == {"erm": {"all": None, "trained": None}, "asl": {"all": 25_600_000, "trained": 23_500_000}}
    assert "various" in markdown_page(board, {}) and "various" in latex_export.write(board)
    assert '<td class="number" data-value="">various' in re.sub(r"\s+", " ", html_page(board, {}))


def test_csv_keeps_hostile_text_on_one_line():
    board = hostile_board()
    text = csv_export.write(board, raw=True)
    assert len(text.splitlines()) == 1 + sum(len(table.rows) for table in board.tables)
    frame = parsed(text)
    assert list(frame["Method"]) == [row.label for table in board.tables for row in table.rows]
    assert any(name.startswith("=1+1 $_{}^~\\%&#`") for name in frame["Dataset"])
    escaped = parsed(csv_export.write(board))
    assert any(name.startswith("'=1+1 $_{}^~\\%&#`") for name in escaped["Dataset"])


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "＝1", "+49 170", "-"])
def test_no_cell_of_csv_is_a_formula(name):
    """Neither one of text; a number below zero is a number."""
    changes = {"dataset_title": name, "method_title": name, "spec": {"dataset": {"name": name}}}
    board = board_of(*records_of(("rw", "erm"), **changes))
    raw, text = csv_export.write(board, raw=True), csv_export.write(board)
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    below = frame["vs ERM"][frame["Method"] == "rw"].tolist()
    assert len(below) == 1 and float(below[0]) < 0
    for cell in frame.to_numpy().ravel():
        assert not cell.startswith(("=", "+", "@", "＝")) and (not cell.startswith("-") or np.isfinite(float(cell)))
    assert set(frame["Dataset"]) == {f"'{name}"} and set(frame["Title"]) == {f"'{name}"}
    assert set(pd.read_csv(io.StringIO(raw), dtype=str, keep_default_na=False)["Dataset"]) == {name}


def test_raw_csv_is_written_and_checked_on_request(tmp_path):
    store = write_scored(tmp_path / "results", [make_scored("erm", spec={"dataset": {"name": "=1+1"}})])
    args = ("leaderboard", "--results", store, "--format", "csv")
    assert ltbench(*args).returncode == 0 and ",'=1+1," in (store / "leaderboard.csv").read_text()
    done = ltbench(*args, "--check", "--raw")
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith("--format csv --raw")
    assert ltbench(*args, "--raw").returncode == 0 and ",=1+1," in (store / "leaderboard.csv").read_text()
    assert ltbench(*args, "--raw", "--check").returncode == 0


def test_csv_of_an_empty_board_is_its_header():
    assert csv_export.write(Board(())) == csv_export.write(board_of(*records_of())).split("\n", 1)[0] + "\n"
    assert list(parsed(csv_export.write(Board(())))) == list(table_rows(()))


# JSON


def loaded(board: Board) -> dict:
    def refuse(constant):
        pytest.fail(f"{constant} is not JSON")

    return json.loads(json_export.write(board), parse_constant=refuse)


def test_json_has_tracks_and_rows():
    board = board_of(*records_of(), make_record("rw", **GAP), runs="../runs", excluded=["runs/x: broken"])
    data = loaded(board)
    assert (data["format"], data["version"], data["num_records"]) == (json_export.FORMAT, json_export.VERSION, 10)
    assert data["excluded"] == ["runs/x: broken"]
    [table], [track] = board.tables, data["tracks"]
    assert (track["title"], track["dataset"], track["protocol"]) == (table.title, "voc-lt", "controlled")
    assert track["classes"][0] == {"name": "person", "group": "head", "train_images": 400}
    assert track["classes_without_test_positive"] == ["sofa", "sheep"]
    assert [row["label"] for row in track["rows"]] == [row.label for row in table.rows]
    for shown, row in zip(track["rows"], table.rows, strict=True):
        assert [run["seed"] for run in shown["runs"]] == [record.spec.seed for record in row.records]
        assert [run["run_id"] for run in shown["runs"]] == [record.run_id for record in row.records]
        assert shown["rank_group"] == table.ranks[row.label]
        scores = {key: row.scores[title] for title, key in METRICS.items()}
        scores |= {key: row.beside(key) for key in ("cf1_top3", "of1_top3", "cf1_val", "of1_val")}
        assert set(shown["scores"]) == set(scores)
        for key, score in scores.items():
            if score is None:
                assert shown["scores"][key] is None
                continue
            assert shown["scores"][key]["mean"] == pytest.approx(score.mean, abs=1e-6)
            for name in ("half_width", "seeds", "images"):
                value = getattr(score, name)
                assert shown["scores"][key][name] == (None if value is None else pytest.approx(value, abs=1e-3))
            assert shown["scores"][key]["n"] == row.n
        assert set(shown["details"]) == {"ap_std", "micro_ap", "lrap", "ece"}
        for key, found in shown["details"].items():
            assert found["mean"] == pytest.approx(row.beside(key).mean, abs=1e-6)
        assert shown["threshold"] is None
    best, single = (next(row for row in track["rows"] if row["label"] == label) for label in ("db-focal", "rw"))
    assert best["wins_ties_losses"] == {"wins": 2, "ties": 0, "losses": 0} and best["rank_group"] == 1
    assert best["parameters"] == {"all": 25_600_000, "trained": 23_500_000}
    assert best["times"]["train_s"] == {"mean": 60.0, "half_width": 0.0, "n": 3, "seeds": 0.0, "images": None}
    assert best["scores"]["cf1_top3"]["images"] is None and best["scores"]["cf1_top3"]["half_width"] is not None
    against = table.against_baseline["db-focal"]
    assert track["baseline"] == "erm" and best["against_baseline"]["difference"] == pytest.approx(5.0, abs=1e-3)
    assert best["against_baseline"]["p_holm"] == pytest.approx(against.p_holm, rel=0.005)
    assert track["detectable"] == {
        "power": 0.8,
        "one_comparison": pytest.approx(table.detectable.pair, abs=1e-3),
        "with_baseline": pytest.approx(table.detectable.with_baseline, abs=1e-3),
        "others": 2,
        "all_pairs": pytest.approx(table.detectable.all_pairs, abs=1e-3),
        "pairs": 3,
    }
    assert best["class_scores"][0]["mean"] == best["scores"]["head"]["mean"]
    assert best["runs"][0]["record"] == f"../runs/db-focal-s0-{best['runs'][0]['run_id'][:12]}/record.json"
    assert single["rank_group"] is None and single["scores"]["tail"] is None and single["oracle"] is None
    assert single["scores"]["overall"]["seeds"] is single["against_baseline"] is None
    assert single["scores"]["overall"]["half_width"] == single["scores"]["overall"]["images"] > 0


def test_json_has_the_comparison_of_every_two_rows():
    board = board_of(*records_of(), make_record("rw", overall=61.0))
    [table], [track] = board.tables, loaded(board)["tracks"]
    shown = track["comparison"]
    assert shown["methods"] == [row.label for row in table.rows]
    for key in ("difference", "half_width", "p", "p_holm"):
        values = np.array(shown[key], dtype=float)
        wanted = getattr(table.comparison, key)
        assert np.array_equal(np.isnan(values), np.isnan(wanted))
        tolerance = {"rtol": 0.005, "atol": 0} if key.startswith("p") else {"rtol": 0, "atol": 1e-3}
        np.testing.assert_allclose(values, wanted, **tolerance)
    alone = shown["methods"].index("rw")
    assert all(p is None for p in shown["p"][alone])
    assert 0 < shown["p"][0][shown["methods"].index("erm")] < 0.05


def test_json_without_logits_has_no_comparison():
    [track] = loaded(make_board(records_of()))["tracks"]
    assert track["comparison"] is None
    assert track["rows"][0]["scores"]["overall"]["images"] is track["baseline"] is track["detectable"] is None


def test_json_has_summaries_and_published_results():
    board = board_of(*published_records(), *published_records(**OTHER_DATASET))
    data = loaded(board)
    [summary] = data["summaries"]
    assert summary["datasets"] == list(board.summaries[0].datasets)
    assert summary["rows"][0]["label"] == "db-focal" and len(summary["rows"][0]["scores"]) == 2
    table, shown = board.published[0], data["published"][0]
    pairs = [row for row in shown["rows"] if row["last_epoch"]]
    assert [row["last_epoch"] for row in pairs] == [r.last.model_dump() for r in table.rows if r.last] != []
    overall = pairs[0]["scores"]["overall"]
    assert overall["gap"] == pytest.approx(overall["printed"] - overall["last_epoch"]) and overall["difference"] is None
    assert shown["footnotes"] == list(table.footnotes)
    for row, line in zip(shown["rows"], table.rows, strict=True):
        assert row["scores"]["overall"]["printed"] == line.result.overall
        assert row["scores"]["overall"]["verdict"] == {
            "kind": line.verdict.kind,
            "reasons": list(line.verdict.reasons),
        }
    measured = next(row for row in shown["rows"] if row["measured"])
    assert measured["measured"]["track"] in {track["slug"] for track in data["tracks"]}


def test_json_keeps_hostile_text():
    board = hostile_board()
    data = loaded(board)
    assert data["excluded"] == [HOSTILE] and json_export.write(board).isascii()
    track = next(track for track in data["tracks"] if track["dataset"].startswith("=1+1"))
    assert [found["name"] for found in track["classes"]] == [HOSTILE, "猫\n"]
    assert track["rows"][0]["config_overrides"] == {HOSTILE: HOSTILE}


def test_json_of_an_empty_board():
    data = loaded(Board(()))
    assert data["tracks"] == data["summaries"] == data["published"] == data["excluded"] == []


# LaTeX


def compiled(folder: Path, latex: str, options: str = "", preamble: str = "") -> str:
    """Compile a paper of nothing else, twice; returns the last log. No warning about what is undefined is let pass."""
    (folder / "leaderboard.tex").write_text(latex, encoding="utf-8")
    paper = rf"\documentclass[{options}]{{article}}\usepackage{{booktabs}}{preamble}\begin{{document}}\listoftables"
    (folder / "paper.tex").write_text(paper + "\n\\input{leaderboard}\n\\end{document}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    for _ in range(2):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]
    log = (folder / "paper.log").read_text(errors="replace")
    assert not re.search(r"undefined|multiply.defined|unavailable|Missing character|too large", log, re.I), log
    assert (folder / "paper.pdf").stat().st_size > 1000
    return log


def pdf_text(folder: Path) -> str:
    if shutil.which("pdftotext") is None:
        pytest.skip("there is no pdftotext")
    command = ["pdftotext", "-layout", "paper.pdf", "-"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def lines_of(latex: str) -> dict[str, list[str]]:
    """Method -> the cells of its line, of the first table."""
    body = latex.split(r"\midrule", 1)[1].split(r"\bottomrule")[0]
    lines = [line.removesuffix(r" \\").split(" & ") for line in body.strip().splitlines()]
    return {cells[1]: cells for cells in lines}


def test_latex_cells():
    flip = {"spec": {"recipe": {"test_time": {"views": "flip"}}}}
    chosen = {"spec": {"recipe": {"selection": "best-val"}}}
    records = [*records_of(("erm",)), make_record("rw", **GAP), make_record("asl", **chosen), make_record("cb", **flip)]
    board = board_of(*records)
    text = latex_export.write(board)
    lines = lines_of(text)
    halves = {row.label: row.scores["Overall"].half_width for row in board.tables[0].rows}
    missing = r"\textendash{}"
    assert lines["erm"][:3] == [missing, "erm", rf"60.30 {{\scriptsize $\pm$ {halves['erm']:.2f} (3)}}"]
    assert lines["erm"][3].startswith("65.30 ")
    assert lines["erm"][-2:] == [r"23.5 {\scriptsize / 25.6}", "8"]
    assert lines["rw"][2] == rf"\textbf{{82.50}} {{\scriptsize $\pm$ {halves['rw']:.2f}$^i$ (1)}}"
    assert lines["rw"][3].startswith(r"\textbf{85.00} ") and lines["rw"][5] == missing
    assert {"asl {[}best-val{]}", "cb {[}flip{]}"} <= set(lines), "what others have not"
    assert text.count(r"\begin{table*}") == 1
    said = "Unless other is in square brackets: weights raw, selection rule last, test-time none."
    for sentence in (said, r"95 \% interval over seeds", "over test images alone"):
        assert sentence in text


def test_latex_has_the_columns_that_papers_have_in_their_order():
    board = board_of(*records_of())
    [head] = [line for line in latex_export.write(board).splitlines() if line.startswith("Rank & ")]
    titles = ["Rank", "Method", "Overall", "Head", "Medium", "Tail", "vs. ERM", "Param. (M)", r"Epochs \\"]
    assert head.split(" & ") == titles


def test_latex_has_the_baseline_and_what_can_be_found():
    board = board_of(*records_of())
    [table] = board.tables
    text = latex_export.write(board)
    against = table.against_baseline["db-focal"]
    assert rf"+5.00 {{\scriptsize $\pm$ {against.half_width:.2f}{{*}}}}" in text
    assert lines_of(text)["erm"][6] == "baseline" and "told apart at" in text
    assert tex.escape(table.detectable.text) in text
    below = latex_export.write(board_of(*records_of(("rw", "erm"))))
    assert lines_of(below)["rw"][6].startswith(r"$-$2.50 {\scriptsize $\pm$ "), "a minus, not a hyphen"


def test_latex_names_the_rule_that_selected_the_epoch():
    chosen = {"spec": {"recipe": {"selection": "best-val"}}}
    last, best = (latex_export.write(board_of(*records_of(**changes))) for changes in ({}, chosen))
    assert "selection rule last" in last and "best-val" not in last
    assert "selection rule best-val" in best and "selection rule last" not in best
    assert "{[}" not in lines_of(last)["erm"][1] + lines_of(best)["erm"][1]


@given(st.text())
def test_latex_escapes_are_ascii_without_bare_specials(text):
    for breakable in (False, True):
        escaped = tex.escape(text, breakable)
        assert escaped.isascii() and escaped.isprintable()
        assert not re.search(r"(?<!\\)[#%&]|(?<![\\a-z$])\$(?![\\$^-])", escaped)


def test_latex_shows_what_it_cannot_set():
    shown = r"{[}U+4E2D{]} \'{e} \"{\i} {[}U+00E7{]} {[}U+0142{]} \textendash{} a-{}-b"
    assert tex.escape("中 é ï ç ł – a--b") == shown
    assert tex.escape("x" * 10_000) == "x" * 399 + r"\dots{}"
    assert tex.escape("a=b_c", breakable=True) == r"a=\allowbreak{}b\_\allowbreak{}c"


def test_latex_has_the_last_epoch_in_brackets():
    latex = latex_export.write(board_of(*published_records()))
    assert r"& 91.58 {\scriptsize (91.31)} &" in latex and "In brackets: the last epoch" in latex


def test_latex_labels_differ():
    # Two summaries of one title: of weights that differ in their digest alone.
    changes = [{}, {"spec": {"weights": {"digest": "f" * 64}}}]
    records = [r for a in changes for b in ({}, OTHER_DATASET) for r in records_of(**deep_merge(a, b))]
    board = board_of(*records, *published_records())
    assert len({summary.title for summary in board.summaries}) == 1 < len(board.summaries)
    latex = latex_export.write(board)
    labels = re.findall(r"\\label\{(.*?)\}", latex)
    assert len(set(labels)) == len(labels) == latex.count(r"\begin{table*}")
    assert sum("published" in label for label in labels) > 1
    assert all(re.fullmatch(r"tab:ltbench-[a-z0-9.-]+", label) for label in labels)


@needs_latex
@pytest.mark.parametrize("options", ["", "twocolumn"])
def test_latex_compiles(tmp_path, options):
    records = [*records_of(), make_record("rw", **GAP), *records_of(**OTHER_DATASET), *published_records()]
    compiled(tmp_path, latex_export.write(board_of(*records)), options)
    shown = pdf_text(tmp_path)
    assert "65.30" in shown and "baseline" in shown and "db-focal" in shown
    assert "Published beside measured: VOC-LT" in shown and "Summary: controlled v7" in shown


@needs_latex
def test_latex_can_be_shrunk_as_its_header_says(tmp_path):
    header, text = latex_export.write(board_of(*published_records())).split("\n\n", 1)
    assert header.count("\n% ") == header.count("\n")
    box, shrunk = r"\makebox[\linewidth][c]{%", r"\resizebox{\linewidth}{!}{%"
    assert all(said in header for said in (box, shrunk, r"\usepackage{graphicx}"))
    compiled(tmp_path, text.replace(box, shrunk), preamble=r"\usepackage{graphicx}")


@needs_latex
def test_one_run_alone(tmp_path):
    board = board_of(make_record())
    compiled(tmp_path, latex_export.write(board))
    [row] = loaded(board)["tracks"][0]["rows"]
    overall = row["scores"]["overall"]
    images = overall["images"]
    assert overall == {"mean": 80.0, "half_width": images, "n": 1, "seeds": None, "images": images} and images > 0
    assert loaded(board)["tracks"][0]["comparison"]["p"] == [[None]]
    frame = parsed(csv_export.write(board))
    assert (
        frame.loc[0, "Overall"] == 80.0 and np.isnan(frame.loc[0, "Overall ± seeds"]) and np.isnan(frame.loc[0, "Rank"])
    )


@needs_latex
def test_latex_of_hostile_text_compiles(tmp_path):
    compiled(tmp_path, latex_export.write(hostile_board()))
    assert "[U+4E2D]" in pdf_text(tmp_path).replace("\n", "")


@needs_latex
def test_latex_cells_may_begin_with_anything(tmp_path):
    texts = [start + HOSTILE * repeats for start in "[*=-{}`'$&中😀" for repeats in (0, 1, 9)]
    cells = [[text, text[:5]] for text in texts]
    floats = tex.floats(HOSTILE, [HOSTILE], "a", [("Any", "l"), ("B", "r")], cells, notes=HOSTILE)
    compiled(tmp_path, "\n\n".join(floats))


@needs_latex
def test_latex_sets_every_character_that_it_lets_through(tmp_path):
    # Of all letters, symbols and signs below the Asian scripts, and one of each kind above.
    text = [chr(code) for code in [*range(0x20, 0x2FFF), 0x4E2D, 0xAC00, 0xFB01, 0xFFFD, 0x1D54F, 0x1F600, 0x10FFFD]]
    known = [char for char in text if "U+" not in tex.escape(char)]
    assert len(known) > 250
    pairs = "\n\n".join(f"{tex.escape(char * 2)} {tex.escape(char + 'a' + char, breakable=True)}" for char in known)
    compiled(tmp_path, pairs + "\n\n" + tex.escape("".join(known)[:400]))


@needs_latex
def test_latex_of_an_empty_board_can_be_put_in(tmp_path):
    latex = latex_export.write(Board(()))
    assert all(line.startswith("%") for line in latex.splitlines())
    compiled(tmp_path, latex + "Nothing")


@needs_latex
def test_latex_of_many_methods_and_of_many_tracks_compiles(tmp_path):
    many = [make_record(f"method-{i:03}", overall=i / 2) for i in range(100)]
    long = [make_record(f"{'long_name_' * 20}{i}", overall=i, **OTHER_DATASET) for i in range(20)]
    tracks = [
        make_record(dataset_title=f"Data {i}", spec={"dataset": {"name": f"data-{i}"}, "protocol": "other"})
        for i in range(60)
    ]
    latex = latex_export.write(make_board([*many, *long, *tracks]))
    compiled(tmp_path, latex, "twocolumn")
    assert "(part 3 of 3)" in latex
    shown = pdf_text(tmp_path)
    assert "method-099" in shown and "method-000" in shown and "Data 59" in shown
