"""List the registered datasets, and tell whether their images are here.

\b
Example:
  ltbench data list --json
"""

from __future__ import annotations

import json
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from benchmark.cli.options import DataRootOption, JsonOption
from benchmark.cli.output import console

if TYPE_CHECKING:
    from pathlib import Path

    from benchmark.data.dataset import DatasetFolder

_SPLITS = ("train", "val", "test")
_GROUPS = ("head", "medium", "tail")
_ABOUT = 80  # characters


def list_(data_root: DataRootOption = None, as_json: JsonOption = False) -> None:
    from benchmark.data.dataset import DATASETS

    found = {name: _facts(folder, data_root) for name, folder in DATASETS.items()}
    if as_json:
        print(json.dumps(found, indent=1))
        return
    from benchmark.ui.tables import FittedTable

    header = ("name", "train/val/test", "classes (h/m/t)", "images here", "about")
    console().print(FittedTable(header, [(name, *_cells(facts)) for name, facts in found.items()]))


def _facts(folder: DatasetFolder, data_root: Path | None) -> dict[str, Any]:
    """The card of a dataset; its counts, None where its lists are not made or faulty; and where its images stand."""
    from benchmark.data.dataset import ListsNotMade
    from benchmark.data.presence import presence_of
    from benchmark.errors import InputError

    card = folder.card.model_dump(mode="json")
    try:
        dataset = folder.open(data_root)
    except ListsNotMade:
        make = f"lists not made: ltbench data prepare {folder.name}"
        return card | {"sizes": None, "groups": None, "images_here": make, "missing": None}
    except InputError:  # made lists that were changed: the other datasets are listed all the same
        fault = f"lists faulty: ltbench data verify {folder.name}"
        return card | {"sizes": None, "groups": None, "images_here": fault, "missing": None}
    groups = list[str](dataset.groups.values())
    presence = presence_of(dataset)
    return card | {
        "sizes": {split.name: len(split) for split in dataset.splits.values()},
        "groups": {group: groups.count(group) for group in _GROUPS},
        "images_here": presence.text,
        "missing": None if presence.state == "no data root" else len(presence.missing),
    }


def _cells(facts: dict[str, Any]) -> list[str]:
    sizes, groups = facts["sizes"], facts["groups"]
    about = f"{facts['title']}: {facts['notes']}" if facts["notes"] else facts["title"]
    return [
        "/".join(f"{sizes[name]:,}" if name in sizes else "-" for name in _SPLITS) if sizes else "-",
        f"{sum(groups.values())} ({'/'.join(map(str, groups.values()))})" if groups else "-",
        facts["images_here"],
        shorten(about, _ABOUT, placeholder="…"),
    ]
