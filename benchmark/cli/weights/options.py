"""The choice of weights that `fetch` and `check` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.output import show_problems
from benchmark.errors import InputError

if TYPE_CHECKING:
    from benchmark.models.weights import PretrainedWeights

NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Weights by the names that `weights list` prints.")
]
NeedingOption = Annotated[
    str | None, typer.Option("--protocol", metavar="PROTOCOL", help="All weights that this protocol needs.")
]


def chosen(names: list[str] | None, protocol: str | None) -> list[PretrainedWeights]:
    """The weights that the user names, or those that a protocol, or any protocol, needs. Raises InputError."""
    from benchmark.running.pretrained import named_weights, needed_weights

    if names and protocol is not None:
        raise InputError("give names or --protocol, not both")
    if names:
        return named_weights(names)
    needed, problems = needed_weights(protocol, None)
    show_problems(problems)
    return [item.weights for item in needed]
