"""Check a dataset: its lists, every label row by the official annotations, and its images.

Ends with 1 where something differs or could not be checked, and says which.

\b
Examples:
  ltbench data verify voc-lt --data-root /data
  ltbench data verify coco-lt --annotations /data/coco/annotations --json
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.options import DataRootOption, JsonOption
from benchmark.cli.output import NAMED_IMAGES, stderr_reporter


def verify(
    dataset: Annotated[str, typer.Argument(metavar="NAME", help="Registered name, or the path of a dataset folder.")],
    content: Annotated[
        bool, typer.Option("--content", help="Read and decode every image; compare with the remembered digests.")
    ] = False,
    annotations: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Official annotations.  [default: below the data root]")
    ] = None,
    data_root: DataRootOption = None,
    as_json: JsonOption = False,
) -> None:
    from benchmark.data.dataset import find_dataset
    from benchmark.data.verifying import verify_dataset
    from benchmark.ui.text import plain

    found = verify_dataset(find_dataset(dataset), data_root, annotations, content, stderr_reporter())
    if as_json:
        print(json.dumps(asdict(found) | {"holds": found.holds}, indent=1))
    else:
        for line in found.checked:
            print(plain(line))
        for item in found.differences[:NAMED_IMAGES]:
            listed, official = (", ".join(names) or "none" for names in (item.listed, item.official))
            print(plain(f"{item.list}.txt: {item.image}: listed {listed}; official {official}"))
        if len(found.differences) > NAMED_IMAGES:
            print(f"... and {len(found.differences) - NAMED_IMAGES:,} more")
        for line in found.faults[:NAMED_IMAGES]:
            print(plain(line))
        if len(found.faults) > NAMED_IMAGES:
            print(f"... and {len(found.faults) - NAMED_IMAGES:,} more")
        for line in found.unchecked:
            print(plain(line))
        print("verified" if found.holds else "NOT verified: see above")
    if not found.holds:
        raise typer.Exit(1)
