"""Downloads of archives that go on after an interruption.

requests transfers; resuming is here, because no library of downloads keeps a part whose server may have changed its
file. The part is `<archive>.part`, and `<archive>.origin.json` says where it comes from. The latter stays beside a
finished archive: it tells that prepare fetched it, and so may remove it.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

import requests
from pydantic import ValidationError
from urllib3.exceptions import MaxRetryError

from benchmark.base.atomic import write_atomically
from benchmark.base.files import MOST_TEXT, open_regular, read_regular
from benchmark.data.archives import Archive
from benchmark.errors import InputError
from benchmark.spec import Strict
from benchmark.ui.progress import Reporter, Task
from benchmark.ui.text import in_bytes

# A cut connection loses less than this, and it is large enough to cost nothing.
CHUNK = 64 * 1024
BY_HAND = "or get it elsewhere and name its folder by --source DIR"


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, in seconds; pause_s doubles after each of the attempts in a row that bring
    nothing."""

    connect_s: float = 10.0
    stall_s: float = 30.0
    attempts: int = 5
    pause_s: float = 1.0

    @property
    def timeouts(self) -> tuple[float, float]:
        """As requests takes them."""
        return self.connect_s, self.stall_s


class Interrupted(Exception):
    """A transfer ended early; trying again may bring the rest."""


class NotServed(Exception):
    """An address does not give the archive; another one may."""


def refusal(answer: requests.Response) -> Interrupted | NotServed:
    """What an answer without content means."""
    words = f"the server answers {answer.status_code} {answer.reason}"
    return Interrupted(words) if answer.status_code == 429 or answer.status_code >= 500 else NotServed(words)


def failure(error: requests.RequestException, patience: Patience, done: str) -> Interrupted | NotServed:
    """What an error of a transfer means; done: how far it had come."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return refusal(error.response)
    if isinstance(error, requests.ConnectTimeout):
        return NotServed(f"no connection in {patience.connect_s:g} s")
    if error.args and isinstance(error.args[0], MaxRetryError):
        # Never connected: no such host, refused, a certificate that does not fit. To wait would not help.
        return NotServed(f"no connection ({type(error.args[0].reason).__name__})")
    if isinstance(error, requests.ReadTimeout) or "timed out" in str(error):
        return Interrupted(f"nothing came for {patience.stall_s:g} s, {done}")
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return Interrupted(f"the connection was cut {done}")
    return NotServed(f"{type(error).__name__}: {error}")


class Origin(Strict):
    """Which version of a file a part belongs to, as the server told: "" where it did not."""

    url: str
    etag: str
    modified: str

    @classmethod
    def of(cls, url: str, answer: requests.Response) -> Origin:
        """The origin of what a server sends."""
        return cls(url=url, etag=answer.headers.get("ETag", ""), modified=answer.headers.get("Last-Modified", ""))

    @classmethod
    def read(cls, file: Path) -> Origin | None:
        """The stored one; None where there is none."""
        try:
            return cls.model_validate_json(read_regular(file, MOST_TEXT))
        except (OSError, ValidationError):
            return None

    def continues(self, other: Origin) -> bool:
        """Whether the rest of another origin's file may be taken from this one.

        The file at another address is the same where its size is right: the checksum decides in the end.
        """
        return self.url != other.url or (self.etag, self.modified) == (other.etag, other.modified)


def origin_file(archive: Path) -> Path:
    """The file that says where prepare fetched an archive."""
    return archive.with_name(f"{archive.name}.origin.json")


def part_file(archive: Path) -> Path:
    """The beginning of an archive, as long as it is not complete."""
    return archive.with_name(f"{archive.name}.part")


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def check_archive(path: Path, archive: Archive, reporter: Reporter) -> None:
    """Raise InputError where a file is not the official archive."""
    size = size_of(path)
    if size != archive.size:
        kind = "cut short" if size < archive.size else "another file"
        raise InputError(
            f"{path}: {kind}: it has {size:,} bytes, and the official {archive.file_name} {archive.size:,}; replace "
            "it, or take it away and it is fetched"
        )
    found = _sha256(path, reporter)
    if found != archive.sha256:
        raise InputError(
            f"{path}: not the official {archive.file_name}, or damaged: its sha256 is {found}, not {archive.sha256}; "
            "replace it, or take it away and it is fetched"
        )


def _sha256(path: Path, reporter: Reporter) -> str:
    digest, done = hashlib.sha256(), 0
    with open_regular(path) as file, reporter.task(f"checking {path.name}", size_of(path), of_bytes=True) as task:
        while chunk := file.read(2**20):
            digest.update(chunk)
            done += len(chunk)
            task.update(done)
    return digest.hexdigest()


def fetch(archive: Archive, target: Path, reporter: Reporter, patience: Patience) -> None:
    """Download an archive to `target`, from the first of its addresses that gives it, and check it.

    A part that is there is continued, and kept when this is interrupted. Raises InputError, naming every address and
    what it answered, or where the checksum is wrong: then the file is removed.
    """
    part = part_file(target)
    with reporter.task(f"fetching {archive.file_name}", archive.size, of_bytes=True) as task:
        url = _from_one_of(archive, target, reporter, task, patience)
    if (found := _sha256(part, reporter)) != archive.sha256:
        part.unlink()
        origin_file(target).unlink(missing_ok=True)
        raise InputError(
            f"{url}: what came is not the official {archive.file_name}: its sha256 is {found}, not {archive.sha256}; "
            f"it was removed; repeat the command, {BY_HAND}"
        )
    part.rename(target)


def _from_one_of(archive: Archive, target: Path, reporter: Reporter, task: Task, patience: Patience) -> str:
    """Complete the part; returns the address that gave its end."""
    problems = []
    for url in archive.urls:
        reporter.line(f"{archive.file_name}: {in_bytes(archive.size)} from {url}")
        try:
            _Download(archive, url, target, task, patience).run(reporter)
            return url
        except NotServed as problem:
            problems.append(f"{url}: {problem}")
    raise InputError(
        f"{archive.file_name} could not be fetched ({'; '.join(problems)}); what came is kept: repeat the command, "
        f"{BY_HAND}"
    )


class _Download:
    """The transfer of an archive from one address."""

    def __init__(self, archive: Archive, url: str, target: Path, task: Task, patience: Patience):
        self._archive, self._url, self._task, self._patience = archive, url, task, patience
        self._part, self._origin = part_file(target), origin_file(target)

    def run(self, reporter: Reporter) -> None:
        """Complete the part. Raises NotServed, with the reason."""
        failures = 0
        while size_of(self._part) != self._archive.size:
            before = size_of(self._part)
            try:
                with requests.Session() as session:
                    self._go_on(session)
            except Interrupted as problem:
                failures = 1 if size_of(self._part) > before else failures + 1
                if failures == self._patience.attempts:
                    raise NotServed(f"{problem}, {failures} times in a row") from None
                pause = self._patience.pause_s * 2 ** (failures - 1)
                reporter.line(f"{self._url}: {problem}; trying again in {pause:.0f} s")
                time.sleep(pause)

    def _go_on(self, session: requests.Session) -> None:
        known, have = Origin.read(self._origin), size_of(self._part)
        if known is None or have > self._archive.size:
            have = 0
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            with session.get(self._url, headers=headers, stream=True, timeout=self._patience.timeouts) as answer:
                origin = Origin.of(self._url, answer)
                start = self._start(answer)
                if start and (start != have or known is None or not origin.continues(known)):
                    self._part.unlink()
                    raise Interrupted("the file there has changed, so it is fetched from its beginning")
                write_atomically(self._origin, origin.model_dump_json().encode())
                self._take(answer, start)
        except requests.RequestException as error:
            done = f"after {in_bytes(size_of(self._part))} of {in_bytes(self._archive.size)}"
            raise failure(error, self._patience, done) from None

    def _start(self, answer: requests.Response) -> int:
        """The byte of the archive that an answer begins with. Raises Interrupted or NotServed."""
        if answer.status_code == 416:
            self._part.unlink(missing_ok=True)
            raise Interrupted("the file there is shorter than what came, so it is fetched from its beginning")
        if answer.status_code == 206:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            if match is None:
                raise NotServed("the server sends a part and does not say which")
            start, total = int(match[1]), int(match[2])
        elif answer.status_code == 200:
            start, total = 0, int(answer.headers.get("Content-Length", self._archive.size))
        else:
            raise refusal(answer)
        if total != self._archive.size:
            raise NotServed(f"another file of {total:,} bytes, where the official one has {self._archive.size:,}")
        return start

    def _take(self, answer: requests.Response, start: int) -> None:
        done = start
        with self._part.open("ab" if start else "wb", buffering=0) as part:
            for chunk in answer.iter_content(CHUNK):
                part.write(chunk)
                done += len(chunk)
                self._task.update(min(done, self._archive.size))
                if done > self._archive.size:
                    raise NotServed(f"more than the {self._archive.size:,} bytes of the official file came")
        if done < self._archive.size:
            raise Interrupted(f"the connection ended after {in_bytes(done)} of {in_bytes(self._archive.size)}")
