"""The kinds of pictures: each module in this folder is one, under the module's name. To add a kind, add a module with

PLACE                a number: kinds are shown in the order of these numbers
ALT                  a description in one line
data(table)          the data of a table's picture (JSON types), None where the picture would show nothing
draw(figure, data)   draws exactly that on an empty matplotlib figure, and sets its size by `layout.page`
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol, cast

from benchmark.base.modules import import_package

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmark.leaderboard.tables import Table


class Kind(Protocol):
    """The interface of such a module."""

    PLACE: float
    ALT: str

    def data(self, table: Table) -> dict[str, Any] | None: ...

    def draw(self, figure: Figure, data: dict[str, Any]) -> None: ...


def named(name: str) -> Kind:
    """The kind of this name."""
    return cast(Kind, importlib.import_module(f"{__name__}.{name}"))


def found() -> dict[str, Kind]:
    """All kinds by name, in the order in which they are shown."""
    modules = {module.__name__.rpartition(".")[2]: cast(Kind, module) for module in import_package(__name__)}
    return dict(sorted(modules.items(), key=lambda item: item[1].PLACE))
