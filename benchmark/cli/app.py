"""The application: a group whose commands are modules of this package, imported when they are called."""

from __future__ import annotations

import ast
import builtins
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

_HERE = Path(__file__).parent
# In the order of the help; see `_Commands`.
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
    "protocols",
    "data",
    "weights",
    "doctor",
)
# Plain help: rich's renderer alone would take longer than everything else.
_STYLE: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}


def _module_of(command: str) -> str:
    return f"{command}_" if keyword.iskeyword(command) or hasattr(builtins, command) else command


def _place_of(package: str, command: str) -> Path:
    """The package of a group, or the module of a command."""
    path = _HERE.joinpath(*package.split(".")[2:], _module_of(command))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def _help_of(package: str, command: str) -> str:
    """The docstring of a command's module: the first token of the file, which is read without importing it."""
    with _place_of(package, command).open(encoding="utf-8") as source:
        return ast.literal_eval(next(tokenize.generate_tokens(source.readline)).string)


class _Commands(Mapping[str, Any]):
    """The commands of a package by name, each imported when it is looked up.

    A command's module and function have its name, and the module's docstring is its help. A package with a tuple
    COMMANDS is a group of commands.
    """

    def __init__(self, package: str, names: tuple[str, ...]):
        self.package = package
        self.names = names

    def __getitem__(self, name: str) -> Any:
        if name not in self.names:
            raise KeyError(name)
        module = importlib.import_module(f"{self.package}.{_module_of(name)}")
        about = _help_of(self.package, name)
        if not hasattr(module, "COMMANDS"):
            alone = typer.Typer(**_STYLE)
            alone.command(name, help=about)(getattr(module, _module_of(name)))
            return typer.main.get_command(alone)
        group = typer.main.get_group(typer.Typer(name=name, cls=_Group, help=about, no_args_is_help=True, **_STYLE))
        group.commands = _Commands(module.__name__, module.COMMANDS)  # type: ignore[assignment]
        return group

    def examples(self) -> list[str]:
        """The lines of examples in the help of the commands, those of groups included."""
        lines: list[str] = []
        for name in self.names:
            found = re.search(r"^Examples?:\n(.*?)(?:\n\n|\n?\Z)", _help_of(self.package, name), re.S | re.M)
            lines += found[1].split("\n") if found else []
            if _place_of(self.package, name).name == "__init__.py":
                group = importlib.import_module(f"{self.package}.{_module_of(name)}")
                lines += _Commands(group.__name__, group.COMMANDS).examples()
        return lines

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _of_today(args: list[str]) -> list[str]:
    """The command line as it is written now: scripts may have `datasets` and `data --dataset NAME`."""
    if args[:1] == ["datasets"]:
        return ["data", "list", *args[1:]]
    if args[:1] != ["data"] or not args[1:] or not args[1].startswith("-"):
        return args
    named = [arg.removeprefix("--dataset=") for arg in args[1:] if arg != "--dataset"]
    return ["data", "prepare", *named] if named != args[1:] else args


class _Group(TyperGroup):
    """Lists its commands, and their examples, without importing them."""

    def __init__(self, **attributes: Any):
        super().__init__(**attributes)
        self.commands = _Commands(__package__, COMMANDS)  # type: ignore[assignment]  # a group only reads them

    def resolve_command(self, context: Any, args: list[str]) -> Any:
        return super().resolve_command(context, args if context.parent else _of_today(args))

    def list_commands(self, context: Any) -> list[str]:
        return list(self.commands)

    def format_commands(self, context: Any, formatter: Any) -> None:
        assert isinstance(self.commands, _Commands)
        listed: dict[str, Any] = {
            name: TyperCommand(name, help=_help_of(self.commands.package, name)) for name in self.commands
        }
        TyperGroup(name=self.name, commands=listed).format_commands(context, formatter)

    def format_epilog(self, context: Any, formatter: Any) -> None:
        assert isinstance(self.commands, _Commands)
        self.epilog = "\b\n" + "\n".join(["Examples:", *self.commands.examples()])
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
