"""Few-shot datasets from official annotations to a table: the run of a seed is that of an episode."""

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from kit.archives import tar_of
from kit.command import ltbench as cli
from kit.official import write_voc
from kit.runs import execute_plan
from kit.server import serving
from kit.stores import edit_record
from kit.tiny import TINY, TINY_ARGS, write_few_shot
from kit.trainers import stopping
from kit.verification import faults
from PIL import Image
from safetensors.numpy import load_file
from sklearn.metrics import average_precision_score

from benchmark.audit.bundles import export, import_bundle
from benchmark.base.yamlio import load_yaml
from benchmark.data import archives
from benchmark.data.dataset import DATASETS, find_dataset
from benchmark.data.lists import read_classes
from benchmark.data.makers import make_lists
from benchmark.data.preparing.obtain import Wishes, obtain
from benchmark.data.presence import presence_of
from benchmark.errors import InputError, RunInterrupted
from benchmark.leaderboard.board import load_board
from benchmark.leaderboard.exports.latex import write as latex
from benchmark.leaderboard.pages.html import html_page
from benchmark.leaderboard.pages.markdown_page import markdown_page
from benchmark.leaderboard.terminal import terminal_table
from benchmark.running.plan import make_plan, make_plans
from benchmark.store.folder import RunFolder
from benchmark.store.records import Record
from benchmark.ui.progress import Reporter

NAME = "voc-few-shot-1"
CLASSES = ("cat", "dog", "pottedplant", "sheep", "sofa", "tvmonitor")
SEEDS = range(3)
RUN = TINY | {"epochs": 1}


def write_voc_2007(root: Path) -> Path:
    """VOC 2007 in small: a few images of each of the 20 classes, some with two, a tint for each class."""
    names = (DATASETS.get("voc-lt").path / "classes.txt").read_text().split()
    folder = root / "VOCdevkit" / "VOC2007"
    for part in ("ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels: dict[str, set[str]] = {}
    for part, copies in (("trainval", 4), ("test", 2)):
        images = []
        for i in range(copies * len(names)):
            images.append(f"{len(labels) + 1:06}")
            labels[images[-1]] = {names[i % len(names)], *["person"] * (i % 3 == 0), *["cat"] * (i % 7 == 0)}
            pixels = rng.integers(0, 60, (20, 20, 3))
            for name in labels[images[-1]]:
                pixels[names.index(name)] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "JPEGImages" / f"{images[-1]}.jpg")
        (folder / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(images) + "\n")
    write_voc(folder, labels, difficult=[image for image, found in labels.items() if "cat" in found])
    return root


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> Path:
    """A data root with the small VOC 2007 and the lists made from it."""
    root = write_voc_2007(tmp_path_factory.mktemp("voc"))
    for name in (NAME, "voc-few-shot-base"):
        make_lists(DATASETS.get(name), root)
    return root


@pytest.fixture(scope="module")
def results(voc, tmp_path_factory) -> Path:
    """Runs of three episodes."""
    folder = tmp_path_factory.mktemp("few") / "results"
    for plan in make_plans("erm", NAME, seeds=SEEDS, data_root=voc, **RUN):
        execute_plan(plan, folder)
    return folder


@pytest.fixture
def known(voc, monkeypatch):
    """The registered dataset is opened where its lists were made."""
    monkeypatch.setenv("LTBENCH_DATA", str(voc))


def records(results: Path) -> list[Record]:
    found = [Record.from_file(path) for path in sorted(results.glob("runs/*/record.json"))]
    return sorted(found, key=lambda record: record.spec.seed)


def test_lists_follow_the_official_annotations(voc):
    few, base = (DATASETS.get(name).open(voc) for name in (NAME, "voc-few-shot-base"))
    parts = voc / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    trainval, test = (set((parts / f"{name}.txt").read_text().split()) for name in ("trainval", "test"))

    def named(split) -> set[str]:
        return {Path(path).stem for path in split.paths}

    assert few.classes == CLASSES and len(few.supports) == 10
    assert all(named(support) <= trainval for support in few.supports) and named(few.splits["test"]) <= test
    assert all(support.targets.any(axis=1).all() for support in few.supports)
    # A cat, always marked difficult, is in every seventh of the 40 test images, and in the 28th.
    assert few.splits["test"].targets.sum(axis=0).tolist() == [7, 2, 2, 2, 2, 2]
    assert few.splits["test"].targets.any(axis=1).all()
    novel = {path for name in CLASSES for path in _showing(voc, name)}
    assert named(base.splits["train"]) == trainval - novel
    assert named(base.splits["test"]) & novel and base.splits["test"].targets.any(axis=1).all()
    before = (voc / "ltbench-lists" / NAME / "episode-3" / "train.txt").read_bytes()
    make_lists(DATASETS.get(NAME), voc)
    assert (voc / "ltbench-lists" / NAME / "episode-3" / "train.txt").read_bytes() == before


def _showing(voc: Path, name: str) -> set[str]:
    folder = voc / "VOCdevkit" / "VOC2007" / "Annotations"
    return {path.stem for path in folder.iterdir() if f"<name>{name}</name>" in path.read_text()}


def write_coco(root: Path) -> None:
    """Annotations of COCO 2014 in small: two images of each of the 80 classes a part, and in every third a chair; in
    every third a crowd of chairs."""
    names = read_classes(DATASETS.get("coco-lt").path / "classes.txt")
    ids = [2 * i + 1 for i in range(len(names))]  # with gaps, as COCO's
    chair = ids[names.index("chair")]
    folder = root / "coco" / "annotations"
    folder.mkdir(parents=True)
    for part, first in (("train", 1001), ("val", 139)):  # 139 is an image of val2017, 140 is none
        images = [{"id": i, "file_name": f"COCO_{part}2014_{i:012}.jpg"} for i in range(first, first + 160)]
        found = [(image["id"], ids[i % 80], 0) for i, image in enumerate(images)]
        found += [(image["id"], chair, i % 3) for i, image in enumerate(images) if i % 3 < 2]
        annotations = [
            {"id": i, "image_id": image, "category_id": category, "iscrowd": crowd, "bbox": [0, 0, 9, 9], "area": 81}
            for i, (image, category, crowd) in enumerate(found)
        ]
        categories = [{"id": number, "name": name} for number, name in zip(ids, names, strict=True)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"instances_{part}2014.json").write_text(json.dumps(content))


def test_coco_2014_is_looked_up_in_the_folders_of_2017(tmp_path):
    write_coco(tmp_path)
    names = ("coco-few-shot-1", "coco-few-shot-base")
    for name in names:
        make_lists(DATASETS.get(name), tmp_path)
    few, base = (DATASETS.get(name).open(tmp_path) for name in names)
    assert (len(few.classes), len(base.classes), len(few.supports)) == (16, 64, 10)
    assert {path.split("/")[0] for support in few.supports for path in support.paths} == {"train2017"}
    tested = {*few.splits["test"].paths, *base.splits["test"].paths}
    assert {"val2017/000000000139.jpg", "train2017/000000000140.jpg"} <= tested
    # Of 160 images, 54 have a chair that is no crowd, besides the two whose class is chair.
    shown = [i for i in range(160) if i % 3 == 0 or i % 80 == 56]
    assert few.splits["test"].targets[:, few.classes.index("chair")].sum() == len(shown) == 56
    known = read_classes(DATASETS.get("coco-lt").path / "classes.txt")
    with_novel = {i for i in range(160) if i in shown or known[i % 80] in few.classes}
    assert len(few.splits["test"]) == len(with_novel)
    assert base.splits["train"].paths == tuple(
        f"train2017/{1001 + i:012}.jpg" for i in range(160) if i not in with_novel
    )


def test_labels_are_verified_against_the_official_annotations(voc):
    done = cli("data", "verify", NAME, "--data-root", voc)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 differ" in done.stdout


def test_labels_of_coco_2014_are_verified(tmp_path):
    write_coco(tmp_path)
    make_lists(DATASETS.get("coco-few-shot-1"), tmp_path)
    done = cli("data", "verify", "coco-few-shot-1", "--data-root", tmp_path)
    assert "rows compared with instances_train2014.json and instances_val2014.json, 0 differ" in done.stdout
    file = tmp_path / "coco/annotations/instances_val2014.json"
    content = json.loads(file.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 139]  # which has a chair
    file.write_text(json.dumps(content))
    done = cli("data", "verify", "coco-few-shot-1", "--data-root", tmp_path)
    assert done.returncode == 1 and "test.txt: val2017/000000000139.jpg: listed chair; official none" in done.stdout
    file.unlink()
    done = cli("data", "verify", "coco-few-shot-1", "--data-root", tmp_path)
    assert done.returncode == 1 and "no instances_train2014.json and instances_val2014.json below" in done.stdout


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A server with the two archives of the small VOC 2007, which share their folders."""
    source = write_voc_2007(tmp_path / "source")
    entries = load_yaml(archives.ARCHIVES_FILE)
    with serving() as server:
        for part in ("trainval", "test"):
            images = (source / f"VOCdevkit/VOC2007/ImageSets/Main/{part}.txt").read_text().split()
            names = [f"VOCdevkit/VOC2007/ImageSets/Main/{part}.txt"]
            for folder, end in (("Annotations", "xml"), ("JPEGImages", "jpg")):
                names += [f"VOCdevkit/VOC2007/{folder}/{image}.{end}" for image in images]
            content = tar_of({name: (source / name).read_bytes() for name in names})
            server.files[f"/{part}.tar"] = content
            digest = hashlib.sha256(content).hexdigest()
            entries[f"voc2007-{part}"] |= {"urls": [f"{server.url}/{part}.tar"], "size": len(content), "sha256": digest}
        (tmp_path / "archives.yaml").write_text(yaml.safe_dump(entries))
        monkeypatch.setattr(archives, "ARCHIVES_FILE", tmp_path / "archives.yaml")
        monkeypatch.setattr(archives.ARCHIVES, "_entries", {})
        monkeypatch.setattr(archives.ARCHIVES, "_load", archives._load_archives)
        yield server


def prepared(root: Path, *sources: Path, only_needed: bool = False) -> None:
    dataset = obtain(DATASETS.get(NAME), root, Wishes(sources, only_needed), Reporter())
    dataset.source.check(dataset.lists.values())


@pytest.mark.parametrize("only_needed", [False, True])
def test_archives_with_labels_and_images_are_fetched_once_and_removed(only_needed, served, tmp_path):
    root = tmp_path / "root"
    prepared(root, only_needed=only_needed)
    assert [asked.path for asked in served.asked] == ["/trainval.tar", "/test.tar"]
    assert {path.name for path in root.iterdir()} == {"VOCdevkit", "ltbench-lists"}
    assert (len(list(root.glob("VOCdevkit/VOC2007/JPEGImages/*"))) == 120) == (not only_needed)


def test_one_archive_of_two_in_the_same_folder_is_fetched(served, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(fileobj=io.BytesIO(served.files["/test.tar"])) as archive:
        archive.extractall(root, filter="data")
    prepared(root)
    assert [asked.path for asked in served.asked] == ["/trainval.tar"]


def test_an_interrupted_unpacking_of_labels_goes_on(served, tmp_path):
    root = tmp_path / "root"
    (root / "archives").mkdir(parents=True)
    for part in ("trainval", "test"):
        (root / f"archives/{part}.tar").write_bytes(served.files[f"/{part}.tar"])
        with tarfile.open(fileobj=io.BytesIO(served.files[f"/{part}.tar"])) as archive:
            archive.extractall(root, archive.getmembers()[:9], filter="data")
    prepared(root)
    assert not served.asked and len(list((root / "archives").iterdir())) == 2, "the user's own stay"


def test_an_archive_beside_its_unpacked_copy_is_not_unpacked_again(served, tmp_path):
    source, root = tmp_path / "source", tmp_path / "root"
    for part in ("trainval", "test"):
        (source / f"{part}.tar").write_bytes(served.files[f"/{part}.tar"])
    prepared(root, source)
    folder = root / "VOCdevkit/VOC2007"
    assert all((folder / name).is_symlink() for name in ("Annotations", "JPEGImages"))


def test_annotations_of_another_year_are_not_linked(served, tmp_path):
    other = write_voc_2007(tmp_path / "other") / "VOCdevkit"
    (other / "VOC2007").rename(other / "VOC2012")
    prepared(tmp_path / "root", other)
    assert not (tmp_path / "root/VOCdevkit/VOC2007/Annotations").is_symlink()


def test_annotations_of_one_archive_alone_are_refused(tmp_path):
    root = write_voc_2007(tmp_path)
    [*annotations] = sorted((root / "VOCdevkit" / "VOC2007" / "Annotations").iterdir())
    annotations[-1].unlink()
    with pytest.raises(InputError, match=r"test.txt: 1 of its 40 images have no annotation, such as .*000120.jpg"):
        make_lists(DATASETS.get(NAME), root)
    assert not (root / "ltbench-lists" / NAME).exists()
    with pytest.raises(InputError, match="no instances_train2014.json in .*; unpack annotations_trainval2014.zip"):
        make_lists(DATASETS.get("coco-few-shot-5"), root)


def test_each_run_trains_on_its_episode_and_says_so(voc, results):
    dataset = DATASETS.get(NAME).open(voc)
    for record, support in zip(records(results), dataset.supports, strict=False):
        assert record.episode == record.spec.seed and record.num_train_images == len(support)
        assert list(record.class_counts.values()) == support.targets.sum(axis=0).tolist()
        assert record.spec.dataset.fingerprint == dataset.fingerprint
    digests = [record.data_digests for record in records(results)]
    assert len({digest["train"] for digest in digests}) == 3 and len({digest["test"] for digest in digests}) == 1
    shown = cli("show", records(results)[2].run_id[:12], "--results", results).stdout
    assert "episode" in shown and "2: its support set was trained on" in shown


def test_a_row_is_the_mean_over_episodes_of_the_stored_logits(results, known):
    scores = []
    for record in records(results):
        tensors = load_file(results / "runs" / record.folder_name / record.logits.file)
        logits, targets = tensors[record.declared], tensors["targets"]
        scores.append(100 * average_precision_score(targets, logits, average="macro"))
    assert len(set(scores)) == 3
    board = load_board(results, results, problems := [])
    assert problems == []
    [table] = board.tables
    [row] = table.rows
    assert row.scores["Overall"].n == 3 and row.scores["Overall"].mean == pytest.approx(np.mean(scores), abs=1e-4)
    said = "a row is a mean over 3 episodes"
    for page in (markdown_page(board, {}), html_page(board, {table.track.slug: {}}), latex(board)):
        assert said in " ".join(page.split())
    [heads] = [line for line in markdown_page(board, {}).splitlines() if line.startswith("| Rank |")]
    assert "Overall" in heads and "Tail" not in heads, "all classes are in one group"
    assert "interval over episodes and test images" in str(terminal_table(table).caption)


def test_runs_of_episodes_verify_and_travel(results, known, tmp_path):
    assert faults(results) == {}
    bundles = []
    for record in records(results):
        bundles.append(export(RunFolder(results / "runs" / record.folder_name), tmp_path / f"{record.spec.seed}.zip"))
        import_bundle(bundles[-1], tmp_path / "other")
    assert faults(tmp_path / "other") == {} and len(records(tmp_path / "other")) == 3


@pytest.fixture
def own(tmp_path) -> Path:
    """A few-shot dataset of a user's own."""
    return write_few_shot(tmp_path / "own")


def test_a_seed_without_an_episode_is_refused_before_anything_starts(own, tmp_path):
    for call in (lambda: make_plan("erm", str(own), seed=3, **TINY), lambda: find_dataset(str(own)).open().of_seed(3)):
        with pytest.raises(InputError, match="'own' has 3 episodes.*seed 3 has none; give seeds from 0 to 2"):
            call()
    done = cli(
        "sweep", "--methods", "all", "--datasets", own, "--seeds", "0-3", *TINY_ARGS, "--results", tmp_path / "r"
    )
    assert done.returncode != 0 and "seed 3 has none" in done.stderr and not (tmp_path / "r").exists()


def test_a_stopped_run_goes_on_with_its_episode(own, tmp_path):
    plan = make_plan("erm", str(own), seed=1, **TINY | {"epochs": 3})
    whole = execute_plan(plan, tmp_path / "whole")
    with pytest.raises(RunInterrupted), stopping(lambda trainer: trainer.progress.step == 2):
        execute_plan(plan, tmp_path / "stopped")
    # Another process makes the plan again, from the request alone.
    resumed = execute_plan(make_plan(**plan.request), tmp_path / "stopped")
    assert resumed.episode == 1 and resumed.attempts == 2
    assert resumed.logits == whole.logits and resumed.data_digests == whole.data_digests


def test_episodes_of_a_record_are_checked(own, tmp_path):
    for plan in make_plans("erm", str(own), seeds=SEEDS, **RUN):
        execute_plan(plan, tmp_path)
    execute_plan(make_plan("asl", str(own), seed=1, **RUN), tmp_path)
    assert faults(tmp_path) == {}
    one = RunFolder(next(tmp_path.glob("runs/erm-s1-*")))
    kept = one.record_path.read_text()
    with pytest.raises(Exception, match="episode 0 is not that of seed 1"):
        edit_record(one, episode=0)
    one.record_path.write_text(kept)
    edit_record(one, data_digests={"train": json.loads(kept)["data_digests"]["test"]})
    assert "its train images of episode 1 at " in str(faults(tmp_path))
    one.record_path.write_text(kept)
    edit_record(one, num_train_images=20)
    assert "its numbers of training images of episode 1" in str(faults(tmp_path))


def test_numbers_of_another_episode_are_a_fault_of_a_registered_dataset(results, known, tmp_path):
    copy = shutil.copytree(results, tmp_path / "results")
    folder = RunFolder(next(copy.glob("runs/erm-s2-*")))
    edit_record(folder, num_train_images=folder.record().num_train_images + 1)
    [messages] = faults(copy).values()
    assert "numbers of images are not those of dataset" in messages[0]


def test_prepare_decodes_every_episode(own, tmp_path):
    done = cli("data", "prepare", own, *TINY_ARGS[:4])
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:5]] == [
        *(f"episode-{i}/train" for i in SEEDS),
        "test",
    ]


def test_an_image_of_several_episodes_is_counted_once(own):
    with (own / "episode-1/train.txt").open("a") as file:
        file.write((own / "episode-0/train.txt").read_text())
    dataset = find_dataset(str(own)).open()
    listed = [path for split in dataset.lists.values() for path in split.paths]
    repeated = dataset.supports[0].paths[:2]
    assert presence_of(dataset).total == len(set(listed))
    for path in repeated:
        (own / path).write_bytes(b"")
    for command in (("verify", own, "--content"), ("prepare", own, *TINY_ARGS[:4])):
        done = cli("data", *command)
        faults = [line for line in (done.stdout + done.stderr).splitlines() if "cannot be decoded" in line]
        assert len(faults) == len(repeated)
    assert f"2 of {len(set(listed))} images cannot be used" in done.stderr


def test_prepare_finds_an_image_that_is_scored_in_any_episode(own, tmp_path):
    dataset = find_dataset(str(own)).open()
    later = next(path for path in dataset.supports[2].paths if path not in dataset.supports[0].paths)
    shutil.copy(own / later, own / dataset.splits["test"].paths[0])
    done = cli("data", "prepare", own, *TINY_ARGS[:4])
    assert done.returncode == 2 and f"{later} in train.txt is " in done.stderr
    done = cli("data", "prepare", own, *TINY_ARGS[:4], "--allow-duplicates")
    assert done.returncode == 0, done.stderr
