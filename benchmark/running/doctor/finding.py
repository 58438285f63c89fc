"""What a check of the doctor finds, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# bad: runs cannot start, or would be wrong. warn: some runs cannot start here, or are slower than they need be.
Verdict = Literal["ok", "warn", "bad"]


@dataclass(frozen=True)
class Finding:
    """One line of the report. check: what was looked at. remedy: what to do, "" where nothing is needed."""

    check: str
    verdict: Verdict
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Place:
    """The folders that the user's commands would use: of results, and of images (None: LTBENCH_DATA)."""

    results: Path
    data_root: Path | None
