"""What this machine offers to runs, and what it lacks: each module of `checks` looks at one thing.

To add a check, add a module with

PLACE           a number: checks are reported in the order of these numbers
check(place)    yields findings; it changes nothing that lasts, and may fail
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, cast

from benchmark.base.modules import import_package
from benchmark.running.doctor import checks
from benchmark.running.doctor.finding import Finding, Place

__all__ = ["Check", "Finding", "Place", "all_checks", "examine"]


class Check(Protocol):
    """The interface of such a module."""

    __name__: str
    PLACE: float

    def check(self, place: Place) -> Iterator[Finding]: ...


def all_checks() -> list[Check]:
    """The checks, in the order of the report."""
    return sorted(cast(list[Check], import_package(checks.__name__)), key=lambda module: module.PLACE)


def examine(check: Check, place: Place) -> list[Finding]:
    """The findings of one check. A check that fails is a finding too, so that the others are made nevertheless."""
    try:
        return list(check.check(place))
    except Exception as error:
        name = check.__name__.rpartition(".")[2]
        text = f"the check itself failed: {type(error).__name__}: {' '.join(str(error).split())}"
        return [Finding(name, "warn", text, "report this as a fault of ltbench")]
