"""`ltbench export` and `import`: a run arrives to the byte, and nothing else does."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import stat
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from kit.bundles import Members, bundle_of, change, members_of, nothing_arrives, pack
from kit.command import ltbench, refused
from kit.disks import SmallDisk, mounted
from kit.runs import execute_plan
from kit.stores import (  # noqa: F401 - fixtures
    as_first_version,
    edit_record,
    edit_tensors,
    made,
    register_tiny,
    run_of,
    snapshot,
)
from kit.tiny import TINY

from benchmark import __version__
from benchmark.audit import archive, arrival
from benchmark.audit.bundles import export, import_bundle
from benchmark.audit.files import FolderFiles, files_of
from benchmark.audit.verify import verify
from benchmark.errors import StoreError
from benchmark.running.plan import make_plan
from benchmark.spec import RunSpec
from benchmark.store.claim import claimed
from benchmark.store.folder import RunFolder
from benchmark.ui.progress import Reporter


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory) -> Path:
    """The bundle of a run with the logits of every epoch."""
    return export(run_of(made), tmp_path_factory.mktemp("bundles") / "erm.zip")


@pytest.fixture
def store(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "theirs")


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def bundle(exported, tmp_path) -> Path:
    return Path(shutil.copy(exported, tmp_path / "erm.zip"))


# --- there and back ----------------------------------------------------------------------------------------------


def test_a_run_arrives_to_the_byte(made, store, target, tmp_path):
    sent = run_of(store)
    done = ltbench("export", sent.path.name.rpartition("-")[2][:8], "--results", store, "--out", tmp_path / "a.zip")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout == f"{tmp_path / 'a.zip'}\n"
    done = ltbench("import", tmp_path / "a.zip", "--results", target)
    assert (done.returncode, done.stderr) == (0, "")
    told, count, following = done.stdout.splitlines()
    assert told.startswith(f"imported: {sent.path.name} (dataset 'tiny' is neither registered nor in {target}")
    assert (count, following) == ("1 imported", f"  ltbench leaderboard --results {target}")

    named = ["record.json", *files_of(sent.record())]
    assert len(named) == 4
    arrived = snapshot(run_of(target).path)
    assert {name: arrived[name] for name in named} == {name: snapshot(sent.path)[name] for name in named}
    assert set(arrived) == {*named, "lock"} and [path.name for path in (target / "runs").iterdir()] == [sent.path.name]
    assert verify(target, Reporter()).findings == []
    assert ltbench("leaderboard", "--results", target).returncode == 0
    assert [row["state"] for row in json.loads(ltbench("status", "--results", target, "--json").stdout)] == ["done"]

    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    done = ltbench("import", tmp_path / "a.zip", "--results", target)
    assert (done.returncode, done.stdout) == (0, f"already there: {sent.path.name}\n1 already there\n")
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


def test_a_bundle_says_what_is_in_it_and_how_to_make_it_again(store, exported, tmp_path):
    sent = run_of(store)
    members = members_of(exported)
    manifest = json.loads(members.pop("manifest.json"))
    assert (manifest["format"], manifest["run"], manifest["ltbench"]) == (1, sent.path.name, __version__)
    assert manifest["files"] == {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for name, content in members.items()
    }
    config = yaml.safe_load(members["config.yaml"])
    assert config["command"].startswith("ltbench run --method erm --dataset FOLDER --protocol demo --seed 0")
    assert config["spec"] == json.loads(members["record.json"])["spec"]
    assert export(sent, tmp_path / "again.zip").read_bytes() == exported.read_bytes()


def test_export_writes_to_the_current_folder_and_overwrites_nothing(store, tmp_path):
    folder = run_of(store, "asl")
    with contextlib.chdir(tmp_path):
        path = export(folder)
        assert path == Path(f"{folder.path.name}.ltbench.zip") and path.is_file()
    content = (tmp_path / path).read_bytes()
    refused(
        ltbench("export", folder.path.name, "--results", store, "--out", tmp_path / path), str(path), "--out", "remove"
    )
    assert (tmp_path / path).read_bytes() == content
    refused(ltbench("export", folder.path.name, "--results", store, "--out", tmp_path), "is a folder")
    missing = tmp_path / "no" / "a.zip"
    refused(ltbench("export", folder.path.name, "--results", store, "--out", missing), str(missing), "No such file")
    refused(ltbench("export", "nope", "--results", store), "no finished run matches 'nope'")


def test_export_refuses_a_run_that_does_not_hold(store, tmp_path):
    folder = run_of(store)
    as_first_version(folder)
    edit_record(folder, results={"raw": {"cf1": 12.5}, "ema": {"cf1": 12.5}})
    out = tmp_path / "a.zip"
    refused(
        ltbench("export", "erm-s0-" + folder.path.name[7:], "--results", store, "--out", out), 
        str(folder.record_path), "cf1 is 12.5", "(and 1 more",
    )  # fmt: skip
    assert not out.exists()


# --- what somebody may send --------------------------------------------------------------------------------------


def hostile(name: str | zipfile.ZipInfo, content: bytes = b"x") -> Callable[[Path], None]:
    return lambda bundle: pack(bundle, [*members_of(bundle).items(), (name, content)])


def special(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info


def edited(edit: Callable[[Members], object], sums: bool = True) -> Callable[[Path], None]:
    return lambda bundle: change(bundle, edit, sums)


def manifest_with(**changes: object) -> Callable[[Path], None]:
    def edit(members: Members) -> None:
        members["manifest.json"] = json.dumps(json.loads(members["manifest.json"]) | changes).encode()

    return edited(edit, sums=False)


def put(name: str, content: bytes) -> Callable[[Members], None]:
    return lambda members: members.update({name: content})


def drop(start: str) -> Callable[[Members], None]:
    return lambda members: [members.pop(name) for name in list(members) if name.startswith(start)]


def flip(start: str) -> Callable[[Members], None]:
    def edit(members: Members) -> None:
        name = next(name for name in members if name.startswith(start))
        members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])

    return edit


def bomb(start: str, size: int) -> Callable[[Path], None]:
    """A member of zeros that is small while it is packed."""

    def make(bundle: Path) -> None:
        change(bundle, lambda members: members.update({next(n for n in members if n.startswith(start)): bytes(size)}))
        pack(bundle, members_of(bundle).items(), zipfile.ZIP_DEFLATED)
        assert bundle.stat().st_size < size / 100

    return make


def lying_about_sizes(bundle: Path) -> None:
    """The directory says that a member is as long as the manifest says; more comes out of it."""
    members = members_of(bundle)
    name = next(name for name in members if name.startswith("logits"))
    size = len(members[name])
    members[name] += bytes(50 * 2**20)
    pack(bundle, members.items(), zipfile.ZIP_DEFLATED)
    content = bundle.read_bytes()
    bundle.write_bytes(content.replace(struct.pack("<I", len(members[name])), struct.pack("<I", size)))


def in_directory(offset: int, value: bytes) -> Callable[[Path], None]:
    """Change what the zip file's directory says of the first member."""

    def make(bundle: Path) -> None:
        content = bytearray(bundle.read_bytes())
        start = content.index(b"PK\x01\x02") + offset
        content[start : start + len(value)] = value
        bundle.write_bytes(content)

    return make


HOSTILE = {
    "traversal": (hostile("../evil.txt"), "'../evil.txt' is not a plain file name"),
    "absolute": (hostile("/tmp/evil.txt"), "is not a plain file name"),
    "folder": (hostile("a/b.txt"), "is not a plain file name"),
    "backslash": (hostile("..\\evil.txt"), "is not a plain file name"),
    "nul": (in_directory(46, b"mani\0"), "is not a plain file name"),
    "hidden": (hostile(".evil"), "is not a plain file name"),
    "duplicate": (hostile("record.json", b"{}"), "'record.json' is there twice"),
    "symlink": (hostile(special("link", stat.S_IFLNK), b"/etc/passwd"), "'link' is not a plain file"),
    "device": (hostile(special("device", stat.S_IFCHR)), "'device' is not a plain file"),
    "extra": (hostile("extra.txt"), "'extra.txt' is not in the manifest"),
    "named extra": (edited(put("extra.txt", b"x")), "'extra.txt' is nothing that the record names"),
    "no manifest": (edited(drop("manifest"), sums=False), "has no manifest.json"),
    "no record": (edited(drop("record")), "'record.json' is missing"),
    "no config": (edited(drop("config")), "'config.yaml' is missing"),
    "no logits": (edited(drop("logits")), "is missing"),
    "no epoch": (edited(drop("epoch-001")), "is missing"),
    "member gone": (edited(drop("logits"), sums=False), "is missing"),
    "flipped logits": (edited(flip("logits"), sums=False), "has another sha256 or size than the manifest says"),
    "flipped epoch": (edited(flip("epoch"), sums=False), "has another sha256 or size than the manifest says"),
    "flipped config": (edited(flip("config"), sums=False), "'config.yaml' has another sha256"),
    "other logits": (edited(flip("logits")), "its sha256 is "),
    "other epoch": (edited(flip("epoch")), "its sha256 is "),
    "other record": (edited(put("record.json", b"{}"), sums=False), "'record.json' has another sha256"),
    "no record in it": (edited(put("record.json", b"{}")), "record.json: schema version None"),
    "half a record": (edited(put("record.json", b'{"schema')), "truncated or not JSON"),
    "manifest garbage": (edited(put("manifest.json", b"\xff\x00"), sums=False), "not a valid manifest"),
    "manifest deep": (edited(put("manifest.json", b"[" * 100_000), sums=False), "not a valid manifest"),
    "manifest list": (edited(put("manifest.json", b"[]"), sums=False), "not a valid manifest"),
    "format": (manifest_with(format=2), "format 2 is not known to this version"),
    "run": (manifest_with(run="erm-s0-000000000000"), "the manifest is of run 'erm-s0-000000000000'"),
    "not a zip": (lambda bundle: bundle.write_bytes(b"x" * 1000), "not a whole zip file"),
    "empty": (lambda bundle: bundle.write_bytes(b""), "not a whole zip file"),
    "truncated": (lambda bundle: bundle.write_bytes(bundle.read_bytes()[:-100]), "not a whole zip file"),
    "damaged": (lambda bundle: bundle.write_bytes(b"PK" + bytes(600) + bundle.read_bytes()[602:]), "not a whole zip"),
    "missing": (lambda bundle: bundle.unlink(), "cannot be read: No such file"),
    "encrypted": (in_directory(8, b"\x01\x00"), "not a whole zip file"),
    "lzma": (lambda bundle: pack(bundle, members_of(bundle).items(), zipfile.ZIP_LZMA), "compressed in a way"),
    "record bomb": (bomb("record", 17 * 2**20), "'record.json' has 17825792 bytes, more than the 16777216"),
    "manifest bomb": (edited(put("manifest.json", bytes(17 * 2**20)), sums=False), "more than the 16777216"),
    "logits bomb": (bomb("logits", 64 * 2**20), "has 67108864 bytes, more than the 474 of the record's numbers"),
    "epoch bomb": (bomb("epoch", 64 * 2**20), "has 67108864 bytes, more than the 474"),
    "lying sizes": (lying_about_sizes, "not a whole zip file (Bad CRC-32"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_or_damaged_bundle_is_refused(bundle, target, case):
    make, words = HOSTILE[case]
    make(bundle)
    assert nothing_arrives(bundle, target, words).startswith(f"error: {bundle}")


def test_a_member_over_the_limit_is_not_read(bundle, target, monkeypatch):
    monkeypatch.setattr(archive, "MOST_TENSORS", 100)
    nothing_arrives(bundle, target, "more than the 100 that are read")


def first_with_another_f1(folder: RunFolder) -> None:
    as_first_version(folder)
    edit_record(folder, results={"ema": {"cf1": 12.5}})


@pytest.mark.parametrize(
    ("change_run", "words"),
    [
        (first_with_another_f1, "cf1 is 12.5, and the logits score"),
        (lambda folder: edit_record(folder, results={"ema": {"per_class": {"red": 1.0}}}), "and the logits score"),
        (lambda folder: edit_tensors(folder, lambda t: t["raw"].__setitem__((1, 2), np.nan)), "raw is nan at image 1"),
        (lambda folder: edit_tensors(folder, lambda t: t["raw"].fill(np.inf), epoch=2), "raw is inf"),
        (lambda folder: edit_tensors(folder, lambda t: t.pop("ema")), "it holds raw, targets, validation"),
        (lambda folder: edit_tensors(folder, lambda t: t["targets"].__isub__(t["targets"])), "the logits score"),
    ],
    ids=["metric", "class", "nan", "epoch", "weights", "targets"],
)
def test_a_run_that_does_not_hold_is_refused(store, target, tmp_path, change_run, words):
    folder = run_of(store)
    change_run(folder)
    nothing_arrives(bundle_of(folder, tmp_path / "a.zip"), target, words)


def test_what_a_bundle_says_does_not_reach_the_terminal_raw(bundle, target):
    name = "a\x1b[31m\nb"
    change(bundle, put("manifest.json", json.dumps({"files": {name: 5}, "format": 1}).encode()), sums=False)
    assert "\x1b" not in nothing_arrives(bundle, target, "not a valid manifest")


def test_every_command_tells_how_it_is_used():
    for command in ("export", "import"):
        done = ltbench(command, "--help")
        assert done.returncode == 0 and f"ltbench {command} " in done.stdout.partition("Examples:")[2]


def test_a_record_of_another_specification_is_refused(bundle, target):
    def edit(members: Members) -> None:
        record = json.loads(members["record.json"])
        record["spec"]["seed"] = 7
        members["record.json"] = json.dumps(record).encode()

    change(bundle, edit)
    nothing_arrives(bundle, target, "run_id", "is not that of its specification")


# --- splits ------------------------------------------------------------------------------------------------------


def test_a_registered_dataset_is_compared(bundle, made, target, monkeypatch):
    register_tiny(monkeypatch, made.parent / "tiny")
    done = ltbench("import", bundle, "--results", target)
    assert done.returncode == 0 and "could not be compared" not in done.stdout


def test_another_split_than_the_registered_one_is_refused(bundle, made, target, tmp_path, monkeypatch):
    tiny = shutil.copytree(made.parent / "tiny", tmp_path / "tiny")
    (tiny / "val.txt").unlink()
    register_tiny(monkeypatch, tiny)
    nothing_arrives(bundle, target, "the split differs: dataset 'tiny' has the fingerprint")


def test_labels_other_than_those_of_the_registered_list_are_refused(store, made, target, tmp_path, monkeypatch):
    register_tiny(monkeypatch, made.parent / "tiny")
    folder = run_of(store)
    edit_tensors(folder, lambda tensors: tensors["targets"].__setitem__((0, 0), 1 - tensors["targets"][0, 0]))
    sent = bundle_of(folder, tmp_path / "a.zip")
    nothing_arrives(sent, target, "targets are not those of the test list of dataset 'tiny'")


def test_another_split_than_that_of_the_records_there_is_refused(bundle, made, target, tmp_path):
    other = shutil.copytree(made.parent / "tiny", tmp_path / "other" / "tiny")
    (other / "val.txt").unlink()
    execute_plan(make_plan("erm", str(other), **TINY), target)
    line = nothing_arrives(bundle, target, "the split differs: dataset 'tiny' has the fingerprint", "--results")
    assert str(target) in line


def test_the_split_of_the_records_there_is_accepted_without_a_word(bundle, store, tmp_path):
    shutil.rmtree(run_of(store).path)
    done = ltbench("import", bundle, "--results", store)
    assert done.returncode == 0 and "could not be compared" not in done.stdout
    assert verify(store, Reporter()).findings == []


# --- data that the runs there share ------------------------------------------------------------------------------


def swap_targets(tensors: dict[str, np.ndarray]) -> None:
    tensors["targets"][:] = tensors["targets"][::-1].copy()


@pytest.fixture
def without(store) -> Path:
    """The store without the run of the bundle."""
    shutil.rmtree(run_of(store).path)
    return store


@pytest.mark.parametrize("registers", [False, True], ids=["unregistered", "registered"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_images_other_than_those_of_the_runs_there_are_refused(
    bundle, made, store, tmp_path, monkeypatch, registers, split
):
    if registers:
        register_tiny(monkeypatch, made.parent / "tiny")
    folder = run_of(store)
    edit_record(folder, data_digests={split: "a" * 64})
    sent = bundle_of(folder, tmp_path / "a.zip")
    shutil.rmtree(folder.path)
    line = nothing_arrives(
        sent, store, f"its {split} images at ", "aaaaaaaaaaaa", str(store), "--results", "made again"
    )
    assert line.startswith(f"error: {sent}: ") and run_of(store, "asl").path.name in line
    assert import_bundle(sent, tmp_path / "own").outcome == "imported"
    assert import_bundle(bundle, store).outcome == "imported"


def test_groups_other_than_those_of_the_runs_there_are_refused(bundle, without):
    for prefix in ("erm-s1", "asl"):
        folder = run_of(without, prefix)
        edit_record(folder, class_counts={"red": folder.record().class_counts["red"] + 1})
    line = nothing_arrives(bundle, without, "its classes, groups and numbers of images have the digest", "--results")
    assert run_of(without, "asl").path.name in line


def test_labels_other_than_those_of_the_runs_there_are_refused(bundle, without):
    for prefix in ("erm-s1", "asl"):
        edit_tensors(run_of(without, prefix), swap_targets)
    line = nothing_arrives(bundle, without, "its test labels have the digest", "--results")
    assert run_of(without, "asl").path.name in line


def test_labels_are_compared_with_the_first_run_that_can_be_read(bundle, without):
    first, second = run_of(without, "asl"), run_of(without, "erm-s1")
    (first.path / first.record().logits.file).unlink()
    edit_tensors(second, swap_targets)
    assert second.path.name in nothing_arrives(bundle, without, "its test labels have the digest")
    (second.path / second.record().logits.file).unlink()
    assert import_bundle(bundle, without).outcome == "imported"


def test_the_logits_of_one_run_there_are_read(bundle, without, monkeypatch):
    edit_record(run_of(without, "erm-s1"), parameters={"trained": 0})  # no seed decides its logits
    read = []
    original = FolderFiles.read
    monkeypatch.setattr(
        FolderFiles, "read", lambda files, name: read.append(files.path / name) or original(files, name)
    )
    assert import_bundle(bundle, without).outcome == "imported"
    first = run_of(without, "asl")
    assert read == [first.path / first.record().logits.file]


def test_validation_labels_are_compared_with_the_first_run_that_has_them(bundle, without):
    first, second = run_of(without, "asl"), run_of(without, "erm-s1")
    as_first_version(first)
    edit_tensors(second, lambda tensors: tensors["validation_targets"].__setitem__(0, [0, 1, 1]))
    assert second.path.name in nothing_arrives(bundle, without, "its validation labels have the digest")


def test_runs_there_that_cannot_be_read_are_not_compared(bundle, without):
    for prefix, content in (("asl", b"{"), ("erm-s1", b"[]")):
        run_of(without, prefix).record_path.write_bytes(content)
    done = ltbench("import", bundle, "--results", without)
    assert done.returncode == 0 and "its split could not be compared" in done.stdout


def test_one_wrong_run_there_does_not_keep_others_out(bundle, without):
    """As `ltbench verify` blames that run alone."""
    sound = run_of(without, "erm-s1")
    data = json.loads(sound.record_path.read_text())
    data["spec"]["seed"] = 2
    spec = RunSpec.model_validate_json(json.dumps(data["spec"]))
    another = shutil.copytree(sound.path, without / "runs" / spec.folder_name)
    (another / "record.json").write_text(json.dumps(data | {"run_id": spec.run_id}))
    edit_tensors(RunFolder(another), lambda tensors: [tensors[key].__imul__(2) for key in ("raw", "ema")])
    edit_record(run_of(without, "asl"), data_digests={"test": "a" * 64})
    assert import_bundle(bundle, without).outcome == "imported"
    assert {finding.run for finding in verify(without, Reporter()).findings} == {run_of(without, "asl").path.name}


def test_a_run_that_is_there_stays_whatever_others_say(bundle, store):
    for prefix in ("erm-s1", "asl"):
        edit_record(run_of(store, prefix), data_digests={"test": "a" * 64})
    before = snapshot(store)
    assert import_bundle(bundle, store).outcome == "already there"
    assert snapshot(store) == before


# --- what is in the results folder already -----------------------------------------------------------------------


def test_another_record_of_the_run_stays(bundle, store):
    folder = run_of(store)
    content = folder.record_path.read_bytes() + b"\n"
    folder.record_path.write_bytes(content)
    digests = [hashlib.sha256(text).hexdigest()[:12] for text in (content, members_of(bundle)["record.json"])]
    nothing_arrives(bundle, store, str(folder.record_path), *digests, "remove the folder")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not JSON"),
        (lambda path: path.write_bytes(b""), "not JSON"),
        (lambda path: path.write_bytes(b"\xff\xfe\xff"), "not JSON"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere")), "No such file"),
    ],
    ids=["truncated", "empty", "binary", "link"],
)
def test_a_damaged_record_of_the_run_is_named_and_stays(bundle, store, damage, words):
    folder = run_of(store)
    damage(folder.record_path)
    line = nothing_arrives(bundle, store, str(folder.record_path), "is damaged", words, "remove the folder")
    assert "another record" not in line
    assert os.path.lexists(folder.record_path)
    shutil.rmtree(folder.path)
    assert import_bundle(bundle, store).outcome == "imported"


LOSSES = {
    "missing": lambda path: path.unlink(),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_what_a_run_has_lost_is_restored(bundle, store, lose):
    folder = run_of(store)
    before = snapshot(store)
    times = {path: path.stat().st_mtime_ns for path in folder.path.glob("*.*")}
    names = list(files_of(folder.record()))
    for name in (names[0], names[2]):
        lose(folder.path / name)
    # A new attempt at the run that can go on
    folder.checkpoint_path.write_bytes(b"x")
    done = ltbench("import", bundle, "--results", store)
    assert (done.returncode, done.stderr) == (0, "")
    told, count, following = done.stdout.splitlines()
    assert (told, count) == (f"restored: {folder.path.name}", "1 restored") and "leaderboard" in following
    assert folder.checkpoint_path.read_bytes() == b"x"
    folder.checkpoint_path.unlink()
    assert snapshot(store) == before and not any(path.is_symlink() for path in folder.path.iterdir())
    assert {path for path, time in times.items() if path.stat().st_mtime_ns != time} == {
        folder.path / names[0], folder.path / names[2]
    }  # fmt: skip
    assert verify(store, Reporter()).findings == []
    assert import_bundle(bundle, store).outcome == "already there"


def test_a_run_that_is_being_worked_on_is_not_restored(bundle, store):
    folder = run_of(store)
    (folder.path / folder.record().logits.file).unlink()
    with claimed(folder):
        nothing_arrives(bundle, store, str(folder.path), "is being worked on")


def test_restoring_that_fails_leaves_what_was_there(bundle, store, monkeypatch):
    folder = run_of(store)
    for name in files_of(folder.record()):
        LOSSES["link"](folder.path / name)
    with monkeypatch.context() as patch:
        patch.setattr(arrival, "write_atomically", failing("epoch-002", StoreError("no room")))
        nothing_arrives(bundle, store, "no room")
    assert all((folder.path / name).is_symlink() for name in files_of(folder.record()))
    file = folder.path / folder.record().logits.file
    file.unlink()
    file.mkdir()
    nothing_arrives(bundle, store, f"{file}: cannot be written: Is a directory")


def test_a_run_that_is_being_worked_on_is_refused(bundle, target, made):
    folder = RunFolder(target / "runs" / run_of(made).path.name)
    with claimed(folder):
        nothing_arrives(bundle, target, str(folder.path), "is being worked on")
        assert folder.holder() is not None
    assert ltbench("import", bundle, "--results", target).returncode == 0


def test_an_interrupted_run_is_done_by_an_import(bundle, target, made):
    folder = RunFolder(target / "runs" / run_of(made).path.name)
    with contextlib.suppress(StoreError), claimed(folder):
        raise StoreError("the disk is full")
    folder.checkpoint_path.write_bytes(b"x")
    before = snapshot(folder.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrival, "write_atomically", failing("record.json", StoreError("no room")))
        refused(ltbench("import", bundle, "--results", target), "no room")
    assert snapshot(folder.path) == before
    assert ltbench("import", bundle, "--results", target).returncode == 0
    assert folder.state() == "done" and not folder.checkpoint_path.exists()
    assert folder.attempts.last()["message"] == "the disk is full"


def test_several_bundles_each_on_its_own(store, target, tmp_path):
    good = [export(run_of(store, prefix), tmp_path / f"{prefix}.zip") for prefix in ("erm-s0", "asl")]
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"x")
    done = ltbench("import", good[0], bad, good[1], good[0], "--results", target)
    assert done.returncode == 2
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "imported", "imported", "already there", "2 imported, 1 refused, 1 already there",
        f"  ltbench leaderboard --results {target}",
    ]  # fmt: skip
    assert done.stderr.splitlines()[0].startswith(f"refused: {bad}: not a whole zip file")
    assert done.stderr.splitlines()[1:] == ["error: 1 of 4 bundles were refused (above)"]
    assert verify(target, Reporter()).findings == []


# --- when it cannot be written -----------------------------------------------------------------------------------


def failing(start: str, error: BaseException) -> Callable[[Path, bytes], None]:
    """`write_atomically` that fails at a file of this name."""
    original = arrival.write_atomically

    def write(path: Path, content: bytes) -> None:
        if path.name.startswith(start):
            raise error
        original(path, content)

    return write


@pytest.mark.parametrize("file", ["logits", "epoch-002", "record.json"])
@pytest.mark.parametrize("error", [StoreError("no room"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
def test_an_import_that_fails_leaves_nothing(bundle, target, monkeypatch, file, error):
    with monkeypatch.context() as patch:
        patch.setattr(arrival, "write_atomically", failing(file, error))
        done = ltbench("import", bundle, "--results", target)
    assert done.returncode == (2 if isinstance(error, StoreError) else 130)
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 1
    assert not target.exists()
    assert import_bundle(bundle, target).outcome == "imported"


def test_a_killed_import_leaves_no_record_and_can_be_done_again(bundle, target, made):
    child = os.fork()
    if child == 0:
        original = arrival.write_atomically

        def write(path: Path, content: bytes) -> None:
            if path.name.startswith("epoch-002"):
                os.kill(os.getpid(), signal.SIGKILL)
            original(path, content)

        arrival.write_atomically = write
        with contextlib.suppress(BaseException):
            import_bundle(bundle, target)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert not list(target.glob("runs/*/record.json")) and len(list(target.glob("runs/.*.import/*"))) == 2
    [row] = json.loads(ltbench("status", "--results", target, "--json").stdout)
    assert (row["run"], row["state"]) == (run_of(made).path.name, "preempted")
    assert import_bundle(bundle, target).outcome == "imported"
    assert not list(target.glob("runs/.*"))
    assert verify(target, Reporter()).findings == []


def test_a_results_folder_that_can_only_be_read(bundle, store, tmp_path):
    shutil.rmtree(run_of(store).path)
    with mounted(tmp_path / "bound", "--bind", str(store)) as results:
        subprocess.run(["mount", "-o", "remount,ro,bind", results], check=True)
        nothing_arrives(bundle, results, str(results), "cannot be written", "--results")
    with mounted(tmp_path / "bound", "--bind", str(store)) as results:
        assert import_bundle(bundle, results).outcome == "imported"


def test_a_results_folder_that_is_a_file(bundle, tmp_path):
    (tmp_path / "file").write_text("")
    nothing_arrives(bundle, tmp_path / "file", str(tmp_path / "file"), "cannot be written")


@pytest.mark.parametrize("leave", [0, 1, 5])
def test_a_full_disk(bundle, tmp_path, leave):
    """leave: pages that are still there."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=16m", "tmpfs") as path:
        disk = SmallDisk(path)
        disk.fill(leave * 4096)
        refused(ltbench("import", bundle, "--results", path / "results"), str(path), "No space left on device")
        assert not list(path.rglob("*.safetensors")) and not list(path.rglob(".*")), list(path.rglob("*"))
        disk.free()
        assert import_bundle(bundle, path / "results").outcome == "imported"
        assert verify(path / "results", Reporter()).findings == []
