"""List the protocols.

\b
Example:
  ltbench protocols --json
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmark.cli.options import JsonOption
from benchmark.cli.output import print_lines

if TYPE_CHECKING:
    from benchmark.spec import Recipe


def protocols(as_json: JsonOption = False) -> None:
    from benchmark.spec import PROTOCOLS

    if as_json:
        print(json.dumps({name: entry.model_dump(mode="json") for name, entry in PROTOCOLS.items()}, indent=1))
    else:
        rows = []
        for name, entry in PROTOCOLS.items():
            facts = "these methods and no others" if entry.listed_methods_only else facts_of(entry.recipe)
            rows.append((name, f"{entry.title}: {facts}"))
            for method in sorted(entry.methods):
                recipe = entry.recipe_for(method)
                differs = recipe != entry.recipe or entry.listed_methods_only
                rows += [(f"  {method}", facts_of(recipe))] if differs else []
        print_lines(rows)


def facts_of(recipe: Recipe) -> str:
    optimizer = f"{recipe.optimizer.name} {recipe.optimizer.lr:g}"
    return f"{recipe.backbone}, {recipe.weights}, {recipe.image_size} px, {recipe.epochs} epochs, {optimizer}"
