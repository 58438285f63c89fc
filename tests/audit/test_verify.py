"""`ltbench verify`: what does not hold is named, whatever was done to a store; what holds is scored again."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
from kit.command import ltbench, refused
from kit.stores import (  # noqa: F401 - fixtures
    as_first_version,
    edit_record,
    edit_tensors,
    made,
    register_tiny,
    run_of,
    store,
)
from kit.verification import faults, others

import benchmark.audit.verify
from benchmark.audit.verify import verify
from benchmark.errors import StoreError
from benchmark.store.claim import claimed
from benchmark.ui.progress import Reporter


def flip_a_byte(folder, file):
    path = folder.path / file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def swap_targets(tensors):
    tensors["targets"][:] = tensors["targets"][::-1].copy()


def put(name, value):
    def change(tensors):
        tensors[name][1, 2] = value

    return change


def set_tensor(name, make):
    return lambda tensors: tensors.update({name: make(tensors["raw"])})


# --- a store that holds ------------------------------------------------------------------------------------------


def test_a_sound_store_is_scored_again_and_has_no_finding(store):
    assert verify(store, Reporter()).findings == []
    done = ltbench("verify", "--results", store)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["3 records: 3 scored again, 0 faults, 0 stale"]
    assert json.loads(ltbench("verify", "--results", store, "--json").stdout) == {
        "records": 3, "scored": 3, "findings": []
    }  # fmt: skip


def test_from_python_a_folder_is_enough(store):
    found = verify(str(store))
    assert (found.records, found.scored, found.findings, found.faulty_runs) == (3, 3, [], 0)


def test_a_change_that_a_record_does_not_name_is_a_fault(store):
    folder = run_of(store)
    data = json.loads(folder.record_path.read_text())
    del data["spec"]["overrides"]["epochs"]
    folder.record_path.write_text(json.dumps(data))
    [message] = faults(store)[folder.path.name]
    assert message.startswith(f"{folder.record_path}: recipe.epochs is ") and "protocol 'demo' version 2" in message
    refused(ltbench("export", folder.path.name, "--results", store), "recipe.epochs is ")


def test_help_has_examples():
    done = ltbench("verify", "--help")
    assert done.returncode == 0 and "ltbench verify --results results" in done.stdout


def test_an_empty_store_and_none(tmp_path):
    (tmp_path / "runs").mkdir()
    done = ltbench("verify", "--results", tmp_path)
    assert done.returncode == 0 and done.stdout == f"no records in {tmp_path}\n"
    refused(ltbench("verify", "--results", tmp_path / "nope"), "nope: no such results folder", "--results")
    with pytest.raises(StoreError):
        verify(tmp_path / "nope", Reporter())


def test_a_folder_that_is_no_store_is_refused_as_by_the_leaderboard(store, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for path, words in (
        (store / "runs", "has no folder runs (it seems to be the runs folder of one)"),
        (tmp_path, "has no folder runs;"),
        (file, "is a file"),
        (tmp_path / "nope", "no such results folder"),
    ):
        done = ltbench("verify", "--results", path)
        refused(done, f"{path}: {words}", "--results")
        assert done.stderr == ltbench("leaderboard", "--results", path).stderr


def test_ctrl_c_ends_it_quietly(store, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark.audit.verify, "judge", interrupt)
    done = ltbench("verify", "--results", store)
    assert (done.returncode, done.stdout) == (130, "") and "Traceback" not in done.stderr


def test_what_was_found_is_told_in_one_line_each_and_in_the_exit_code(store):
    folder = run_of(store)
    flip_a_byte(folder, folder.record().logits.file)
    run_of(store, "asl").record_path.write_text("{")
    done = ltbench("verify", "--results", store)
    assert done.returncode == 2
    assert done.stderr == f"error: {store}: 2 of 3 runs do not hold (above)\n"
    asl, erm, last = done.stdout.splitlines()
    assert asl.startswith(f"fault: {run_of(store, 'asl').record_path}: ") and "truncated" in asl
    assert erm.startswith(f"fault: {folder.path / folder.record().logits.file}: its sha256 is ")
    assert "--rerun always" in erm
    assert last == "3 records: 1 scored again, 2 faults, 0 stale"
    found = json.loads(ltbench("verify", "--results", store, "--json").stdout)
    assert [finding["kind"] for finding in found["findings"]] == ["fault", "fault"] and found["scored"] == 1


REST = "targets, validation, validation_targets"


# --- files that are not the record's -----------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["logits", "epoch"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (flip_a_byte, "its sha256 is"),
        (lambda folder, file: (folder.path / file).write_bytes((folder.path / file).read_bytes()[:-7]), "its sha256"),
        (lambda folder, file: (folder.path / file).unlink(), "No such file"),
        (lambda folder, file: ((folder.path / file).unlink(), (folder.path / file).mkdir()), "Is a directory"),
    ],
    ids=["flipped", "truncated", "missing", "folder"],
)
def test_a_file_that_changed_is_named(store, part, change, words):
    folder = run_of(store)
    record = folder.record()
    file = record.logits.file if part == "logits" else record.oracle[1].file
    change(folder, file)
    [message] = faults(store)[folder.path.name]
    assert message.startswith(f"{folder.path / file}: ") and words in message and "restore the file" in message
    assert list(faults(store)) == [folder.path.name]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("raw", np.nan), "raw is nan at image 1, class 2"),
        (put("ema", -np.inf), "ema is -inf at image 1, class 2"),
        (set_tensor("raw", lambda raw: raw[:-1]), "raw is float32 [11, 3], and the record says float32 [12, 3]"),
        (set_tensor("ema", lambda raw: raw.astype(np.float64)), "ema is float64 [12, 3]"),
        (set_tensor("targets", lambda raw: raw), "targets is float32"),
        (set_tensor("more", lambda raw: raw), f"it holds ema, more, raw, {REST} instead of ema, raw, {REST}"),
        (lambda tensors: tensors.pop("ema"), f"it holds raw, {REST} instead of ema, raw, {REST}"),
        (lambda tensors: tensors.pop("targets"), "it holds ema, raw, validation, validation_targets instead of"),
        (lambda tensors: tensors.pop("validation"), "it holds ema, raw, targets, validation_targets instead of"),
        (put("targets", 2), "targets must be 0 or 1"),
        (put("validation", np.nan), "validation is nan at image 1, class 2"),
        (put("validation_targets", 2), "targets must be 0 or 1"),
        (
            set_tensor("validation", lambda raw: raw[:-1]),
            "validation is float32 [11, 3], and the record says float32 [10, 3]",
        ),
        (set_tensor("validation_targets", lambda raw: raw[:10]), "validation_targets is float32"),
    ],
    ids=[
        *("nan", "inf", "shape", "type", "targets-type", "more", "less", "no-targets", "no-validation", "labels"),
        *("validation-nan", "validation-labels", "validation-shape", "validation-targets-type"),
    ],
)
def test_tensors_that_are_not_what_the_record_tells_of(store, change, words):
    folder = run_of(store)
    path = edit_tensors(folder, change)
    message = faults(store)[folder.path.name][0]
    assert message.startswith(f"{path}: ") and words in message
    assert verify(store, Reporter()).scored == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("ema", np.nan), "ema is nan"),
        (set_tensor("raw", lambda raw: raw[:, :2].copy()), "raw is float32 [12, 2]"),
        (set_tensor("targets", lambda raw: raw.astype(np.uint8)), "it holds ema, raw, targets instead of ema, raw"),
    ],
    ids=["nan", "shape", "targets"],
)
def test_logits_of_an_epoch_that_are_not_what_the_record_tells_of(store, change, words):
    folder = run_of(store)
    path = edit_tensors(folder, change, epoch=1)
    [message] = faults(store)[folder.path.name]
    assert message.startswith(f"{path}: ") and words in message


def test_something_else_than_tensors(store):
    folder = run_of(store)
    for content in (b"", b"x" * 100, (2**60).to_bytes(8, "little") + b"{}"):
        file = "logits-0123456789abcdef.safetensors"
        (folder.path / file).write_bytes(content)
        edit_record(folder, logits={"file": file, "sha256": hashlib.sha256(content).hexdigest()})
        [message] = faults(store)[folder.path.name]
        assert message.startswith(f"{folder.path / file}: not a safetensors file")


# --- scores, labels and lists ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["raw", "ema"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"per_class": {"red": 12.5}}, ["overall is ", "(and 2 more numbers differ)"]),
        ({"per_class": {"red": None}}, ["is None, and the logits score ", "more numbers differ"]),
    ],
    ids=["class", "none"],
)
def test_a_score_that_the_logits_do_not_give(store, weights, change, words):
    folder = run_of(store)
    edit_record(folder, results={weights: change})
    [message] = faults(store)[folder.path.name]
    assert message.startswith(f"{folder.record_path}: results.{weights}.")
    for word in words:
        assert word in message


def test_a_validation_score_that_the_logits_do_not_give(store):
    folder = run_of(store)
    edit_record(folder, validation={"per_class": {"red": 12.5}})
    [message] = faults(store)[folder.path.name]
    assert (
        message.startswith(f"{folder.record_path}: validation.overall is ") and "(and 2 more numbers differ)" in message
    )


@pytest.mark.parametrize("weights", ["raw", "ema"])
@pytest.mark.parametrize("score", ["cf1", "of1"])
def test_f1_of_a_first_record_is_checked(store, weights, score):
    folder = run_of(store)
    as_first_version(folder)
    assert faults(store) == {}
    edit_record(folder, results={weights: {score: 12.5}})
    [message] = faults(store)[folder.path.name]
    assert message.startswith(f"{folder.record_path}: results.{weights}.{score} is 12.5, and the logits score ")


def test_the_last_digits_of_a_score_do_not_count(store):
    folder = run_of(store)
    as_first_version(folder)
    edit_record(folder, results={"raw": {"cf1": folder.record().results["raw"].cf1 + 1e-9}})
    assert faults(store) == {}


def test_labels_that_differ_from_those_of_the_other_runs(store):
    folder = run_of(store)
    edit_tensors(folder, swap_targets)
    messages = faults(store)
    assert list(messages) == [folder.path.name]
    raw, ema, shared = messages[folder.path.name]
    assert "results.raw" in raw and "results.ema" in ema and "the logits score" in ema
    assert "its test labels have the digest" in shared and "asl-s0-" in shared


def test_validation_labels_that_differ_from_those_of_the_other_runs(store):
    folder = run_of(store)
    edit_tensors(folder, lambda tensors: tensors["validation_targets"].__setitem__(0, [0, 1, 1]))
    messages = faults(store)
    assert list(messages) == [folder.path.name]
    scores, shared = messages[folder.path.name]
    assert "record.json: validation." in scores and "its validation labels have the digest" in shared


def test_validation_labels_that_are_not_those_of_the_registered_list(store, made, monkeypatch):
    register_tiny(monkeypatch, made.parent / "tiny")
    folder = run_of(store)
    path = edit_tensors(folder, lambda tensors: tensors["validation_targets"].__setitem__(0, [0, 1, 1]))
    lists, _ = faults(store)[folder.path.name]
    assert lists.startswith(f"{path}: validation_targets are not those of the val list of dataset 'tiny'")


def test_a_first_record_beside_others_has_no_validation_labels_to_compare(store):
    as_first_version(run_of(store))
    assert faults(store) == {}


def test_labels_that_are_not_those_of_the_registered_list(store, made, monkeypatch):
    register_tiny(monkeypatch, made.parent / "tiny")
    assert faults(store) == {}
    folder = run_of(store)
    path = edit_tensors(folder, swap_targets)
    lists, *scores = faults(store)[folder.path.name]
    assert lists.startswith(f"{path}: targets are not those of the test list of dataset 'tiny'")
    assert ["the logits score" in score for score in scores] == [True, True]


def test_groups_that_are_not_those_of_the_registered_dataset(store, made, monkeypatch):
    folder = run_of(store)
    groups = folder.record().groups
    edit_record(folder, groups={"red": "tail" if groups["red"] != "tail" else "head"})
    [scores] = faults(store)[folder.path.name]
    assert "its classes, groups and numbers of images have the digest" in scores
    register_tiny(monkeypatch, made.parent / "tiny")
    [message] = faults(store)[folder.path.name]
    assert "groups, class_counts or numbers of images are not those of dataset 'tiny'" in message


def test_a_split_that_is_not_the_registered_one(store, made, tmp_path, monkeypatch):
    tiny = shutil.copytree(made.parent / "tiny", tmp_path / "tiny")
    lines = (tiny / "train.txt").read_text().splitlines()
    (tiny / "train.txt").write_text("\n".join(lines[:-1]) + "\n")
    register_tiny(monkeypatch, tiny)
    found = faults(store)
    assert len(found) == 3
    for run, [message] in found.items():
        assert message.startswith(f"{store / 'runs' / run / 'record.json'}: the split differs: dataset 'tiny' has")
    assert verify(store, Reporter()).scored == 3


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_images_that_differ_from_those_of_the_other_runs(store, split):
    folder = run_of(store, "asl")
    edit_record(folder, data_digests={split: "a" * 64})
    [message] = faults(store)[folder.path.name]
    assert f"its {split} images at " in message and "aaaaaaaaaaaa" in message and "erm-s0-" in message


def test_a_record_that_is_a_link_without_content(store):
    """As git-annex and DVC leave it where the content was not fetched."""
    folder = run_of(store, "asl")
    folder.record_path.unlink()
    folder.record_path.symlink_to("nowhere")
    [message] = faults(store)[folder.path.name]
    assert message.startswith(f"{folder.record_path}: cannot be read: No such file or directory")
    done = ltbench("verify", "--results", store)
    assert done.returncode == 2 and done.stdout.splitlines()[-1] == "3 records: 2 scored again, 1 fault, 0 stale"


def test_a_folder_of_another_name(store):
    folder = run_of(store, "asl")
    folder.path.rename(store / "runs" / "asl-s9-000000000000")
    [message] = faults(store)["asl-s9-000000000000"]
    assert "this is the record of" in message


# --- what is no fault --------------------------------------------------------------------------------------------


def test_a_stale_run_is_counted_and_is_no_fault(store):
    folder = run_of(store, "asl")
    edit_record(folder, environment={"code_digest": "b" * 64})
    done = ltbench("verify", "--results", store)
    assert (done.returncode, done.stderr) == (0, "")
    told, last = done.stdout.splitlines()
    assert told.startswith(f"stale: {folder.record_path}: made by code bbbbbbbbbbbb") and "--rerun stale" in told
    assert last == "3 records: 3 scored again, 0 faults, 1 stale"


def test_an_unknown_method_is_a_note(store, monkeypatch):
    from benchmark.method import METHODS

    assert "asl" in METHODS
    monkeypatch.delitem(METHODS._entries, "asl")
    done = ltbench("verify", "--results", store)
    assert done.returncode == 0
    told, last = done.stdout.splitlines()
    assert told.startswith("note: ") and "unknown method: cannot tell whether stale ('asl'" in told
    assert last == "3 records: 3 scored again, 0 faults, 0 stale, 1 note"


def test_files_that_nothing_names_are_notes_unless_the_run_is_being_made(store):
    folder = run_of(store, "asl")
    (folder.path / "logits-0123456789abcdef.safetensors").write_bytes(b"")
    (folder.path / "thoughts.txt").write_text("")
    for known in ("run.log", "checkpoint.pt"):
        (folder.path / known).write_bytes(b"")
    assert [message.split(": ")[0] for message in others(store, "note")] == [
        str(folder.path / "logits-0123456789abcdef.safetensors"), str(folder.path / "thoughts.txt")
    ]  # fmt: skip
    assert ltbench("verify", "--results", store).returncode == 0
    with claimed(folder):
        assert others(store, "note") == []


def test_what_a_record_says_does_not_reach_the_terminal_raw(store):
    folder = run_of(store, "asl")
    data = json.loads(folder.record_path.read_text())
    data["extra\x1b[31m\nline"] = 1
    folder.record_path.write_text(json.dumps(data))
    done = ltbench("verify", "--results", store)
    assert done.returncode == 2 and "\x1b" not in done.stdout and len(done.stdout.splitlines()) == 2
