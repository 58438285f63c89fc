"""Single members of a zip file on a server, which is not fetched as a whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from remotezip import RangeNotSupported, RemoteIOError, RemoteZip
from urllib3.exceptions import HTTPError

from benchmark.data.archives import Archive
from benchmark.data.preparing.fetching import BY_HAND, NotServed, Patience, failure
from benchmark.data.preparing.members import DAMAGE, Member, PackedZip, make_folders, missing, write_member
from benchmark.errors import InputError
from benchmark.ui.progress import Reporter
from benchmark.ui.text import in_bytes

# One request a member: several at a time, since each is waited for longer than it takes.
CONNECTIONS = 4
_CUT = (RemoteIOError, HTTPError, requests.RequestException, *DAMAGE)


class RemoteMembers:
    """The members of an archive on a server, of which `wanted` (of a path) are fetched below the folder `into`.

    Those that are there with the right size and CRC are not fetched again. The whole archive's checksum cannot be
    computed; the CRC-32 of every member is checked. Use as a context manager.
    """

    def __init__(
        self, archive: Archive, into: Path, wanted: Callable[[str], bool], reporter: Reporter, patience: Patience
    ):
        self._archive, self._into, self._reporter, self._patience = archive, into, reporter, patience
        self._connections = threading.local()
        self._opened: list[RemoteZip] = []
        self._url, packed = self._first_that_serves()
        self._members = missing((member for member in packed.members if wanted(member.path)), into)

    def __enter__(self) -> RemoteMembers:
        return self

    def __exit__(self, *_: object) -> None:
        for archive in self._opened:
            archive.close()

    @property
    def num_bytes(self) -> int:
        """Of what is to be fetched."""
        return sum(member.size for member in self._members)

    def fetch(self) -> None:
        """Fetch all. Raises InputError where the server does not give one; what was fetched stays."""
        make_folders(self._members, self._into)
        done, counting = 0, threading.Lock()
        title = f"fetching {len(self._members):,} files of {self._archive.file_name}"
        with self._reporter.task(title, self.num_bytes, of_bytes=True) as task:

            def advance(count: int) -> None:
                nonlocal done
                with counting:
                    done += count
                    task.update(done)

            with ThreadPoolExecutor(CONNECTIONS) as pool:
                waiting = [pool.submit(self._fetch, member, advance) for member in self._members]
                try:
                    for future in waiting:
                        future.result()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise

    def _first_that_serves(self) -> tuple[str, PackedZip]:
        problems = []
        for url in self._archive.urls:
            try:
                return url, PackedZip(url, self._connected(url))
            except NotServed as problem:
                problems.append(f"{url}: {problem}")
        raise InputError(
            f"single files of {self._archive.file_name} could not be fetched ({'; '.join(problems)}); repeat the "
            f"command, {BY_HAND}"
        )

    def _connected(self, url: str) -> RemoteZip:
        """A connection to the archive with its directory read. Raises NotServed."""
        problem = ""
        for attempt in range(self._patience.attempts):
            if attempt:
                time.sleep(self._patience.pause_s * 2 ** (attempt - 1))
            try:
                archive = RemoteZip(url, session=requests.Session(), timeout=self._patience.timeouts)
            except RangeNotSupported:
                size = in_bytes(self._archive.size)
                raise NotServed(
                    f"the server sends whole files alone: leave --only-needed out to fetch all of it ({size})"
                ) from None
            except _CUT as error:
                meant = self._meaning(error)
                if isinstance(meant, NotServed):
                    raise meant from None
                problem = str(meant)
                continue
            if archive.size() != self._archive.size:
                archive.close()
                raise NotServed(
                    f"another file of {archive.size():,} bytes, where the official one has {self._archive.size:,}"
                )
            self._opened.append(archive)
            return archive
        raise NotServed(problem)

    def _meaning(self, error: Exception) -> Exception:
        # remotezip raises its own error while it handles that of requests.
        cause = error if isinstance(error, requests.RequestException) else error.__context__
        return failure(cause, self._patience, "") if isinstance(cause, requests.RequestException) else error

    def _fetch(self, member: Member, advance: Callable[[int], None]) -> None:
        """Fetch one member, in a thread of the pool."""
        for attempt in range(self._patience.attempts):
            taken = 0

            def count(size: int) -> None:
                nonlocal taken
                taken += size
                advance(size)

            try:
                if not hasattr(self._connections, "archive"):
                    self._connections.archive = self._connected(self._url)
                with self._connections.archive.open(member.entry) as content:
                    write_member(content, member, self._into, count)
                return
            except (NotServed, *_CUT) as error:
                advance(-taken)
                self._connections.__dict__.pop("archive", None)
                problem = str(error)
                time.sleep(self._patience.pause_s * 2**attempt)
        raise InputError(
            f"{self._url}: {member.path} could not be fetched ({problem}); what came is kept: repeat the command"
        )
