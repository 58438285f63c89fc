"""Files of weights: where they lie, how they come from a server, and what is said where they do not."""

from __future__ import annotations

import hashlib
import io

import huggingface_hub.constants
import pytest
from huggingface_hub import try_to_load_from_cache
from kit.checks import refused
from kit.disks import full_disk, mounted
from kit.weights_server import COMMIT, Served, serving
from rich.console import Console

from benchmark.models.backbones import WeightsSource
from benchmark.models.weight_files import HubFile, LocalFile, UrlFile
from benchmark.models.weights import PretrainedWeights, resolve_weights
from benchmark.ui.progress import Reporter

CONTENT = b"weights" * 300_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        yield server


@pytest.fixture
def hub(server, tmp_path, monkeypatch):
    """The Hugging Face Hub, served from here, with one repository; and its cache, an empty folder."""
    constants = huggingface_hub.constants
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    server.files[f"/some/clip/resolve/main/{NAMES[0]}"] = Served(CONTENT)
    return server


def weights_of(file):
    return PretrainedWeights(WeightsSource(resolve_weights("small_cnn", "none", 32).ref, file), "small_cnn", 32)


def test_a_file_is_fetched_once_and_shown(server, tmp_path):
    server.files["/w.pth"] = Served(CONTENT)
    console = Console(file=io.StringIO(), width=200)
    weights = weights_of(UrlFile(f"{server.url}/w.pth", tmp_path / "cache" / "w.pth", SHA256[:8]))
    assert not weights.is_here()
    assert weights.fetch(Reporter(console)) == weights.fetch() == tmp_path / "cache" / "w.pth"
    assert weights.is_here() and server.asked == ["GET /w.pth"]
    assert console.file.getvalue() == "fetching w.pth, 2.1 MB\n"


def test_half_a_file_of_an_earlier_interruption_is_refused_and_kept(server, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(CONTENT[:1000])
    message = refused(weights_of(UrlFile(f"{server.url}/w.pth", path, SHA256[:8])).fetch)
    assert "cut short" in message and "remove it" in message and f"{server.url}/w.pth" in message
    assert path.read_bytes() == CONTENT[:1000] and server.asked == []


def test_a_file_that_is_gone_again_is_named(tmp_path):
    assert str(tmp_path / "w.pth") in refused(weights_of(LocalFile(tmp_path / "w.pth", "")).fetch)


def test_a_file_of_the_hub_is_where_its_own_library_finds_it(hub, tmp_path):
    file = HubFile("some/clip", *NAMES)
    assert (file.is_here(), file.sha256) == (False, "")
    assert file.address == f"{hub.url}/some/clip/resolve/main/{NAMES[0]}"
    weights = weights_of(file)
    path = weights.fetch()
    assert path.read_bytes() == CONTENT and str(path) == try_to_load_from_cache("some/clip", NAMES[0])
    assert path.parent.name == COMMIT and (file.is_here(), file.sha256) == (True, SHA256)
    asked = list(hub.asked)
    assert weights.fetch() == path and hub.asked == asked  # nothing more
    path.resolve().write_bytes(CONTENT[:-1])
    assert "cut short" in refused(weights.fetch)


def test_the_hubs_second_name_is_tried(hub):
    hub.files[f"/some/clip/resolve/main/{NAMES[1]}"] = hub.files.pop(f"/some/clip/resolve/main/{NAMES[0]}")
    file = HubFile("some/clip", *NAMES)
    assert weights_of(file).fetch().name == NAMES[1] and file.address.endswith(NAMES[1])


def test_a_file_that_was_put_by_hand_where_the_message_says_is_found(hub):
    file = HubFile("some/clip", *NAMES)
    place = file.path
    assert str(place) in file.remedy("clip_x/X:some")
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert file.is_here() and weights_of(file).fetch() == place and hub.asked == []
    assert file.sha256 == ""  # nothing on this machine says it


@pytest.mark.parametrize("content", [b"", b"../../../etc", b"main\xff"])
def test_a_damaged_reference_of_the_hubs_cache_is_taken_for_a_missing_one(hub, tmp_path, content):
    file = HubFile("some/clip", *NAMES)
    expected = file.path
    reference = tmp_path / "hub" / "models--some--clip" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    reference.write_bytes(content)
    assert not file.is_here() and file.path == expected
    assert weights_of(file).fetch().read_bytes() == CONTENT and reference.read_text() == COMMIT


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda served: served.clear(), "some/clip has no open_clip_model.safetensors or"),
        (lambda served: [setattr(file, "cut", 1_000_000) for file in served.values()], "ended before"),
    ],
    ids=["404", "cut"],
)
def test_what_the_hub_does_not_give_leaves_nothing(hub, tmp_path, change, word):
    change(hub.files)
    file = HubFile("some/clip", *NAMES)
    assert word in refused(weights_of(file).fetch) and not file.is_here()
    assert [path for path in (tmp_path / "hub").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("etag", ["../../../x", "abc"])
def test_a_digest_of_the_server_that_is_none_names_no_file(hub, tmp_path, etag):
    hub.files[f"/some/clip/resolve/main/{NAMES[0]}"].etag = etag
    assert "does not say the digest" in refused(weights_of(HubFile("some/clip", *NAMES)).fetch)
    assert not (tmp_path / "hub").exists()


def refuse_both(hub, folder):
    hub.files["/w.pth"] = Served(CONTENT)
    for file in (UrlFile(f"{hub.url}/w.pth", folder / "w.pth", SHA256), HubFile("some/clip", *NAMES)):
        message = refused(weights_of(file).fetch)
        assert "cannot be written" in message and str(folder) in message and not file.is_here()


def test_a_full_disk(hub, tmp_path):
    with full_disk():
        refuse_both(hub, tmp_path)


def test_a_cache_that_is_read_only(hub, tmp_path, monkeypatch):
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1M,ro", "tmpfs") as folder:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
        refuse_both(hub, folder)
