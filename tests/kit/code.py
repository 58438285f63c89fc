"""What a process has read of the code."""

from __future__ import annotations

from benchmark.audit import code_digest


def forget_code() -> None:
    """Have the digest of a run's code read all modules anew, as a new process does."""
    for remembered in (code_digest.digest_of, code_digest._file, code_digest._Module.of):
        remembered.cache_clear()
