"""Cancel a sweep: waiting jobs leave SLURM's queue, and running ones save themselves.

\b
Example:
  ltbench cancel 20260131-120000-1a2b
"""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.cli.options import ResultsOption
from benchmark.store import LOCAL


def cancel(
    sweep: Annotated[str, typer.Argument(help="Name of the sweep, or the beginning of it.")],
    results: ResultsOption = LOCAL,
) -> None:
    from benchmark.launch.backend import BACKENDS
    from benchmark.launch.sweeps import Sweeps

    found = Sweeps(results).find(sweep)
    print(BACKENDS.get(found.cluster).stop(found))
