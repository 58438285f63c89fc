"""Commands that tell what is registered, and check a dataset: methods, datasets, protocols, data."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer

from benchmark.cli.app import app
from benchmark.cli.options import BackboneOption, DataRootOption, JsonOption, ProtocolOption, SizeOption, WeightsOption
from benchmark.cli.output import console, print_error, print_lines
from benchmark.errors import InputError
from benchmark.ui.text import harmless

if TYPE_CHECKING:
    from benchmark.data.dataset import Dataset
    from benchmark.spec import Recipe
    from benchmark.ui.progress import Reporter

T = TypeVar("T")

# More bad images than this are only counted.
NAMED_IMAGES = 20


@app.command(
    help="List the methods, or tell one method's settings.\n\n\b\nExamples:\n  ltbench methods\n  ltbench methods asl"
)
def methods(
    name: Annotated[str | None, typer.Argument(help="Show this method's documentation and settings.")] = None,
    as_json: JsonOption = False,
) -> None:
    from benchmark.method import METHODS

    chosen = METHODS.items() if name is None else [(name, METHODS.get(name))]
    facts = {
        key: {
            "title": method.title,
            "version": method.version,
            "about": inspect.cleandoc(method.__doc__ or ""),
            "settings": {
                field: {"default": info.default, "about": info.description or "", "values": _values(info.annotation)}
                for field, info in method.Config.model_fields.items()
            },
        }
        for key, method in chosen
    }
    if as_json:
        print(json.dumps(facts, indent=1))
    elif name is None:
        print_lines((key, f"{fact['title']}: {_first_sentence(fact['about'])}") for key, fact in facts.items())
    else:
        rows: list[tuple[str, str]] = []
        print(f"{facts[name]['title']}, version {facts[name]['version']}\n\n{facts[name]['about']}\n")
        for field, about in facts[name]["settings"].items():
            values = " | ".join(map(str, about["values"]))
            rows.append((f"{field}={about['default']}", about["about"] + (f" [{values}]" if values else "")))
        print_lines(rows)


@app.command(help="List the registered datasets.\n\n\b\nExample:\n  ltbench datasets --json")
def datasets(as_json: JsonOption = False) -> None:
    from benchmark.data.dataset import DATASETS

    cards = {name: folder.card for name, folder in DATASETS.items()}
    if as_json:
        print(json.dumps({name: card.model_dump(mode="json") for name, card in cards.items()}, indent=1))
    else:
        print_lines((name, f"{card.title}: {card.notes}") for name, card in cards.items())


@app.command(help="List the protocols.\n\n\b\nExample:\n  ltbench protocols --json")
def protocols(as_json: JsonOption = False) -> None:
    from benchmark.spec import PROTOCOLS

    if as_json:
        print(json.dumps({name: entry.model_dump(mode="json") for name, entry in PROTOCOLS.items()}, indent=1))
    else:
        rows = []
        for name, entry in PROTOCOLS.items():
            usual = "these methods and no others" if entry.listed_methods_only else _facts_of(entry.recipe)
            rows.append((name, f"{entry.title}: {usual}"))
            for method in sorted(entry.methods):
                recipe = entry.recipe_for(method)
                differs = recipe != entry.recipe or entry.listed_methods_only
                rows += [(f"  {method}", _facts_of(recipe))] if differs else []
        print_lines(rows)


def _facts_of(recipe: Recipe) -> str:
    optimizer = f"{recipe.optimizer.name} {recipe.optimizer.lr:g}"
    return f"{recipe.backbone}, {recipe.weights}, {recipe.image_size} px, {recipe.epochs} epochs, {optimizer}"


def _values(annotation: Any) -> list[Any]:
    """What a setting may be, where it is a choice."""
    if annotation is bool:
        return [True, False]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in _values(part)]


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[a-z)])[.:;](?=\s)", " ".join(text.split()), maxsplit=1)[0].rstrip(".")


@app.command(
    help="Check a dataset's lists and images and decode the images into the cache.\n\n\b\n"
    "Examples:\n  ltbench data\n  ltbench data --dataset voc-lt --data-root /data\n"
    "  ltbench data --dataset voc-lt --method cprfl --protocol paper"
)
def data(
    dataset: Annotated[str, typer.Option(help="Registered name, or the path of a dataset folder.")] = "shapes-lt",
    method: Annotated[str, typer.Option(help="Fill the cache that runs of this method use.")] = "erm",
    protocol: ProtocolOption = None,
    backbone: BackboneOption = None,
    weights: WeightsOption = None,
    image_size: SizeOption = None,
    data_root: DataRootOption = None,
) -> None:
    from benchmark.data.dataset import find_dataset
    from benchmark.running.images import prepare_images
    from benchmark.running.plan import make_plan
    from benchmark.ui.progress import Reporter

    reporter = Reporter(console(stderr=True))
    opened = find_dataset(dataset).open(data_root)
    _naming_all_bad(opened, reporter, lambda: opened.source.check(opened.splits.values()))
    work = make_plan(
        method,
        dataset,
        protocol=protocol,
        backbone=backbone,
        weights=weights,
        image_size=image_size,
        data_root=data_root,
    )
    cached = _naming_all_bad(opened, reporter, lambda: prepare_images(work, reporter))
    groups = list(work.dataset.groups.values())
    print(
        harmless(f"{work.dataset.card.title}: {len(groups)} classes, ")
        + ", ".join(f"{groups.count(group)} {group}" for group in ("head", "medium", "tail"))
    )
    print_lines(
        (name, f"{images.num_images} images, {images.size} px, pixels {images.digest[:12]}")
        for name, images in cached.items()
    )
    print(f"images: {work.dataset.source.rules}")


def _naming_all_bad(dataset: Dataset, reporter: Reporter, use: Callable[[], T]) -> T:
    """What `use` of a dataset's images gives. Raises InputError where any cannot be used, after naming the first of
    them all."""
    from benchmark.data.images import bad_images

    try:
        return use()
    except InputError as error:
        splits = dataset.splits.values()
        total = sum(map(len, splits))
        with reporter.task("looking for other bad images", total) as task:
            bad = bad_images(splits, dataset.source, task.update)
        # That one alone, or no image is where images are looked for.
        if len(set(bad)) < 2 or (len(bad) == total and str(error) not in bad):
            raise
    for fault in bad[:NAMED_IMAGES]:
        print_error(fault)
    more = f" (the first {NAMED_IMAGES} of them are named)" if len(bad) > NAMED_IMAGES else ""
    raise InputError(f"{len(bad)} of {total} images cannot be used{more}; replace them or take them off the lists")
