"""Archives are fetched from a real server, with its faults, and unpacked; copies are linked."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
from kit import archives as kit
from kit.archives import COCO, JPEG, LABELS, TAR, TRAIN, UNLISTED, VAL, VOC, tar_of, write_files, zip_of
from kit.command import ltbench, refused
from kit.disks import mounted
from kit.paths import ROOT
from kit.server import Fault, serving
from rich.console import Console

from benchmark.data.archives import ARCHIVES
from benchmark.data.dataset import DATASETS
from benchmark.data.preparing.bringing import bring
from benchmark.data.preparing.copies import Source, link
from benchmark.data.preparing.fetching import Patience, fetch
from benchmark.data.preparing.linking import link_for_lists
from benchmark.data.preparing.obtain import Wishes, obtain
from benchmark.data.preparing.place import Place
from benchmark.errors import InputError
from benchmark.ui.progress import Reporter

QUICK = Patience(connect_s=2, stall_s=0.3, attempts=3, pause_s=0.01)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The archives on a server, and the datasets registered."""
    with serving() as server:
        server.files = {f"/{name}": content for name, content in kit.official().items()}
        kit.register(tmp_path, monkeypatch, kit.official(), server.url)
        yield server


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "root"


class Told:
    """What was told while a dataset was obtained."""

    def __init__(self) -> None:
        self._out = io.StringIO()
        self.reporter = Reporter(Console(file=self._out, width=1000))

    def __str__(self) -> str:
        return self._out.getvalue()


def prepared(name: str, root: Path, *sources: Path, only_needed: bool = False) -> str:
    """Obtain a dataset, check that all images are there, and return what was told."""
    told = Told()
    dataset = obtain(DATASETS.get(name), root, Wishes(sources, only_needed), told.reporter, QUICK)
    dataset.source.check(dataset.splits.values())
    for split in dataset.splits.values():
        for path in split.paths:
            dataset.source.open(path)
    return str(told)


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# Fetching.


def test_an_archive_is_fetched_checked_unpacked_and_removed(server, root):
    told = prepared(VOC, root)
    assert files_below(root) == set(kit.voc_files())
    assert (root / JPEG / "2008_000003.jpg").read_bytes() == kit.picture(3)
    assert "removed, since its content is unpacked" in told
    asked = len(server.asked)
    assert "all 12 images are in" in prepared(VOC, root)
    assert len(server.asked) == asked


def test_a_cut_connection_is_continued_where_it_ended(server, root):
    server.faults[f"/{TAR}"] = [Fault(cut_at=150_000), Fault(status=503), Fault(cut_at=100_000)]
    told = prepared(VOC, root)
    assert [asked.start for asked in server.asked] == [None, 131_072, 131_072, 196_608]
    assert server.sent < len(server.files[f"/{TAR}"]) + 2 * 65_536
    assert "was cut after 131.1 kB" in told and "answers 503" in told


@pytest.mark.slow
def test_a_server_that_stalls_is_left_in_time(server, root):
    server.faults[f"/{TAR}"] = [Fault(stall_at=70_000), Fault(stall_at=0), Fault(stall_at=0)]
    began = time.monotonic()
    with pytest.raises(InputError, match=r"nothing came for 0.3 s.*3 times in a row.*what came is kept.*--source DIR"):
        prepared(VOC, root)
    assert time.monotonic() - began < 5
    assert (root / "archives" / f"{TAR}.part").stat().st_size == 65_536
    prepared(VOC, root)


@pytest.mark.slow
def test_a_killed_process_is_continued_by_the_next(server, root, tmp_path):
    server.faults[f"/{TAR}"] = [Fault(stall_at=200_000)]
    program = (
        "import sys; from pathlib import Path\n"
        "from benchmark.data.archives import Archive; from benchmark.data.preparing.fetching import Patience, fetch\n"
        "from benchmark.ui.progress import Reporter\n"
        "fetch(Archive.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Reporter(), Patience())"
    )
    (root / "archives").mkdir(parents=True)
    target = root / "archives" / TAR
    process = subprocess.Popen(
        [sys.executable, "-c", program, ARCHIVES.get("voc").model_dump_json(), str(target)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    part = target.with_name(f"{TAR}.part")
    while not part.exists() or part.stat().st_size < 196_608:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    prepared(VOC, root)
    assert [asked.start for asked in server.asked] == [None, 196_608]


@pytest.mark.slow
def test_ctrl_c_keeps_the_part(server, root, monkeypatch):
    server.faults[f"/{TAR}"] = [Fault(stall_at=200_000)]
    (root / "archives").mkdir(parents=True)
    part = root / "archives" / f"{TAR}.part"

    def interrupt() -> None:
        while not part.exists() or part.stat().st_size < 196_608:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    done = ltbench("data", "prepare", VOC, "--data-root", root)
    assert done.returncode == 130 and "run the same command again to go on" in done.stderr
    assert part.stat().st_size == 196_608


def test_a_file_that_changed_on_the_server_is_fetched_anew(server, root):
    server.etags[f"/{TAR}"] = '"one"'
    server.faults[f"/{TAR}"] = [Fault(cut_at=200_000), *[Fault(status=503)] * 2]
    with pytest.raises(InputError, match="answers 503"):
        prepared(VOC, root)
    server.etags[f"/{TAR}"] = '"two"'
    assert "the file there has changed" in prepared(VOC, root)
    assert server.asked[-1].start is None


def test_without_ranges_a_file_is_fetched_from_its_beginning(server, root):
    server.ranges = False
    server.faults[f"/{TAR}"] = [Fault(cut_at=200_000)]
    prepared(VOC, root)
    assert len(server.asked) == 2


def test_a_wrong_checksum_is_one_line_and_the_file_is_removed(server, root):
    content = server.files[f"/{TAR}"]
    server.files[f"/{TAR}"] = content[:-1] + b"?"
    done = ltbench("data", "prepare", VOC, "--data-root", root)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "is not the official VOCtrainval.tar: its sha256 is" in line and "it was removed" in line
    assert not files_below(root)
    server.files[f"/{TAR}"] = content
    prepared(VOC, root)


def test_redirects_are_followed(server, root):
    server.files["/elsewhere.tar"] = server.files[f"/{TAR}"]
    server.faults[f"/{TAR}"] = [Fault(redirect="/elsewhere.tar")]
    prepared(VOC, root)
    assert [asked.path for asked in server.asked] == [f"/{TAR}", "/elsewhere.tar"]


@pytest.mark.parametrize("first", ["404", "another size", "no server"])
def test_the_next_address_is_asked(server, root, tmp_path, monkeypatch, first):
    (tmp_path / "again").mkdir()
    with serving() as other:
        if first == "another size":
            other.files[f"/{TAR}"] = b"<html>log in</html>"
        address = "http://127.0.0.1:9" if first == "no server" else other.url
        kit.register(tmp_path / "again", monkeypatch, kit.official(), address, server.url)
        prepared(VOC, root)


def test_every_address_is_named_where_none_serves(server, root):
    del server.files[f"/{TAR}"]
    done = ltbench("data", "prepare", VOC, "--data-root", root)
    assert done.returncode == 2 and f"{server.url}/{TAR}: the server answers 404" in done.stderr
    assert "--source DIR" in done.stderr and "Traceback" not in done.stderr


def test_a_part_is_continued_at_another_address(server, root, tmp_path, monkeypatch):
    (tmp_path / "again").mkdir()
    with serving() as other:
        other.files, other.faults[f"/{TAR}"] = dict(server.files), [Fault(cut_at=200_000), *[Fault(status=500)] * 2]
        kit.register(tmp_path / "again", monkeypatch, kit.official(), other.url, server.url)
        prepared(VOC, root)
    assert [asked.start for asked in server.asked] == [196_608]


def test_a_disk_that_is_too_small_is_told_before_the_first_byte(server, root, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 500_000, 500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    done = ltbench("data", "prepare", VOC, "--data-root", root)
    refused(done, "are needed there and 500.0 kB are free; nothing was fetched; free some space")
    assert not server.asked


def test_two_at_once_fetch_once(server, root):
    server.faults[f"/{TAR}"] = [Fault(cut_at=200_000)]
    assert VOC in DATASETS  # loaded now: registries are not for threads
    threads = [threading.Thread(target=prepared, args=(VOC, root)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked) == 2 and files_below(root) == set(kit.voc_files())


def test_an_archive_that_was_fetched_and_not_unpacked_is_used(server, root):
    (root / "archives").mkdir(parents=True)
    fetch(ARCHIVES.get("voc"), root / "archives" / TAR, Reporter(), QUICK)
    assert files_below(root) == {f"archives/{TAR}", f"archives/{TAR}.origin.json"}
    prepared(VOC, root)
    assert len(server.asked) == 1 and files_below(root) == set(kit.voc_files())


def test_an_archive_that_the_user_put_there_stays(server, root):
    write_files(root / "archives", {TAR: server.files[f"/{TAR}"]})
    prepared(VOC, root)
    assert not server.asked and (root / "archives" / TAR).exists()


# Unpacking.


def odd_tar(name: str, kind: bytes, target: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return tar_of(kit.voc_files(), info)


ODD_TARS = {
    "parent": (tar_of({**kit.voc_files(), "VOCdevkit/../../x": b"x"}), "VOCdevkit/../../x"),
    "absolute": (tar_of({**kit.voc_files(), "/x": b"x"}), "'/x'"),
    "symbolic link": (odd_tar("VOCdevkit/out", tarfile.SYMTYPE, "/etc"), "VOCdevkit/out' is a link"),
    "hard link": (odd_tar("VOCdevkit/out", tarfile.LNKTYPE, "../../x"), "VOCdevkit/out' is a link"),
    "device": (odd_tar("VOCdevkit/null", tarfile.CHRTYPE), "VOCdevkit/null' is a device"),
    "pipe": (odd_tar("VOCdevkit/pipe", tarfile.FIFOTYPE), "VOCdevkit/pipe' is a device or pipe"),
    "folder outside": (odd_tar("../x", tarfile.DIRTYPE), "../x"),
    "twice": (tar_of(kit.voc_files(), tarfile.TarInfo(f"{JPEG}/2008_000000.jpg")), "is there twice"),
}


@pytest.mark.parametrize("kind", ODD_TARS)
def test_a_tar_member_that_may_not_be_is_named_and_nothing_is_unpacked(tmp_path, monkeypatch, root, kind):
    content, words = ODD_TARS[kind]
    kit.register(tmp_path, monkeypatch, {**kit.official(), TAR: content}, "http://127.0.0.1:9")
    write_files(tmp_path / "mine", {TAR: content})
    with pytest.raises(InputError, match="nothing of it was unpacked") as caught:
        prepared(VOC, root, tmp_path / "mine")
    assert words in str(caught.value)
    assert not files_below(root) and not (tmp_path / "x").exists()


@pytest.mark.parametrize("only_needed", [False, True])
@pytest.mark.parametrize("name", ["../x", "/x", "train2017/link"])
def test_a_zip_member_that_may_not_be_is_named_and_nothing_is_unpacked(tmp_path, monkeypatch, root, name, only_needed):
    files = kit.coco_files("train2017")
    content = zip_of(files, {name: "/etc"}) if "link" in name else zip_of({**files, name: b"x"})
    with serving() as server:
        contents = {**kit.official(), TRAIN: content}
        server.files = {f"/{name}": content for name, content in contents.items()}
        kit.register(tmp_path, monkeypatch, contents, server.url)
        with pytest.raises(InputError, match=f"member '{name}'"):
            prepared(COCO, root, only_needed=only_needed)
    assert not (root / "coco" / "train2017").exists() and not (tmp_path / "x").exists()


def test_an_interrupted_unpacking_goes_on(server, root):
    prepared(VOC, root)
    (root / JPEG / "2008_000001.jpg").unlink()
    (root / JPEG / ".2008_000001.jpg.0123abcd.tmp").write_bytes(b"half")
    (root / JPEG / "2008_000002.jpg").write_bytes(b"")
    kept = (root / JPEG / "2008_000003.jpg").stat().st_mtime_ns
    prepared(VOC, root)
    assert files_below(root) == set(kit.voc_files())
    assert (root / JPEG / "2008_000003.jpg").stat().st_mtime_ns == kept


def test_a_file_of_the_users_own_is_left_as_it_is(server, root):
    write_files(root, {f"{JPEG}/2008_000000.jpg": b"mine"})
    with pytest.raises(InputError, match=r"2008_000000.jpg: it has 4 bytes.*left as it is"):
        prepared(VOC, root)
    assert (root / JPEG / "2008_000000.jpg").read_bytes() == b"mine"
    write_files(root, {"coco/val2017/000000000100.jpg": kit.picture(100)[:-1] + b"?"})
    with pytest.raises(InputError, match="its content differs"):
        prepared(COCO, root)


def test_a_link_is_not_written_through(server, root, tmp_path):
    mine = write_files(tmp_path / "mine", {"2008_000000.jpg": kit.picture(0)})
    (root / JPEG).parent.mkdir(parents=True)
    (root / JPEG).symlink_to(mine)
    with pytest.raises(InputError, match="nothing is written through links"):
        prepared(VOC, root)
    assert files_below(mine) == {"2008_000000.jpg"} and not server.asked, "it is told before anything is fetched"


def test_a_data_root_that_cannot_be_written_is_named(server, tmp_path):
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "ro", "tmpfs") as disk:
        refused(ltbench("data", "prepare", VOC, "--data-root", disk), "Read-only file system", "--data-root")


def test_a_full_read_only_data_root_is_used(server, root, tmp_path):
    prepared(VOC, root)
    with mounted(tmp_path / "disk", "--bind", str(root)) as disk:
        subprocess.run(["mount", "-o", "remount,ro,bind", disk], check=True)
        assert "all 12 images" in prepared(VOC, disk)


# Only what is needed.


def test_single_members_of_a_zip_file_are_fetched_from_a_server(server, root):
    prepared(COCO, root, only_needed=True)
    found = files_below(root / "coco")
    assert len(found) == 9 and "annotations/instances_train2017.json" in found
    assert not any("999999" in name for name in found)
    assert all(asked.sent < UNLISTED for asked in server.asked)
    asked = len(server.asked)
    assert "all 8 images" in prepared(COCO, root, only_needed=True)
    assert len(server.asked) == asked


def test_members_that_are_there_are_not_fetched_again(server, root):
    prepared(COCO, root, only_needed=True)
    (root / "coco/train2017/000000000002.jpg").unlink()
    server.asked.clear()
    prepared(COCO, root, only_needed=True)
    assert {asked.path for asked in server.asked} == {f"/{TRAIN}"}
    assert sum(asked.start not in (None, -65536) for asked in server.asked) <= 2


def test_a_cut_and_a_stall_among_single_members(server, root):
    server.faults[f"/{VAL}"] = [Fault(status=503), Fault(), Fault(), Fault(cut_at=100), Fault(stall_at=50)]
    prepared(COCO, root, only_needed=True)


def test_a_server_of_whole_files_alone_is_named_with_the_remedy(server, root):
    server.ranges = False
    with pytest.raises(InputError, match=r"sends whole files alone.*leave --only-needed out.*--source DIR"):
        prepared(COCO, root, only_needed=True)


def test_only_needed_of_a_whole_archive(server, root, tmp_path):
    prepared(VOC, root, only_needed=True)
    assert files_below(root) == {name for name in kit.voc_files() if "999999" not in name and "ImageSets" not in name}
    write_files(tmp_path / "mine", {name: server.files[f"/{name}"] for name in (TRAIN, VAL, LABELS)})
    server.asked.clear()
    prepared(COCO, root, tmp_path / "mine", only_needed=True)
    assert len(files_below(root / "coco")) == 9 and not server.asked


# Copies.

LAYOUTS = {
    "official": "VOCdevkit/VOC2012/JPEGImages",
    "kaggle": "VOC2012_train_val/VOC2012_train_val/JPEGImages",
    "short": "VOC2012/JPEGImages",
    "deep": "data/sets/VOCdevkit/VOC2012/JPEGImages",
}


def move_voc(folder: Path, images: str) -> Path:
    parts = {JPEG: images, str(Path(JPEG).parent): str(Path(images).parent)}
    files = {}
    for name, content in kit.voc_files().items():
        old = next(old for old in parts if name.startswith(old))
        files[parts[old] + name.removeprefix(old)] = content
    return write_files(folder, files)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_copies_are_found_in_usual_layouts_and_linked(server, root, tmp_path, layout):
    mine = move_voc(tmp_path / "mine", LAYOUTS[layout])
    (mine / "VOC2012_test" / "JPEGImages").mkdir(parents=True)  # with none of the images
    told = prepared(VOC, root, mine)
    assert (root / JPEG).readlink() == mine / LAYOUTS[layout]
    assert (root / JPEG / "../Annotations/2008_000000.xml").exists()
    assert f"12 listed images found in {mine / LAYOUTS[layout]}" in told
    assert not server.asked
    assert "all 12 images" in prepared(VOC, root, mine)


def test_the_folder_of_images_itself_and_links_are_sources(server, root, tmp_path):
    mine = move_voc(tmp_path / "mine", "VOC2012/JPEGImages")
    prepared(VOC, root, mine / "VOC2012" / "JPEGImages")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "voc").symlink_to(mine)
    prepared(VOC, tmp_path / "other", tmp_path / "links")
    assert not server.asked and (tmp_path / "other" / JPEG).readlink() == tmp_path / "links/voc/VOC2012/JPEGImages"


@pytest.mark.parametrize("prefix", ["", "images/", "coco/", "coco2017/images/"])
def test_coco_in_usual_layouts(server, root, tmp_path, prefix):
    files = {
        f"{prefix}{name}": content for s in ("train2017", "val2017") for name, content in kit.coco_files(s).items()
    }
    mine = write_files(tmp_path / "mine", {**files, "annotations/instances_train2017.json": b"{}"})
    prepared(COCO, root, mine)
    assert (root / "coco/annotations/instances_train2017.json").is_symlink()
    assert (root / "coco/val2017").readlink() == mine / f"{prefix}val2017" and not server.asked


def test_a_source_that_lacks_images_is_named_with_how_many(server, root, tmp_path):
    mine = move_voc(tmp_path / "mine", "VOC2012/JPEGImages")
    (mine / "VOC2012/JPEGImages/2008_000005.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of the 12 images .* are missing there, for example 2008_000005.jpg"):
        prepared(VOC, root, mine)
    more = write_files(tmp_path / "more", {"JPEGImages/2008_000005.jpg": kit.picture(5)})
    prepared(VOC, root, mine, more)
    assert not server.asked and len(list((root / JPEG).iterdir())) == 12


def test_images_that_the_data_root_lacks_are_linked_one_by_one(server, root, tmp_path):
    write_files(root, {f"{JPEG}/2008_000000.jpg": kit.picture(0)})
    prepared(VOC, root, move_voc(tmp_path / "mine", "VOC2012/JPEGImages"))
    assert sum(path.is_symlink() for path in (root / JPEG).iterdir()) == 11 and not server.asked


def test_what_the_source_lacks_is_fetched(server, root, tmp_path):
    mine = write_files(tmp_path / "mine", kit.coco_files("train2017"))
    prepared(COCO, root, mine)
    assert (root / "coco/train2017").is_symlink() and not (root / "coco/val2017").is_symlink()
    assert {asked.path for asked in server.asked} == {f"/{VAL}", f"/{LABELS}"}


def test_a_source_without_anything_is_a_mistake(server, root, tmp_path):
    (tmp_path / "empty").mkdir()
    done = ltbench("data", "prepare", VOC, "--data-root", root, "--source", tmp_path / "empty")
    refused(done, "no folder JPEGImages there holds 2008_000000.jpg", "nor is VOCtrainval.tar there")
    refused(ltbench("data", "prepare", VOC, "--data-root", root, "--source", "/no/where"), "/no/where: no such folder")
    assert not server.asked


def test_an_archive_in_a_source_is_used_and_stays(server, root, tmp_path):
    mine = write_files(tmp_path / "mine", {f"downloads/{TAR}": server.files[f"/{TAR}"]})
    prepared(VOC, root, mine)
    prepared(VOC, tmp_path / "other", mine / "downloads" / TAR)
    assert (mine / "downloads" / TAR).exists() and not server.asked


@pytest.mark.parametrize(("end", "words"), [(slice(None, -700), "cut short"), (slice(1, None), "cut short")])
def test_a_truncated_archive_in_a_source_is_named(server, root, tmp_path, end, words):
    mine = write_files(tmp_path / "mine", {TAR: server.files[f"/{TAR}"][end]})
    with pytest.raises(InputError, match=rf"{mine / TAR}: {words}"):
        prepared(VOC, root, mine)
    write_files(mine, {TAR: server.files[f"/{TAR}"][:-1] + b"?"})
    with pytest.raises(InputError, match="not the official VOCtrainval.tar, or damaged"):
        prepared(VOC, root, mine)
    assert not server.asked and not files_below(root)


def test_official_label_files_are_linked_before_lists_are_made(root, tmp_path):
    told, mine = Told(), tmp_path / "mine" / "NUS-WIDE"
    archives = [ARCHIVES.get("nus-wide")]
    place = Place(root, archives, [Source.look_through(tmp_path)], told.reporter)
    with pytest.raises(InputError, match=r"no archive of them may be fetched.*--source DIR"):
        bring(place, archives, frozenset(), False, QUICK)
    write_files(mine, {"Groundtruth/TrainTestLabels/Labels_sky_Train.txt": b"1\n", "ImageList/Imagelist.txt": b"a\n"})
    write_files(mine, {"ConceptsList/Concepts81.txt": b"sky\n"})
    write_files(mine, {"Flickr/sky/0001_2124494179.jpg": kit.picture(0)})
    place = Place(root, archives, [Source.look_through(tmp_path)], told.reporter)
    link_for_lists(place)
    assert not place.lacks_labels(archives[0])
    assert (root / "nus-wide/Flickr/sky/0001_2124494179.jpg").exists()


def test_a_source_that_is_the_data_root_is_not_linked(server, root):
    write_files(root, kit.voc_files())
    prepared(VOC, root, root)
    assert not any(path.is_symlink() for path in root.rglob("*"))


def test_a_link_that_leads_nowhere_is_replaced(server, root, tmp_path):
    (root / JPEG).parent.mkdir(parents=True)
    (root / JPEG).symlink_to(tmp_path / "gone")
    prepared(VOC, root, move_voc(tmp_path / "mine", "VOC2012/JPEGImages"))


def test_a_file_system_without_links_is_named(tmp_path):
    with (
        mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "ro", "tmpfs") as disk,
        pytest.raises(InputError, match=r"no symbolic link to .* can be made there \(Read-only file system\)"),
    ):
        link(disk / "JPEGImages", tmp_path)


# The command.


@pytest.mark.slow
def test_the_command_prepares_and_says_what_there_is(server, root, tmp_path):
    done = ltbench("data", "prepare", VOC, "--data-root", root, "--image-size", "16")
    assert done.returncode == 0, done.stderr
    assert "train  8 images" in done.stdout


def test_a_data_root_is_needed(server):
    refused(ltbench("data", "prepare", VOC), "--data-root DIR or LTBENCH_DATA=DIR")


def test_a_data_root_inside_of_the_right_one_is_told_before_anything_is_fetched(server, root):
    write_files(root, kit.voc_files())
    refused(ltbench("data", "prepare", VOC, "--data-root", root / "VOCdevkit"), "this is VOCdevkit itself", "give")
    assert not server.asked


def test_images_may_be_missing_where_lists_are_made_alone(server, root):
    refused(ltbench("data", "prepare", VOC, "--data-root", root, "--allow-missing"), "fixed lists", "--allow-missing")
    assert not root.exists()


def test_sources_are_for_images_below_a_data_root(tiny, tmp_path):
    refused(ltbench("data", "prepare", tiny, "--source", tmp_path), "--source and --only-needed are for datasets")


def test_messages_of_a_run_name_the_command_and_the_archives(server, root):
    done = ltbench("run", "--dataset", VOC, "--method", "erm", "--data-root", root, "--results", root)
    assert f"`ltbench data prepare {VOC}`" in done.stderr and f"{TAR} (" in done.stderr


def test_the_registered_archives_have_addresses_sizes_and_checksums():
    for name, archive in ARCHIVES.items():
        assert archive.images or archive.labels, name
        assert len({url.rpartition("/")[2] for url in archive.urls}) <= 1, name
    for name, folder in DATASETS.items():
        for archive in folder.card.archives:
            assert archive in ARCHIVES, name
        if folder.card.images == "data-root" and folder.card.lists == "here":
            held = {path for archive in folder.card.archives for path in ARCHIVES.get(archive).images}
            paths = {str((Path(folder.card.folder) / p).parent) for s in folder.open().splits.values() for p in s.paths}
            assert paths <= held, name
