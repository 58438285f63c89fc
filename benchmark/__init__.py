"""ltbench: benchmark suite and leaderboard for long-tailed multi-label image recognition.

import benchmark

record = benchmark.run("db-focal", "shapes-lt", seed=0)  # one run, or the record of an earlier one
print(record.metrics.overall, record.metrics.tail)

report = benchmark.sweep(["erm", "asl"], seeds="0-2", settings={"recipe.optimizer.lr": [1e-4, 3e-4]})
print(report.totals, [run.message for run in report.of_state("failed")])

for record in benchmark.load_records("results"):  # the published ones
    print(record.spec.method, record.run_id)
for finding in benchmark.verify("results").findings:  # computes every score again from the stored logits
    print(finding.kind, finding.message)

run: carries out one run and returns its record. sweep: many runs, on this machine or a cluster, with the axes of
`ltbench sweep`. plan: the plan that `run` would carry out. load_records, load_logits: stored runs. results: the records
as a pandas frame. verify: checks stored runs. METHODS, DATASETS, PROTOCOLS: registered objects by name. LtbenchError:
the base of all errors whose message explains them.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Imported at first use: PyTorch takes seconds to import, and much of the command line does without it.
_PUBLIC = {
    "run": "benchmark.running.run.run",
    "sweep": "benchmark.launch.launch.sweep",
    "plan": "benchmark.running.plan.make_plan",
    "load_records": "benchmark.store.runs.load_records",
    "load_logits": "benchmark.store.logits.load_logits",
    "results": "benchmark.leaderboard.frame.results",
    "verify": "benchmark.audit.verify.verify",
    "METHODS": "benchmark.method.METHODS",
    "DATASETS": "benchmark.data.dataset.DATASETS",
    "PROTOCOLS": "benchmark.spec.PROTOCOLS",
    "LtbenchError": "benchmark.errors.LtbenchError",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        module, _, attribute = _PUBLIC[name].rpartition(".")
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'benchmark' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
