"""The leaderboard: statistics, tables, page, plots, and the files on disk."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from factories import make_record, write_store
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image, PngImagePlugin
from rich.console import Console

from benchmark import leaderboard
from benchmark.errors import StoreError
from benchmark.leaderboard.page import build, escape, render
from benchmark.leaderboard.plots import DESCRIPTION, description_of
from benchmark.leaderboard.statistics import estimate
from benchmark.leaderboard.tables import build_tables
from benchmark.leaderboard.tracks import Track, settings_text, titles
from benchmark.store import load_records

OTHER_DATASET = {"spec": {"dataset": {"name": "coco-lt"}}}
TABLE_TAGS = {"table", "thead", "tbody", "tr", "th", "td"}
TRACK_CHANGES = {
    "dataset name": OTHER_DATASET,
    "fingerprint": {"spec": {"dataset": {"fingerprint": "b" * 64}}},
    "protocol": {"spec": {"protocol": "paper"}},
    "protocol version": {"spec": {"protocol_version": 2}},
    "backbone": {"spec": {"recipe": {"backbone": "resnet101"}}},
    "weights name": {"spec": {"weights": {"name": "IMAGENET1K_V2"}}},
    "weights digest": {"spec": {"weights": {"digest": "f" * 64}}},
    "no weights": {"spec": {"weights": {"name": "none", "digest": None}}},
    "image size": {"spec": {"recipe": {"image_size": 448}}},
    "overrides": {"spec": {"overrides": {"epochs": 3}, "recipe": {"epochs": 3}}},
}


def text_of(*records, **options) -> str:
    return build(records, **options).text


class _Cells(HTMLParser):
    """The tables of a rendered page as text: a list of rows for each, and all the tags there are."""

    def __init__(self, html: str):
        super().__init__()
        self.tables, self.tags, self._open = [], set(), False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._open = True

    def handle_endtag(self, tag):
        self._open = self._open and tag not in ("td", "th")

    def handle_data(self, data):
        if self._open:
            self.tables[-1][-1][-1] += data


def rendered(markdown: str) -> _Cells:
    return _Cells(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))


def rows_of(*records) -> dict[str, dict[str, str]]:
    """Method -> column -> text, of the one table of these records, as a reader of the page sees it."""
    header, *rows = rendered(text_of(*records)).tables[0]
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


# Statistics


def test_interval_against_hand_computed_values():
    # std of 1, 2, 3 with ddof 1 is 1; t(0.975, 2 degrees of freedom) = 4.302653.
    result = estimate([3.0, 1.0, 2.0])
    assert result.mean == 2.0
    assert result.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert result.n == 3
    # n = 2: t = 12.706205, std of 0, 2 is sqrt 2, and sqrt 2 / sqrt 2 = 1.
    assert estimate([0.0, 2.0]).half_width == pytest.approx(12.706205, rel=1e-6)


def test_single_run_has_no_interval():
    result = estimate([5.0])
    assert (result.mean, result.half_width, result.n) == (5.0, None, 1)


def test_gap_among_seeds_gives_no_mean():
    assert estimate([1.0, None, 3.0]) is None
    with pytest.raises(ValueError, match="no values"):
        estimate([])


@given(st.lists(st.floats(0, 100), min_size=2, max_size=10), st.randoms())
def test_estimate_does_not_depend_on_order(values, rng):
    shuffled = list(values)
    rng.shuffle(shuffled)
    assert estimate(values) == estimate(shuffled)


# Tracks and rows


@pytest.mark.parametrize("change", TRACK_CHANGES.values(), ids=TRACK_CHANGES)
def test_tracks_never_share_a_table(change):
    one, other = make_record(seed=0), make_record(seed=1, **change)
    tables = build_tables([one, other])
    assert [[row.n for row in table.rows] for table in tables] == [[1], [1]]
    assert len({table.title for table in tables}) == 2
    assert len({table.track.slug for table in tables}) == 2
    assert len(build([one, other]).plots) == 4


def test_titles_show_digests_only_where_tracks_read_the_same():
    plain, other = make_record(), make_record(**TRACK_CHANGES["fingerprint"])
    (alone,) = titles([Track.from_record(plain)]).values()
    assert alone == "VOC-LT · controlled v1 · resnet50, IMAGENET1K_V1 · 224 px"
    pair = titles([Track.from_record(plain), Track.from_record(other)]).values()
    assert list(pair) == [f"{alone} · dataset aaaaaaaa", f"{alone} · dataset bbbbbbbb"]


def test_track_title_names_what_the_user_changed():
    changes = {"epochs": 3, "optimizer": {"lr": 0.01}}
    (table,) = build_tables([make_record(spec={"overrides": changes})])
    assert table.title.endswith("· 224 px · epochs=3, optimizer.lr=0.01")


def test_slug_is_a_safe_file_name():
    spec = {"dataset": {"name": "../../Ä b/c"}, "recipe": {"backbone": "a:b*?"}, "weights": {"name": "x" * 300}}
    slug = Track.from_record(make_record(spec=spec)).slug
    assert slug.isascii() and len(slug) < 120 and not set(slug) & set("/\\:*? ") and not slug.startswith(".")


def test_settings_text_has_one_spelling():
    assert settings_text({"b": {"c": 2.0}, "a": True}) == settings_text({"a": True, "b": {"c": 2}}) == "a=true, b.c=2"
    assert settings_text({"a": "2"}) != settings_text({"a": 2})
    assert settings_text({"a": "x, b=1"}) != settings_text({"a": "x", "b": 1})


def test_rows_by_configuration_and_by_version():
    changed = {"config": {"gamma_neg": 2}, "config_overrides": {"gamma_neg": 2}}
    records = [make_record("asl", 0), make_record("asl", 0, spec=changed), make_record("erm", 0)]
    assert set(rows_of(*records)) == {"asl", "asl (gamma_neg=2)", "erm"}
    rows = rows_of(*records, make_record("erm", 1, spec={"method_version": 2}))
    assert set(rows) == {"asl", "asl (gamma_neg=2)", "erm v1", "erm v2"}
    assert rows["erm v1"]["n"] == rows["erm v2"]["n"] == "1"


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"weights": {"mean": [0.5, 0.5, 0.5]}}},
        {"spec": {"recipe": {"batch_size": 64}}},
        {"spec": {"recipe": {"selection": "best-val"}}},
    ],
    ids=["mean", "batch size", "selection"],
)
def test_records_that_differ_in_more_than_the_seed_are_rows_of_their_own(change):
    rows = rows_of(make_record(seed=0), make_record(seed=1, **change))
    assert [row["n"] for row in rows.values()] == ["1", "1"]
    assert all(label.startswith("erm [") for label in rows)


def test_two_records_of_one_run_are_an_error():
    with pytest.raises(StoreError, match="2 records hold the same run"):
        build_tables([make_record(overall=80.0), make_record(overall=81.0)])


def test_records_that_disagree_about_their_dataset_are_an_error():
    with pytest.raises(StoreError, match="not those of"):
        build_tables([make_record(seed=0), make_record(seed=1, num_test_images=7)])


# The table


def test_cells_hold_mean_interval_and_facts():
    records = [make_record(seed=seed, overall=value) for seed, value in ((2, 79.0), (0, 80.0), (1, 81.0))]
    row = rows_of(*records)["erm"]
    assert row["Overall"] == "80.00 ± 2.48"  # 4.302653 / sqrt(3)
    assert row["Tail"] == "75.00 ± 2.48"
    assert row["CF1"] == "70.00 ± 0.00"
    assert (row["n"], row["Seeds"], row["Epochs"], row["Weights"]) == ("3", "0, 1, 2", "8", "raw")
    assert row["Parameters trained / all (M)"] == "23.5 / 25.6"
    assert (row["Selection rule"], row["Test-time"]) == ("last", "none")
    assert row["Train time"] == "60 s (CPU, 2 threads)"


def test_train_time_is_a_mean_with_its_device():
    gpu = {"environment": {"gpu": "NVIDIA H100", "device": "cuda"}}
    records = [make_record(seed=s, timings={"train_s": t}, **gpu) for s, t in ((0, 600.0), (1, 900.0))]
    assert rows_of(*records)["erm"]["Train time"] == "12.5 min (NVIDIA H100)"
    assert rows_of(*records, make_record(seed=2))["erm"]["Train time"].endswith("(various)")


@pytest.mark.parametrize(
    ("test_time", "shown"),
    [
        ({}, "none"),
        ({"views": "flip"}, "flip"),
        ({"views": "five-crop"}, "five-crop (margin 24)"),
        ({"views": "five-crop", "margin": 32}, "five-crop (margin 32)"),
    ],
)
def test_views_of_the_test_are_a_column(test_time, shown):
    record = make_record(spec={"recipe": {"test_time": test_time}})
    assert rows_of(record)["erm"]["Test-time"] == shown
    (table,) = build_tables([record])
    assert table.to_pandas().loc[0, "Test-time"] == shown


def test_epochs_of_a_method_that_is_not_trained_are_none():
    untrained = make_record("zero-shot", history=[], selection={"epoch": 0}, parameters={"trained": 0})
    records = [make_record("erm"), untrained]
    assert {name: row["Epochs"] for name, row in rows_of(*records).items()} == {"erm": "8", "zero-shot": "0"}
    (table,) = build_tables(records)
    assert dict(zip(table.to_pandas()["Method"], table.to_pandas()["Epochs"], strict=True)) == {
        "erm": 8,
        "zero-shot": 0,
    }


def test_declared_weights_count():
    raw = make_record(overall=50.0).metrics.model_dump(mode="json")
    ema = {"recipe": {"report": "ema", "ema_decay": 0.99}}
    record = make_record(overall=90.0, spec=ema, results={"raw": raw})
    row = rows_of(record)["erm"]
    assert (row["Overall"], row["Weights"]) == ("90.00", "EMA")


def test_single_run_is_shown_without_plus_minus():
    assert rows_of(make_record(overall=80.0))["erm"]["Overall"] == "80.00"


def test_missing_cell_is_a_dash_and_comes_last():
    gap = {"results": {"raw": {"per_class": {"sofa": None, "sheep": None}}}}
    records = [make_record("erm", 0), make_record("erm", 1, **gap), make_record("rw", 0, overall=None)]
    rows = rows_of(*records, make_record("worst", 0, overall=1.0))
    assert rows["erm"]["Tail"] == "–"
    assert rows["erm"]["Medium"] == "80.00 ± 0.00"
    assert list(rows) == ["erm", "worst", "rw"]
    assert rows["rw"]["Overall"] == "–"


def test_rows_are_ranked_by_overall_then_by_name():
    records = [make_record("b", overall=80.0), make_record("a", overall=80.0), make_record("c", overall=81.0)]
    assert list(rows_of(*records)) == ["c", "a", "b"]


def test_all_that_equal_the_best_to_the_digits_shown_are_bold():
    text = text_of(make_record("a", overall=80.001), make_record("b", overall=80.004), make_record("c", overall=79.99))
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in reversed(text.splitlines())}
    assert "| **80.00** |" in lines["a"] and "| **80.00** |" in lines["b"]
    assert "**" not in lines["c"]
    assert "**70.00**" not in text  # CF1 is no mAP column


def test_pandas_has_numbers():
    (table,) = build_tables([make_record("a", 0, 79.0), make_record("a", 1, 81.0), make_record("b", 0, None)])
    frame = table.to_pandas()
    assert list(frame["Method"]) == ["a", "b"]
    assert frame.loc[0, "Overall"] == 80.0
    assert frame.loc[0, "Overall ±"] == pytest.approx(12.706205, rel=1e-6)
    assert math.isnan(frame.loc[1, "Overall"])
    assert frame.loc[0, "Train time (s)"] == 60.0


def test_rich_table_shows_names_as_they_are():
    hostile = {"[red]a\x1b[31m": 1}
    changed = {"config": hostile, "config_overrides": hostile}
    (table,) = build_tables([make_record(spec=changed, overall=80.0), make_record("b", overall=None)])
    console = Console(width=160)
    with console.capture() as capture:
        console.print(table.to_rich())
    shown = capture.get()
    assert "[red]a [31m" in shown and "\x1b[31m" not in shown
    assert "80.00" in shown and "–" in shown


def test_rich_table_fits_a_terminal_of_80_columns():
    uniform = {"config_overrides": {"sampler": "uniform"}}
    records = [make_record("db-focal", seed, 70.0 + seed, spec=uniform) for seed in range(3)]
    [table] = build_tables(records)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table.to_rich())
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("71.00 ± 2.48" in line and line.count("±") == 4 for line in lines)


# The page


def test_what_a_record_says_cannot_break_the_page():
    hostile = "<script>alert(1)</script>|x"
    names = {"a|b`[c](d)\n# e": "<b>"}
    record = make_record(
        method_title=hostile,
        dataset_title="![i](x) <b>\r\n| t",
        classes={"<u>|\n# person": 400, "[sheep](x)\n\n| y": 3},
        results={"raw": {"per_class": {"[sheep](x)\n\n| y": None}}},
        spec={
            "config": names,
            "config_overrides": names,
            "dataset": {"name": "<i>|\n# d"},
            "weights": {"name": "<s>|\n# w"},
        },
    )
    page = rendered(text_of(record))
    assert page.tags <= {"h1", "h2", "p", "ul", "li", "strong", "em", "hr", "img", "a", *TABLE_TAGS}
    main, runs = page.tables
    assert [len(row) for row in main] == [15, 15] and [len(row) for row in runs] == [3, 3]
    assert runs[1][:2] == ['erm (a|b`[c](d) # e="<b>")', hostile]


@given(st.text())
def test_escaped_text_shows_as_it_is(text):
    page = rendered(f"| a |\n| :-- |\n| {escape(text)} |\n")
    assert page.tags == TABLE_TAGS
    shown = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    assert page.tables[0][1:] == [[shown]]


def test_page_gives_the_counts_and_the_classes_without_a_positive():
    text = text_of(make_record(results={"raw": {"per_class": {"sheep": None}}}))
    assert "1,142 training images, 4,952 test images, 6 classes" in text
    assert "2 head (100 to 400), 2 medium (20 to 99), 2 tail (3 to 19)" in text
    assert "Classes without a test positive, in no mean: sheep." in text
    assert "without a test positive, in no mean" not in text_of(make_record())


def test_page_links_every_record():
    record = make_record()
    assert f"[{record.run_id[:12]}](runs/erm-s0-{record.run_id[:12]}/record.json)" in text_of(record)


def test_page_tells_when_seeds_were_made_with_different_code():
    other = {"environment": {"code_digest": "9" * 64}}
    assert "made with 2 versions of the code" in text_of(make_record(seed=0), make_record(seed=1, **other))


def test_same_bytes_in_any_order_of_the_records():
    records = [make_record(m, s, 70.0 + s * 1.1 + len(m) * 0.7) for m in ("erm", "asl", "db_focal") for s in range(3)]
    records += [make_record("erm", 0, **OTHER_DATASET), make_record("erm", 3, method_title="Newer", finished="2026")]
    first = render(records)
    random.Random(0).shuffle(records)
    assert render(records) == first
    assert len(first) == 5


# Plots


def test_plot_names_its_data_and_nothing_else():
    content = render([make_record()])
    (name,) = (name for name in content if name.endswith("-groups.png"))
    with Image.open(BytesIO(content[name])) as image:
        assert image.info["Description"].startswith(DESCRIPTION)
        assert "Software" not in image.info


def test_plot_is_the_same_whatever_the_user_set_in_matplotlib(monkeypatch):
    import matplotlib

    first = render([make_record()])
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 20}):
        assert render([make_record()]) == first
        assert matplotlib.rcParams["font.size"] == 30


@pytest.mark.parametrize("methods", [1, 6])
def test_plots_take_any_text_and_missing_values(methods):
    classes = {"$\\frac{$": 200, "_hidden": 50, "猫\n": 3}
    settings = [{f"_$m{i}$ \\x": "y" * 90} for i in range(methods)]
    records = [
        make_record(
            overall=None if i == 0 else 50.0,
            classes=classes,
            spec={"config": changed, "config_overrides": changed, "weights": {"name": "$\\frac{$"}},
            dataset_title="_$d$ \\x",
        )
        for i, changed in enumerate(settings)
    ]
    assert all(len(content) > 1000 for content in render(records).values())


def test_another_interval_or_mean_is_another_plot():
    def descriptions(values):
        return [
            plot.description
            for plot in build([make_record(seed=i, overall=v) for i, v in enumerate(values)]).plots.values()
        ]

    groups, classes = descriptions([79.0, 81.0])
    wider_groups, same_classes = descriptions([78.0, 82.0])
    assert groups != wider_groups  # another interval
    assert classes == same_classes  # the same means


# Files


@pytest.fixture
def store(tmp_path) -> Path:
    records = [make_record(method, seed, 70.0 + seed) for method in ("erm", "asl") for seed in range(3)]
    return write_store(tmp_path / "results", records)


def test_write_then_check_finds_nothing_and_writes_nothing_again(store):
    changed = leaderboard.write(store, store)
    assert [path.name for path in changed][-1] == "leaderboard.md" and len(changed) == 3
    assert leaderboard.check(store, store) == []
    assert leaderboard.write(store, store) == []
    assert not list(store.rglob("*.tmp"))


def test_files_on_disk_are_those_of_render(store):
    leaderboard.write(store, store)
    for name, content in render(load_records(store)).items():
        assert (store / name).read_bytes() == content


def test_check_before_the_first_write(store):
    differences = leaderboard.check(store, store)
    assert differences[0] == "leaderboard.md: missing"
    assert len(differences) == 3 and all("missing" in line for line in differences)


def test_check_finds_a_changed_digit(store):
    leaderboard.write(store, store)
    page = store / "leaderboard.md"
    page.write_text(page.read_text().replace("71.00", "71.01", 1))
    (difference,) = leaderboard.check(store, store)
    assert difference.startswith("leaderboard.md: line ") and "71.01" in difference and "\n" not in difference
    assert leaderboard.write(store, store) == [page]
    assert leaderboard.check(store, store) == []


def test_check_finds_missing_changed_and_cut_plots(store):
    groups, classes, _ = leaderboard.write(store, store)
    groups.unlink()
    assert leaderboard.check(store, store) == [f"plots/{groups.name}: missing"]
    groups.write_bytes(classes.read_bytes())
    assert leaderboard.check(store, store) == [f"plots/{groups.name}: does not show what the records give"]
    classes.write_bytes(classes.read_bytes()[:-200])
    assert len(leaderboard.check(store, store)) == 2
    assert leaderboard.write(store, store) == [groups, classes]
    assert leaderboard.check(store, store) == []


def test_plot_of_another_matplotlib_is_up_to_date(store):
    groups, *_ = leaderboard.write(store, store)
    fields = PngImagePlugin.PngInfo()
    fields.add_text("Description", description_of(groups))
    Image.new("RGB", (3, 3)).save(groups, pnginfo=fields)
    assert leaderboard.check(store, store) == []
    assert leaderboard.write(store, store) == []


def test_stray_plots_go_and_other_pictures_stay(store):
    groups, *_ = leaderboard.write(store, store)
    stray, foreign, text = (groups.with_name(name) for name in ("old-groups.png", "mine.png", "notes.png"))
    stray.write_bytes(groups.read_bytes())
    Image.new("RGB", (3, 3)).save(foreign)
    text.write_text("no picture")
    assert leaderboard.check(store, store) == ["plots/old-groups.png: no records give this plot"]
    assert leaderboard.write(store, store) == [stray]
    assert not stray.exists() and foreign.exists() and text.exists()


def test_links_are_right_from_another_folder(store, tmp_path):
    out = tmp_path / "site" / "page"
    leaderboard.write(store, out)
    links = [part.split(")")[0] for part in (out / "leaderboard.md").read_text().split("](")[1:]]
    assert len(links) == 2 + 6
    assert all((out / link).exists() for link in links)


def test_empty_store_says_so(tmp_path):
    (page,) = leaderboard.write(tmp_path, tmp_path)
    assert "There are no records yet" in page.read_text()
    assert leaderboard.check(tmp_path, tmp_path) == []
    assert leaderboard.tables(tmp_path) == []


def test_truncated_record_is_excluded_and_named(store):
    record = sorted(store.glob("runs/*/record.json"))[0]
    record.write_text(record.read_text()[:500])
    leaderboard.write(store, store)
    text = (store / "leaderboard.md").read_text()
    footer = text.split("\n---\n")[1]
    assert "5 records." in footer
    assert f"- runs/{record.parent.name}/record.json: the record is truncated" in footer
    assert str(store) not in text
    with pytest.raises(StoreError, match="truncated"):
        leaderboard.tables(store)


def test_unwritable_folder_is_one_line(store, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(StoreError) as error:
        leaderboard.write(store, blocked)
    assert str(blocked) in str(error.value) and "\n" not in str(error.value)


def test_matplotlib_and_pandas_are_imported_only_when_needed(store):
    leaderboard.write(store, store)
    code = (
        "import sys; from pathlib import Path; from benchmark import leaderboard\n"
        f"assert leaderboard.check(Path({str(store)!r}), Path({str(store)!r})) == []\n"
        "print([name for name in ('matplotlib', 'pandas', 'scipy.stats') if name in sys.modules])"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
