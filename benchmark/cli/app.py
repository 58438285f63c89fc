"""The application that the commands belong to."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="ltbench",
    help="Train and compare methods of long-tailed multi-label image recognition.",
    no_args_is_help=True,
    add_completion=False,
    # Plain help: rich's renderer alone would take longer than everything else.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback()
def common(
    methods_dir: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", envvar="LTBENCH_METHODS", help="A folder of method files; may be given repeatedly."
        ),
    ] = None,
) -> None:
    # By the variable, so that the processes that this one starts find the same methods.
    if methods_dir:
        os.environ["LTBENCH_METHODS"] = os.pathsep.join(str(folder.absolute()) for folder in methods_dir)


def show_examples() -> None:
    """Have `ltbench --help` end with the examples of every command; called when all commands are there."""
    lines = []
    for command in app.registered_commands:
        found = re.search(r"^Examples?:\n(.*?)(?:\n\n|\n?\Z)", command.help or "", re.S | re.M)
        lines += found[1].split("\n") if found else []
    app.info.epilog = "\b\n" + "\n".join(["Examples:", *lines])
