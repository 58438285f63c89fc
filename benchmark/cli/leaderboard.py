"""Make the leaderboard from the records of a results folder.

\b
Examples:
  ltbench leaderboard
  ltbench leaderboard --check
  ltbench leaderboard --results results/local --out board
  ltbench leaderboard --results results --format latex --format csv --out paper
"""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.options import AllStoresOption
from benchmark.cli.output import print_error, show_problems, stderr_reporter
from benchmark.cli.stores import stores_of
from benchmark.errors import InputError, StoreError
from benchmark.leaderboard.formats import file_name, format_names
from benchmark.store import LOCAL, PUBLISHED

Format = StrEnum("Format", {name: name for name in format_names()})  # type: ignore[misc]  # names of modules


def leaderboard(
    results: AllStoresOption = None,
    out: Annotated[Path | None, typer.Option(help="Where to write.  [default: the results folder]")] = None,
    formats: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            metavar="|".join(Format),
            help="What to write or check; may be repeated.  [default: md, html, and those whose files are there]",
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a file differs.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Leave text in CSV as it is, even where a spreadsheet takes it for a formula.")
    ] = False,
) -> None:
    from benchmark.leaderboard.board import load_board
    from benchmark.leaderboard.files import check as differences_of
    from benchmark.leaderboard.files import default_formats, sole_writer, write
    from benchmark.ui.progress import plural

    reporter = stderr_reporter()
    given = list(dict.fromkeys(format.value for format in formats or ()))
    stores = stores_of(results)
    if out is not None and len(stores) > 1:
        raise InputError(f"--out takes one results folder: add --results {PUBLISHED} or --results {LOCAL}")
    failures = []
    for store in reversed(stores):
        target = out or store
        chosen = given or default_formats(target)
        problems: list[StoreError] = []
        with sole_writer(store, reporter):
            board = load_board(store, target, problems, reporter)
            show_problems(problems)
            if check:
                differences = differences_of(board, target, chosen, raw=raw)
            else:
                differences = []
                write(board, target, chosen, reporter, raw=raw)
        for difference in differences:
            print_error(f"{target}: {difference}")
        if differences:
            options = ["--results", str(store), *(["--out", str(out)] if out else [])]
            options += [text for name in given for text in ("--format", name)] + ["--raw"] * raw
            failures.append(
                f"{target}: {plural(len(differences), 'difference')} from what the records of {store} give (above); "
                f"write it anew with ltbench leaderboard {shlex.join(options)}"
            )
        elif check and problems:
            failures.append(f"{store}: {plural(len(problems), 'record')} left out (above); see ltbench verify")
        else:
            for name in chosen:
                print(f"{target / file_name(name)}{': up to date' if check else ''}")
    if failures:
        raise StoreError("; ".join(failures))
