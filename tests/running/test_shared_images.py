"""Runs on lists with identical images: refused, or allowed and said so."""

from __future__ import annotations

import io
import json
import shutil

import pytest
from kit.checks import refused
from kit.command import ltbench
from kit.factories import make_record
from kit.runs import execute_plan
from kit.tiny import TINY, TINY_ARGS
from rich.console import Console

from benchmark.audit.reproduce import command
from benchmark.launch.product import Sweep, expand
from benchmark.running.plan import make_plan
from benchmark.spec import parse
from benchmark.store.records import Record
from benchmark.store.runs import Store
from benchmark.ui.progress import Reporter


@pytest.fixture
def leaking(tiny):
    """The tiny dataset, with a training image in the test list."""
    shutil.copy(tiny / "images" / "train3.png", tiny / "images" / "test5.png")
    return tiny


def test_a_run_on_an_image_in_two_lists_is_refused(leaking, tmp_path):
    message = refused(execute_plan, make_plan("erm", str(leaking), **TINY), tmp_path)
    assert "images/train3.png in train.txt is images/test5.png in test.txt" in message
    assert Store(tmp_path).folder(make_plan("erm", str(leaking), **TINY).spec).record() is None


def test_an_allowed_one_is_the_same_run_and_its_record_says_so(leaking, tmp_path):
    plan = make_plan("erm", str(leaking), allow_duplicates=True, **TINY)
    assert plan.run_id == make_plan("erm", str(leaking), **TINY).run_id
    assert make_plan(**plan.request).allow_duplicates, "a worker is told"
    record = execute_plan(plan, tmp_path)
    assert record.shared_images == 1 and json.loads(record.to_json())["shared_images"] == 1
    assert "--allow-duplicates" in command(record)
    again = execute_plan(make_plan("erm", str(leaking), **TINY), tmp_path)
    assert again == record, "what is done is shown, not refused"


def test_the_flag_alone_leaves_no_trace(tiny, tmp_path):
    record = execute_plan(make_plan("erm", str(tiny), allow_duplicates=True, **TINY), tmp_path)
    assert "shared_images" not in record.to_json() and "--allow-duplicates" not in command(record)
    assert Record.from_bytes(record.to_json().encode(), "there") == record


def test_an_image_twice_in_a_list_is_a_warning(tiny, tmp_path):
    shutil.copy(tiny / "images" / "train3.png", tiny / "images" / "train4.png")
    output = io.StringIO()
    reporter = Reporter(Console(file=output, width=1000))
    assert execute_plan(make_plan("erm", str(tiny), **TINY), tmp_path, reporter=reporter)
    assert "images/train3.png in train.txt is images/train4.png in train.txt" in output.getvalue()


def test_files_that_are_empty_are_no_identical_images(tiny, tmp_path):
    for name in ("train3", "test5"):
        (tiny / "images" / f"{name}.png").write_bytes(b"")
    message = refused(execute_plan, make_plan("erm", str(tiny), **TINY), tmp_path)
    assert "images/train3.png: cannot be decoded" in message and "listed twice" not in message


def test_a_sweep_hands_it_to_its_runs(leaking):
    axes = {"methods": "erm", "datasets": str(leaking), "protocols": "demo", "allow_duplicates": True}
    [plan], _ = expand(parse(Sweep, axes, "sweep"))
    assert plan.allow_duplicates and plan.request["allow_duplicates"]


@pytest.mark.slow
def test_the_commands_refuse_allow_and_show(leaking, tmp_path):
    results = ["--results", str(tmp_path / "results")]
    for words in (
        ["data", "prepare", str(leaking), "--protocol", "demo"],
        ["run", "--method", "erm", "--dataset", str(leaking), *TINY_ARGS, *results],
    ):
        done = ltbench(*words)
        assert done.returncode != 0 and "images/train3.png in train.txt is images/test5.png" in done.stderr
        assert "--allow-duplicates" in done.stderr.strip().splitlines()[-1]
        done = ltbench(*words, "--allow-duplicates")
        assert done.returncode == 0, done.stderr
    [record] = (tmp_path / "results" / "runs").glob("*/record.json")
    shown = ltbench("show", record.parent.name, *results).stdout
    assert "1 image in two lists under different names: allowed" in shown
    page = (tmp_path / "results" / "leaderboard.html").read_text()
    assert '"shared":1' in page


def test_a_record_without_the_field_is_as_it_was():
    text = make_record().to_json()
    assert "shared_images" not in text and Record.from_bytes(text.encode(), "there").to_json() == text
