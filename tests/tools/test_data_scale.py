"""The measurement of datasets with many images: it makes what it says, and measures it."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from benchmark.data.dataset import find_dataset
from benchmark.tools.data_scale import CLASSES, fill, main, measure_images, measure_lists, photograph, write_lists
from benchmark.ui.progress import Reporter


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
    paths = write_lists(tmp_path / "made", 110, 90)
    fill(tmp_path / "made", paths, photograph, Reporter())
    return tmp_path / "made"


def test_a_photograph_is_a_jpeg_of_about_100_kb_and_differs_from_others():
    with Image.open(io.BytesIO(photograph(0))) as image:
        assert image.format == "JPEG" and image.size == (500, 375)
    assert 70_000 < len(photograph(0)) < 130_000 and photograph(0) == photograph(0) != photograph(1)


@pytest.mark.slow
def test_every_step_is_measured(made):
    dataset = find_dataset(str(made)).open()
    assert len(dataset.classes) == CLASSES and [len(split) for split in dataset.splits.values()] == [110, 90]
    steps = measure_lists(made, 200) + measure_images(made, 200, 16)
    assert [step.images for step in steps] == [200] * 8 + [110, 90]
    decoding = next(step for step in steps if step.name == "decode at 16 px")
    assert decoding.cpu_s > 0 and decoding.memory.resident > decoding.memory.own > 10


@pytest.mark.parametrize("arguments", [["--images", "7"], ["--listed", "-1"]])
def test_too_few_images_are_a_mistake(arguments, capsys):
    assert main(arguments) == 2
    assert "give 0, or at least 162" in capsys.readouterr().err


def test_a_folder_with_something_in_it_is_left_alone(made, capsys):
    assert main(["--folder", str(made)]) == 2
    assert "not empty" in capsys.readouterr().err
