"""The application: a group whose commands are modules of this package, imported when they are called."""

from __future__ import annotations

import ast
import functools
import importlib
import keyword
import os
import re
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

# In the order of the help. A command's module and function have its name, and the module's docstring is its help.
COMMANDS = (
    "run",
    "sweep",
    "status",
    "cancel",
    "logs",
    "show",
    "leaderboard",
    "compare",
    "verify",
    "export",
    "import",
    "methods",
    "datasets",
    "protocols",
    "data",
)
# Plain help: rich's renderer alone would take longer than everything else.
_STYLE: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}


def _module_of(command: str) -> str:
    return f"{command}_" if keyword.iskeyword(command) else command


@functools.cache
def _help_of(command: str) -> str:
    """The docstring of a command's module: the first token of the file, which is read without importing it."""
    with Path(__file__).with_name(f"{_module_of(command)}.py").open(encoding="utf-8") as source:
        return ast.literal_eval(next(tokenize.generate_tokens(source.readline)).string)


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        module = importlib.import_module(f"benchmark.cli.{_module_of(name)}")
        alone = typer.Typer(**_STYLE)
        alone.command(name, help=_help_of(name))(getattr(module, _module_of(name)))
        return typer.main.get_command(alone)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Group(TyperGroup):
    """Lists its commands, and their examples, without importing them."""

    def __init__(self, **attributes: Any):
        super().__init__(**attributes)
        self.commands = _Commands()  # type: ignore[assignment]  # a group only reads them

    def list_commands(self, context: Any) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, context: Any, formatter: Any) -> None:
        listed: dict[str, Any] = {name: TyperCommand(name, help=_help_of(name)) for name in COMMANDS}
        TyperGroup(name=self.name, commands=listed).format_commands(context, formatter)

    def format_epilog(self, context: Any, formatter: Any) -> None:
        lines = ["Examples:"]
        for name in COMMANDS:
            found = re.search(r"^Examples?:\n(.*?)(?:\n\n|\n?\Z)", _help_of(name), re.S | re.M)
            lines += found[1].split("\n") if found else []
        self.epilog = "\b\n" + "\n".join(lines)
        super().format_epilog(context, formatter)


app = typer.Typer(
    name="ltbench",
    cls=_Group,
    help="Train and compare methods of long-tailed multi-label image recognition.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    **_STYLE,
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
    """Options before the command."""
    # As a variable, so that worker processes find the same methods.
    if methods_dir:
        os.environ["LTBENCH_METHODS"] = os.pathsep.join(str(folder.absolute()) for folder in methods_dir)
