"""Fetching a file from a real server, with everything that can go wrong on the way."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import time

import pytest
from kit.disks import full_disk
from kit.weights_server import Served, serving

from benchmark.base import download as module
from benchmark.base.download import DownloadError, check_connection, download

CONTENT = bytes(range(256)) * 12_000  # three pieces of a megabyte
SHA256 = hashlib.sha256(CONTENT).hexdigest()
# Not a promise of speed: what never ends fails by then.
HANG_S = 20.0


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        server.files["/w.pth"] = Served(CONTENT)
        yield server


class Told:
    """What a progress display is told."""

    def __init__(self):
        self.total, self.done = None, []

    @contextlib.contextmanager
    def __call__(self, total):
        self.total = total
        yield self.done.append


def failure(server, path, sha256=SHA256, name="/w.pth", told=None) -> str:
    """The reason why a download fails; nothing is left beside `path`, and what was there is as it was."""
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(DownloadError) as caught:
        download(server.url + name, path, sha256, told or Told())
    assert (path.read_bytes() if path.exists() else None) == before
    assert [other for other in path.parent.glob("*") if other != path] == []
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("digits", [SHA256, SHA256[:8], ""])
def test_a_file_is_fetched_and_told(server, tmp_path, digits):
    told, path = Told(), tmp_path / "new" / "folder" / "w.pth"
    download(f"{server.url}/w.pth", path, digits, told)
    assert path.read_bytes() == CONTENT
    assert told.total == len(CONTENT) == told.done[-1] and told.done == sorted(told.done) and len(told.done) > 1


def test_a_cut_connection_leaves_nothing(server, tmp_path):
    server.files["/w.pth"].cut = 1_500_000
    told = Told()
    assert "the connection ended before" in failure(server, tmp_path / "w.pth", told=told)
    assert told.done  # it was half there


def test_what_was_there_stays_when_the_connection_is_cut(server, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"earlier")
    server.files["/w.pth"].cut = 1_500_000
    failure(server, tmp_path / "w.pth")


def test_another_file_is_not_kept(server, tmp_path):
    message = failure(server, tmp_path / "w.pth", sha256="0123abcd")
    assert "0123abcd" in message and SHA256 in message


def test_a_missing_file(server, tmp_path):
    assert "404" in failure(server, tmp_path / "w.pth", name="/other.pth")


def test_a_stalling_server(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SILENCE_S", 0.3)
    server.files["/w.pth"].stall = 2.0
    assert "sent nothing for" in failure(server, tmp_path / "w.pth")


def test_a_slow_server_is_waited_for(server, tmp_path, monkeypatch):
    """Only connecting is bounded."""
    monkeypatch.setattr(module, "CONNECT_S", 0.2)
    server.files["/w.pth"].stall = 0.6
    download(f"{server.url}/w.pth", tmp_path / "w.pth", SHA256, Told())
    assert (tmp_path / "w.pth").read_bytes() == CONTENT


def test_a_full_disk(server, tmp_path):
    with full_disk():
        message = failure(server, tmp_path / "w.pth")
    assert "cannot be written" in message and str(tmp_path / "w.pth") in message.replace(".w.pth", "w.pth")


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=re.escape(str(tmp_path / "file"))):
        download(f"{server.url}/w.pth", tmp_path / "file" / "w.pth", SHA256, Told())


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize(
    "address",
    [f"http://127.0.0.1:{closed_port()}/w", "https://192.0.2.1/w", "https://weights.invalid/w"],
    ids=["nobody listens", "no route", "no such name"],
)
def test_without_a_network_the_answer_comes_at_once(address, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    started = time.monotonic()
    with pytest.raises(DownloadError, match=f"{re.escape(address.split('/')[2].partition(':')[0])} cannot be reached"):
        check_connection(address)
    assert time.monotonic() - started < HANG_S


def test_a_host_that_does_not_answer_is_not_waited_for(monkeypatch):
    """As behind a firewall that drops packets: here, a listener whose queue is full."""
    monkeypatch.setattr(module, "CONNECT_S", 0.3)
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            connection = waiting.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex(listener.getsockname())
        started = time.monotonic()
        with pytest.raises(DownloadError, match="127.0.0.1 cannot be reached"):
            check_connection(f"http://127.0.0.1:{listener.getsockname()[1]}/w")
        assert time.monotonic() - started < HANG_S


def test_a_proxy_is_asked_in_place_of_the_host(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    check_connection("http://weights.invalid/w")
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{closed_port()}")
    with pytest.raises(DownloadError, match="127.0.0.1 cannot be reached .the proxy."):
        check_connection("http://weights.invalid/w")


@pytest.mark.parametrize("proxy", ["http://me:secret@proxy:port", "http://", "http://[::1"])
def test_a_proxy_that_is_no_address_is_told_without_its_password(proxy, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(DownloadError, match="the proxy of the environment is no address") as error:
        check_connection("http://files.test/w.pth")
    assert "secret" not in str(error.value)


def test_a_name_that_no_host_can_have_is_told_at_once(monkeypatch):
    monkeypatch.delenv("http_proxy", raising=False)
    with pytest.raises(DownloadError, match="cannot be reached: .*label"):
        check_connection("http://a..b/w.pth")
