"""The application that the commands belong to."""

from __future__ import annotations

import re

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


def show_examples() -> None:
    """Have `ltbench --help` end with the examples of every command; called when all commands are there."""
    lines = []
    for command in app.registered_commands:
        found = re.search(r"^Examples?:\n(.*?)(?:\n\n|\n?\Z)", command.help or "", re.S | re.M)
        lines += found[1].split("\n") if found else []
    app.info.epilog = "\b\n" + "\n".join(["Examples:", *lines])
