"""`benchmark.run`: a run from its names to its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.running.execute import execute
from benchmark.running.plan import make_plan
from benchmark.running.rerun import decide
from benchmark.running.rules import Rerun
from benchmark.store import LOCAL
from benchmark.store.records import Record
from benchmark.store.runs import Store
from benchmark.ui.progress import Reporter


def run(
    method: str,
    dataset: str = "shapes-lt",
    *,
    results: Path | str = LOCAL,
    rerun: Rerun = "missing",
    device: str = "auto",
    reporter: Reporter | None = None,
    **specification: Any,
) -> Record:
    """Run one method once, or return the record of the run if it was done before.

    The other arguments are those of `make_plans`. Raises InputError (nothing was started), StoreError, RunFailed (the
    attempt and its cause are kept) or RunInterrupted (call again to resume).
    """
    plan = make_plan(method, dataset, **specification)
    folder = Store(results).folder(plan.spec)
    record = execute(plan, decide(plan, folder, rerun), folder, device, reporter)
    assert record is not None  # only one of several processes gets none
    return record
