"""The command line, as a user calls it: its output and its exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kit.command import Done, ltbench, refused
from kit.factories import make_record, make_scored, write_scored, write_store
from kit.paths import ROOT
from kit.tiny import TINY_ARGS

from benchmark.errors import RunFailed
from benchmark.leaderboard import board, samples
from benchmark.spec import PROTOCOLS


def test_help_has_examples_and_does_not_import_torch():
    everything = ltbench("--help").stdout
    for command in re.findall(r"^  ([a-z]+)  ", everything, re.M):
        done = ltbench(command, "--help")
        examples = re.findall(rf"^    ltbench {command}.*", done.stdout, re.M)
        assert done.returncode == 0 and examples
        assert set(examples) <= set(everything.splitlines())
    code = (
        "import sys, benchmark.cli\n"
        "try: benchmark.cli.app(['--help'])\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    imported = set(done.stderr.split())
    assert not imported & {"torch", "pandas", "matplotlib", "numpy", "pydantic", "rich"}
    ours = {name for name in imported if name.startswith("benchmark.cli.")}
    groups = {f"benchmark.cli.{path.parent.name}" for path in (ROOT / "benchmark" / "cli").glob("*/__init__.py")}
    assert ours - groups == {"benchmark.cli.app", "benchmark.cli.output"}, "a command is imported when it is called"


def test_run_trains_prints_a_table_and_writes_the_leaderboard(tiny, tmp_path):
    results = tmp_path / "results"
    done = ltbench("run", "--method", "erm", "--dataset", tiny, *TINY_ARGS, "--seeds", "0-1", "--results", results)
    assert done.returncode == 0, done.stderr
    assert "erm" in done.stdout and "Overall" in done.stdout and "leaderboard.md" in done.stdout
    assert "epoch 2/2" in done.stderr, "plain progress lines where the output is no terminal"
    page = (results / "leaderboard.md").read_text()
    assert "±" in page and "epochs=2" in page
    pictures = {ending: {p.stem for p in (results / "plots").glob(f"*.{ending}")} for ending in ("png", "svg")}
    assert pictures["png"] == pictures["svg"] and any(stem.endswith("-groups") for stem in pictures["png"])
    assert ltbench("leaderboard", "--check", "--results", results).returncode == 0

    again = ltbench("run", "--method", "erm", "--dataset", tiny, *TINY_ARGS, "--results", results, "--json")
    [record] = json.loads(again.stdout)
    assert record["spec"]["seed"] == 0 and "done before" in again.stderr and "epoch" not in again.stderr

    shown = ltbench("show", record["run_id"][:10], "--results", results)
    assert shown.returncode == 0 and f"{record['results']['ema']['overall']:.2f}" in shown.stdout
    status = json.loads(ltbench("status", "--results", results, "--json").stdout)
    assert [row["state"] for row in status] == ["done", "done"]


def test_dry_run_does_nothing_and_tells_what_would_be_done(tiny, tmp_path):
    results = tmp_path / "results"
    done = ltbench(
        "run", "--method", "asl", "--dataset", tiny, "--weights", "none", "--seeds", "3,5", "--dry-run",
        "--json", "--results", results,
    )  # fmt: skip
    rows = json.loads(done.stdout)
    assert [(row["seed"], row["state"], row["action"]) for row in rows] == [
        (3, "pending", "launch"),
        (5, "pending", "launch"),
    ]
    assert not results.exists()


def test_lists_name_what_is_registered():
    assert set(json.loads(ltbench("methods", "--json").stdout)) >= {
        "erm", "rw", "focal", "cb-focal", "db", "db-focal", "asl", "ltml", "cprfl", "capnet", "hp-dval",
        "clip-zero-shot", "linear-probe",
    }  # fmt: skip
    datasets = json.loads(ltbench("datasets", "--json").stdout)
    assert set(datasets) >= {"coco-lt", "shapes-lt", "voc-lt"}
    assert set(json.loads(ltbench("protocols", "--json").stdout)) >= {
        "controlled", "controlled-clip", "demo", "demo-clip", "paper"
    }  # fmt: skip
    assert {line.split()[0] for line in ltbench("datasets").stdout.splitlines() if line.strip()} >= set(datasets)
    assert "gamma_neg=4.0" in ltbench("methods", "asl").stdout


def test_protocols_tell_where_methods_differ():
    told = [line.split(maxsplit=1) for line in ltbench("protocols").stdout.splitlines()]
    paper = dict(told[[name for name, _ in told].index("paper") + 1 :])
    assert set(paper) == set(PROTOCOLS.get("paper").methods)
    assert paper["cprfl"] == "resnet101, IMAGENET1K_V1, 448 px, 30 epochs, adamw 5e-05"
    assert paper["capnet"].startswith("clip_rn50, RN50:openai, 224 px")


def test_a_method_s_choices_are_told_with_their_values():
    told = ltbench("methods", "cprfl").stdout
    assert "[asl | bce | soft-margin | cb-focal | db | db-focal]" in told and "[released | equations]" in told
    assert re.search(r"^vsi=True .*\[True \| False\]$", told, re.M)
    settings = json.loads(ltbench("methods", "cprfl", "--json").stdout)["cprfl"]["settings"]
    assert settings["variant"]["values"] == ["released", "equations"] and settings["dim"]["values"] == []


@pytest.mark.slow
def test_a_sweep_runs_every_combination_and_a_failure_stops_no_other(tiny, tmp_path):
    results = tmp_path / "results"
    done = ltbench(
        "sweep", "--methods", "erm,asl", "--datasets", tiny, *TINY_ARGS, "--seeds", "0,1", "--results", results,
        "--cluster", "inline", "--set", "recipe.clip_norm=null", "--set", "recipe.optimizer.lr=1e30",
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("failed: the loss became") == 4
    assert "4 of 4 runs failed" in done.stderr.splitlines()[-1]
    status = json.loads(ltbench("status", "--results", results, "--json").stdout)
    assert [row["state"] for row in status] == ["failed"] * 4
    assert all("learning rate" in row["note"] for row in status)
    done = ltbench("sweep", "--methods", "erm,asl", "--datasets", tiny, *TINY_ARGS, "--results", results, "--json")
    assert [record["spec"]["method"] for record in json.loads(done.stdout)] == ["erm", "asl"]


# --- bad input: one line, exit code 2 ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--method", "amr"], ["unknown method 'amr'", "erm"]),
        (["--method", "db-vocal"], ["did you mean 'db-focal'"]),
        (["--method", "erm", "--dataset", "voc-tl"], ["unknown dataset 'voc-tl'", "did you mean 'voc-lt'"]),
        (["--method", "erm", "--protocol", "controled"], ["unknown protocol", "did you mean 'controlled'"]),
        (["--method", "erm", "--backbone", "resnet5"], ["unknown backbone", "resnet50"]),
        (["--method", "erm", "--weights", "IMAGENET1K_V1"], ["unknown weights 'IMAGENET1K_V1'", "small_cnn"]),
        (
            ["--method", "erm", "--backbone", "resnet50", "--weights", "IMAGENET1K_V3"],
            ["unknown weights 'IMAGENET1K_V3'", "did you mean 'IMAGENET1K_V2' or 'IMAGENET1K_V1'"],
        ),
        (["--method", "erm", "--weights", "no/such.safetensors"], ["no/such.safetensors: no such weights file"]),
        (["--method", "asl", "--set", "gama_neg=2"], ["unknown setting 'gama_neg'", "gamma_neg"]),
        (["--method", "asl", "--set", "gamma_neg=much"], ["gamma_neg", "number", "'much'"]),
        (["--method", "erm", "--set", "recipe.epoch=3"], ["unknown key 'epoch'", "epochs"]),
        (["--method", "erm", "--set", "recipe.optimizer.lr=-1"], ["optimizer.lr", "greater than 0", "-1"]),
        (["--method", "erm", "--set", "recipe.optimizer.name=adamm"], ["optimizer.name", "'adamm'"]),
        (["--method", "erm", "--set", "lr"], ["--set 'lr'", "key=value"]),
        (["--method", "erm", "--seeds", "0-"], ["--seeds '0-'"]),
        (["--method", "erm", "--seeds", "1,1"], ["a seed twice"]),
        (["--method", "erm", "--seeds", "0-99999999"], ["more than 1000 seeds"]),
        (["--method", "asl", "--set", f"gamma_neg={'[' * 2000}"], ["not valid YAML"]),
        (["--method", "erm", "--seed", "-1"], ["seed -1 is out of range"]),
        (["--method", "erm", "--seed", "0", "--seeds", "0-2"], ["--seed or --seeds"]),
        (["--method", "erm", "--dataset", "voc-lt"], ["--data-root", "LTBENCH_DATA", "VOCtest_06-Nov-2007.tar"]),
        (["--method", "erm", "--device", "cuda:99"], ["cuda:99", "is not there"]),
        (["--method", "erm", "--device", "tpu"], ["unknown device 'tpu'"]),
        (["--method", "erm", "--backbone", "vit_b_16", "--image-size", "65"], ["multiple of 16", "65"]),
    ],
)
def test_bad_arguments(args, words, tmp_path):
    refused(ltbench("run", *args, "--results", tmp_path / "results"), *words)
    assert not (tmp_path / "results").exists()


def test_missing_options_are_usage_errors():
    done = ltbench("run")
    assert done.returncode == 2 and "--method" in done.stderr


def run_tiny(tiny: Path, tmp_path: Path, *more: object) -> Done:
    results = ("--results", tmp_path / "results")
    return ltbench("run", "--method", "erm", "--dataset", tiny, *TINY_ARGS, *results, *more)


def test_bad_datasets(tiny, tmp_path):
    train = tiny / "train.txt"
    good = train.read_text()
    train.write_text(good + "images/x.png 7\n")
    refused(run_tiny(tiny, tmp_path), "train.txt:25", "class index 7 is out of range", "0 to 2")
    train.write_text(good + good.splitlines()[0] + "\n")
    refused(run_tiny(tiny, tmp_path), "train.txt:25", "'images/train0.png' is listed twice", "line 1")
    train.write_text(good + "images/test0.png 1\n")
    refused(run_tiny(tiny, tmp_path), "'images/test0.png' is in both train.txt and test.txt")
    train.write_text("\n")
    refused(run_tiny(tiny, tmp_path), "train.txt: the list is empty")
    train.write_text(good + "../../etc/passwd 1\n")
    refused(run_tiny(tiny, tmp_path), "train.txt:25", "leaves the image root")
    train.write_text(good)

    (tiny / "dataset.yaml").write_text("title: [unclosed\n")
    refused(run_tiny(tiny, tmp_path), "dataset.yaml:", "not valid YAML")
    (tiny / "dataset.yaml").write_text("titel: Tiny\n")
    refused(run_tiny(tiny, tmp_path), "unknown key 'titel'", "did you mean 'title'")
    (tiny / "dataset.yaml").write_text("title: Tiny\nhead_from: many\n")
    refused(run_tiny(tiny, tmp_path), "dataset.yaml", "head_from", "'many'")
    (tiny / "dataset.yaml").write_text("protocol: nope\n")
    done = ltbench("run", "--method", "erm", "--dataset", tiny, "--results", tmp_path / "results")
    refused(done, "dataset.yaml: unknown protocol 'nope'", "demo")
    (tiny / "dataset.yaml").unlink()

    image = tiny / "images" / "train3.png"
    content = image.read_bytes()
    image.unlink()
    refused(run_tiny(tiny, tmp_path), "1 image is missing", str(tiny), "images/train3.png")
    for_all = run_tiny(tiny, tmp_path, "--seeds", "0-2")
    assert for_all.returncode == 2 and for_all.stderr.count("is missing") == 1, "said once, not for every seed"
    image.write_bytes(content[: len(content) // 2])
    refused(run_tiny(tiny, tmp_path), "images/train3.png: cannot be decoded")
    image.write_text("not an image")
    refused(run_tiny(tiny, tmp_path), "images/train3.png: cannot be decoded")
    assert not (tmp_path / "results").exists()
    image.write_bytes(content)
    assert run_tiny(tiny, tmp_path).returncode == 0


def test_data_says_how_images_are_decoded(tiny):
    done = ltbench("data", "--dataset", tiny, *TINY_ARGS[:4])
    assert done.returncode == 0 and "upright by their EXIF orientation" in done.stdout and "16 bits" in done.stdout


@pytest.mark.parametrize("words", [["--dataset={}", *TINY_ARGS[:4]], [*TINY_ARGS[:4], "--dataset", "{}"]])
def test_the_earlier_form_of_data_prepare(words, tiny):
    """`data --dataset NAME`, which scripts may have: options in any order, and behind those of ltbench itself."""
    done = ltbench("--methods-dir", tiny, "data", *(word.format(tiny) for word in words))
    assert done.returncode == 0 and "train" in done.stdout, done.stderr
    mixed = ltbench("data", "prepare", "--dataset", tiny)
    assert mixed.returncode == 2 and "No such option: --dataset" in mixed.stderr


@pytest.mark.parametrize("bad", [1, 3, 23])
def test_data_names_all_bad_images_or_the_first_20(bad, tiny):
    names = [f"images/train{i}.png" for i in range(24)]
    (tiny / names[0]).unlink()
    for name in names[1:bad]:
        (tiny / name).write_text("not an image")
    done = ltbench("data", "--dataset", tiny, *TINY_ARGS[:4])
    if bad == 1:
        refused(done, "1 image is missing", names[0])
        return
    *told, last = done.stderr.splitlines()
    assert done.returncode == 2 and last.startswith(f"error: {bad} of 46 images cannot be used")
    assert [line.partition(":")[0] for line in told] == [str(tiny / name) for name in names[: min(bad, 20)]]
    assert ("the first 20" in last) == (bad > 20)


def test_data_names_the_root_once_where_no_image_is_there(tiny):
    (tiny / "images").rename(tiny / "elsewhere")
    refused(ltbench("data", "--dataset", tiny, *TINY_ARGS[:4]), "46 images are missing", str(tiny))
    refused(ltbench("data", "--dataset", "voc-lt"), "--data-root", "LTBENCH_DATA")


def test_data_names_images_where_all_are_damaged(tiny):
    for path in (tiny / "images").iterdir():
        path.write_text("not an image")
    done = ltbench("data", "--dataset", tiny, *TINY_ARGS[:4])
    assert "46 of 46 images" in done.stderr.splitlines()[-1] and len(done.stderr.splitlines()) == 21


def test_a_sampler_sets_the_epoch_of_two_images(tiny, tmp_path):
    (tiny / "train.txt").write_text("images/train1.png 0\nimages/train4.png 1 2\n")
    where = ("--dataset", tiny, *TINY_ARGS, "--results", tmp_path / "results")
    done = ltbench("run", "--method", "db-focal", *where, "--set", "recipe.epoch_length=sampler")
    assert done.returncode == 0, done.stderr


def test_a_damaged_avif_is_a_fault_of_the_data(tiny, tmp_path):
    (tiny / "images" / "train3.png").write_bytes((ROOT / "tests/cases/images/damaged.avif").read_bytes())
    refused(run_tiny(tiny, tmp_path), "images/train3.png: cannot be decoded")
    assert not (tmp_path / "results").exists()


def test_a_results_folder_that_cannot_be_written(tiny, tmp_path):
    (tmp_path / "results").write_text("a file where the folder should be")
    refused(run_tiny(tiny, tmp_path), "results", "cannot be written", "--results")


def test_a_truncated_record_is_reported_and_nothing_is_lost(tiny, tmp_path):
    assert run_tiny(tiny, tmp_path).returncode == 0
    [path] = (tmp_path / "results" / "runs").glob("*/record.json")
    whole = path.read_text()
    path.write_text(whole[:500])
    refused(run_tiny(tiny, tmp_path), str(path), "truncated")
    assert path.read_text() == whole[:500]
    [row] = json.loads(ltbench("status", "--results", tmp_path / "results", "--json").stdout)
    assert row["state"] == "damaged" and "truncated" in row["note"]


def test_a_damaged_record_is_named_and_fails_the_check(tmp_path):
    store = write_scored(tmp_path / "store", [make_scored("erm", seed) for seed in range(3)])
    victim = next((store / "runs").glob("*/record.json"))
    victim.write_text(victim.read_text()[:300])
    done = ltbench("leaderboard", "--results", store)
    assert done.returncode == 0 and done.stderr.startswith(f"left out: {victim}: the record is truncated")
    assert ltbench("leaderboard", "--results", store, "--check").returncode == 2


def test_status_of_a_folder_that_is_not_there(tmp_path):
    refused(ltbench("status", "--results", tmp_path / "none"), "no such results folder")


def test_a_method_file_with_an_error_is_named(tmp_path, monkeypatch):
    from benchmark.method import METHODS, _load_methods
    from benchmark.registry import Registry

    (tmp_path / "broken_method.py").write_text("raise NameError('no such thing')")
    monkeypatch.setattr("benchmark.base.method_files.FOLDER", tmp_path)
    monkeypatch.setattr("benchmark.method.METHODS", Registry("method", METHODS._base, _load_methods))
    refused(ltbench("methods"), str(tmp_path / "broken_method.py"), "NameError: no such thing")


def test_leaderboard_check_fails_on_a_changed_file(tmp_path):
    store = write_scored(tmp_path / "store", [make_scored("erm", seed) for seed in range(3)])
    assert ltbench("leaderboard", "--results", store).returncode == 0
    assert ltbench("leaderboard", "--results", store, "--check").returncode == 0
    page = store / "leaderboard.md"
    page.write_text(page.read_text().replace("3 records.", "4 records.", 1))
    done = ltbench("leaderboard", "--results", store, "--check")
    assert done.returncode == 2 and "1 difference from what the records" in done.stderr
    assert "4 records." in page.read_text()
    done = ltbench("leaderboard", "--results", store, "--format", "csv", "--format", "latex", "--out", tmp_path / "out")
    assert done.returncode == 0 and done.stdout.split() == [
        str(tmp_path / "out" / name) for name in ("leaderboard.csv", "leaderboard.tex")
    ]
    stale = tmp_path / "out" / "leaderboard.csv"
    stale.write_text("older\n")
    done = ltbench("leaderboard", "--results", store, "--out", tmp_path / "out", "--check")
    assert done.returncode == 2 and f"{stale.parent}: leaderboard.csv: line 1 is 'older'" in done.stderr
    done = ltbench("leaderboard", "--results", store, "--out", tmp_path / "out", "--check", "--format", "csv")
    assert done.stderr.endswith(f"--out {tmp_path / 'out'} --format csv\n")
    assert ltbench("leaderboard", "--results", store, "--out", tmp_path / "out").stdout.split() == [
        str(tmp_path / "out" / f"leaderboard.{ending}") for ending in ("md", "html", "csv", "tex")
    ]
    refused(ltbench("leaderboard", "--results", tmp_path / "none"), "no such results folder")


def test_without_published_runs_ones_own_are_enough(tmp_path):
    """As it is where the package is installed: no published results, only one's own."""
    write_scored(
        tmp_path / "results" / "local", [make_scored(name, seed) for name in ("erm", "asl") for seed in (0, 1)]
    )
    assert ltbench("leaderboard", folder=tmp_path).returncode == 0
    assert (tmp_path / "results" / "local" / "leaderboard.html").exists()
    assert not (tmp_path / "results" / "leaderboard.md").exists()
    assert ltbench("compare", "asl", "erm", "--dataset", "made-up", folder=tmp_path).returncode == 0
    refused(ltbench("compare", "asl", "rw", "--dataset", "made-up", folder=tmp_path), "no row 'rw'")


def test_show_names_what_it_looked_for(tmp_path):
    store = write_store(tmp_path, [make_record("erm")])
    refused(ltbench("show", "nothing", "--results", store), "no finished run matches 'nothing'")


def test_a_run_is_shown_by_the_beginning_of_its_name_with_the_scores_of_both_lists(tmp_path):
    validated = make_record("asl", validation={"per_class": dict.fromkeys(make_record().groups, 61.25)})
    store = write_store(tmp_path, [make_record("erm", 1), make_record("erm", 10), validated])
    told = ltbench("show", "asl", "--results", store).stdout
    assert re.search(r"^mAP, test list +overall 80.00, head 85.00, .*; 4,952 images", told, re.M)
    assert re.search(r"^mAP, validation +overall 61.25, head 61.25, ", told, re.M)
    assert " AP, test list" in told and " AP, validation" in told
    told = ltbench("show", "erm-s1-", "--results", store).stdout
    assert re.search("^mAP, validation +none", told, re.M) and " AP, validation" not in told
    refused(ltbench("show", "erm-s1", "--results", store), "2 runs match 'erm-s1'")


def test_a_comparison_that_cannot_be_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    store = write_scored(tmp_path / "store", [make_scored("erm"), make_scored("asl")])
    write_store(
        store, [make_record("rw", dataset_title="Another", spec={"dataset": {"name": "b", "fingerprint": "b" * 64}})]
    )
    read = []
    original = samples.samples
    monkeypatch.setattr(board, "samples", lambda results, records, *more: original(results, read_too(records), *more))

    def read_too(records):
        read.extend(record.spec.method for record in records)
        return records

    args = ("--dataset", "made-up", "--results", store)
    refused(ltbench("compare", "asl", "nope", *args), "no row 'nope' on made-up", "asl, erm")
    refused(ltbench("compare", "asl", "erm", "--dataset", "made-down", "--results", store), "did you mean 'made-up'")
    assert read == []
    assert ltbench("compare", "asl", "erm", *args).returncode == 0
    assert sorted(read) == ["asl", "erm"]


def test_verify_takes_what_the_leaderboard_takes(tmp_path):
    own = write_scored(tmp_path / "results" / "local", [make_scored("erm")])
    write_scored(tmp_path / "results", [make_scored("asl"), make_scored("rw")])
    done = ltbench("verify", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    summaries = [line for line in done.stdout.splitlines() if "scored again" in line]
    assert [line.partition(",")[0] for line in summaries] == [
        "results: 2 records: 2 scored again",
        "results/local: 1 record: 1 scored again",
    ]
    assert json.loads(ltbench("verify", "--json", folder=tmp_path).stdout)["records"] == 3
    [path] = (own / "runs").glob("*/logits-*")
    path.write_bytes(b"")
    done = ltbench("verify", folder=tmp_path)
    assert done.returncode == 2 and done.stderr.endswith("error: results/local: 1 of 1 runs do not hold (above)\n")
    shutil.rmtree(tmp_path / "results" / "runs")
    assert "results/local: 1 of 1" in ltbench("verify", folder=tmp_path).stderr


@pytest.mark.parametrize("place", ["runs", "sweeps", "sweeps/one/sweep.json", "runs/erm-s0-0123456789ab/run.log"])
def test_what_cannot_be_read_is_not_taken_for_nothing(tmp_path, monkeypatch, place):
    store = write_store(tmp_path / "store", [make_record("asl")])
    (store / "runs" / "erm-s0-0123456789ab").mkdir()
    (store / "sweeps" / "one").mkdir(parents=True)
    for name in ("sweeps/one/sweep.json", "runs/erm-s0-0123456789ab/run.log"):
        (store / name).write_text("x")
    forbidden = store / place

    def deny(original):
        def denying(path, *args, **kwargs):
            if isinstance(path, str | Path) and Path(path) == forbidden:
                raise PermissionError(13, "Permission denied", str(path))
            return original(path, *args, **kwargs)

        return denying

    if not place.endswith("sweep.json"):
        (store / "sweeps" / "one" / "sweep.json").unlink()
    # The tests may be root's, whom nothing is forbidden.
    monkeypatch.setattr(os, "scandir", deny(os.scandir))
    monkeypatch.setattr(io, "open", deny(io.open))
    monkeypatch.setattr(os, "open", deny(os.open))
    for command in (["logs", "erm"], ["status"], ["status", "--json"])[: 1 if place.endswith(".log") else 3]:
        refused(ltbench(*command, "--results", store), str(forbidden), "cannot be read: Permission denied")


def test_runs_that_are_no_folder_are_not_none(tmp_path):
    (tmp_path / "runs").write_text("")
    refused(ltbench("status", "--results", tmp_path), f"{tmp_path / 'runs'}: no folder")
    (tmp_path / "runs").unlink()
    (tmp_path / "runs").symlink_to(tmp_path / "unmounted")
    for command in (["status"], ["leaderboard"], ["logs", "x"], ["verify"]):
        refused(ltbench(*command, "--results", tmp_path), str(tmp_path))
    refused(ltbench("status", "--results", "x" * 5000), "File name too long")


def test_without_a_home_the_cache_must_be_named(tiny, tmp_path, monkeypatch):
    for name in ("LTBENCH_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    done = run_tiny(tiny, tmp_path)
    refused(done, "no folder for the image cache", "LTBENCH_CACHE")
    for command in (("sweep", "--methods", "erm", "--datasets", tiny), ("data", "--dataset", tiny)):
        args = TINY_ARGS if command[0] == "sweep" else TINY_ARGS[:4]
        results = ("--results", tmp_path / "results") if command[0] == "sweep" else ()
        done = ltbench(*command, *args, *results)
        assert done.returncode == 2 and "LTBENCH_CACHE" in done.stderr.splitlines()[-1], done.stderr
    assert not (tmp_path / "results").exists(), "nothing was started, and no run has failed"
    store = write_scored(tmp_path / "store", [make_scored("erm"), make_scored("asl")])
    assert ltbench("compare", "asl", "erm", "--dataset", "made-up", "--results", store).returncode == 0
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
    assert run_tiny(tiny, tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("root", "words"),
    [
        ("none", ["none: no such folder", "set by --data-root"]),
        ("VOCdevkit", ["VOCdevkit: this is VOCdevkit itself", "give {}"]),
        ("VOCdevkit/VOC2012", ["VOC2012: this is VOCdevkit/VOC2012 itself", "give {}"]),
        ("elsewhere", ["elsewhere: this is VOCdevkit itself", "put it into a folder VOCdevkit"]),
        ("VOCdevkit/VOC2012/JPEGImages/2008_000023.jpg", ["2008_000023.jpg: not a folder"]),
        (".", ["8093 images are missing", "2008_000028.jpg"]),
    ],
)
def test_a_wrong_data_root_is_told(tmp_path, root, words):
    first = tmp_path / "VOCdevkit" / "VOC2012" / "JPEGImages" / "2008_000023.jpg"
    first.parent.mkdir(parents=True)
    first.write_bytes(b"")
    shutil.copytree(tmp_path / "VOCdevkit", tmp_path / "elsewhere")
    args = ("run", "--method", "erm", "--dataset", "voc-lt", "--weights", "none", "--results", tmp_path / "results")
    refused(ltbench(*args, "--data-root", tmp_path / root), *(word.format(tmp_path) for word in words))


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_refuses_a_variable_that_it_does_not_have():
    def make(*args: str) -> subprocess.CompletedProcess:
        return subprocess.run(["make", "-n", *args], cwd=ROOT, capture_output=True, text=True, check=False)

    done = make("bench", "METHODS=erm")
    assert done.returncode == 2 and "no variable METHODS; there are: METHOD DATASET" in done.stderr
    assert "ltbench" not in done.stdout
    for name in re.findall(r"[A-Z]+(?==)", make("-s", "help").stdout) or ["METHOD", "ARGS"]:
        assert make("bench", f"{name}=x").returncode == 0


def test_a_run_that_may_be_one_of_several_of_ones_own_is_not_looked_for_elsewhere(tmp_path):
    own = [make_record("erm", seed) for seed in range(17)]
    first = [record.run_id[0] for record in own]
    digit = max(set(first), key=first.count)  # 17 runs, 16 digits
    published = next(record for seed in range(99) if (record := make_record("asl", seed)).run_id[0] == digit)
    write_store(tmp_path / "results" / "local", own)
    write_store(tmp_path / "results", [published])
    for command in ("show", "export"):
        refused(ltbench(command, digit, folder=tmp_path), "results/local/runs: ", f"runs match {digit!r}")
    assert published.run_id in ltbench("show", published.run_id, folder=tmp_path).stdout


def test_what_a_file_says_does_not_steer_the_terminal(tmp_path):
    store = write_store(tmp_path / "store", [make_record("erm")])
    [path] = (store / "runs").glob("*/record.json")
    path.write_text(path.read_text().replace('"seed"', '"\\u001b[2Jx": 0, "seed"'))
    done = ltbench("show", path.parent.name, "--results", store)
    assert "\x1b" not in refused(done, "[2Jx: Extra inputs")
    done = ltbench("leaderboard", "--results", store)
    assert done.stderr.startswith(f"left out: {path}: not a valid record") and "\x1b" not in done.stderr


def test_an_error_of_several_lines_keeps_them(monkeypatch):
    def fail():
        raise RunFailed("1 of 2 runs failed:\n  Missing key\x1b[2J: a", cause="code")

    monkeypatch.setattr("benchmark.cli.app", fail)
    assert ltbench().stderr == "error: 1 of 2 runs failed:\nMissing key [2J: a\n"


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_goes_on(tiny, tmp_path):
    args = ["run", "--method", "erm", "--dataset", tiny, *TINY_ARGS, "--epochs", "4000", "--results", tmp_path]
    command = [sys.executable, "-m", "benchmark.cli", *map(str, args)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "epoch 5/" in line:
                process.send_signal(signal.SIGINT)
                break
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: stopped at step" in errors and "Traceback" not in errors
    assert "stopping: the run saves itself at the next step; Ctrl-C again ends it at once" in errors
    [row] = json.loads(ltbench("status", "--results", tmp_path, "--json").stdout)
    assert row["state"] == "preempted"


@pytest.mark.slow
def test_the_python_api_is_small_and_lazy(tiny, tmp_path):
    code = (
        "import sys, benchmark; assert not {'torch', 'pandas', 'benchmark.launch'} & set(sys.modules); "
        f"r = benchmark.run('rw', {str(tiny)!r}, results={str(tmp_path)!r}, protocol='demo', image_size=16, epochs=1);"
        "assert 'timm' not in sys.modules;"
        f"[s] = benchmark.load_records({str(tmp_path)!r}); assert s == r and s.run_id == r.run_id; "
        "print(s.spec.method, s.metrics.overall, s.metrics.per_class)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("rw ")


def test_committed_leaderboard_is_what_the_records_give_and_they_hold():
    done = ltbench("leaderboard", "--results", "results", "--check")
    assert done.returncode == 0, done.stderr
    done = ltbench("verify", "--results", "results")
    assert done.returncode == 0 and " 0 faults, " in done.stdout, done.stdout
