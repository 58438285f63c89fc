"""`ltbench data new`: from images and labels to a dataset that trains; what is refused, and that it leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from kit.command import ltbench, refused
from kit.paths import ROOT
from kit.tiny import TINY_ARGS
from PIL import Image

from benchmark.data.annotations import Annotations
from benchmark.data.dataset import find_dataset
from benchmark.data.importers.table import read_table
from benchmark.data.making import write_dataset
from benchmark.errors import InputError

CLASSES = ("heron", "ibis", "owl")
LABELS = ([0], [1], [0, 2], [0, 1, 2], [])
[SECTION] = re.findall(
    r"^## Your own data\n(.*?)^## ", (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8"), flags=re.M | re.S
)


def labels_of(number: int) -> list[str]:
    return [CLASSES[k] for k in LABELS[number % 5]]


def write_images(folder: Path, names: list[str]) -> Path:
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


def write_table(folder: Path, names: list[str]) -> Path:
    rows = [f'"{name}",{";".join(labels_of(i))}\n' for i, name in enumerate(names)]
    (folder / "labels.csv").write_text("file,labels\n" + "".join(rows))
    return folder / "labels.csv"


NAMES = [f"sub folder/{i}, 'x'.png" if i % 2 else f"{i}.jpg" for i in range(60)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """60 images in `photos`, and their labels in each of the kinds; to be read alone."""
    folder = tmp_path_factory.mktemp("own")
    write_images(folder / "photos", NAMES)
    write_table(folder, NAMES)
    coco = {
        "images": [{"id": 3 * i, "file_name": name} for i, name in enumerate(NAMES)],
        "categories": [{"id": 2 * k + 5, "name": name} for k, name in enumerate(CLASSES)],
        "annotations": [
            {"image_id": 3 * i, "category_id": 2 * CLASSES.index(label) + 5}
            for i in range(len(NAMES))
            for label in labels_of(i)
        ],
    }
    (folder / "instances.json").write_text(json.dumps(coco))
    (folder / "annotations").mkdir()
    for i, name in enumerate(NAMES):
        objects = "".join(f"<object><name>{label}</name></object>" for label in labels_of(i))
        xml = f"<annotation><filename>{name}</filename>{objects}</annotation>"
        (folder / "annotations" / f"{i:03}.xml").write_text(xml)
        for label in labels_of(i):
            copy = folder / "photos-by-class" / label / Path(name).name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((folder / "photos" / name).read_bytes())
    return folder


def rows(dataset) -> dict[str, list[str]]:
    """The names of each image's classes, whatever list it is in."""
    return {
        path: [dataset.classes[k] for k in np.flatnonzero(row)]
        for split in dataset.splits.values()
        for path, row in zip(split.paths, split.targets, strict=True)
    }


@pytest.mark.parametrize("source", ["instances.json", "annotations", "labels.csv"])
def test_each_kind_gives_the_same_labels(made, tmp_path, source):
    target = tmp_path / "my birds"
    done = ltbench("data", "new", target, "--from", made / source, "--images", made / "photos")
    assert done.returncode == 0, done.stderr
    dataset = find_dataset(str(target)).open()
    assert rows(dataset) == {name: labels_of(i) for i, name in enumerate(NAMES)}
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 42, "val": 9, "test": 9}
    assert dataset.fingerprint[:12] in done.stdout and (target / "images").resolve() == made / "photos"
    assert "60 images, 3 classes, 84 labels" in done.stdout and "12 images without a label kept" in done.stdout
    assert f"next: ltbench run --dataset '{target}' --method erm" in done.stdout
    assert {path.name for path in target.iterdir()} == {
        *("classes.txt", "train.txt", "val.txt", "test.txt", "dataset.yaml", "images"),
    }
    assert "seed 0" in dataset.card.notes and source in dataset.card.notes
    assert [path.name for path in tmp_path.iterdir()] == ["my birds"]


def test_folders_of_classes_join_equal_files(made, tmp_path):
    done = ltbench("data", "new", tmp_path / "own", "--from", made / "photos-by-class")
    assert done.returncode == 0, done.stderr
    found = rows(find_dataset(str(tmp_path / "own")).open())
    expected = {Path(name).name: labels_of(i) for i, name in enumerate(NAMES) if labels_of(i)}
    assert {Path(path).name: labels for path, labels in found.items()} == expected
    assert "one image with both labels" in done.stdout and "without a row" not in done.stdout
    other = ("data", "new", tmp_path / "two", "--from", made / "photos-by-class", "--images", made)
    refused(ltbench(*other), "leave --images out")


def test_the_seed_and_the_shares_decide_the_lists(made, tmp_path):
    printed = {}

    def lists(name, *options):
        common = ("--from", made / "labels.csv", "--images", made / "photos")
        done = ltbench("data", "new", tmp_path / name, *common, *options)
        assert done.returncode == 0, done.stderr
        printed[name] = done.stdout
        return {path.name: path.read_text() for path in (tmp_path / name).glob("*.txt")}

    assert lists("a") == lists("b") != lists("c", "--seed", "1")
    assert set(lists("d", "--val", "0", "--test", "0.3")) == {"classes.txt", "train.txt", "test.txt"}
    tailed, whole = lists("e", "--long-tail", "12,4"), lists("f")
    assert tailed["test.txt"] == whole["test.txt"] and tailed["val.txt"] == whole["val.txt"]
    drawn = set(tailed["train.txt"].splitlines())
    assert 5 < len(drawn) < 25 and drawn < set(whole["train.txt"].splitlines())
    assert f"{len(drawn)} of 42 images drawn" in printed["e"]
    assert "long-tailed from 12 to 4" in find_dataset(str(tmp_path / "e")).card.notes


def test_odd_images_and_classes_are_noted(tmp_path):
    names = [f"{i}.png" for i in range(40)]
    write_images(tmp_path / "photos", [*names, "extra.png"])
    for i in range(30, 40):
        (tmp_path / "photos" / f"{i}.png").write_bytes((tmp_path / "photos" / f"{i % 10}.png").read_bytes())
    rows = [f"{name},{i % 2},{int(i % 7 == 0)},0,{int(i == 15)}" for i, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,cat,dog,emu,owl", *rows]))
    done = new(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 image of the folder left out, without a row: 'extra.png'" in done.stdout
    assert "1 class without an image left out: 'emu'" in done.stdout
    assert "10 images under several names, kept in one list each: '0.png = 30.png'" in done.stdout
    assert "3 of these with different labels under each name: '0.png = 30.png', '5.png = 35.png'" in done.stdout
    assert "warning: 1 of 3 classes have no test image and get no score: 'owl'" in done.stdout
    dataset = find_dataset(str(tmp_path / "own")).open()
    assert dataset.classes == ("cat", "dog", "owl")
    place = {path: split.name for split in dataset.splits.values() for path in split.paths}
    assert all(place[f"{i}.png"] == place[f"{i % 10}.png"] for i in range(30, 40))


def new(folder: Path, *options: object, images: str = "photos"):
    common = ("--from", folder / "labels.csv", "--images", folder / images)
    return ltbench("data", "new", folder / "own", *common, *options)


@pytest.fixture
def few(tmp_path) -> Path:
    """Twenty images with a table, of one's own to break."""
    names = [f"in/{i}.png" for i in range(20)]
    write_images(tmp_path / "photos", names)
    write_table(tmp_path, names)
    return tmp_path


def test_missing_images_are_named_with_a_near_name(few):
    folder = few / "photos"
    (folder / "in" / "3.png").rename(folder / "in" / "3.PNG")
    refused(new(few), "1 image is missing below", "in/3.png", "there is 'in/3.PNG'", "case and suffix")
    (folder / "in" / "3.PNG").rename(folder / "3.gif")
    refused(new(few), "1 image is missing below", "in/3.png")
    refused(new(few, images="photos/in"), "this is in itself", f"give {folder}")
    refused(new(few, images="."), "20 images are missing below", "there is 'photos/in/0.png'", "--images")
    refused(new(few, images="none"), "no such folder")
    assert not (few / "own").exists()


def test_images_that_cannot_be_decoded_are_named(few):
    folder = few / "photos" / "in"
    (folder / "2.png").write_bytes(b"")
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:200])
    (folder / "7.png").write_text("%!PS")
    done = new(few)
    *faults, last = done.stderr.splitlines()
    assert done.returncode == 2 and "3 of 20 images cannot be used" in last
    assert [number for number in "257" if any(f"in/{number}.png" in fault for fault in faults)] == ["2", "5", "7"]
    assert len(faults) == 3 and {path.name for path in few.iterdir()} == {"photos", "labels.csv"}


def test_images_of_every_kind_are_taken_as_they_are_scored(few):
    folder = few / "photos" / "in"
    Image.new("CMYK", (9, 9), (10, 200, 30, 0)).save(folder / "1.png", "JPEG")
    Image.fromarray(np.arange(81, dtype=np.uint16).reshape(9, 9) * 800).save(folder / "2.png")
    upright = Image.open(folder / "3.png")
    exif = upright.getexif()
    exif[0x0112] = 6
    upright.save(folder / "3.png", exif=exif)
    assert new(few).returncode == 0


def test_what_is_in_the_folder_stays(few):
    (few / "own").mkdir()
    (few / "own" / "thesis.tex").write_text("x")
    refused(new(few), "own: it exists and is not an empty folder")
    assert [path.name for path in (few / "own").iterdir()] == ["thesis.tex"]
    (few / "own" / "thesis.tex").unlink()
    assert new(few).returncode == 0 and (few / "own" / "train.txt").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--val", "0.6", "--test", "0.5"), ("--val 0.6 --test 0.5", "some are left for training")),
        (("--test", "0"), ("--test 0.0",)),
        (("--val", "nan"), ("--val nan",)),
        (("--val", "-0.1"), ("--val -0.1",)),
        (("--long-tail", "1,800"), ("--long-tail '1,800'", "MAX,MIN")),
        (("--long-tail", "800"), ("MAX,MIN",)),
        (("--long-tail", "800,0"), ("MAX,MIN",)),
        (("--val", "0.001"), ("too few", "list val")),
    ],
)
def test_options_that_cannot_be_are_refused(few, options, words):
    refused(new(few, *options), *words)
    assert not (few / "own").exists()


def test_labels_without_images_and_a_registered_name_are_refused(few):
    refused(ltbench("data", "new", few / "own", "--from", few / "labels.csv"), "--images DIR")
    refused(ltbench("data", "new", few / "voc-lt", "--from", few / "labels.csv"), "name of a registered dataset")
    refused(
        ltbench("data", "new", few / "labels.csv" / "own", "--from", few / "labels.csv", "--images", few / "photos")
    )


def test_a_dataset_that_cannot_be_opened_leaves_nothing(few):
    """A class without training image, which the command never gives."""
    found = Annotations(("a", "b"), {"in/1.png": frozenset([0]), "in/2.png": frozenset([1])})
    with pytest.raises(InputError, match="no training image for class 'b'"):
        write_dataset(few / "own", found, {"train": ["in/1.png"], "test": ["in/2.png"]}, few / "photos", "")
    assert {path.name for path in few.iterdir()} == {"photos", "labels.csv"}


def reads_an_image(process: int, folder: Path) -> bool:
    opened = []
    for link in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            opened.append(link.readlink())
    return any(path.is_relative_to(folder / "photos") for path in opened)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="files that a process has open are not shown here")
def test_ctrl_c_leaves_nothing(few):
    big = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    for i in range(20):
        big[0, 0, 0] = i
        Image.fromarray(big).save(few / "photos" / "in" / f"{i}.png", "BMP")
    command = [sys.executable, "-m", "benchmark.cli", "data", "new", few / "own", "--from", few / "labels.csv"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command += ["--images", few / "photos"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        while process.poll() is None and not reads_an_image(process.pid, few):
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
    assert {path.name for path in few.iterdir()} == {"photos", "labels.csv"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTION, flags=re.M | re.S)


def test_the_tables_of_the_page_say_the_same(tmp_path):
    found = []
    for i, text in enumerate(blocks("csv")):
        (tmp_path / f"{i}.csv").write_text(text)
        read = read_table(tmp_path / f"{i}.csv")
        found.append((read.classes, read.labels))
    assert len(found) == 3 and found[0] == found[1] == found[2]
    assert found[0] == (("heron", "ibis", "owl"), {"a.jpg": {0, 2}, "b.jpg": {1}, "c.jpg": frozenset()})


@pytest.mark.slow
def test_the_commands_of_the_page_work(made, tmp_path, monkeypatch):
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    commands = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 6
    monkeypatch.setenv("LTBENCH_RESULTS", str(tmp_path / "results"))
    for words in commands:
        more = TINY_ARGS if words[1] == "run" else []
        done = ltbench(*words[1:], *more, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("results/runs/erm-s0-*/record.json"))) == 1
