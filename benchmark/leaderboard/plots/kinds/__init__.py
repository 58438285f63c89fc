"""The kinds of pictures: each module in here is one, known by the module's name. To add one is to add a module with

PLACE                a number: where among the others it is shown
ALT                  what it shows, in one line
data(table)          what a table gives to draw (JSON types), None where the picture would say nothing
draw(figure, data)   draws exactly that on an empty matplotlib figure, whose size it sets by `layout.page`
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmark.leaderboard.tables import Table


class Kind(Protocol):
    """What such a module has."""

    PLACE: float
    ALT: str

    def data(self, table: Table) -> dict[str, Any] | None: ...

    def draw(self, figure: Figure, data: dict[str, Any]) -> None: ...


def named(name: str) -> Kind:
    """The kind of this name."""
    return cast(Kind, importlib.import_module(f"{__name__}.{name}"))


def found() -> dict[str, Kind]:
    """All kinds by name, in the order in which they are shown."""
    modules = {module.name: named(module.name) for module in pkgutil.iter_modules(__path__)}
    return dict(sorted(modules.items(), key=lambda item: item[1].PLACE))
