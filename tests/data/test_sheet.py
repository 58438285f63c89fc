"""The sheet of sample images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from kit.command import ltbench, refused
from PIL import Image

from benchmark.data import sheet
from benchmark.data.dataset import DATASETS, find_dataset


@pytest.mark.slow
def test_the_sheet_of_the_demo_set_shows_each_class_and_is_the_same_every_time(tmp_path):
    file = tmp_path / "sheet.png"
    assert ltbench("data", "show", "shapes-lt", "--sheet", file).returncode == 0
    opened = DATASETS.get("shapes-lt").open()
    assert file.read_bytes() == sheet.draw_sheet(opened).png
    samples = sheet.chosen_samples(opened)
    train = dict(zip(opened.splits["train"].paths, opened.splits["train"].targets, strict=True))
    assert set(samples) == set(opened.classes)
    for name, paths in samples.items():
        assert len(set(paths)) == min(4, opened.class_counts[opened.classes.index(name)])
        assert all(train[path][opened.classes.index(name)] for path in paths)


def test_images_are_whole_and_undistorted(tiny):
    image = Image.open(io.BytesIO(sheet.draw_sheet(find_dataset(str(tiny)).open()).png))
    pixels = np.asarray(image).astype(int)
    # Class red: its first column of 6 of 20 pixels, at 128 pixels.
    red = (pixels[..., 0] > pixels[..., 1] + 60) & (pixels[..., 0] > pixels[..., 2] + 60)
    first = red[8 + 18 : 8 + 18 + 128, 8 : 8 + 128]
    assert 0.2 < first.mean() < 0.4 and red[:, :8].mean() == 0


def test_bad_images_are_named_and_the_sheet_is_drawn(tiny, tmp_path):
    opened = find_dataset(str(tiny)).open()
    bad = sheet.chosen_samples(opened)["red"][1]
    (tiny / bad).write_bytes(b"no image")
    done = ltbench("data", "show", tiny, "--sheet", tmp_path / "sheet.png")
    *told, last = done.stderr.splitlines()
    assert done.returncode == 2 and bad in told[-1] and "cannot be decoded" in told[-1]
    assert last.startswith("error: 1 of ") and "images of the sheet cannot be used" in last
    assert Image.open(tmp_path / "sheet.png").width > 500


def test_without_images_there_is_no_sheet(tiny, tmp_path):
    (tiny / "images").rename(tiny / "elsewhere")
    file = tmp_path / "sheet.png"
    refused(ltbench("data", "show", tiny, "--sheet", file), "46 images are missing", str(tiny))
    refused(ltbench("data", "show", "voc-lt", "--sheet", file), "--data-root", "LTBENCH_DATA")
    assert not file.exists()


@pytest.mark.parametrize(("file", "words"), [("sheet.jpg", "ends in .png"), ("none/sheet.png", "make the folder")])
def test_a_file_that_cannot_be_written(tiny, tmp_path, file, words):
    refused(ltbench("data", "show", tiny, "--sheet", tmp_path / file), words)


def test_of_many_classes_some_are_drawn_from_head_to_tail(tiny, monkeypatch):
    monkeypatch.setattr(sheet, "MOST_CLASSES", 2)
    opened = find_dataset(str(tiny)).open()
    assert list(sheet.chosen_samples(opened)) == ["red", "green"]


def test_long_and_foreign_names_are_drawn(tmp_path, tiny):
    (tiny / "classes.txt").write_text(f"{'very long name ' * 20}\nÅngström Σ Ж\n[bold]<b>\n", encoding="utf-8")
    drawn = sheet.draw_sheet(find_dataset(str(tiny)).open())
    assert drawn.faults == {}
