"""The leaderboard's tables, and its page in Markdown."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.factories import make_record, make_sample
from kit.pages import TABLE_TAGS, rendered
from rich.console import Console

from benchmark.errors import StoreError
from benchmark.leaderboard.board import make_board
from benchmark.leaderboard.build import build_tables
from benchmark.leaderboard.columns import columns_of
from benchmark.leaderboard.exports import json as json_export
from benchmark.leaderboard.exports import latex
from benchmark.leaderboard.frame import table_rows
from benchmark.leaderboard.pages.html import html_page
from benchmark.leaderboard.pages.markdown import escape
from benchmark.leaderboard.pages.markdown_page import markdown_page
from benchmark.leaderboard.stats.secondary import AtThreshold
from benchmark.leaderboard.stats.statistics import Estimate, estimate
from benchmark.leaderboard.terminal import terminal_table
from benchmark.leaderboard.tracks import Track, settings_text, titles

OTHER_DATASET = {"spec": {"dataset": {"name": "coco-lt"}}}
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
    return markdown_page(make_board(records, **options), {})


def rows_of(*records, **options) -> dict[str, dict[str, str]]:
    """Method -> column -> text, of the one table of these records, as a reader of the page sees it."""
    header, *rows = rendered(text_of(*records, **options)).tables[0]
    return {row[1]: dict(zip(header, row, strict=True)) for row in rows}


# Statistics


def test_interval_against_hand_computed_values():
    # std of 1, 2, 3 with ddof 1 is 1; t(0.975, 2 degrees of freedom) = 4.302653.
    result = estimate([3.0, 1.0, 2.0])
    assert result.mean == 2.0
    assert result.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert result.n == 3
    # n = 2: t = 12.706205, std of 0, 2 is sqrt 2, and sqrt 2 / sqrt 2 = 1.
    assert estimate([0.0, 2.0]).half_width == pytest.approx(12.706205, rel=1e-6)


def test_the_interval_covers_both_noises_and_is_no_narrower_than_either():
    # 1, 2, 3 and a standard deviation of 1 over test images: S = 1/3, I = 1, degrees of freedom 2 (4/3 / 1/3)^2 = 32.
    result = estimate([1.0, 2.0, 3.0], images=1.959964)
    assert result.seeds == pytest.approx(4.302653 / math.sqrt(3)) and result.images == 1.959964
    t = 2.036933  # 0.975 quantile with 32 degrees of freedom
    assert result.half_width == pytest.approx(max(result.seeds, t * math.sqrt(4 / 3)), rel=1e-5)
    wide = estimate([1.0, 2.0, 3.0], images=10 * 1.959964)
    assert wide.half_width == pytest.approx(1.96 * math.sqrt(100 + 1 / 3), rel=1e-2)
    assert estimate([1.0, 2.0, 3.0], images=0.1).half_width == result.seeds
    assert estimate([2.0, 2.0, 2.0], images=1.5).half_width == pytest.approx(1.5, rel=1e-5)
    assert estimate([2.0, 2.0], images=0.0).half_width == 0.0


def test_the_prediction_interval_is_that_of_one_more_run():
    result = estimate([1.0, 2.0, 3.0])
    assert result.prediction_half_width == pytest.approx(4.302653 * math.sqrt(1 + 1 / 3))
    # Over images both the mean and the run vary: variance 2 x 100 beside 4/3.
    wide = estimate([1.0, 2.0, 3.0], images=10 * 1.959964)
    assert wide.prediction_half_width == pytest.approx(1.96 * math.sqrt(200 + 4 / 3), rel=1e-2)
    little = estimate([1.0, 2.0, 3.0], images=0.1)
    assert little.prediction_half_width == result.prediction_half_width, "no narrower than over seeds alone"
    assert estimate([1.0], images=1.0).prediction_half_width is None


def test_single_run_has_the_images_part_alone():
    assert estimate([5.0]) == Estimate(5.0, None, 1, None, None)
    assert estimate([5.0], images=1.5) == Estimate(5.0, 1.5, 1, None, 1.5)


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


def test_titles_show_digests_only_where_tracks_read_the_same():
    plain, other = make_record(), make_record(**TRACK_CHANGES["fingerprint"])
    (alone,) = titles([Track.from_record(plain)]).values()
    assert alone == "VOC-LT · controlled v7 · resnet50, IMAGENET1K_V1 · 224 px"
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
    assert rows["erm v1"]["Overall"].endswith(" (1)") and rows["erm v2"]["Overall"].endswith(" (1)")


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
    assert [row["Overall"] for row in rows.values()] == ["80.00 (1)", "80.00 (1)"]
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
    assert row["Overall"] == "80.00 ± 2.48ˢ (3)"  # 4.302653 / sqrt(3), of the seeds: there are no logits
    assert row["Tail"] == "75.00 ± 2.48ˢ (3)"
    assert (row["CF1 top-3"], row["OF1 top-3"]) == ("–", "–"), "there are no logits"
    assert (row["Seeds"], row["Epochs"], row["Weights"]) == ("0, 1, 2", "8", "raw")
    assert (row["Rank"], row["W / T / L"]) == ("–", "–"), "there are no logits to compare"
    assert "vs ERM" not in row
    assert row["Parameters trained / all (M)"] == "23.5 / 25.6"
    assert (row["Selection rule"], row["Test-time"]) == ("last", "none")
    assert row["Train time"] == "60 s (CPU, 2 threads)"


def with_scores(records, threshold: float | None = None, **values: float):
    """Samples of records: of1_top3 50, 51, ...; at a threshold where one is given."""
    samples = {}
    for number, record in enumerate(records):
        sample = make_sample(record)
        beside = sample.secondary | {"of1_top3": 50.0 + number} | values
        at = None if threshold is None else AtThreshold(threshold, 30.0 + number, 60.0)
        samples[record.run_id] = replace(sample, secondary=beside, at_threshold=at)
    return samples


def test_f1_is_that_of_the_three_highest_where_nothing_was_validated():
    records = [make_record(seed=seed) for seed in range(3)]
    (table,) = build_tables(records, with_scores(records))
    assert [column.title for column in columns_of(table) if "F1" in column.title] == ["CF1 top-3", "OF1 top-3"]
    row = rows_of(*records, sampled=with_scores(records))["erm"]
    assert (row["CF1 top-3"], row["OF1 top-3"]) == ("40.00 ± 0.00ˢ (3)", "51.00 ± 2.48ˢ (3)")
    assert table.rows[0].threshold is None and math.isnan(table_rows([table]).loc[0, "OF1 val"])


def test_f1_at_the_threshold_is_a_column_where_a_row_has_one():
    first, second = ([make_record(method, seed) for seed in range(3)] for method in ("erm", "asl"))
    samples = with_scores(first, -0.25) | with_scores(second)
    rows = rows_of(*first, *second, sampled=samples)
    assert (rows["erm"]["CF1 val"], rows["erm"]["OF1 val"]) == ("31.00 ± 2.48ˢ (3)", "60.00 ± 0.00ˢ (3)")
    assert (rows["asl"]["CF1 val"], rows["asl"]["OF1 val"]) == ("–", "–")
    frame = table_rows(build_tables([*first, *second], samples)).set_index("Method")
    assert frame.loc["erm", "Threshold (logit)"] == -0.25 and math.isnan(frame.loc["asl", "Threshold (logit)"])


def test_a_row_of_which_a_seed_has_no_validation_logits_has_no_threshold():
    records = [make_record(seed=seed) for seed in range(2)]
    samples = with_scores(records[:1], 0.5) | with_scores(records[1:])
    row = build_tables(records, samples)[0].rows[0]
    assert row.threshold is None and row.beside("of1_val") is None and row.beside("of1_top3") is not None


def test_details_are_means_over_seeds():
    records = [make_record(seed=seed) for seed in range(2)]
    row = build_tables(records, with_scores(records, lrap=float("nan")))[0].rows[0]
    means = {name: (value := row.beside(name)) and value.mean for name in ("ap_std", "micro_ap", "lrap", "ece")}
    assert means == {"ap_std": 20.0, "micro_ap": 65.0, "lrap": None, "ece": 3.0}


def test_a_network_that_was_not_trained_has_no_calibration_error():
    record = make_record(history=[], selection={"epoch": 0})
    row = build_tables([record], with_scores([record]))[0].rows[0]
    assert row.beside("ece") is None and row.beside("lrap").mean == 85.0


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
    assert table_rows([table]).loc[0, "Test-time"] == shown


def test_epochs_of_a_method_that_is_not_trained_are_none():
    untrained = make_record("zero-shot", history=[], selection={"epoch": 0}, parameters={"trained": 0})
    records = [make_record("erm"), untrained]
    assert {name: row["Epochs"] for name, row in rows_of(*records).items()} == {"erm": "8", "zero-shot": "0"}
    (table,) = build_tables(records)
    assert table_rows([table]).set_index("Method")["Epochs"].to_dict() == {"erm": 8, "zero-shot": 0}


def test_declared_weights_count():
    raw = make_record(overall=50.0).metrics.model_dump(mode="json", exclude_unset=True)
    ema = {"recipe": {"report": "ema", "ema_decay": 0.99}}
    record = make_record(overall=90.0, spec=ema, results={"raw": raw})
    row = rows_of(record)["erm"]
    assert (row["Overall"], row["Weights"]) == ("90.00 (1)", "EMA")


def test_single_run_is_shown_with_the_images_part_alone():
    record = make_record(overall=80.0)
    assert rows_of(record)["erm"]["Overall"] == "80.00 (1)", "there are no logits"
    header, row = rendered(text_of(record, sampled={record.run_id: make_sample(record)})).tables[0]
    assert re.fullmatch(r"80\.00 ± [12]\.\d\dⁱ \(1\)", row[header.index("Overall")])


def compared(*methods: tuple[str, float], seeds: int = 3, **changes):
    """Records of methods with these scores, and their samples."""
    records = [make_record(m, seed, value + 0.3 * seed, **changes) for m, value in methods for seed in range(seeds)]
    return records, {record.run_id: make_sample(record) for record in records}


def test_each_row_stands_against_the_baseline():
    records, samples = compared(("asl", 90.0), ("erm", 70.0), ("rw", 70.1))
    alone = make_record("db", 0, 50.0)
    samples[alone.run_id] = make_sample(alone)
    [table] = build_tables([*records, alone], samples)
    assert table.baseline.label == "erm" and table.against_baseline["erm"] is None
    assert table.against_baseline["db"] is None, "another seed of it is not known"
    asl, rw = (table.against_baseline[name] for name in ("asl", "rw"))
    assert asl.is_apart and asl.difference == pytest.approx(20.0, abs=1e-3) and not rw.is_apart
    i, j = (next(k for k, row in enumerate(table.rows) if row.label == name) for name in ("asl", "erm"))
    assert asl.p_holm == pytest.approx(2 * asl.p) and asl.half_width == table.comparison.half_width[i, j]
    header, *rows = rendered(text_of(*records, alone, sampled=samples)).tables[0]
    cells = {row[1]: row[header.index("vs ERM")] for row in rows}
    assert (cells["erm"], cells["db"]) == ("baseline", "–")
    assert re.fullmatch(r"\+20\.00 ± \d\.\d\d\*", cells["asl"]) and re.fullmatch(r"\+0\.10 ± \d\.\d\d", cells["rw"])


@pytest.mark.parametrize("methods", [("asl", "rw"), ("erm",)])
def test_without_a_baseline_to_compare_with_there_is_no_such_column(methods):
    records, samples = compared(*((method, 70.0) for method in methods))
    [table] = build_tables(records, samples)
    assert table.baseline is None and "vs ERM" not in [column.title for column in columns_of(table)]
    assert set(table.against_baseline.values()) == {None}


def test_a_baseline_of_one_seed_is_none():
    records, samples = compared(("asl", 90.0), ("rw", 70.0))
    single = make_record("erm", 0, 60.0)
    [table] = build_tables([*records, single], samples | {single.run_id: make_sample(single)})
    assert table.baseline is None and table.detectable.pairs == 1


def test_a_table_says_what_it_can_find():
    records, samples = compared(("asl", 80.0), ("erm", 70.0), ("rw", 71.0))
    [table] = build_tables(records, samples)
    found = table.detectable
    assert (found.others, found.pairs) == (2, 3)
    assert 0 < found.pair < found.with_baseline and found.with_baseline < found.all_pairs
    assert found.text in text_of(*records, sampled=samples)
    assert f"{found.with_baseline:.2f} where all 2 are compared with erm" in found.text
    [pair] = build_tables([r for r in records if r.spec.method != "rw"], samples)
    assert "where all" not in pair.detectable.text, "one comparison is all there are"
    [no_baseline] = build_tables([r for r in records if r.spec.method != "erm"], samples)
    assert no_baseline.detectable.with_baseline is None and "of two methods" in no_baseline.detectable.text
    assert build_tables(records)[0].detectable is None


def test_the_two_parts_of_each_interval_stand_below_the_table():
    records, samples = compared(("asl", 80.0), ("erm", 70.0))
    [table] = build_tables(records, samples)
    header, first, _ = rendered(text_of(*records, sampled=samples)).tables[1]
    score = table.rows[0].scores["Tail"]
    assert dict(zip(header, first, strict=True))["Tail"] == f"± {score.seeds:.2f} / ± {score.images:.2f}"
    assert score.half_width >= max(score.seeds, score.images)


def test_missing_cell_is_a_dash_and_comes_last():
    gap = {"results": {"raw": {"per_class": {"sofa": None, "sheep": None}}}}
    records = [make_record("erm", 0), make_record("erm", 1, **gap), make_record("rw", 0, overall=None)]
    rows = rows_of(*records, make_record("worst", 0, overall=1.0))
    assert rows["erm"]["Tail"] == "–"
    assert rows["erm"]["Medium"] == "80.00 ± 0.00ˢ (2)"
    assert list(rows) == ["erm", "worst", "rw"]
    assert rows["rw"]["Overall"] == "–"


def test_rows_are_ranked_by_overall_then_by_name():
    records = [make_record("b", overall=80.0), make_record("a", overall=80.0), make_record("c", overall=81.0)]
    assert list(rows_of(*records)) == ["c", "a", "b"]


def test_all_that_equal_the_best_to_the_digits_shown_are_bold():
    text = text_of(make_record("a", overall=80.001), make_record("b", overall=80.004), make_record("c", overall=79.99))
    lines = {line.split(" | ")[1]: line for line in text.splitlines() if line.startswith("| ")}
    assert "| **80.00** (1) |" in lines["a"] and "| **80.00** (1) |" in lines["b"]
    assert "**" not in lines["c"]


def test_pandas_has_numbers():
    (table,) = build_tables([make_record("a", 0, 79.0), make_record("a", 1, 81.0), make_record("b", 0, None)])
    frame = table_rows([table])
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
        console.print(terminal_table(table))
    shown = capture.get()
    assert "[red]a [31m" in shown and "\x1b[31m" not in shown
    assert "80.00" in shown and "–" in shown


@pytest.mark.parametrize(("seeds", "shown"), [(3, r"71\.00 ± 2\.48"), (1, r"70\.00 ± [12]\.\d\dⁱ")])
def test_rich_table_fits_a_terminal_of_80_columns(seeds, shown):
    uniform = {"config_overrides": {"sampler": "uniform"}}
    records = [make_record("db-focal", seed, 70.0 + seed, spec=uniform) for seed in range(seeds)]
    [table] = build_tables(records, {record.run_id: make_sample(record) for record in records})
    console = Console(width=80)
    with console.capture() as capture:
        console.print(terminal_table(table))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert "Tail" in lines[2]
    assert any(
        len(re.findall(r"\d\d\.00 ± \d\.\d\d(?=[ⁱ ]|$)", line)) == 4 and re.search(shown, line) for line in lines
    )


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
    assert set(page.tags) <= {
        "h1",
        "h2",
        "p",
        "ul",
        "li",
        "strong",
        "em",
        "hr",
        "img",
        "a",
        "code",
        "details",
        "summary",
        *TABLE_TAGS,
    }
    table, _ = page.tables
    assert len(table[0]) == len(table[1]) and table[1][1] == 'erm (a|b`[c](d) # e="<b>")'


@given(st.text())
def test_escaped_text_shows_as_it_is(text):
    page = rendered(f"| a |\n| :-- |\n| {escape(text)} |\n")
    assert set(page.tags) == TABLE_TAGS
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
    assert f"[0](runs/erm-s0-{record.run_id[:12]}/record.json)" in text_of(record)


def test_page_tells_when_seeds_were_made_with_different_code():
    other = {"environment": {"code_digest": "9" * 64}}
    assert "made with 2 versions of the code" in text_of(make_record(seed=0), make_record(seed=1, **other))


def test_same_bytes_in_any_order_of_the_records():
    records = [make_record(m, s, 70.0 + s * 1.1 + len(m) * 0.7) for m in ("erm", "asl", "db_focal") for s in range(3)]
    records += [make_record("erm", 0, **OTHER_DATASET), make_record("erm", 3, method_title="Newer", finished="2026")]
    samples = {record.run_id: make_sample(record) for record in records}
    first = text_of(*records, sampled=samples)
    random.Random(0).shuffle(records)
    assert text_of(*records, sampled=samples) == first
    assert "Wins, ties and losses" in first


def test_a_summary_over_datasets_has_a_dash_for_a_missing_cell_and_no_mean():
    records = [make_record("erm", 0, 70.0), make_record("asl", 0, 71.0), make_record("erm", 1, 72.0)]
    records.append(make_record("erm", 0, 40.0, dataset_title="COCO-LT", **OTHER_DATASET))
    text = text_of(*records)
    tables = rendered(text).tables
    assert "## Over datasets: controlled v7 · resnet50, IMAGENET1K_V1 · 224 px" in text
    assert tables[-1] == [
        ["Method", "COCO-LT", "VOC-LT"],
        ["asl", "–", "71.00 (1)"],
        ["erm", "40.00 (1)", "71.00 ± 12.71ˢ (2)"],
    ]
    assert "Over datasets" not in text_of(*records[:3]), "of one dataset the table above says all"
    other = make_record("erm", 0, 40.0, spec={"dataset": {"name": "coco-lt"}, "recipe": {"image_size": 448}})
    assert "Over datasets" not in text_of(*records[:3], other), "another image size is another setting"


def test_a_summary_tells_versions_apart_on_all_datasets_alike():
    def run(method, version, dataset, **changes):
        name = {"name": f"set-{dataset}", "fingerprint": dataset * 64}
        spec = {"dataset": name, "method_version": version, **changes}
        return make_record(method, 0, dataset_title=f"Set {dataset}", spec=spec)

    changed = {"config": {"gamma_neg": 2}, "config_overrides": {"gamma_neg": 2}}
    records = [run("erm", 1, "a"), run("erm", 2, "b"), run("rw", 1, "a"), run("rw", 1, "b")]
    records += [run("asl", 1, "a"), run("asl", 1, "b"), run("asl", 2, "b"), run("asl", 1, "b", **changed)]
    board = make_board(records)
    assert [sorted(row.label for row in table.rows) for table in board.tables] == [
        ["asl", "erm", "rw"],
        ["asl v1", "asl v1 (gamma_neg=2)", "asl v2", "erm", "rw"],
    ], "a table of one track names a version where the track holds several"
    [summary] = board.summaries
    there = {label: [score is not None for score in scores] for label, scores in summary.rows.items()}
    assert there == {
        "asl v1": [True, True],
        "asl v1 (gamma_neg=2)": [False, True],
        "asl v2": [False, True],
        "erm v1": [True, False],
        "erm v2": [False, True],
        "rw": [True, True],
    }
    paper = latex.write(board).partition("Summary: ")[2]
    [exported] = json.loads(json_export.write(board))["summaries"]
    page = html_page(board, {}).partition("Over datasets")[2]
    for label in there:
        assert label.partition(" (")[0] in paper and f">{label}<" in page
    assert [row["label"] for row in exported["rows"]] == list(there)
    assert [row[0] for row in rendered(markdown_page(board, {})).tables[-1]] == ["Method", *there]


def test_excluded_records_are_counted_and_named():
    text = text_of(make_record(), excluded=["runs/b: *bad*", "runs/a: worse"])
    assert text.endswith("1 record.\n\n2 excluded:\n\n- runs/a: worse\n- runs/b: \\*bad\\*\n")
