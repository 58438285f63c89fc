"""The application that the commands belong to."""

from __future__ import annotations

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
