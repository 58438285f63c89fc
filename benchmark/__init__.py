"""ltbench: benchmark suite and leaderboard for long-tailed multi-label image recognition.

import benchmark

record = benchmark.run("db-focal", "shapes-lt", seed=0, results="results/local")
print(record.metrics.overall, record.metrics.tail)
for record in benchmark.load_records("results"):
    ...
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Looked up when first used: PyTorch takes seconds to import and much of the command line does without it.
_PUBLIC = {
    "run": "benchmark.running.run.run",
    "plan": "benchmark.running.plan.make_plan",
    "load_records": "benchmark.store.runs.load_records",
    "load_logits": "benchmark.store.logits.load_logits",
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
