"""The leaderboard's files on disk: written where they differ, checked, and nothing of the user's touched."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kit.factories import make_scored, write_scored
from kit.paths import ROOT
from kit.runs import wait_for
from PIL import Image, PngImagePlugin
from rich.console import Console

from benchmark.errors import StoreError
from benchmark.leaderboard.board import load_board
from benchmark.leaderboard.files import check, sole_writer, write
from benchmark.leaderboard.formats import PAGES, export_names, file_name
from benchmark.leaderboard.plots import Plot, picture, plots
from benchmark.ui.progress import Reporter

RUNS = [make_scored(method, seed, skill) for method, skill in (("erm", 1.0), ("asl", 2.5)) for seed in range(3)]
DRAW = Plot.files


@pytest.fixture(scope="module")
def drawn() -> dict[str, dict[str, bytes]]:
    return {}


@pytest.fixture(autouse=True)
def pictures_are_drawn_once(drawn, monkeypatch):
    """They are the same every time, which is tested where they are drawn."""

    def files(plot: Plot) -> dict[str, bytes]:
        if plot.description not in drawn:
            drawn[plot.description] = DRAW(plot)
        return drawn[plot.description]

    monkeypatch.setattr(Plot, "files", files)


@pytest.fixture
def store(tmp_path) -> Path:
    return write_scored(tmp_path / "results", RUNS)


@pytest.fixture
def board(store):
    return load_board(store, store)


def of_kind(changed, kind, ending):
    [path] = [path for path in changed if path.name.endswith(f"-{kind}.{ending}")]
    return path


def test_write_then_check_finds_nothing_and_writes_nothing_again(store, board):
    changed = write(board, store)
    assert [path.name for path in changed][-2:] == ["leaderboard.md", "leaderboard.html"]
    pictures = list(changed[:-2])
    assert {path.suffix for path in pictures} == {".png", ".svg"} and len(pictures) >= 12
    assert check(board, store) == [] and write(board, store) == []
    assert not list(store.rglob("*.tmp"))


def test_of_two_that_make_it_at_once_the_second_sees_the_records_of_the_first(store):
    said = io.StringIO()

    def second() -> int:
        with sole_writer(store, Reporter(Console(file=said))):
            return load_board(store, store).num_records

    with ThreadPoolExecutor() as pool:
        with sole_writer(store):
            waiting = pool.submit(second)
            wait_for(said.getvalue, 10, "the second to say that it waits")
            write_scored(store, [make_scored("rw", 0)])
        assert waiting.result(timeout=60) == len(RUNS) + 1
    assert "another process makes the leaderboard" in said.getvalue()
    with sole_writer(store / "nowhere"):
        pass  # there is nothing to wait for


def test_the_page_shows_every_picture_and_the_html_page_holds_it(store, board):
    pictures = [path for path in write(board, store) if path.suffix == ".png"]
    text = (store / "leaderboard.md").read_text()
    for path in pictures:
        assert f"](plots/{path.name})](plots/{path.stem}.svg)" in text
    assert (store / "leaderboard.html").read_text().count("data:image/svg+xml;base64,") == len(pictures)


def test_every_format_is_written_where_it_is_asked_for(store, board, tmp_path):
    out = tmp_path / "out"
    names = export_names()
    changed = write(board, out, names)
    assert sorted(path.name for path in changed) == sorted(map(file_name, names))
    assert sorted(path.name for path in out.iterdir()) == sorted(map(file_name, names)), "no pictures"
    assert check(board, out, names) == []
    (out / "leaderboard.csv").write_text("x")
    assert check(board, out, names)[0].startswith("leaderboard.csv: line 1 is 'x'")
    assert write(board, out, ["md", "csv"])[-1] == out / "leaderboard.csv"


def test_exports_that_are_there_do_not_fall_behind_the_records(store, board):
    write(board, store, ["csv"])
    write(board, store)
    assert not (store / "leaderboard.json").exists()
    export = store / "leaderboard.csv"
    whole = export.read_bytes()
    export.write_bytes(whole[:-1])
    [difference] = check(board, store)
    assert difference.startswith("leaderboard.csv: ") and check(board, store, PAGES) == []
    assert write(board, store) == [export] and export.read_bytes() == whole


def test_check_before_the_first_write(store, board):
    differences = check(board, store)
    assert differences[0] == "leaderboard.md: missing" and all("missing" in line for line in differences)
    assert not (store / "plots").exists()


@pytest.mark.parametrize("name", ["leaderboard.md", "leaderboard.html"])
def test_check_finds_a_changed_digit(store, board, name):
    write(board, store)
    page = store / name
    number = f"{board.tables[0].rows[0].scores['Overall'].mean:.2f}"
    changed = f"{float(number) + 0.01:.2f}"
    page.write_text(page.read_text().replace(number, changed, 1))
    [difference] = check(board, store)
    assert difference.startswith(f"{name}: line ") and "\n" not in difference
    assert write(board, store) == [page] and check(board, store) == []


def test_check_finds_missing_changed_and_cut_pictures(store, board):
    changed = write(board, store)
    groups, classes = of_kind(changed, "groups", "png"), of_kind(changed, "classes", "png")
    groups.unlink()
    assert check(board, store) == [f"plots/{groups.name}: missing"]
    groups.write_bytes(classes.read_bytes())
    assert check(board, store) == [f"plots/{groups.name}: does not show what the records give"]
    classes.write_bytes(classes.read_bytes()[:-200])
    assert len(check(board, store)) == 2
    repaired = set(write(board, store))
    assert {groups, classes} <= repaired and check(board, store) == []
    svg = of_kind(changed, "heatmap", "svg")
    svg.write_bytes(svg.read_bytes()[:-50])
    assert f"plots/{svg.name}: does not show what the records give" in check(board, store)
    assert svg in write(board, store) and check(board, store) == []


def test_a_picture_of_another_matplotlib_is_up_to_date(store, board, monkeypatch):
    with monkeypatch.context() as other:
        # Which draws other pixels and outlines.
        other.setattr(picture, "_png", lambda figure, description: png_of(Image.new("RGB", (3, 3)), description))
        other.setattr(picture, "_svg", lambda figure, description: f"<svg>{description}</svg>\n".encode())
        [plot] = [plot for plot in plots(board.tables[0]).values() if plot.kind == "groups"]
        files = DRAW(plot)
    changed = write(board, store)
    for ending, content in files.items():
        of_kind(changed, "groups", ending).write_bytes(content)
    assert check(board, store, ["md"]) == [] and write(board, store, ["md"]) == []


def png_of(image: Image.Image, description: str) -> bytes:
    fields, file = PngImagePlugin.PngInfo(), io.BytesIO()
    fields.add_text("Description", description)
    image.save(file, "PNG", pnginfo=fields)
    return file.getvalue()


def test_check_finds_a_drawing_changed_by_hand(store, board):
    changed = write(board, store)
    svg, png = of_kind(changed, "groups", "svg"), of_kind(changed, "groups", "png")
    svg.write_text(svg.read_text().replace("#3b87c0", "#c03b87"))
    with Image.open(png) as image:
        image.load()
        fields = PngImagePlugin.PngInfo()
        for name in ("Description", "Content"):
            fields.add_text(name, image.info[name])
        flipped = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    flipped.save(png, pnginfo=fields)
    found = check(board, store)
    assert {f"plots/{path.name}: does not show what the records give" for path in (svg, png)} <= set(found)
    assert {svg, png} <= set(write(board, store)) and check(board, store) == []


def test_check_finds_what_was_added_to_a_picture(store, board):
    changed = write(board, store)
    svg, png = of_kind(changed, "groups", "svg"), of_kind(changed, "groups", "png")
    whole = {path: path.read_bytes() for path in (svg, png)}
    gamma = b"\0\0\0\x04gAMA" + (10_000).to_bytes(4, "big")
    gamma += zlib.crc32(gamma[4:]).to_bytes(4, "big")
    end = whole[png][-12:]
    for path, content in (
        (png, whole[png] + b"more"),
        (png, whole[png] + end),
        (png, whole[png][:-12] + b"\0\0\0\x0c" + end[4:] + end),
        (png, whole[png][:33] + gamma + whole[png][33:]),  # after IHDR: other colours
        (png, b""),
        (svg, whole[svg] + b"<!-- more -->"),
        (svg, whole[svg] + b"\n"),
    ):
        path.write_bytes(content)
        assert f"plots/{path.name}: does not show what the records give" in check(board, store), content[-40:]
        path.write_bytes(whole[path])
    assert check(board, store) == []


def test_stray_pictures_go_and_other_files_stay(store, board):
    changed = write(board, store)
    groups, svg = of_kind(changed, "groups", "png"), of_kind(changed, "groups", "svg")
    stray, stray_svg = groups.with_name("old-groups.png"), groups.with_name("old-groups.svg")
    stray.write_bytes(groups.read_bytes())
    stray_svg.write_bytes(svg.read_bytes())
    foreign, text, drawing = (groups.with_name(name) for name in ("mine.png", "notes.png", "mine.svg"))
    Image.new("RGB", (3, 3)).save(foreign)
    text.write_text("no picture")
    drawing.write_text("<svg></svg>")
    assert check(board, store) == [f"plots/{path.name}: no records give this plot" for path in (stray, stray_svg)]
    assert write(board, store) == [stray, stray_svg]
    assert all(path.exists() for path in (foreign, text, drawing))


def test_links_are_right_from_another_folder(store, tmp_path):
    out = tmp_path / "site" / "page"
    write(load_board(store, out), out)
    links = [part.split(")")[0] for part in (out / "leaderboard.md").read_text().split("](")[1:]]
    assert len([link for link in links if link.endswith("record.json")]) == 6
    assert all((out / link).exists() for link in links)


def test_an_empty_store_says_so(tmp_path):
    board = load_board(tmp_path, tmp_path)
    page, html = write(board, tmp_path)
    assert "There are no records yet" in page.read_text() and html.name == "leaderboard.html"
    assert check(board, tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_line(board, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(StoreError) as error:
        write(board, blocked)
    assert str(blocked) in str(error.value) and "\n" not in str(error.value)


def test_matplotlib_and_pandas_are_imported_only_when_needed(store, board):
    write(board, store)
    code = (
        "import sys; from pathlib import Path; from benchmark.leaderboard.board import load_board\n"
        "from benchmark.leaderboard.files import check\n"
        f"store = Path({str(store)!r}); assert check(load_board(store, store), store) == []\n"
        "print([name for name in ('matplotlib', 'pandas', 'scipy.stats', 'torch') if name in sys.modules])"
    )
    root = ROOT
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
