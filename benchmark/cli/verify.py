"""Check that the runs of a results folder hold: digests, scores computed again from the stored logits, test
labels, and the data that runs share.

\b
Examples:
  ltbench verify --results results
  ltbench verify --results results/local --json
"""

from __future__ import annotations

import json

from benchmark.cli.options import AllStoresOption, JsonOption
from benchmark.cli.output import stderr_reporter
from benchmark.cli.stores import stores_of
from benchmark.errors import StoreError


def verify(results: AllStoresOption = None, as_json: JsonOption = False) -> None:
    from benchmark.audit.verify import verify as check_all
    from benchmark.ui.text import plain

    stores = stores_of(results)[::-1]
    checked = {store: check_all(store, stderr_reporter()) for store in stores}
    if as_json:
        facts = {
            "records": sum(found.records for found in checked.values()),
            "scored": sum(found.scored for found in checked.values()),
            "findings": [vars(finding) for found in checked.values() for finding in found.findings],
        }
        print(json.dumps(facts, indent=1))
    else:
        for store, found in checked.items():
            for finding in found.findings:
                print(plain(f"{finding.kind}: {finding.message}"))
            where = f"{store}: " if len(stores) > 1 else ""
            print(f"{where}{found.summary}" if found.records else f"no records in {store}")
    failures = [
        f"{store}: {found.faulty_runs} of {found.records} runs do not hold (above)"
        for store, found in checked.items()
        if found.faulty_runs
    ]
    if failures:
        raise StoreError("; ".join(failures))
