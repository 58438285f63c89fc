"""The names of the re-run rules, see `rerun.decide`; apart, for the command line's help, which loads no PyTorch."""

from __future__ import annotations

from typing import Literal

Rerun = Literal["never", "missing", "failed", "stale", "always"]
