"""ltbench: benchmark suite and leaderboard for long-tailed multi-label image recognition.

import benchmark

record = benchmark.run("db-focal", "shapes-lt", seed=0)  # one run, or what was done before
print(record.metrics.overall, record.metrics.tail)

report = benchmark.sweep(["erm", "asl"], seeds="0-2", settings={"recipe.optimizer.lr": [1e-4, 3e-4]})
print(report.totals, [run.message for run in report.of_state("failed")])

for record in benchmark.load_records("results"):  # the published ones
    print(record.spec.method, record.run_id)
for finding in benchmark.verify("results").findings:  # every score made again from the stored logits
    print(finding.kind, finding.message)

run: one run, to its record. sweep: many, on this machine or a cluster; the axes are those of `ltbench sweep`. plan:
what `run` would carry out. load_records, load_logits: what is stored. results: the same as a pandas frame. verify:
whether it holds. METHODS, DATASETS, PROTOCOLS: what is registered by name. LtbenchError: the base of every error that
is explained by its message.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Looked up when first used: PyTorch takes seconds to import and much of the command line does without it.
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
