"""The attempts of a run that did not end in a record: `attempts/001.json`, one file each.

An attempt has the keys attempt (its number), started, host, pid, job, checkpoint (time of the one that it began from),
outcome ("running", "failed" or "preempted") and, when it has ended, cause, message, saved (whether it wrote a
checkpoint), traceback, log_tail and ended.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from pathlib import Path
from typing import Any

from benchmark.base.atomic import write_atomically
from benchmark.base.files import MOST_TEXT, read_regular
from benchmark.errors import StoreError
from benchmark.store.listing import listed


class Attempts:
    """Those of one run. Each method raises StoreError where a file or the folder cannot be read, or is not whole."""

    def __init__(self, run: Path):
        self.path = run / "attempts"

    def last(self) -> dict[str, Any] | None:
        """What the last attempt left, None where there is none."""
        for path in reversed(self._files()):
            # One that is withdrawn meanwhile is none.
            with contextlib.suppress(FileNotFoundError):
                return _read(path)
        return None

    def next_number(self) -> int:
        """The number of the attempt that begins next, from 1."""
        files = self._files()
        return 1 + int(files[-1].stem) if files else 1

    def since(self, number: int) -> list[dict[str, Any]]:
        """What the attempts from that number left, in order."""
        return [_read(path) for path in self._files() if int(path.stem) >= number]

    def idle(self, since: int) -> list[dict[str, Any]]:
        """The last attempts in a row, of those from number `since`, that were cut off before they saved anything; the
        last one first."""
        idle = itertools.takewhile(
            lambda attempt: attempt["outcome"] == "preempted" and not attempt.get("saved", True),
            reversed(self.since(since)),
        )
        return list(idle)

    def write(self, number: int, facts: dict[str, Any]) -> None:
        """Note what is known of an attempt."""
        write_atomically(self._file(number), json.dumps(facts, indent=1).encode())

    def rewrite_last(self, facts: dict[str, Any]) -> None:
        """Note more of the last attempt, which there is."""
        write_atomically(self._files()[-1], json.dumps(facts, indent=1).encode())

    def remove(self, number: int) -> None:
        """Forget an attempt."""
        self._file(number).unlink(missing_ok=True)

    def _file(self, number: int) -> Path:
        return self.path / f"{number:03d}.json"

    def _files(self) -> list[Path]:
        names = [name for name in listed(self.path) if re.fullmatch(r"\d+\.json", name, re.ASCII)]
        return [self.path / name for name in sorted(names, key=lambda name: int(name.partition(".")[0]))]


def _read(path: Path) -> dict[str, Any]:
    try:
        attempt = json.loads(read_regular(path, MOST_TEXT))
        for key, kind in (("cause", str), ("message", str), ("saved", bool)):
            if not isinstance(attempt.get(key, kind()), kind):
                raise TypeError(f"{key} is {attempt[key]!r}")
        # An attempt that never wrote how it ended was killed: its checkpoint, if any, is where to go on.
        return attempt if attempt["outcome"] in ("running", "failed", "preempted") else {"outcome": "preempted"}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StoreError(f"{path}: not an attempt's file; remove it and run again") from None
