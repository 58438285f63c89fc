"""What `verify` finds in a store."""

from __future__ import annotations

from benchmark.audit.verify import verify


def faults(store) -> dict[str, list[str]]:
    """Run -> messages of its faults."""
    found: dict[str, list[str]] = {}
    for finding in verify(store).findings:
        assert "\n" not in finding.message
        if finding.kind == "fault":
            found.setdefault(finding.run, []).append(finding.message)
    return found


def others(store, kind) -> list[str]:
    return [finding.message for finding in verify(store).findings if finding.kind == kind]
