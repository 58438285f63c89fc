"""Pictures of a track: their data against hand-made records, their layout, and their files."""

from __future__ import annotations

import itertools
import json
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.factories import CLASSES, make_record, make_sample
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from benchmark.leaderboard import plots as plots_package
from benchmark.leaderboard.build import build_tables
from benchmark.leaderboard.plots import (
    DESCRIPTION,
    FORMATS,
    Plot,
    description_of,
    draw,
    kinds,
    layout,
    picture,
    plots,
    style,
)
from benchmark.leaderboard.plots.content import MAX_PANELS, MAX_ROWS, short
from benchmark.leaderboard.plots.kinds import heatmap, training
from benchmark.leaderboard.plots.kinds.difference import cliques, spread
from benchmark.leaderboard.rows import METRICS
from benchmark.leaderboard.samples import Oracle
from benchmark.leaderboard.tables import Table

pytestmark = pytest.mark.slow

ALWAYS = {"groups", "classes", "heatmap", "training"}
HOSTILE = {
    "$\\frac{$": 200,
    "_hidden": 150,
    "<script>x</script>": 120,
    "猫\n犬": 0,
    "שלום": 3,
    "W" * 90: 3,
    "\x1b[1m&": 3,
}


@dataclass(frozen=True)
class FakeComparison:
    verdicts: tuple[tuple[int | None, ...], ...]


def table_of(*records, verdicts=None, oracles=None) -> Table:
    """The one table of these records; verdicts: of its rows; oracles: record -> overall mAP of its best epoch."""
    samples = {
        record.run_id: replace(make_sample(record), oracle=Oracle((best, None, None, None), 1, "raw"))
        for record, best in zip(records, oracles or [], strict=False)
        if best is not None
    }
    (table,) = build_tables(records, samples)
    vars(table)["comparison"] = verdicts and FakeComparison(verdicts)
    return table


def data_of(kind: str, table: Table) -> dict:
    plot = plots(table)[kind]
    assert json.loads(json.dumps(plot.data)) == plot.data
    return plot.data


def history(*losses: float, validation: tuple[float | None, ...] = (), stages: str = "") -> list[dict]:
    return [
        {"epoch": epoch, "loss": loss, "lr": 0.1, "val_overall": val, "stage": stage}
        for epoch, (loss, val, stage) in enumerate(
            zip(losses, validation or [None] * len(losses), stages or "a" * len(losses), strict=True), 1
        )
    ]


def ties(n: int, width: int = 1) -> tuple[tuple[int | None, ...], ...]:
    """Verdicts of n rows that are not told apart from the `width` next ones."""
    return tuple(
        tuple(None if i == j else 0 if abs(i - j) <= width else 1 if i < j else -1 for j in range(n)) for i in range(n)
    )


def large_table(rows: int, num_classes: int, seeds: int = 2) -> Table:
    """Long names, two devices, a row without training, validation scores, oracles, missing values, comparisons."""
    names = {f"class {i} of a long name": max(0, int(900 / (i + 1) ** 1.6) - 1) for i in range(num_classes)}
    records, oracles = [], []
    for row in range(rows):
        changed = {"a_long_setting": f"value-{row}"} if row % 3 else {"g": row}
        for seed in range(seeds):
            untrained = row == 2
            records.append(
                make_record(
                    ("asl", "a-method-with-a-long-name")[row % 2],
                    seed,
                    40.0 + row + seed / 3,
                    classes=names,
                    results={"raw": {"per_class": {"class 1 of a long name": None}}} if row == 1 else {},
                    spec={"config": changed, "config_overrides": changed},
                    environment={"gpu": "NVIDIA H100"} if row % 2 else {},
                    timings={"train_s": 0.0 if untrained else 50.0 * (row + 1) ** 2},
                    parameters={"trained": 0 if untrained else 1000 * (row + 1) ** 3, "all": 10**8},
                    history=[] if untrained else history(2.0, 1e-5, 0.5, validation=(1.0, 50.0, None), stages="aab"),
                    selection={"epoch": 0 if untrained else 3},
                )
            )
            oracles.append(records[-1].metrics.overall + row / 7)
    return table_of(*records, verdicts=ties(rows, 3), oracles=oracles)


# Which pictures


def test_a_single_run_has_only_the_pictures_that_say_something():
    assert set(plots(table_of(make_record()))) == ALWAYS
    assert set(plots(table_of(make_record(history=[], selection={"epoch": 0})))) == ALWAYS - {"training"}
    assert set(plots(table_of(make_record(overall=None)))) == ALWAYS - {"heatmap"}


def test_more_rows_seeds_comparisons_and_oracles_have_more():
    records = [make_record(method, seed) for method in ("a", "b") for seed in (0, 1)]
    assert set(plots(table_of(*records[:2]))) == ALWAYS | {"seeds"}
    assert set(plots(table_of(*records))) == ALWAYS | {"seeds", "cost"}
    every = plots(table_of(*records, verdicts=ties(2), oracles=[90.0] * 4))
    assert list(every) == ["groups", "difference", "classes", "heatmap", "seeds", "cost", "training", "oracle"]
    assert len({plot.alt for plot in every.values()}) == len(every)


KIND = """
PLACE = 2.5
ALT = "Number of rows"

def data(table):
    return {"title": table.title, "note": "", "rows": len(table.rows)} if len(table.rows) > 1 else None

def draw(figure, data):
    from benchmark.leaderboard.plots import layout

    layout.page(figure, "Rows", data, 1.0)
    figure.subplots().bar(["rows"], [data["rows"]])
"""


def test_a_module_is_all_that_another_kind_of_picture_takes(tmp_path, monkeypatch):
    (tmp_path / "rows.py").write_text(KIND)
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path)])
    records = [make_record("a"), make_record("b")]
    found = plots(table_of(*records))
    assert list(found) == ["groups", "rows", "classes", "heatmap", "cost", "training"]
    assert found["rows"].alt == "Number of rows" and found["rows"].data["rows"] == 2
    assert set(found["rows"].files()) == set(FORMATS)
    assert "rows" not in plots(table_of(*records[:1]))


# Their data


def test_groups_are_means_with_intervals():
    data = data_of("groups", table_of(make_record("a", 0, 79.0), make_record("a", 1, 81.0), make_record("b", 0, 50.0)))
    assert data["title"] == "VOC-LT · controlled v7 · resnet50, IMAGENET1K_V1 · 224 px" and data["note"] == ""
    first, second = data["methods"]
    assert first["label"] == "a" and first["n"] == 2
    assert first["bars"]["Overall"] == [80.0, 12.706]
    assert [second["bars"][name] for name in METRICS] == [
        [50.0, None],
        [55.0, None],
        [50.0, None],
        [45.0, None],
    ]


def test_another_interval_is_another_picture_of_the_groups_alone():
    def descriptions(*values):
        table = table_of(*(make_record(seed=seed, overall=value) for seed, value in enumerate(values)))
        return {kind: plot.description for kind, plot in plots(table).items()}

    one, other = descriptions(79.0, 81.0), descriptions(78.0, 82.0)
    assert {kind for kind in one if one[kind] != other[kind]} == {"groups", "seeds"}


def test_classes_are_means_over_seeds_by_count():
    gap = {"results": {"raw": {"per_class": {"sofa": None}}}}
    data = data_of("classes", table_of(make_record("a", 0, 79.0), make_record("a", 1, 81.0, **gap)))
    assert [(item["label"], item["count"]) for item in data["classes"]] == list(CLASSES.items())
    assert [item["group"] for item in data["classes"]] == ["head"] * 2 + ["medium"] * 2 + ["tail"] * 2
    (method,) = data["methods"]
    assert method["values"] == [85.0, 85.0, 80.0, 80.0, None, 75.0]
    assert method["groups"] == [85.0, 80.0, 75.0]


def test_heatmap_goes_from_frequent_to_rare_classes():
    counts = {"rare": 3, "some": 20, "many": 400, "more": 500}
    records = [make_record("a", overall=61.0, classes=counts), make_record("b", overall=None, classes=counts)]
    data = data_of("heatmap", table_of(*records))
    assert [item["label"] for item in data["classes"]] == ["more", "many", "some", "rare"]
    assert [method["values"] for method in data["methods"]] == [[66.0, 66.0, 61.0, 56.0], [None] * 4]
    assert data["highest"] == 70


def test_seeds_are_shown_as_they_are():
    data = data_of("seeds", table_of(make_record("a", 0, 79.0), make_record("a", 5, 81.0), make_record("b", 0, None)))
    assert data["methods"][0]["seeds"]["Tail"] == [74.0, 76.0] and data["methods"][0]["means"]["Tail"] == 75.0
    assert data["methods"][1]["seeds"]["Tail"] == [None] and data["methods"][1]["means"]["Tail"] is None


def test_cost_says_what_was_trained_how_long_and_where():
    gpu = {"environment": {"gpu": "NVIDIA\nH100"}}
    records = [
        make_record("a", 0, 80.0, timings={"train_s": 10.0}),
        make_record("a", 1, 80.0, timings={"train_s": 30.0}),
        make_record("zero", overall=70.0, history=[], selection={"epoch": 0}, parameters={"trained": 0}, **gpu),
        make_record("none", overall=None),
    ]
    data = data_of("cost", table_of(*records))
    assert data["devices"] == ["CPU, 2 threads", "NVIDIA H100"]
    assert data["note"] == "1 row without a score left out"
    assert data["methods"] == [
        {"label": "a", "overall": [80.0, 0.0], "train_s": 20.0, "trained": 23_500_000, "device": 0},
        {"label": "zero", "overall": [70.0, None], "train_s": 60.0, "trained": 0, "device": 1},
    ]


def test_training_curves_are_means_and_seeds():
    chosen = {"spec": {"recipe": {"selection": "best-val"}}}
    first = history(1.0, 0.5, 0.25, validation=(10.0, 20.0, None), stages="aab")
    second = history(3.0, 1.5, 0.75, validation=(30.0, 40.0, 50.0), stages="aab")
    records = [make_record("a", seed, 90.0, history=h, **chosen) for seed, h in enumerate([first, second])]
    untrained = make_record("zero", history=[], selection={"epoch": 0})
    data = data_of("training", table_of(*records, make_record("b", overall=10.0), untrained))
    a, b = data["methods"]
    assert a == {
        "label": "a",
        "epochs": [1, 2, 3],
        "stages": [2.5],
        "seeds": [[1.0, 0.5, 0.25], [3.0, 1.5, 0.75]],
        "loss": [2.0, 1.0, 0.5],
        "validation": [20.0, 30.0, None],
    }
    assert (b["epochs"], b["loss"], b["seeds"]) == ([*range(1, 9)], [0.1] * 8, [])
    assert data["note"] == "1 row without training left out"


def test_long_training_is_thinned_and_says_so():
    data = data_of("training", table_of(make_record(history=history(*[1 / n for n in range(1, 301)]))))
    (method,) = data["methods"]
    assert len(method["epochs"]) == training.MAX_EPOCHS and method["epochs"][0] == 1 and method["epochs"][-1] == 300
    assert data["note"] == f"at most {training.MAX_EPOCHS} epochs of each"


def test_oracle_is_set_against_the_honest_number():
    records = [make_record("a", 0, 79.0), make_record("a", 1, 81.0), make_record("b", 0, 85.0)]
    data = data_of("oracle", table_of(*records, oracles=[80.0, 84.0, None]))
    (method,) = data["methods"]
    assert method == {"label": "a", "n": 2, "honest": 80.0, "oracle": 82.0, "gap": [2.0, 12.706]}
    assert data["note"] == "1 row without an oracle left out"


def test_rows_that_were_not_compared_are_left_out_of_the_difference():
    records = [make_record(name, overall=value) for name, value in zip("abcd", (90.0, 85.0, 80.0, 75.0), strict=True)]
    verdicts = ((None, None, 0, 1), (None,) * 4, (0, None, None, 0), (-1, None, 0, None))
    data = data_of("difference", table_of(*records, verdicts=verdicts))
    assert data["methods"] == [{"label": "a", "mean": 90.0}, {"label": "c", "mean": 80.0}, {"label": "d", "mean": 75.0}]
    assert data["bars"] == [[0, 1], [1, 2]]
    assert data["note"] == "1 row without a comparison left out"
    alone = table_of(*records, verdicts=((None,) * 4,) * 4)
    assert "difference" not in plots(alone)


def test_what_is_cut_is_said():
    table = large_table(MAX_ROWS + 2, 6, seeds=1)
    for kind, plot in plots(table).items():
        shown = MAX_PANELS if kind in ("classes", "training") else MAX_ROWS
        assert len(plot.data["methods"]) == shown
        of = MAX_ROWS + 1 if kind == "training" else MAX_ROWS + 2
        if kind != "oracle":
            assert plot.data["note"].startswith(f"the {shown} best of {of} rows"), kind


# Bars of the difference


@given(st.integers(2, 9).flatmap(lambda n: st.lists(st.booleans(), min_size=n * n, max_size=n * n)))
def test_bars_join_exactly_the_tied_pairs(bits):
    n = int(len(bits) ** 0.5)
    tied = [[bits[min(i, j) * n + max(i, j)] for j in range(n)] for i in range(n)]
    bars = cliques(tied)
    joined = {pair for bar in bars for pair in itertools.combinations(bar, 2)}
    assert joined == {(i, j) for i, j in itertools.combinations(range(n), 2) if tied[i][j]}
    for bar in bars:
        others = set(range(n)) - set(bar)
        assert bar == sorted(bar) and not any(all(tied[other][i] for i in bar) for other in others), "not maximal"


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12))
def test_ties_of_neighbours_give_all_maximal_runs(reach):
    # Row i is tied with its next reach[i] rows, and all between are tied with each other.
    n = len(reach)
    ends = [max(min(i + far, n - 1) for i, far in enumerate(reach[: k + 1])) for k in range(n)]
    tied = [[max(i, j) <= ends[min(i, j)] for j in range(n)] for i in range(n)]
    runs = {(first, last) for first, last in enumerate(ends) if first < last}
    maximal = {run for run in runs if not any(o != run and o[0] <= run[0] and run[1] <= o[1] for o in runs)}
    assert {(bar[0], bar[-1]) for bar in cliques(tied)} == maximal
    assert all(bar == list(range(bar[0], bar[-1] + 1)) for bar in cliques(tied))


def test_many_ties_without_order_take_no_time():
    n = 30
    tied = [[(i - j) % 3 != 0 for j in range(n)] for i in range(n)]  # 59,049 maximal groups
    assert 0 < len(cliques(tied)) < 300


# Their parts


@given(st.lists(st.floats(0, 100), max_size=20).map(sorted), st.floats(0, 5))
def test_spread_places_keep_order_and_distance(places, gap):
    moved = spread(places, gap, 0, 100)
    assert all(b - a >= gap - 1e-6 for a, b in itertools.pairwise(moved))
    if all(b - a >= gap for a, b in itertools.pairwise(places)):
        assert moved == pytest.approx(places)
    if gap * (len(places) - 1) <= 100:
        assert all(-1e-6 <= place <= 100 + 1e-6 for place in moved)


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.25, "0.25"), (2000, "2000"), (20_000, "20k"), (2.5e6, "2.5M"), (1e-5, "1e-05")]
)
def test_numbers_on_ticks_are_short(value, text):
    assert layout.number(value) == text


def test_names_are_cut_in_the_middle():
    assert short("a\n b", 10) == "a b"
    assert short("abcdefghijklmnop", 10) == "abcde…mnop"


def test_numbers_are_read_well_on_every_colour_of_the_map():
    def linear_light(part):
        return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4

    colors = matplotlib.colormaps[style.HEAT]
    for share in (step / 1000 for step in range(1001)):
        light = sum(w * linear_light(c) for w, c in zip((0.2126, 0.7152, 0.0722), colors(share)[:3], strict=True))
        ratio = 1.05 / (light + 0.05) if share < heatmap.DARK else (light + 0.05) / 0.05
        assert ratio >= 4.5, share


# The drawing


@contextmanager
def figure_of(plot: Plot) -> Iterator[Figure]:
    """The picture, arranged to be drawn."""
    with layout.drawing():
        figure = plot.figure()
        FigureCanvasAgg(figure)
        layout.arrange(figure)
        yield figure


def texts_of(figure: Figure, monkeypatch) -> list[tuple[str, Bbox]]:
    """All texts that are drawn, with their boxes in pixels."""
    found = []
    original = Text.draw

    def drawn(text, renderer, *more, **how):
        if text.get_visible() and text.get_text().strip():
            found.append((text.get_text(), Text.get_window_extent(text, renderer)))
        return original(text, renderer, *more, **how)

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", drawn)
        figure.canvas.draw()
    return found


def assert_readable(plot: Plot, monkeypatch) -> None:
    """No text leaves the picture or lies on another."""
    with figure_of(plot) as figure:
        assert_texts_readable(figure, monkeypatch)


def assert_texts_readable(figure: Figure, monkeypatch) -> None:
    texts = texts_of(figure, monkeypatch)
    width, height = figure.bbox.size
    pixel = figure.dpi / layout.POINTS / 2  # half a point
    for text, box in texts:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, f"{text!r} is cut"
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        apart = a.x1 <= b.x0 + pixel or b.x1 <= a.x0 + pixel or a.y1 <= b.y0 + pixel or b.y1 <= a.y0 + pixel
        assert apart, f"{one!r} lies on {other!r}"


@pytest.mark.parametrize(("rows", "num_classes"), [(1, 6), (3, 81), (13, 20), (30, 300)])
def test_no_text_is_cut_or_lies_on_another(rows, num_classes, monkeypatch):
    for plot in plots(large_table(rows, num_classes)).values():
        with figure_of(plot) as figure:
            assert_texts_readable(figure, monkeypatch)
            if num_classes == 20:
                assert len(picture.files(figure, plot.description)["svg"]) < 400_000, plot.kind


def test_what_is_not_shown_is_not_explained(monkeypatch):
    def words(kind, *records):
        with figure_of(plots(table_of(*records))[kind]) as figure:
            return " ".join(text for text, _ in texts_of(figure, monkeypatch))

    gap = {"results": {"raw": {"per_class": {"sofa": None}}}}
    assert "Hatched" not in words("heatmap", make_record()) and "Hatched" in words("heatmap", make_record(**gap))
    single = [make_record("a"), make_record("b")]
    assert "interval" not in words("cost", *single)
    twice = [make_record("a", 0, 74.0), make_record("a", 1, 86.0), make_record("b")]
    assert "on the left alone: 95 % intervals" in words("cost", *twice)
    close = [make_record("a", 0, 60.0), make_record("a", 1, 60.1)]
    assert "cap" in words("groups", *twice) and "cap" not in words("groups", *close)
    assert "2 seeds each" in words("groups", *close) and "n: number of seeds" in words("groups", *twice)


def test_bars_and_intervals_are_those_of_the_data():
    records = [make_record("a", 0, 59.0), make_record("a", 1, 61.0), make_record("b", 0, 50.0)]
    plot = plots(table_of(*records))["groups"]
    with figure_of(plot) as figure:
        (axes,) = figure.axes
        for name, bars in zip(style.BARS, [c for c in axes.containers if hasattr(c, "patches")], strict=True):
            assert [bar.get_width() for bar in bars] == [method["bars"][name][0] for method in plot.data["methods"]]
        mean, half = plot.data["methods"][0]["bars"]["Overall"]
        lines = [path for part in axes.collections for path in part.get_segments() if len(path)]
        assert [mean - half, mean + half] == pytest.approx(lines[0][:, 0])
        assert [text.get_text() for text in axes.get_yticklabels()] == ["a (n = 2)", "b (n = 1)"]


def test_intervals_of_the_cost_are_in_the_left_panel_alone():
    records = [make_record("a", 0, 59.0), make_record("a", 1, 61.0), make_record("b", 0, 50.0)]
    plot = plots(table_of(*records))["cost"]
    mean, half = plot.data["methods"][0]["overall"]
    with figure_of(plot) as figure:
        left, right = figure.axes
        (lines,) = [part.get_segments() for part in left.collections if isinstance(part, LineCollection)]
        assert lines[0][:, 1] == pytest.approx([mean - half, mean + half])
        assert not right.collections
        (points,) = [line for line in right.lines if line.get_marker() == "o"]
        assert points.get_ydata().tolist() == [60.0, 50.0]


@pytest.mark.parametrize("seed", range(2))
def test_numbers_of_the_cost_are_within_the_axes_and_cover_nothing(seed, monkeypatch):
    some = np.random.default_rng(seed)
    methods = [
        {
            "label": f"method {index}",
            "overall": [float(some.normal(60, 0.5 if seed % 2 else 9)), 1.0],
            "train_s": float(some.choice([0.0, 60.0, 61.0, some.uniform(50, 90)])),
            "trained": int(some.choice([1_000_000, 1_010_000])),
            "device": index % 7,
        }
        for index in range(MAX_ROWS)
    ]
    data = {"title": "t", "note": "", "devices": [f"device {index}" for index in range(7)], "methods": methods}
    plot = Plot("cost", data)
    with figure_of(plot) as figure:
        assert_texts_readable(figure, monkeypatch)
        for axes in figure.axes:
            frame = axes.get_window_extent()
            boxes = [Text.get_window_extent(text) for text in axes.texts]
            assert [text.get_text() for text in axes.texts] == [str(number) for number in range(1, MAX_ROWS + 1)]
            points = [axes.transData.transform(text.xy) for text in axes.texts]
            for box in boxes:
                assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
                assert not any(box.contains(*point) for point in points)


def test_where_0_occurs_it_has_a_place_on_a_logarithmic_scale():
    records = [make_record(str(index), parameters={"trained": count}) for index, count in enumerate((0, 10**4, 10**7))]
    with figure_of(plots(table_of(*records))["cost"]) as figure:
        axes = figure.axes[1]
        assert axes.get_xscale() == "symlog"
        places = axes.transAxes.inverted().transform(axes.transData.transform([(x, 0) for x in (0, 0.01, 10)]))[:, 0]
        assert 0 <= places[0] < places[1] - 0.05 and places[2] <= 1
        assert "0" in [text.get_text() for text in axes.get_xticklabels()]


def test_ranges_of_classes_are_not_joined():
    plot = plots(table_of(*(make_record(f"m{row}", overall=50.0 + row) for row in range(7))))["classes"]
    with figure_of(plot) as figure:
        assert len(figure.axes) == 8, "a panel each, and one that fills the last line"
        for axes in figure.axes:
            (ranges,) = [part.get_segments() for part in axes.collections]
            columns = zip(*(method["values"] for method in plot.data["methods"]), strict=True)
            ends = [[(place, min(values)), (place, max(values))] for place, values in enumerate(columns)]
            assert np.allclose(ranges, ends)


def test_groups_of_classes_are_divided_where_they_end():
    counts = {"rare": 3, "some": 20, "many": 400, "more": 500}
    with figure_of(plots(table_of(make_record(classes=counts)))["classes"]) as figure:
        (axes,) = figure.axes
        assert [text.get_text() for text in axes.get_xticklabels()] == [
            "more (500)",
            "many (400)",
            "some (20)",
            "rare (3)",
        ]
        borders = [
            line.get_xdata()[0]
            for line in axes.lines
            if len(set(line.get_xdata())) == 1 and line.get_marker() == "None"
        ]
        assert borders == [1.5, 2.5]


def test_a_value_that_no_line_reaches_is_a_point():
    plot = plots(table_of(make_record(history=history(1.0, 0.5, 0.2, validation=(10.0, None, 30.0)))))["training"]
    with figure_of(plot) as figure:
        right = figure.axes[1]
        (line,) = right.lines
        assert line.get_marker() == "o" and line.get_markevery() == [True, False, True]
        assert figure.axes[0].lines[0].get_marker() == "None"


def test_methods_that_agree_in_all_are_still_told_apart(monkeypatch):
    names = [f"m{row}" for row in range(MAX_ROWS)]
    found = plots(table_of(*map(make_record, names), verdicts=ties(MAX_ROWS, MAX_ROWS)))
    for kind in ("difference", "cost"):
        assert_readable(found[kind], monkeypatch)


@pytest.mark.parametrize("rows", [1, 6])
def test_any_text_and_missing_values_can_be_drawn(rows, monkeypatch):
    records = [
        make_record(
            seed=seed,
            overall=None if row == 0 else 50.0,
            classes=HOSTILE,
            spec={
                "config": {f"_$m{row}$ \\x": "y" * 90},
                "config_overrides": {f"_$m{row}$ \\x": "y" * 90},
                "weights": {"name": "$\\frac{$ <script>"},
            },
            dataset_title="_$d$ \x00\\x &amp; " + "very long " * 60,
        )
        for row in range(rows)
        for seed in range(2)
    ]
    for plot in plots(table_of(*records, verdicts=ties(rows))).values():
        with figure_of(plot) as figure:
            assert_texts_readable(figure, monkeypatch)
            files = picture.files(figure, plot.description)
        assert files["png"].startswith(b"\x89PNG") and b"<script" not in files["svg"].lower()
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(files["svg"]).iter()}
        drawn = {"svg", "defs", "style", "g", "path", "use", "pattern", "rect", "clipPath", "image"}
        assert tags <= drawn | {"metadata", "RDF", "Work", "type", "description", "format"}


def test_a_text_with_dollars_is_no_formula():
    one, other = (
        Plot("groups", plots(table_of(make_record(dataset_title=title)))["groups"].data).files()["png"]
        for title in ("$x$", "x")
    )
    assert one != other


def test_pictures_are_the_same_whatever_the_user_set_in_matplotlib():
    pictures = plots(large_table(3, 6)).values()
    first = [plot.files() for plot in pictures]
    changed = {"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 20, "svg.fonttype": "none", "svg.hashsalt": "x"}
    with matplotlib.rc_context(changed):
        assert [plot.files() for plot in pictures] == first
        assert matplotlib.rcParams["font.size"] == 30


def test_many_pictures_are_drawn_by_several_processes(monkeypatch):
    pictures = [*plots(large_table(2, 6)).values()][:4]
    alone = [plot.files() for plot in pictures]
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(plots_package, "PICTURES_A_PROCESS", 2)
    assert list(draw(pictures)) == alone


# Their files


@pytest.fixture(scope="module")
def plot() -> Plot:
    return plots(table_of(make_record()))["groups"]


@pytest.fixture(scope="module")
def files(plot) -> dict[str, bytes]:
    return plot.files()


def test_files_name_their_data_and_nothing_else(plot, files):
    assert tuple(files) == FORMATS
    assert re.fullmatch(re.escape(DESCRIPTION) + "[0-9a-f]{64}", plot.description)
    with Image.open(BytesIO(files["png"])) as image:
        assert image.info["Description"] == plot.description and "Software" not in image.info
    metadata = files["svg"].partition(b"</metadata>")[0].decode()
    assert f"<dc:description>{plot.description}</dc:description>" in metadata
    assert "date" not in metadata and "Matplotlib" not in metadata


def test_two_drawings_are_the_same_byte_for_byte(files):
    assert plots(table_of(make_record()))["groups"].files() == files


def test_the_digest_is_of_kind_style_and_data(plot, monkeypatch):
    assert Plot("groups", json.loads(json.dumps(plot.data))).description == plot.description
    assert Plot("seeds", plot.data).description != plot.description
    monkeypatch.setattr(plots_package, "STYLE_VERSION", 0)
    assert Plot("groups", plot.data).description != plot.description


@pytest.mark.parametrize("ending", FORMATS)
def test_description_is_read_from_whole_files_alone(plot, files, tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    assert description_of(path) is None
    path.write_bytes(files[ending])
    assert description_of(path) == plot.description
    for content in (files[ending][:-200], files[ending][100:], b"", b"no picture"):
        path.write_bytes(content)
        assert description_of(path) is None
    path.unlink()
    path.mkdir()
    assert description_of(path) is None


@pytest.mark.parametrize("ending", FORMATS)
def test_a_picture_of_which_any_byte_was_changed_has_no_description(plot, files, tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    whole = files[ending]
    for place in {*range(0, len(whole), len(whole) // 50), *range(len(whole) - 120, len(whole))}:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert description_of(path) is None, place
    for content in (whole + b" ", whole + whole, whole[:40] + whole, whole.replace(b"sha256:", b"sha256:0")):
        path.write_bytes(content)
        assert description_of(path) is None
    with Image.open(BytesIO(files["png"])) as image:
        image.save(tmp_path / "x.png", optimize=True)  # the same pixels
    assert description_of(tmp_path / "x.png") is None


def test_a_foreign_svg_has_no_description(files, tmp_path, plot):
    path = tmp_path / "x.svg"
    text = files["svg"].decode()
    for content in (
        text.replace(plot.description, plot.description[:-1]),
        f"<svg><dc:description>{plot.description}</dc:description></svg>\n",
        "<svg>" + text,
        text.replace("<metadata>", "<metadata>" + " " * 10_000),
    ):
        path.write_text(content)
        assert description_of(path) is None


def test_a_huge_svg_is_not_read(files, tmp_path, plot):
    path = tmp_path / "x.svg"
    with path.open("wb") as file:
        file.write(files["svg"][:2000])
        file.seek(10**12)
        file.write(b"</svg>\n")
    assert description_of(path) is None
