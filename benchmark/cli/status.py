"""Show the state of the runs of a results folder, and of their jobs in SLURM's queue.

\b
Examples:
  ltbench status
  ltbench status --watch --results results
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from benchmark.cli.options import JsonOption, ResultsOption
from benchmark.cli.output import console, print_error, print_table
from benchmark.errors import InputError
from benchmark.store import LOCAL

# More finished runs than this are only counted, without --all.
FEW = 40


def status(
    results: ResultsOption = LOCAL,
    show_all: Annotated[
        bool, typer.Option("--all", help=f"List finished runs too where there are over {FEW}.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing them until none is running or queued.")] = False,
    as_json: JsonOption = False,
) -> None:
    from benchmark.launch import status as board

    # The default folder is created by the first run; another missing folder is misspelt.
    if results != LOCAL and not results.is_dir():
        raise InputError(f"{results}: no such results folder; name one with --results")
    if watch:
        board.watch(results, console(), show_all)
        return
    rows, unknown = board.rows(results)
    if unknown:
        print_error(unknown)
    if as_json:
        print(json.dumps([vars(row) for row in rows], indent=1))
        return
    shown = rows if show_all or len(rows) <= FEW else [row for row in rows if row.state != "done"]
    print_table(board.HEADER, board.cells(shown))
    hidden = " (done ones not listed: --all)" if len(shown) < len(rows) else ""
    print(f"{board.summary(rows)} in {results}{hidden}")
