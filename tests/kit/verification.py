"""What `verify` finds in a store."""

from __future__ import annotations

from benchmark.audit.verify import verify
from benchmark.ui.progress import Reporter


def faults(store) -> dict[str, list[str]]:
    """Run -> messages of its faults."""
    found: dict[str, list[str]] = {}
    for finding in verify(store, Reporter()).findings:
        assert "\n" not in finding.message
        if finding.kind == "fault":
            found.setdefault(finding.run, []).append(finding.message)
    return found


def others(store, kind) -> list[str]:
    return [finding.message for finding in verify(store, Reporter()).findings if finding.kind == kind]
