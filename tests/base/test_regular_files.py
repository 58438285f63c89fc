"""What lies where a file is expected and is none is named and not waited for; a link is not written through."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from contextlib import contextmanager
from pathlib import Path

import pytest
from kit.bundles import nothing_arrives
from kit.command import ltbench, refused
from kit.runs import execute_plan
from kit.stores import made, run_of, snapshot, store  # noqa: F401 - fixtures
from kit.tiny import TINY
from kit.verification import faults

from benchmark.audit.bundles import export, import_bundle
from benchmark.base.files import MOST_TEXT, open_own, open_regular, read_regular
from benchmark.errors import StoreError
from benchmark.launch.logs import follow_log
from benchmark.launch.status import rows
from benchmark.launch.sweeps import Sweeps
from benchmark.leaderboard.plots import description_of
from benchmark.running.plan import make_plan
from benchmark.store.claim import claimed
from benchmark.store.folder import RunFolder
from benchmark.store.lease import Lease
from benchmark.store.runs import Store
from benchmark.training.checkpoint import load_checkpoint
from benchmark.ui.progress import Reporter


@pytest.fixture(autouse=True)
def _no_hang():
    """A wait without end is an error here, and no wait for the tests."""

    def ring(*args):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@contextmanager
def bound(path: Path):
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket has room for 100 characters
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)
        yield


KINDS = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "folder": os.mkdir,
}


@pytest.fixture(params=KINDS)
def put(request):
    """Puts something that is no file where a file may be."""

    def make(path: Path) -> Path:
        path.unlink(missing_ok=True)
        KINDS[request.param](path)
        return path

    return make


def test_only_regular_files_are_opened(tmp_path, put):
    path = put(tmp_path / "a")
    for read in (open_regular, read_regular, open_own):
        with pytest.raises(OSError):
            read(path)
    with bound(tmp_path / "socket"), pytest.raises(OSError):
        open_regular(tmp_path / "socket")


def test_a_file_of_text_is_read_no_further_than_its_limit(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MOST_TEXT + 1)  # and takes no room
    with pytest.raises(OSError, match="has more than the"):
        read_regular(tmp_path / "large", MOST_TEXT)
    for read in (lambda: RunFolder(tmp_path).record(), lambda: Lease.read(tmp_path / "lease.json")):
        for name in ("record.json", "lease.json"):
            (tmp_path / name).unlink(missing_ok=True)
            os.link(tmp_path / "large", tmp_path / name)
        with pytest.raises(StoreError, match="has more than the"):
            read()


def test_in_place_of_a_record_or_logits(store, put):
    for place in ("record.json", run_of(store).record().logits.file, run_of(store).record().oracle[0].file):
        folder = run_of(store)
        kept = (folder.path / place).read_bytes()
        put(folder.path / place)
        [message] = faults(store)[folder.path.name]
        assert str(folder.path / place) in message
        refused(ltbench("export", folder.path.name, "--results", store, "--out", store / "a.zip"), place)
        assert ltbench("leaderboard", "--results", store, "--out", store / "board").returncode == 0
        (folder.path / place).rmdir() if (folder.path / place).is_dir() else (folder.path / place).unlink()
        (folder.path / place).write_bytes(kept)
    assert faults(store) == {}


def test_in_place_of_a_lease_an_attempt_or_a_checkpoint(store, put):
    folder = RunFolder(store / "runs" / "erm-s9-000000000000")
    (folder.path / "attempts").mkdir(parents=True)
    lease = put(folder.path / "lease.json")
    [row] = [row for row in rows(store)[0] if row.run == folder.path.name]
    assert row.state == "damaged" and str(lease) in row.note
    with pytest.raises(StoreError, match="not a lease"), claimed(folder):
        pytest.fail("a run without a lease of its own")
    lease.rmdir() if lease.is_dir() else lease.unlink()
    attempt = put(folder.path / "attempts" / "001.json")
    with pytest.raises(StoreError, match="not an attempt's file"):
        folder.state()
    assert [row.state for row in rows(store)[0] if row.run == folder.path.name] == ["damaged"]
    attempt.rmdir() if attempt.is_dir() else attempt.unlink()
    with pytest.raises(StoreError, match=r"checkpoint\.pt: cannot be read"):
        load_checkpoint(put(folder.checkpoint_path))


def test_in_place_of_a_log_a_sweep_or_a_picture(store, put, tmp_path):
    folder = run_of(store)
    log = put(folder.log_path)
    with claimed(folder):
        assert [row.note for row in rows(store)[0] if row.run == folder.path.name] == [""]
    with pytest.raises(StoreError, match=r"run\.log: cannot be read"):
        list(follow_log(log, folder, store, False))
    with pytest.raises(StoreError, match=r"run\.log: cannot be written"), Reporter().logging_to(log):
        pytest.fail("a log that is none")
    sweep = store / "sweeps" / "one" / "sweep.json"
    sweep.parent.mkdir(parents=True)
    put(sweep)
    with pytest.raises(StoreError, match="cannot be read"):
        Sweeps(store).all()
    assert description_of(put(tmp_path / "a.svg")) is None


def test_in_place_of_a_bundle_or_of_the_run_that_it_brings(made, put, tmp_path):
    nothing_arrives(put(tmp_path / "a.zip"), tmp_path / "results", "a.zip: cannot be read")
    sent = export(run_of(made), tmp_path / "b.zip")
    target = tmp_path / "target"
    record = RunFolder(target / "runs" / run_of(made).path.name).record_path
    record.parent.mkdir(parents=True)
    put(record)
    refused(ltbench("import", sent, "--results", target), str(record), "cannot be read")


def test_a_path_that_is_too_long_is_named(made, tmp_path):
    long = "x" * 5000
    for done in (
        ltbench("import", long, "--results", tmp_path / "results"),
        ltbench("import", export(run_of(made), tmp_path / "a.zip"), "--results", tmp_path / long),
        ltbench("export", run_of(made).path.name, "--results", made, "--out", tmp_path / long),
        ltbench("export", run_of(made).path.name, "--results", made, "--sign", long),
        ltbench("import", tmp_path / "a.zip", "--trust", long),
    ):
        refused(done, "File name too long")


# --- links -------------------------------------------------------------------------------------------------------


@pytest.fixture
def precious(tmp_path) -> Path:
    (tmp_path / "precious.txt").write_text("years of work\n")
    return tmp_path / "precious.txt"


@pytest.mark.parametrize("name", ["lock", "run.log"])
def test_a_run_writes_through_no_link(tiny, tmp_path, precious, name):
    plan = make_plan("erm", str(tiny), **TINY)
    folder = Store(tmp_path / "results").folder(plan.spec)
    folder.path.mkdir(parents=True)
    (folder.path / name).symlink_to(precious)
    with pytest.raises(StoreError, match=rf"{name}.* is a link, and what it leads to is left alone; remove it"):
        execute_plan(plan, tmp_path / "results")
    assert precious.read_text() == "years of work\n" and (folder.path / name).is_symlink()
    (folder.path / name).unlink()
    assert execute_plan(plan, tmp_path / "results").attempts <= 2


def test_a_link_that_leads_nowhere_makes_no_file(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "made")
    with pytest.raises(OSError, match="is a link"):
        open_own(tmp_path / "lock")
    assert not (tmp_path / "made").exists()


def test_attempts_and_sweeps_through_a_link(tmp_path, precious):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".draft.tmp").write_text("a draft")
    folder = RunFolder(tmp_path / "results" / "runs" / "erm-s0-000000000000")
    folder.path.mkdir(parents=True)
    (folder.path / "attempts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="attempts: is a link; remove it"), claimed(folder):
        pytest.fail("claimed")
    assert snapshot(tmp_path / "elsewhere") == {".draft.tmp": b"a draft"}
    (tmp_path / "results" / "sweeps").mkdir()
    (tmp_path / "results" / "sweeps" / "lock").symlink_to(precious)
    with pytest.raises(StoreError, match="is a link"), Sweeps(tmp_path / "results").lock():
        pytest.fail("locked")
    assert precious.read_text() == "years of work\n"


def test_an_import_writes_to_no_linked_run(made, tmp_path):
    sent = export(run_of(made), tmp_path / "a.zip")
    place = tmp_path / "results" / "runs" / run_of(made).path.name
    place.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    place.symlink_to(tmp_path / "elsewhere")
    refused(ltbench("import", sent, "--results", tmp_path / "results"), str(place), "is a link", "remove the link")
    assert not list((tmp_path / "elsewhere").iterdir())
    # Who keeps runs elsewhere on purpose has them there.
    (tmp_path / "elsewhere").rmdir()
    shutil.copytree(run_of(made).path, tmp_path / "elsewhere")
    assert import_bundle(sent, tmp_path / "results").outcome == "already there"


def test_files_of_a_run_may_be_links_to_its_content(store, tmp_path):
    """As git-annex and DVC keep them."""
    folder = run_of(store)
    for name in ("record.json", folder.record().logits.file):
        shutil.move(folder.path / name, tmp_path / name)
        (folder.path / name).symlink_to(tmp_path / name)
    assert faults(store) == {}


def test_a_list_may_name_images_that_are_links_out_of_the_root(tiny, tmp_path):
    """Allowed on purpose: clusters keep images in one place, and datasets are folders of links."""
    shutil.move(tiny / "images", tmp_path / "store")
    (tiny / "images").mkdir()
    for image in (tmp_path / "store").iterdir():
        (tiny / "images" / image.name).symlink_to(image)
    record = execute_plan(make_plan("erm", str(tiny), **TINY), tmp_path / "results")
    assert record.num_train_images == 24
