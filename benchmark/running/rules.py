"""The re-run rules by name, on their own: the help of the command line lists them; see `rerun.decide`."""

from __future__ import annotations

from typing import Literal

Rerun = Literal["never", "missing", "failed", "stale", "always"]
