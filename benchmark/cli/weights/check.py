"""Check the weights that are here.

Each is read: its digest is the published one, and it fits its network. A damaged one is named, and the command ends
with 1.

\b
Examples:
  ltbench weights check
  ltbench weights check --protocol controlled
"""

from __future__ import annotations

import typer

from benchmark.cli.output import print_error, stderr_reporter
from benchmark.cli.weights.options import NamesArgument, NeedingOption, chosen
from benchmark.errors import InputError
from benchmark.ui.text import harmless


def check(names: NamesArgument = None, protocol: NeedingOption = None) -> None:
    weights = chosen(names, protocol)
    damaged = absent = 0
    with stderr_reporter().task("checking weights", len(weights)) as task:
        for done, found in enumerate(weights, 1):
            if found.file is None:
                verdict = "random, nothing to check"
            elif not found.is_here():
                absent += 1
                verdict = "not here"
            else:
                try:
                    found.load()
                    verdict = "whole" if found.file.sha256 else "fits; no digest is known here"
                except InputError as error:
                    damaged += 1
                    verdict = "damaged"
                    print_error(f"error: {error}")
            print(harmless(f"{found.name}: {verdict}"), flush=True)
            task.update(done)
    print(f"{len(weights) - damaged - absent} usable, {damaged} damaged, {absent} not here")
    if damaged:
        raise typer.Exit(1)
