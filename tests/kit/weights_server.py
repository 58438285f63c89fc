"""A real HTTP server of files, as weights are published: whole, cut, slow, stalling, missing, and as the Hub serves."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40


@dataclass
class Served:
    """One file. cut: bytes after which the connection ends. stall: seconds of silence after half of it. on_half: called
    when half of it is sent. etag: its digest, where the server says another one."""

    content: bytes
    cut: int | None = None
    stall: float = 0.0
    on_half: Callable[[], None] = lambda: None
    etag: str | None = None


@dataclass
class Server:
    """files: path -> file. asked: the requests so far, `GET /path`."""

    url: str
    files: dict[str, Served] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of this machine, for the duration of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            if (file := self._answer()) is None:
                return
            half = len(file.content) // 2
            with contextlib.suppress(OSError):  # the client may be gone
                self.wfile.write(file.content[: half if file.cut is None else file.cut])
                self.wfile.flush()
                if file.cut is None:
                    file.on_half()
                    time.sleep(file.stall)
                    self.wfile.write(file.content[half:])

        def _answer(self) -> Served | None:
            server.asked.append(f"{self.command} {self.path}")
            file = server.files.get(self.path)
            self.send_response(200 if file else 404)
            if file:
                self.send_header("Content-Length", str(len(file.content)))
                # What the Hub says beside: the digest of a large file, and the commit of the branch.
                self.send_header("ETag", f'"{file.etag or hashlib.sha256(file.content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
            else:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            return file

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        http.block_on_close = False
        server = Server(f"http://127.0.0.1:{http.server_port}")
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server
        finally:
            http.shutdown()
