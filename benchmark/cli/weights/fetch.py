"""Fetch the weights that are not here yet, and verify their digests.

Weights that cannot be fetched are named with their address and the place to put them, and the command ends with 2.

\b
Examples:
  ltbench weights fetch --protocol controlled
  ltbench weights fetch resnet50/IMAGENET1K_V1 "clip_vit_b_16/ViT-B-16:openai"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from benchmark.cli.output import print_error, stderr_reporter
from benchmark.cli.weights.options import NamesArgument, NeedingOption, chosen
from benchmark.errors import InputError
from benchmark.ui.text import harmless, in_bytes

if TYPE_CHECKING:
    from benchmark.models.weights import PretrainedWeights
    from benchmark.ui.progress import Reporter


def fetch(names: NamesArgument = None, protocol: NeedingOption = None) -> None:
    if not names and protocol is None:
        raise InputError("name the weights, as `ltbench weights list` does, or give --protocol")
    reporter = stderr_reporter()
    failed = False
    for weights in chosen(names, protocol):
        try:
            print(harmless(f"{weights.name}: {_fetched(weights, reporter)}"), flush=True)
        except InputError as error:
            failed = True
            print_error(f"error: {error}")
    if failed:
        raise typer.Exit(2)


def _fetched(weights: PretrainedWeights, reporter: Reporter) -> str:
    from benchmark.base.files import file_digest

    was_here = weights.is_here()
    path = weights.fetch(reporter)
    if path is None:
        return "random, nothing to fetch"
    size = in_bytes(path.stat().st_size)
    return f"{'here already' if was_here else 'fetched'}, {size}, sha256 {file_digest(path)}, {path}"
