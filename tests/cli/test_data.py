"""`ltbench data list` and `show`, as a user calls them."""

from __future__ import annotations

import json

import pytest
from kit.command import ltbench, refused
from kit.tiny import write_few_shot
from rich.console import Console

from benchmark.data import dataset as datasets
from benchmark.data.dataset import DATASETS
from benchmark.ui.tables import FittedTable


def test_list_tells_sizes_groups_and_whether_images_are_here(tmp_path):
    found = json.loads(ltbench("data", "list", "--json").stdout)
    coco, shapes = found["coco-lt"], found["shapes-lt"]
    assert coco["sizes"] == {"train": 1909, "test": 5000} and coco["groups"] == {"head": 22, "medium": 33, "tail": 25}
    assert (coco["images_here"], coco["missing"]) == ("no data root", None)
    assert (shapes["images_here"], shapes["missing"]) == ("rendered", 0)
    assert {"title", "protocol", "folder", "notes", "download"} <= set(coco)
    voc = json.loads(ltbench("data", "list", "--data-root", tmp_path, "--json").stdout)["voc-lt"]
    assert (voc["images_here"], voc["missing"]) == ("all 8,094 missing", 8094)
    [line] = [line for line in ltbench("data", "list").stdout.splitlines() if line.startswith("voc-lt ")]
    assert "1,142/2,000/4,952" in line and "20 (6/6/8)" in line and "no data root" in line


def test_list_names_a_dataset_whose_lists_are_not_made(tmp_path, monkeypatch):
    (tmp_path / "splits" / "made").mkdir(parents=True)
    (tmp_path / "splits" / "made" / "dataset.yaml").write_text("title: Made\nlists: data-root\nimages: data-root\n")
    monkeypatch.setattr(datasets, "SPLITS_FOLDER", tmp_path / "splits")
    monkeypatch.setattr(DATASETS, "_entries", {})
    monkeypatch.setattr(DATASETS, "_load", datasets._load_datasets)
    for where in ((), ("--data-root", tmp_path)):
        done = ltbench("data", "list", *where)
        assert done.returncode == 0 and "lists not made: ltbench data prepare made" in done.stdout
        assert json.loads(ltbench("data", "list", *where, "--json").stdout)["made"]["sizes"] is None
        refused(ltbench("data", "show", "made", *where), "ltbench data prepare made")


def test_show_tells_the_facts(tmp_path):
    told = ltbench("data", "show", "voc-lt").stdout
    for words in ("6 head, 6 medium, 8 tail", "194, from 775", "LTBENCH_DATA", "controlled: resnet50", "14 of 14"):
        assert words in told
    facts = json.loads(ltbench("data", "show", "voc-lt", "--data-root", tmp_path, "--json").stdout)
    assert facts["images"]["missing"] == 8094 and "VOCtrainval" in facts["images"]["problem"]
    assert facts["runs"]["protocol"].startswith("controlled: ") and len(facts["cooccurrence"]) == 20
    assert facts["lists"]["val"]["images"] == 2000 and facts["traps"]


def test_show_takes_a_folder_and_escapes_what_is_in_it(tiny):
    (tiny / "classes.txt").write_text("[red]\n\x1b[31mgreen\nblue\n")
    (tiny / "dataset.yaml").write_text('title: "[bold]Tiny"\ntraps: ["a \\e[31m trap"]\n')
    done = ltbench("data", "show", tiny)
    assert done.returncode == 0 and "[red]" in done.stdout and "[bold]Tiny" in done.stdout
    assert "\x1b" not in done.stdout and f"all 46 are in {tiny}" in done.stdout.replace("\n", " ")
    assert json.loads(ltbench("data", "show", tiny, "--json").stdout)["images"]["here"] == "yes"


def test_show_says_which_support_set_it_counts(tmp_path):
    few = write_few_shot(tmp_path / "few")
    assert "3; `train` is the support set of episode 0" in ltbench("data", "show", few).stdout
    assert json.loads(ltbench("data", "show", few, "--json").stdout)["episodes"] == 3
    assert "episodes" not in ltbench("data", "show", "voc-lt").stdout


def test_show_refuses_what_is_no_dataset(tiny):
    refused(ltbench("data", "show", "voc-tl"), "did you mean 'voc-lt'")
    (tiny / "dataset.yaml").write_text("protocol: nope\n")
    refused(ltbench("data", "show", tiny), "unknown protocol 'nope'")
    (tiny / "dataset.yaml").write_text("traps: one\n")
    refused(ltbench("data", "show", tiny), "dataset.yaml", "traps")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_fitted_table_breaks_no_word_at_any_width(width, capsys):
    rows = [("first", "1,234", "some words about it, distribution-balanced ones"), ("second", "5", "")]
    Console(width=width).print(FittedTable(("name", "count", "about"), rows, numbers=["count"]))
    out = capsys.readouterr().out
    words = {word for line in out.splitlines() for word in line.split()}
    for row in rows:
        longest = [word for cell in row for word in cell.split() if len(word) <= width - 2]
        assert set(longest) <= words
    assert max(map(len, out.splitlines())) <= width
