"""Print the log of a run.

\b
Examples:
  ltbench logs 1a2b3c4d
  ltbench logs erm-s0-1a2b3c4d5e6f -f
"""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.cli.options import ResultsOption, RunArgument
from benchmark.store import LOCAL
from benchmark.ui.text import harmless


def logs(
    run: RunArgument,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run ends.")] = False,
    results: ResultsOption = LOCAL,
) -> None:
    from benchmark.launch.logs import follow_log, log_of

    path, folder = log_of(run, results)
    for text in follow_log(path, folder, results, follow):
        print(harmless(text), end="", flush=True)
