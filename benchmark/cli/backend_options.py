"""The options of `ltbench sweep` that belong to backends, made from their declarations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any, get_origin

import typer
from annotated_types import Ge

from benchmark.cli.options import parse_settings
from benchmark.launch.backend import BACKENDS, DEFAULT_BACKEND, backend_names, options_of_backends

Cluster = StrEnum("Cluster", {name: name for name in backend_names()})  # type: ignore[misc]  # names of a registry
ClusterOption = Annotated[
    Cluster, typer.Option(help="; ".join(f"{name}: {BACKENDS.get(name).about}" for name in Cluster) + ".")
]
DEFAULT_CLUSTER = Cluster(DEFAULT_BACKEND)


def takes_backend_options(after: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: the keywords `**options` of a command become the options of all backends.

    after: the option after which the help lists them.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        at = [parameter.name for parameter in parameters].index(after) + 1
        parameters[at:at] = [_parameter(name, *declared) for name, declared in options_of_backends().items()]
        vars(command)["__signature__"] = signature.replace(parameters=parameters)
        return command

    return decorate


def _parameter(name: str, info: Any, backends: list[str]) -> inspect.Parameter:
    least: Any = next((constraint.ge for constraint in info.metadata if isinstance(constraint, Ge)), None)
    shown = typer.Option(
        help=info.description.format(", ".join(backends)), metavar=info.json_schema_extra["metavar"], min=least
    )
    is_mapping = get_origin(info.annotation) is dict
    kind, default = (list[str] | None, None) if is_mapping else (info.annotation, info.default)
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=Annotated[kind, shown]
    )


def given_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of backends that the user gave. values: all options of the command.

    Raises InputError for a text that is not KEY=VALUE.
    """
    given = {}
    for name, (info, _) in options_of_backends().items():
        value = values[name]
        if get_origin(info.annotation) is dict:
            if value:
                given[name] = parse_settings(value, option=f"--{name}")
        elif value != info.default:
            given[name] = value
    return given
