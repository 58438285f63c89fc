"""A real HTTP server on this machine, with the faults of servers and networks."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """What happens to one request. cut_at, stall_at: after so many bytes of the answer. status: instead of the file."""

    cut_at: int | None = None
    stall_at: int | None = None
    status: int | None = None
    redirect: str = ""


@dataclass
class Asked:
    """One request. start: first byte of the range; None where the whole file was asked for. sent: bytes of content."""

    path: str
    start: int | None
    sent: int = 0


@dataclass
class Server:
    """files: path -> content. faults: path -> those of the next requests, then there are none. With `ranges` off every
    answer is the whole file."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    faults: defaultdict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    asked: list[Asked] = field(default_factory=list)
    ranges: bool = True
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def sent(self) -> int:
        """Bytes of content, of all requests."""
        return sum(asked.sent for asked in self.asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HTTPServer

    def do_GET(self) -> None:
        owner = self.server.owner
        fault = owner.faults[self.path].pop(0) if owner.faults[self.path] else Fault()
        content = owner.files.get(self.path)
        match = re.fullmatch(r"bytes=(-?\d+)-?(\d*)", self.headers.get("Range", ""))
        asked = Asked(self.path, int(match[1]) if match else None)
        owner.asked.append(asked)
        if fault.redirect:
            self._answer(302, {"Location": fault.redirect})
        elif fault.status or content is None:
            self._answer(fault.status or 404, {})
        elif match and owner.ranges:
            start = int(match[1]) if int(match[1]) >= 0 else max(0, len(content) + int(match[1]))
            end = int(match[2]) if match[2] else len(content) - 1
            if start >= len(content):
                self._answer(416, {})
                return
            self._answer(206, {"Content-Range": f"bytes {start}-{end}/{len(content)}"}, content[start : end + 1])
            self._send(content[start : end + 1], asked, fault)
        else:
            self._answer(200, {}, content)
            self._send(content, asked, fault)

    def _answer(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        if etag := self.server.owner.etags.get(self.path):
            self.send_header("ETag", etag)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, content: bytes, asked: Asked, fault: Fault) -> None:
        end = next((at for at in (fault.cut_at, fault.stall_at) if at is not None), len(content))
        with contextlib.suppress(OSError):  # the reader is gone
            self.wfile.write(content[:end])
            asked.sent = min(end, len(content))
            if fault.stall_at is not None:
                self.server.owner.released.wait(20)
            if end < len(content):
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    owner: Server

    def handle_error(self, *_: object) -> None:
        """A connection that a killed process leaves behind."""


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port, for the duration of the block."""
    server = _HTTPServer(("127.0.0.1", 0), _Handler)
    server.owner = Server(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.owner
    finally:
        server.owner.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
