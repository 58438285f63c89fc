"""The attempts of a run that did not end in a record: `attempts/001.json`, one file each.

An attempt has the keys attempt (its number), started, host, pid, job, checkpoint (time of the checkpoint that it began
from), outcome ("running", "failed" or "preempted") and, when it has ended, cause, message, saved (whether it wrote a
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
    """The attempts of one run. Each method raises StoreError where a file or the folder is unreadable or damaged."""

    def __init__(self, run: Path):
        self.path = run / "attempts"

    def last(self) -> dict[str, Any] | None:
        """The file of the last attempt; None where there is none."""
        for path in reversed(self._files()):
            # Another process may withdraw an attempt meanwhile.
            with contextlib.suppress(FileNotFoundError):
                return _read(path)
        return None

    def next_number(self) -> int:
        """The number of the next attempt, from 1."""
        files = self._files()
        return 1 + int(files[-1].stem) if files else 1

    def since(self, number: int) -> list[dict[str, Any]]:
        """The files of the attempts from a number on, in order."""
        return [_read(path) for path in self._files() if int(path.stem) >= number]

    def idle(self, since: int) -> list[dict[str, Any]]:
        """The consecutive last attempts, from number `since` on, that were cut off before they wrote a checkpoint.

        The last one comes first.
        """
        idle = itertools.takewhile(
            lambda attempt: attempt["outcome"] == "preempted" and not attempt.get("saved", True),
            reversed(self.since(since)),
        )
        return list(idle)

    def write(self, number: int, facts: dict[str, Any]) -> None:
        """Write the file of an attempt."""
        write_atomically(self._file(number), json.dumps(facts, indent=1).encode())

    def rewrite_last(self, facts: dict[str, Any]) -> None:
        """Replace the file of the last attempt, which must exist."""
        write_atomically(self._files()[-1], json.dumps(facts, indent=1).encode())

    def remove(self, number: int) -> None:
        """Remove the file of an attempt, if there is one."""
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
        # Any other outcome: the attempt was killed while it wrote, and goes on from its checkpoint, if any.
        return attempt if attempt["outcome"] in ("running", "failed", "preempted") else {"outcome": "preempted"}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StoreError(f"{path}: not an attempt's file; remove it and run again") from None
