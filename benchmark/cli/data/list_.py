"""List the registered datasets.

\b
Example:
  ltbench data list --json
"""

from __future__ import annotations

import json

from benchmark.cli.options import JsonOption
from benchmark.cli.output import print_lines


def list_(as_json: JsonOption = False) -> None:
    from benchmark.data.dataset import DATASETS

    cards = {name: folder.card for name, folder in DATASETS.items()}
    if as_json:
        print(json.dumps({name: card.model_dump(mode="json") for name, card in cards.items()}, indent=1))
    else:
        print_lines((name, f"{card.title}: {card.notes}") for name, card in cards.items())
