"""A number belongs to its images: other images under the same lists are other runs, or refused."""

from __future__ import annotations

import io
import json
import shutil

import pytest
from kit.checks import refused
from kit.command import ltbench
from kit.runs import execute_plan
from kit.tiny import TINY, TINY_ARGS
from PIL import Image, ImageFilter
from rich.console import Console

from benchmark.data.dataset import DATASETS, DatasetFolder
from benchmark.leaderboard.board import load_board
from benchmark.running.plan import make_plan
from benchmark.running.rerun import decide
from benchmark.store.runs import Store, load_records
from benchmark.ui.progress import Reporter


def blur(folder) -> None:
    for path in (folder / "images").iterdir():
        Image.open(path).filter(ImageFilter.GaussianBlur(4)).save(path)


@pytest.fixture
def blurred(tiny):
    """A copy of the tiny dataset, with its lists and with other images."""
    copy = shutil.copytree(tiny, tiny.with_name("tiny-blurred"))
    blur(copy)
    return copy


@pytest.mark.slow
def test_two_datasets_with_the_same_lists_are_two_datasets(tiny, blurred, tmp_path):
    results = tmp_path / "results"
    done = ltbench("sweep", "--methods", "erm", "--datasets", f"{tiny},{blurred}", *TINY_ARGS, "--results", results)
    assert done.returncode == 0, done.stderr
    first, second = sorted(load_records(results), key=lambda record: record.spec.dataset.name)
    assert [first.spec.dataset.name, second.spec.dataset.name] == ["tiny", "tiny-blurred"]
    assert first.run_id != second.run_id and first.data_digests["test"] != second.data_digests["test"]
    assert len(load_board(results, results).tables) == 2, "a table never has both"


def test_images_that_were_replaced_in_place_make_another_run(tiny, tmp_path):
    first = execute_plan(make_plan("erm", str(tiny), **TINY), tmp_path)
    blur(tiny)
    second = execute_plan(make_plan("erm", str(tiny), **TINY), tmp_path)
    assert second.run_id != first.run_id and second.data_digests["test"] != first.data_digests["test"]


def test_a_copy_of_the_same_images_is_the_same_dataset(tiny, tmp_path):
    copy = shutil.copytree(tiny, tmp_path / "copy")
    assert make_plan("erm", str(copy), **TINY).run_id == make_plan("erm", str(tiny), **TINY).run_id


def test_an_image_that_is_missing_is_named_before_anything_starts(tiny, tmp_path):
    (tiny / "images" / "test3.png").unlink()
    assert "images/test3.png" in refused(make_plan, "erm", str(tiny), **TINY)


# Registered datasets, whose lists are published and whose files are on every user's disk


@pytest.fixture
def plan(tiny, monkeypatch):
    """A plan on the tiny dataset as a registered one."""
    assert "voc-lt" in DATASETS
    monkeypatch.setitem(DATASETS._entries, "tiny", DatasetFolder("tiny", tiny.resolve()))
    return make_plan("erm", "tiny", **TINY)


def test_a_run_on_other_images_of_a_registered_dataset_is_not_done_before(plan, tiny, tmp_path):
    first = execute_plan(plan, tmp_path)
    assert execute_plan(plan, tmp_path) == first
    blur(tiny)
    message = refused(execute_plan, plan, tmp_path)
    assert [part for part in ("other images (train, val, test)", "--rerun stale") if part not in message] == []
    folder = Store(tmp_path).folder(plan.spec)
    assert folder.record() == first, "nothing was lost"
    assert decide(plan, folder, "missing").state == "other images" and not decide(plan, folder, "missing").launch
    anew = execute_plan(plan, tmp_path, rerun="stale")
    assert anew.run_id == first.run_id and anew.data_digests != first.data_digests
    assert execute_plan(plan, tmp_path) == anew


def test_a_record_is_shown_where_its_images_are_not(plan, tiny, tmp_path):
    first = execute_plan(plan, tmp_path)
    shutil.rmtree(tiny / "images")
    out = io.StringIO()
    assert execute_plan(plan, tmp_path, reporter=Reporter(Console(file=out, width=200))) == first
    assert "done before" in out.getvalue()


def test_a_table_never_mixes_test_images(plan, tmp_path):
    for seed in range(3):
        execute_plan(make_plan("erm", "tiny", **TINY, seed=seed), tmp_path)
    path = Store(tmp_path).folder(plan.spec).record_path
    data = json.loads(path.read_text())
    data["data_digests"]["test"] = "0" * 64
    path.write_text(json.dumps(data))
    problems = []
    [table] = load_board(tmp_path, tmp_path, problems).tables
    assert [row.n for row in table.rows] == [2]
    [problem] = problems
    assert "its test images at 16 px, bilinear, have the digest 000000000000" in str(problem)
