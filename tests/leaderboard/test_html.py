"""The leaderboard as one HTML file: what it says, that it is safe and small, and how it works in a browser."""

from __future__ import annotations

import json
import random
import re
import shutil
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from kit.factories import CLASSES, make_record, make_sample
from kit.pages import Page

from benchmark.audit.reproduce import command
from benchmark.data.dataset import DATASETS
from benchmark.leaderboard.board import make_board
from benchmark.leaderboard.pages.html import html_page
from benchmark.leaderboard.pages.markdown_page import markdown_page
from benchmark.leaderboard.pages.run_data import run_data
from benchmark.leaderboard.samples import Oracle, Sample
from benchmark.leaderboard.stats.resampling import REPLICATES

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20" fill="teal"/></svg>'
SCRIPT, IMAGE = "<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>"
HOSTILE_CLASSES = {IMAGE if name == "sofa" else name: count for name, count in CLASSES.items()}
OTHER_DATASET = {"spec": {"dataset": {"name": "zoo-lt"}}, "dataset_title": "Zoo-LT"}
DETAILS = ["AP std", "Micro AP", "LRAP", "ECE", "Threshold (logit)"]
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
BROWSER_ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def history(epochs: int = 8, val: bool = False) -> list[dict]:
    return [
        {"epoch": i, "loss": 1 / i, "lr": 0.01 / i, "val_overall": 40.0 + i if val else None}
        for i in range(1, epochs + 1)
    ]


@cache
def fingerprint() -> str:
    return DATASETS.get("voc-lt").open().fingerprint


def on_voc(method: str, seed: int, overall: float, **changes):
    """A record on the registered lists."""
    changes["spec"] = {"dataset": {"fingerprint": fingerprint()}} | changes.get("spec", {})
    return make_record(method, seed, overall, **changes)


def store() -> list:
    """Runs of three tracks; the first has rows with every kind of value, and with missing ones."""
    times = {"timings": {"train_s": 7200.0}}
    gap = {"results": {"raw": {"per_class": {"sofa": None, "sheep": None}}}}
    best_val = {"recipe": {"selection": "best-val", "report": "ema", "ema_decay": 0.99}}
    settings = {"config": {"gamma": 2.0}, "config_overrides": {"gamma": 2.0}}
    scores = {"per_class": dict.fromkeys(CLASSES, 60.0)}
    focal = on_voc(
        "focal",
        4,
        75.0,
        spec=best_val | settings,
        history=history(val=True),
        validation=scores,
        results={"raw": scores},
        environment={"scheduler": {"SLURM_JOB_ID": "4711"}, "packages": {"torch": "2.1"}, "git_commit": "f" * 40},
        parameters={"trained": 5_000_000},
    )
    paper = {"protocol": "paper", "protocol_version": 2}
    return [
        *(on_voc("asl", seed, 80.0 + seed / 10, timings={"train_s": 90.0 + seed}) for seed in range(3)),
        *(on_voc("erm", seed, 70.0 + seed / 10, **times) for seed in range(3)),
        *(on_voc("rw", seed, 70.2, **gap) for seed in range(2)),
        focal,
        *(make_record(method, 0, 50.0, **OTHER_DATASET) for method in ("asl", "erm")),
        *(on_voc("db-focal", seed, 78.0 + seed, spec=paper) for seed in range(2)),
    ]


def hostile_store() -> list:
    spec = {
        "config": {"text": IMAGE},
        "config_overrides": {"text": IMAGE},
        "recipe": {"backbone": SCRIPT},
        "weights": {"name": IMAGE},
        "overrides": {"backbone": SCRIPT},
    }
    environment = {"host": IMAGE, "packages": {SCRIPT: IMAGE}, "scheduler": {SCRIPT: IMAGE}}
    return [
        make_record(
            "asl",
            seed,
            classes=HOSTILE_CLASSES,
            spec=spec,
            environment=environment,
            method_title=SCRIPT,
            dataset_title=IMAGE,
            results={"raw": {"per_class": {IMAGE: None}}},
        )
        for seed in range(2)
    ]


def board_of(records, oracle: str = "", **options):
    """oracle: the method that has the best-on-test number."""
    found = {record.run_id: make_sample(record) for record in records}
    for record in records:
        if record.spec.method == oracle:
            best = Oracle((90.0, 91.0, 92.0, 93.0), 3, "raw")
            found[record.run_id] = replace(found[record.run_id], oracle=best)
    return make_board(records, found, **options)


def page_of(board) -> str:
    return html_page(board, {table.track.slug: {"Bars": SVG, "Curves": SVG} for table in board.tables})


@pytest.fixture(scope="module")
def board():
    return board_of(store(), oracle="asl", excluded=["runs/x/record.json: truncated", "runs/y/record.json: <b>"])


@pytest.fixture(scope="module")
def parsed(board):
    return Page(page_of(board))


# What the file says


def test_rows_hold_what_the_tables_hold(board, parsed):
    table = board.tables[0]
    rows = parsed.table("Rank")
    assert list(rows) == [f"{row.label} {row.title}" for row in table.rows]
    asl = rows["asl Title of asl"]
    assert asl["Overall"] == "80.10 ± 1.15 (3)"
    assert asl["Oracle (not ranked)"] == "90.00 ± 0.00ˢ (3)"
    assert (asl["Rank"], asl["W\u00a0/\u00a0T\u00a0/\u00a0L"]) == ("1", "2 / 0 / 0")
    assert asl["Seeds"].split() == ["0", "1", "2"]
    assert asl["Train time"] == "91 s (CPU, 2 threads)"
    assert rows["rw Title of rw"]["Tail"] == rows["erm Title of erm"]["Oracle (not ranked)"] == "–"
    focal = rows["focal (gamma=2) Title of focal"]
    assert (focal["Rank"], focal["Weights"], focal["Selection rule"]) == ("–", "EMA", "best-val")
    assert re.fullmatch(r"75\.00 ± [12]\.\d\dⁱ \(1\)", focal["Overall"])
    assert (rows["erm Title of erm"]["vs ERM"], focal["vs ERM"]) == ("baseline", "–")
    assert re.fullmatch(r"\+10\.00 ± \d\.\d\d\*", asl["vs ERM"])
    assert table.detectable.text in " ".join(parsed.text.split())
    notes = [attributes.get("title", "") for tag, attributes in parsed.attributes if tag == "td"]
    score = table.rows[0].scores["Overall"]
    assert f"seeds ± {score.seeds:.2f}, test images ± {score.images:.2f}" in notes
    assert "Classes without a test positive, in no mean: sofa, sheep." in parsed.text
    assert "Rows of one seed are not compared with the others." in parsed.text


def test_the_oracle_has_a_column_only_where_there_is_one(parsed):
    headers = [table[0] for table in parsed.tables if "Rank" in table[0]]
    assert ["Oracle (not ranked)" in header for header in headers] == [True, False, True]


def test_tracks_summaries_and_published_results_are_there(board, parsed):
    overview = next(table for table in parsed.tables if "Rank group 1" in table[0])
    assert [row[0] for row in overview[1:]] == [table.track.dataset_title for table in board.tables]
    anchors = {attributes.get("id") for _, attributes in parsed.attributes}
    assert {f"track-{table.track.slug}" for table in board.tables} <= anchors
    (summary,) = board.summaries
    cells = next(table for table in parsed.tables if table[0] == ["Method", *summary.datasets])
    assert ["asl", "50.00", "80.10"] in [[row[0], *sorted(cell.split()[0] for cell in row[1:])] for row in cells[1:]]
    assert ["rw", "–"] in [[row[0], min(row[1:], key=len)] for row in cells[1:]]
    (published,) = board.published
    rows = next(table for table in parsed.tables if "Printed" in table[0])
    assert len(rows) == 2 + len(published.rows)
    printed = {row.result.method: cells[3:7] for row, cells in zip(published.rows, rows[2:], strict=True)}
    assert printed["LTML"] == ["81.44", "75.68", "85.53", "82.69"]
    asl = ["91.58 last 91.31 gap 0.27", "80.77 last 80.07 gap 0.70", "94.67 last 94.57 gap 0.10"]
    assert printed["CLIP fine-tuned with ASL"] == [*asl, "97.35 last 97.30 gap 0.05"]
    assert printed["CLIP fine-tuned with balanced ASL"][:2] == ["91.41 last 91.32 gap 0.09", "– last – gap –"]
    for footnote in published.footnotes:
        assert footnote in parsed.text
    assert "55 published results of COCO-LT: no run of protocol\npaper here." in parsed.text
    assert "printed value is taken for one run, for how many seeds are behind it is not known" in parsed.text


def test_without_a_table_of_published_results_none_is_explained():
    text = Page(page_of(board_of([make_record("asl")]))).text
    assert "46 published results of VOC-LT: no run of protocol\npaper here." in text
    assert "Published beside measured" in text and "Not comparable" not in text


def test_the_explanations_say_what_the_markdown_page_says(parsed):
    def words(text):
        return " ".join(re.sub(r"[*`]", "", text).replace("’", "'").lower().split())

    items = markdown_page(make_board([]), {}).split("\n- **")
    here, checked = words(parsed.text), 0
    for item in items:
        for name, start in (("Rank**", "the best mean leads"), ("W / T / L**", "wins,"), ("Oracle**", "the epoch and")):
            if item.startswith(name):
                assert words(item[item.index(start) :]) in here
                checked += 1
    assert checked == 3


def test_the_matrix_says_who_is_better(board, parsed):
    names = [f"{number} {row.label}" for number, row in enumerate(board.tables[0].rows, 1)]
    matrix = next(table for table in parsed.tables if table[0] == ["Method", *names])
    assert [row[0] for row in matrix[1:]] == names
    symbols = {"+": 1, "=": 0, "−": -1, "": None}
    assert [tuple(symbols[cell] for cell in row[1:]) for row in matrix[1:]] == list(board.tables[0].comparison.verdicts)
    titles = [a["title"] for tag, a in parsed.attributes if tag == "td" and a.get("class") in ("win", "tie", "loss")]
    assert all(re.match(r"\d+ against \d+: [+-][\d.]+ ± [\d.]+, p ", title) for title in titles) and titles


def test_a_matrix_of_too_many_rows_is_left_out():
    records = [
        make_record("asl", seed, 50.0, spec={"config": {"g": i}, "config_overrides": {"g": i}})
        for i in range(121)
        for seed in range(2)
    ]
    text = page_of(board_of(records))
    assert "it would have 121 columns" in text and 'class="matrix"' not in text


def test_records_left_out_are_counted_and_named(parsed):
    assert "13 records." in parsed.text and "2 left out" in parsed.text
    assert "runs/y/record.json: <b>" in parsed.text and "b" not in parsed.tags


def test_pictures_are_in_the_page_in_order(board):
    captions = ["Bars", 'Curves of "<b>"']
    text = html_page(board, {board.tables[0].track.slug: dict.fromkeys(captions, SVG)})
    images = [attributes for tag, attributes in Page(text).attributes if tag == "img"]
    assert [image["alt"] for image in images] == [f"{caption}: {board.tables[0].title}" for caption in captions]
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in images)


def test_no_records_no_tables():
    text = html_page(make_board([]), {})
    assert "no run has finished" in text and "<table" not in text
    assert json.loads(run_data(make_board([])))["records"] == {}


def test_the_data_of_a_run_is_that_of_its_record(board):
    data = json.loads(run_data(board))
    records = [record for table in board.tables for row in table.rows for record in row.records]
    assert list(data["records"]) == [record.run_id[:12] for record in records]
    record = next(record for record in records if record.spec.method == "focal")
    run = data["records"][record.run_id[:12]]
    whole = json.loads(record.to_json())
    spec = {key: value for key, value in whole["spec"].items() if key not in ("seed", "recipe", "weights")}
    assert data["shared"][run["spec"]] == spec
    assert data["shared"][run["recipe"]] == record.spec.recipe.model_dump(mode="json")
    assert data["shared"][run["scheduler"]] == {"SLURM_JOB_ID": "4711"}
    assert run["scores"]["raw"] == [60.0, 60.0, 60.0, 60.0] == run["validation"]
    assert run["scores"]["ema"] == [75.0, 80.0, 75.0, 70.0]
    assert run["beside"] == [40.0, 45.0, None, None, 20.0, 65.0, 85.0, 3.0, None]
    assert run["history"]["val"] == [41.0, 42.0, 43.0, 44.0, 45.0, 46.0, 47.0, 48.0]
    assert run["history"]["loss"][2] == 0.3333
    assert run["command"] == command(record)
    row = data["rows"][run["row"]]
    assert (row["label"], data["tracks"][row["track"]]["title"]) == ("focal (gamma=2)", board.tables[0].title)


# The file itself


def test_the_same_records_in_any_order_give_the_same_bytes():
    records = store()
    first = page_of(board_of(records, oracle="asl"))
    random.Random(1).shuffle(records)
    assert page_of(board_of(records, oracle="asl")) == first


def test_nothing_comes_from_elsewhere_and_nothing_of_a_record_is_markup():
    plain, hostile = Page(page_of(board_of(store()))), Page(page_of(board_of(hostile_store())))
    policy = next(a["content"] for _, a in hostile.attributes if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy
    assert set(hostile.tags) <= set(plain.tags)
    for page in (plain, hostile):
        assert page.tags.count("script") == 2 and page.tags.count("style") == 1
        for tag, attributes in page.attributes:
            assert not {name for name in attributes if name.startswith("on") or name == "style"}
            assert not (tag in ("script", "link", "iframe") and {"src", "href"} & set(attributes))
            if "src" in attributes:
                assert attributes["src"].startswith("data:image/svg+xml;base64,")
            if "href" in attributes:
                assert attributes["href"].startswith(("#", "runs/"))


def test_no_text_of_a_record_ends_the_data():
    text = page_of(board_of(hostile_store()))
    inside = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL).group(1)
    assert not set("<>&") & set(inside)
    data = json.loads(inside)
    assert IMAGE in [name for name, _, _ in data["tracks"][0]["classes"]]
    assert SCRIPT in data["shared"]


def test_a_store_of_thousands_of_runs_stays_small():
    records, flat = [], np.full((4, 1 + REPLICATES), 50, np.float32)
    first = make_record("asl", 0, 50.0, history=history(12))
    for row in range(200):
        config = {"config": {"gamma": row}, "config_overrides": {"gamma": row}}
        for seed in range(10):
            spec = first.spec.model_copy(update=config | {"seed": seed})
            records.append(first.model_copy(update={"spec": spec, "run_id": spec.run_id}))
    board = make_board(records, {record.run_id: Sample(flat, {"targets": "f" * 64}) for record in records})
    assert board.num_records == 2000
    assert len(html_page(board, {}).encode()) < 2000 * 2500


# In a browser


def find_browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = find_browser()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=BROWSER_ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(board, tmp_path_factory):
    path = tmp_path_factory.mktemp("html") / "leaderboard.html"
    path.write_text(page_of(board), encoding="utf-8")
    return path


@pytest.fixture
def visit(browser):
    """Open a file as a page; afterwards nothing was asked of the network and nothing was complained of."""
    opened = []

    def go(path, fragment="", **options):
        context = browser.new_context(**options)
        page, seen = context.new_page(), SimpleNamespace(requests=[], complaints=[])
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("console", lambda message: seen.complaints.append(message.text))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (seen.complaints.append(dialog.message), dialog.dismiss()))
        page.set_default_timeout(20_000)
        page.goto(path.as_uri() + fragment)
        opened.append((context, path, seen))
        return page

    yield go
    for context, path, seen in opened:
        context.close()
        assert seen.complaints == []
        assert {url.partition("#")[0] for url in seen.requests if not url.startswith("data:")} == {path.as_uri()}


def column(page, name: str) -> list[str]:
    """The cells of a column of the first track's rows that are shown."""
    return page.evaluate(
        """name => {
          const table = document.querySelector("table.results");
          const index = [...table.tHead.rows[0].cells].findIndex((cell) => cell.innerText.startsWith(name));
          const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
          return rows.map((row) => row.cells[index].textContent.trim());
        }""",
        name,
    )


def sort(page, name: str) -> str:
    """Click a header of the first track; how it is sorted then."""
    header = page.locator("table.results").first.locator("thead th", has_text=name).first
    header.locator("button").click()
    return header.get_attribute("aria-sort")


def test_scores_sort_both_ways_with_missing_ones_last(visit, file):
    page = visit(file)
    assert column(page, "Overall")[0] == "80.10 ± 1.15 (3)"
    assert sort(page, "Overall") == "ascending"
    assert [text.split()[0] for text in column(page, "Overall")] == ["70.10", "72.70", "75.00", "80.10"]
    assert sort(page, "Tail") == "descending"
    assert [text.split()[0] for text in column(page, "Tail")] == ["75.10", "70.00", "65.10", "–"]
    assert sort(page, "Tail") == "ascending"
    assert [text.split()[0] for text in column(page, "Tail")] == ["65.10", "70.00", "75.10", "–"]
    assert page.locator("table.results").first.locator('th[aria-sort="ascending"]').count() == 1


def test_what_stands_beside_the_metric_is_folded_away_below_the_table(visit, file):
    page = visit(file)
    details = page.locator("section.track details", has_text="Scores beside the metric").first
    table = details.locator("table")
    assert not table.is_visible()
    details.locator("summary").click()
    names = [text.strip(" ↕↑↓") for text in table.locator("th[scope=col]").all_inner_texts()]
    assert names == ["Method", *DETAILS]
    cells = {
        row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()
    }
    assert cells["asl"] == ["20.00 ± 0.00ˢ (3)", "65.00 ± 0.00ˢ (3)", "85.00 ± 0.00ˢ (3)", "3.00 ± 0.00ˢ (3)", "–"]


def test_every_kind_of_column_sorts(visit, file):
    page = visit(file)
    firsts = {
        "Rank": "1",
        "Method": "asl Title of asl",
        "vs ERM": "+10.00 ± 1.63*",
        "W": "2 / 0 / 0",
        "Oracle": "90.00 ± 0.00ˢ (3)",
        "Parameters": "5.000 / 25.6",
        "Epochs": "8",
        "Weights": "EMA",
        "Selection rule": "best-val",
        "Test-time": "none",
        "Train time": "60 s (CPU, 2 threads)",
        "Seeds": "4",
    }
    for name, first in firsts.items():
        before = column(page, name)
        assert sort(page, name) == ("descending" if name in ("vs ERM", "W", "Oracle") else "ascending")
        one = column(page, name)
        sort(page, name)
        other = column(page, name)
        assert sorted(one) == sorted(other) == sorted(before)
        assert one[0] == first
        # Those that are missing stay last, the others turn round.
        known = len(one) - one.count("–")
        assert set(one[known:]) | set(other[known:]) <= {"–"}
        assert (one[0], one[known - 1]) == (other[known - 1], other[0])


def test_filters_by_all_words_and_by_values(visit, file, board):
    page = visit(file)
    title = board.tables[0].title
    box = page.get_by_role("searchbox", name=f"Filter methods of {title}", exact=True)
    assert page.get_by_role("search", name=f"Filter methods of {title}", exact=True).count() == box.count() == 1
    shown = page.locator(".shown").first
    assert shown.inner_text() == "4 of 4 rows shown" and shown.get_attribute("role") == "status"
    box.fill("GAMMA=2 title")
    assert column(page, "Method") == ["focal (gamma=2) Title of focal"]
    assert shown.inner_text() == "1 of 4 rows shown"
    box.fill("no such")
    assert column(page, "Method") == []
    box.press("Enter")
    box.fill("")
    page.get_by_label("Selection rule").first.select_option("last")
    assert column(page, "Selection rule") == ["last"] * 3
    box.fill("asl")
    sort(page, "Head")
    assert len(column(page, "Method")) == 1
    page.get_by_label("Weights").first.select_option("EMA")
    assert shown.inner_text() == "0 of 4 rows shown"


def test_a_run_opens_by_click_and_back_returns_to_its_link(visit, file):
    page = visit(file)
    link = page.locator(".seeds a", has_text="4").first
    link.scroll_into_view_if_needed()
    link.click()
    page.get_by_role("heading", name="focal (gamma=2), seed 4").wait_for()
    assert not page.locator("#board").is_visible()
    text = page.locator("#run").inner_text()
    for part in (
        "Title of focal",
        "chosen by the rule best-val",
        "SLURM_JOB_ID",
        "4711",
        "torch",
        "f" * 40,
        "5,000,000",
    ):
        assert part in text
    scores = page.locator("#run table").first
    assert scores.locator("tbody tr").count() == 7
    rows = scores.locator("tbody tr").evaluate_all("rows => rows.map(r => [...r.cells].map(c => c.textContent))")
    parts = {name: overall for name, overall, *_ in rows}
    assert parts["Mean over 1 seed of this row"] == "75.00" and parts["± of seeds"] == "–"
    assert parts["± of test images"] == parts["± 95 % seeds and test images, as far as known"]
    assert "70.00" in scores.inner_text() and "these count" in scores.inner_text()
    beside = page.locator("#run table").nth(1)
    assert beside.locator("th").all_inner_texts() == ["CF1 top-3", "OF1 top-3", "CF1 val", "OF1 val", *DETAILS]
    assert beside.locator("td").all_inner_texts() == [
        "40.00",
        "45.00",
        "–",
        "–",
        "20.00",
        "65.00",
        "85.00",
        "3.00",
        "–",
    ]
    assert page.locator("#run svg").count() == 3
    assert page.locator("#run svg").last.locator("circle").count() == 8
    record = page.get_by_role("link", name="record.json").get_attribute("href")
    assert re.fullmatch(r"runs/focal-s4-[0-9a-f]{12}/record\.json", record)
    page.go_back()
    page.locator("#board").wait_for()
    assert not page.locator("#run").is_visible()
    assert page.evaluate("document.activeElement.dataset.run") == link.get_attribute("data-run")
    assert page.title() == "ltbench leaderboard"


def test_a_run_opens_and_closes_by_keyboard(visit, file):
    page = visit(file)
    page.get_by_role("searchbox").first.focus()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset?.run"):
            break
    run = page.evaluate("document.activeElement.dataset.run")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="asl, seed 0").wait_for()
    assert page.url.endswith(f"#run/{run}")
    page.keyboard.press("Tab")
    assert "Back" in page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Escape")
    page.locator("#board").wait_for()
    assert page.evaluate("document.activeElement.dataset.run") == run
    page.keyboard.press("Enter")
    page.locator("#run").wait_for()
    page.get_by_role("link", name="Back to the table").click()
    page.locator("#board").wait_for()
    assert page.evaluate("document.activeElement.dataset.run") == run


def test_the_place_on_the_page_is_kept(visit, file):
    page = visit(file, viewport={"width": 900, "height": 500})
    link = page.locator("table.results").last.locator("a[data-run]").first
    link.scroll_into_view_if_needed()
    before = page.evaluate("window.scrollY")
    link.click()
    page.locator("#run h1").wait_for()
    assert page.evaluate("window.scrollY") == 0
    page.keyboard.press("Escape")
    page.locator("#board").wait_for()
    page.wait_for_timeout(100)
    assert before > 0 and page.evaluate("window.scrollY") == before


def test_the_skip_link_leads_to_the_tables(visit, file):
    page = visit(file)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "tables"


@pytest.mark.parametrize(("count", "scrolls"), [(20, False), (40, False), (41, True)])
def test_only_long_tables_of_classes_scroll_by_themselves(visit, tmp_path, count, scrolls):
    record = make_record(classes={f"class {i}": 100 - i for i in range(count)})
    path = tmp_path / "page.html"
    path.write_text(html_page(make_board([record]), {}), encoding="utf-8")
    page = visit(path, f"#run/{record.run_id[:12]}")
    box = page.locator(".scroll", has=page.locator("table.classes"))
    assert box.locator("tbody tr").count() == count
    assert box.evaluate("node => node.scrollHeight > node.clientHeight") == scrolls


def test_the_command_is_copied(visit, file, board):
    record = next(r for table in board.tables for row in table.rows for r in row.records if r.spec.method == "focal")
    page = visit(file, f"#run/{record.run_id[:12]}", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the command").click()
    page.get_by_text("Copied", exact=True).wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == command(record)


def test_a_deep_link_opens_a_run_with_its_seeds_and_classes(visit, file, board):
    record = board.tables[0].rows[0].records[1]
    page = visit(file, f"#run/{record.run_id[:12]}")
    assert page.locator("h1:visible").inner_text() == "asl, seed 1"
    assert "best on the test set, not ranked: epoch 3" in page.locator("#run table").first.inner_text()
    classes = page.locator("table.classes")
    names = classes.locator("tbody th")
    assert names.all_inner_texts() == list(CLASSES)
    assert page.locator("#run .tall").count() == 0
    classes.get_by_role("button", name="Training images").click()
    assert names.all_inner_texts() == sorted(CLASSES, key=CLASSES.get)
    page.get_by_role("link", name="2", exact=True).click()
    page.get_by_role("heading", name="asl, seed 2").wait_for()
    page.go_back()
    page.get_by_role("heading", name="asl, seed 1").wait_for()
    page.keyboard.press("Escape")
    page.locator("#board").wait_for()
    assert page.evaluate("document.activeElement.dataset.run") == record.run_id[:12]


@pytest.mark.parametrize("digits", [6, 9, 13, 64])
def test_a_run_is_found_by_any_part_of_its_id_that_is_long_enough(visit, file, board, digits):
    record = board.tables[0].rows[0].records[1]
    page = visit(file, f"#run/{record.run_id[:digits]}")
    assert page.locator("h1:visible").inner_text() == "asl, seed 1"
    assert page.locator('#run [aria-current="page"]').inner_text() == "1"
    page.keyboard.press("Escape")
    page.locator("#board").wait_for()
    assert page.evaluate("document.activeElement.dataset.run") == record.run_id[:12]


def test_a_part_of_several_ids_opens_none_of_them(visit, tmp_path):
    records = [
        make_record("asl", seed).model_copy(update={"run_id": f"123456{letter * 58}"})
        for seed, letter in enumerate("ab")
    ]
    path = tmp_path / "page.html"
    path.write_text(html_page(make_board(records), {}), encoding="utf-8")
    page = visit(path, "#run/123456")
    assert "2 runs on this page have an id that begins with “123456”" in page.locator("#run").inner_text()
    page.evaluate("location.hash = '#run/123456b'")
    page.get_by_role("heading", name="asl, seed 1").wait_for()


@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        ("#run/0123456789ab", "No run on this page has an id that begins with “0123456789ab”."),
        ("#run/" + "0" * 64, "No run on this page has an id"),
        ("#run/<img src=x onerror=alert(1)>", "begins with “<img src=x onerror=alert(1)>”"),
        ("#run/toString", "No run on this page has an id that begins with “toString”."),
        ("#run/", "by the first 6 digits of its id or more"),
        ("#run/%", "by the first 6 digits of its id or more"),
    ],
)
def test_an_unknown_run_is_said_to_be_unknown(visit, file, fragment, said):
    page = visit(file, fragment)
    assert page.locator("h1:visible").inner_text() == "Run not found"
    assert said in page.locator("#run").inner_text()
    page.keyboard.press("Escape")
    page.locator("#board").wait_for()


def test_the_matrix_unfolds(visit, file):
    page = visit(file)
    matrix = page.locator("table.matrix").first
    assert not matrix.is_visible()
    page.get_by_text("Wins, ties and losses of each method").first.click()
    assert matrix.is_visible()
    assert matrix.locator("td.win").first.inner_text() == "+"


@pytest.mark.parametrize("options", [{"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 640}}])
def test_dark_and_narrow(visit, file, options):
    page = visit(file, **options)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.locator("a[data-run]").first.click()
    page.locator("#run h1").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == ("color_scheme" in options)


def test_pictures_are_shown(visit, file):
    page = visit(file)
    picture = page.locator("img").first
    picture.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('img').naturalWidth === 40")


def test_on_paper_everything_is_unfolded_and_nothing_cut_off(visit, file):
    page = visit(file, viewport={"width": 1040, "height": 700})
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("table.matrix").first.is_visible()
    assert not page.locator("form.filters").first.is_visible()
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every((e) => e.scrollWidth <= e.clientWidth)")


def test_what_records_say_is_shown_as_text(visit, tmp_path):
    board = board_of(hostile_store())
    path = tmp_path / "page.html"
    path.write_text(page_of(board), encoding="utf-8")
    page = visit(path)
    assert SCRIPT in page.locator("table.results").inner_text()
    page.locator("a[data-run]").first.click()
    page.locator("#run h1").wait_for()
    shown = page.locator("#run").inner_text()
    assert SCRIPT in shown and IMAGE in shown
    assert IMAGE in page.locator("table.classes").inner_text()
    assert page.locator("#run img, #run script").count() == 0


def test_without_javascript_tables_and_pictures_are_there(visit, file):
    page = visit(file, java_script_enabled=False)
    assert page.locator("table.results").first.is_visible()
    assert page.locator("img").first.is_visible()
    assert page.locator("thead button").count() == 0
    assert not page.locator("form.filters").first.is_visible()
    assert page.locator("a[data-run]").first.get_attribute("href").endswith("/record.json")


def test_hundreds_of_rows_sort_quickly(visit, tmp_path):
    first, records = make_record("asl", 0, 50.0), []
    for row in range(500):
        spec = first.spec.model_copy(update={"config": {"g": row}, "config_overrides": {"g": row}})
        records.append(first.model_copy(update={"spec": spec, "run_id": spec.run_id}))
    path = tmp_path / "page.html"
    path.write_text(html_page(make_board(records), {}), encoding="utf-8")
    page = visit(path)
    took = page.evaluate(
        """() => {
          const start = performance.now();
          for (const button of document.querySelectorAll("table.results thead button")) button.click();
          return performance.now() - start;
        }"""
    )
    assert took < 5000
