"""Fetching one file from an address: at once told where there is no network, verified, never left half."""

from __future__ import annotations

import hashlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies, select_proxy

from benchmark.base.atomic import replacing

# A host that has not accepted a connection by then is taken for unreachable. Only connecting is bounded so.
CONNECT_S = 1.5
# A server that sends nothing for so long has stalled.
SILENCE_S = 30.0
_CHUNK = 2**20

# Called with a file's size in bytes, 0 where it is not known: a context, in which it is told the bytes that are there.
Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]


class DownloadError(Exception):
    """A file cannot be fetched; the message is the reason, in a few words."""


def download(address: str, path: Path, sha256: str, progress: Progress) -> None:
    """Fetch a file. It gets its name when all of it is there and its digest is right.

    address: http or https; proxies of the environment are used. sha256: digits that its digest begins with; "" for any.
    Raises DownloadError; `path` is then as it was.
    """
    check_connection(address)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not compressed on the way: the length that the server says is then the file's.
        headers = {"Accept-Encoding": "identity"}
        with requests.get(address, stream=True, timeout=(CONNECT_S, SILENCE_S), headers=headers) as response:
            response.raise_for_status()
            _save(response, path, sha256, progress)
    except OSError as error:  # those of requests too
        raise DownloadError(_reason(error, path)) from None


def _save(response: requests.Response, path: Path, sha256: str, progress: Progress) -> None:
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else 0
    digest, done = hashlib.sha256(), 0
    with progress(total) as update, replacing(path) as file:
        for chunk in _chunks(response):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            update(done)
        if total and done != total:
            raise DownloadError(f"the connection ended after {done:,} of {total:,} bytes")
        if not digest.hexdigest().startswith(sha256):
            raise DownloadError(
                f"the server sent another file: its sha256 is {digest.hexdigest()}, not {sha256}; nothing was kept"
            )


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """The content in pieces. Raises DownloadError when the connection ends early or nothing comes any more."""
    try:
        yield from response.iter_content(_CHUNK)
    except requests.ConnectionError:
        raise DownloadError(f"the server sent nothing for {SILENCE_S:.0f} s") from None
    except requests.RequestException:
        raise DownloadError("the connection ended before the file was whole") from None


def check_connection(address: str) -> None:
    """Raise DownloadError unless the host of an address, or its proxy, accepts a connection within `CONNECT_S`.

    Looking up a name can take longer than that on a machine without a network, and cannot be stopped: so it is done
    beside, for IPv4 and IPv6 at once.
    """
    proxy = select_proxy(address, get_environ_proxies(address))
    try:
        parts = urlsplit(address if proxy is None else proxy if "://" in proxy else f"http://{proxy}")
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # a port that is no number
        host = None
    if not host:
        wrong = address if proxy is None else "the proxy of the environment"  # whose address may hold a password
        raise DownloadError(f"{wrong} is no address with a host and a port")
    answers: queue.Queue[OSError | UnicodeError | None] = queue.Queue()

    def connect(family: int) -> None:
        try:
            kind, number, protocol, _, place = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0]
            with socket.socket(kind, number, protocol) as connection:
                connection.settimeout(CONNECT_S)
                connection.connect(place)
            answers.put(None)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have
            answers.put(error)

    families = (socket.AF_INET, socket.AF_INET6)
    for family in families:
        threading.Thread(target=connect, args=(family,), daemon=True).start()
    end, problem = time.monotonic() + CONNECT_S, ""
    for _ in families:
        try:
            error = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            problem = f"no answer within {CONNECT_S:g} s"
            break
        if error is None:
            return
        problem = problem or getattr(error, "strerror", None) or str(error)
    raise DownloadError(f"{host} cannot be reached{' (the proxy)' if proxy else ''}: {problem}")


def _reason(error: OSError, path: Path) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.RequestException):
        return " ".join(f"{type(error).__name__}: {error}".split())
    return f"{error.filename or path}: cannot be written: {error.strerror or error}"
