"""Options of several commands, and parsers of their texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.errors import InputError
from benchmark.running.rules import Rerun

ProtocolOption = Annotated[str | None, typer.Option(help="Protocol name; by default the dataset's own.")]
BackboneOption = Annotated[str | None, typer.Option(help="Backbone name, or timm:NAME; by default the protocol's.")]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|NAME|none",
        help="Pretrained weights: a file, torchvision's name, CLIP's arch:tag, timm's tag, a package, none.",
    ),
]
SizeOption = Annotated[int | None, typer.Option(help="Image size in pixels; by default the protocol's.")]
RunArgument = Annotated[str, typer.Argument(help="Folder name of the run, its id, or the beginning of either.")]
EpochsOption = Annotated[int | None, typer.Option(help="Epochs; by default the protocol's.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the method, or of the recipe: recipe.optimizer.lr."),
]
DeviceOption = Annotated[str, typer.Option(metavar="auto|cpu|cuda[:i]", help="Where to train.")]
ResultsOption = Annotated[Path, typer.Option(envvar="LTBENCH_RESULTS", help="Results folder.")]
StoresOption = Annotated[
    Path | None,
    typer.Option(envvar="LTBENCH_RESULTS", help="Results folder.  [default: yours where it has it, else results]"),
]
AllStoresOption = Annotated[
    Path | None,
    typer.Option(
        envvar="LTBENCH_RESULTS",
        help="Results folder.  [default: results (published) and, where it exists, results/local (yours)]",
    ),
]
RerunOption = Annotated[Rerun, typer.Option(help="Which runs to launch, by their state.")]
DataRootOption = Annotated[
    Path | None, typer.Option(help="Root of the images of registered datasets; or the variable LTBENCH_DATA.")
]
GpusOption = Annotated[
    int,
    typer.Option(metavar="N", min=1, help="GPUs (of each node) that one run is spread over; with cpu, processes."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")]
OracleOption = Annotated[
    bool,
    typer.Option(
        "--oracle", help="Keep the test logits of every epoch too, for the best-on-test number, which is never ranked."
    ),
]
DuplicatesOption = Annotated[
    bool,
    typer.Option(
        "--allow-duplicates", help="Run although images are in two lists under different names; the record says so."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]


def parse_settings(
    settings: Iterable[str] | None, parse: Callable[[str], Any] | None = None, option: str = "--set"
) -> dict[str, Any]:
    """`key=value` texts -> values by key, read as YAML, or by `parse`. Raises InputError, naming the option."""
    from benchmark.base.yamlio import parse_value

    parse = parse or parse_value
    parsed: dict[str, Any] = {}
    for item in settings or ():
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise InputError(f"{option} {item!r}: write {option} key=value")
        if key in parsed:
            raise InputError(f"{option} {key} is given twice")
        parsed[key] = parse(value)
    return parsed


def parse_names(text: str, option: str) -> list[str]:
    """Names separated by commas, each once. Raises InputError, naming the option."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise InputError(f"{option} {text!r}: give names separated by commas, each once")
    return names
