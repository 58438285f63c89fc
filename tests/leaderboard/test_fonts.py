"""Class names that DejaVu Sans lacks: in an installed font that has them, else by the class's index, and one line says
so."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from kit.factories import make_record, make_scored, write_scored
from matplotlib.text import Text
from rich.console import Console

from benchmark.leaderboard.board import load_board
from benchmark.leaderboard.build import build_tables
from benchmark.leaderboard.files import check, write
from benchmark.leaderboard.plots import Plot, fonts, layout, plots
from benchmark.ui.progress import Reporter

set_text = Text.set_text
NAMES = {"人": 400, "犬": 100, "sofa": 99, "猫 (cat)": 20, "ソファ": 3}


def made_font(path: Path, letters: str) -> Path:
    """A font in which every letter has an outline of its own."""
    names = {ord(char): f"letter{ord(char)}" for char in letters}
    glyphs = {}
    for number, name in enumerate([".notdef", *names.values()]):
        pen = TTGlyphPen(None)
        for x, y in ((0, 0), (0, 500 + 10 * number), (400 + 10 * number, 0)):
            (pen.lineTo if (x, y) != (0, 0) else pen.moveTo)((x, y))
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap(names)
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture
def installed(monkeypatch):
    """Has these files alone installed, beside matplotlib's own."""

    def only(*paths: Path) -> None:
        monkeypatch.setattr(fonts, "findSystemFonts", lambda: [str(path) for path in paths])
        entries = [entry for entry in fonts.fontManager.ttflist if "matplotlib" in entry.fname]
        monkeypatch.setattr(fonts.fontManager, "ttflist", entries)
        for function in (fonts._family, fonts._installed, fonts._letters, layout._width):
            function.cache_clear()

    yield only
    for function in (fonts._family, fonts._installed, fonts._letters, layout._width):
        function.cache_clear()


@pytest.fixture
def table():
    return build_tables([make_record("erm", seed, classes=NAMES) for seed in range(2)])[0]


def outlines(plot: Plot) -> int:
    """How many different shapes a picture's text has."""
    return len(set(re.findall(rb'<path id="[^"]*" d="([^"]*)"', plot.files()["svg"])))


def test_a_font_that_has_the_letters_is_taken(installed, tmp_path, table):
    few, all_of_them = made_font(tmp_path / "Few.ttf", "人犬"), made_font(tmp_path / "Many.ttf", "人犬猫ソファ (cat)")
    installed(few, all_of_them)
    assert fonts.has("人犬") and fonts.has("ソファ") and not fonts.has("人鳥")
    assert fonts.families(["人犬", "sofa", "人鳥", "猫 (cat)", "ソファ"]) == ["Few", "Many"]
    for plot in plots(table).values():
        assert plot.undrawn == []
    heatmap = plots(table)["heatmap"]
    with_font = outlines(heatmap)
    installed()
    assert set(heatmap.undrawn) == set(NAMES) - {"sofa"}
    assert outlines(heatmap) != with_font


@pytest.mark.parametrize("kind", ["heatmap", "classes"])
def test_without_one_a_class_is_told_by_its_index(installed, table, kind, monkeypatch):
    installed()
    drawn = []
    monkeypatch.setattr(Text, "set_text", lambda self, text: (drawn.append(str(text)), set_text(self, text)))
    plot = plots(table)[kind]
    plot.files()
    assert {"#0", "#1", "sofa", "#3", "#4"} <= {text.split(" ")[0] for text in drawn}
    assert not any(name in text for text in drawn for name in NAMES if name != "sofa")
    assert any("#: a class by its line in classes.txt, from 0" in text for text in drawn)


def test_what_a_picture_says_of_itself_is_the_same_with_any_fonts(installed, tmp_path, table):
    """So a page made on one machine is up to date on another."""
    installed()
    without = {kind: plot.description for kind, plot in plots(table).items()}
    installed(made_font(tmp_path / "Many.ttf", "人犬猫ソファ (cat)"))
    assert {kind: plot.description for kind, plot in plots(table).items()} == without


def test_names_in_our_script_have_no_index(table):
    """As before there were any: pictures that are there stay up to date."""
    data = plots(table)["heatmap"].data["classes"]
    assert [item["label"] for item in data if "index" not in item] == ["sofa"]
    assert {item["label"]: item["index"] for item in data if "index" in item} == {
        "人": 0,
        "犬": 1,
        "猫 (cat)": 3,
        "ソファ": 4,
    }


def test_one_line_says_so(installed, tmp_path):
    installed()
    store = write_scored(tmp_path / "results", [make_scored("erm", seed, classes=NAMES) for seed in range(2)])
    board = load_board(store, store)
    console = Console(record=True, width=500, file=io.StringIO())
    write(board, store, ["md"], Reporter(console))
    said = [line for line in console.export_text().splitlines() if "installed font" in line]
    assert len(said) == 1 and "人, 犬, 猫 (cat) and 1 more" in said[0] and "remove the folder plots" in said[0]
    assert check(board, store, ["md"]) == []


def test_a_file_that_is_no_font_is_passed_over(installed, tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"\0\1\0\0 not a font")
    installed(tmp_path / "broken.ttf", made_font(tmp_path / "Dog.ttf", "犬"))
    assert fonts.has("犬") and not fonts.has("鳥")


def test_matplotlibs_own_boxes_are_no_letters(installed):
    installed()
    assert not fonts.has("犬") and fonts.has("Ж — ε …")
