"""Tell the facts of a dataset, and draw a sheet of its images.

\b
Examples:
  ltbench data show voc-lt
  ltbench data show shapes-lt --sheet sheet.png
  ltbench data show my/dataset --json
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.cli.options import DataRootOption, JsonOption
from benchmark.cli.output import NAMED_IMAGES, console, print_error, stderr_reporter
from benchmark.errors import InputError

if TYPE_CHECKING:
    from benchmark.data.dataset import Dataset
    from benchmark.data.facts import Facts

_PAIRS = 8


def show(
    dataset: Annotated[str, typer.Argument(metavar="NAME", help="Registered name, or the path of a dataset folder.")],
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw a few training images of each class, with their labels."),
    ] = None,
    data_root: DataRootOption = None,
    as_json: JsonOption = False,
) -> None:
    from benchmark.data.dataset import find_dataset
    from benchmark.data.facts import facts_of

    if sheet is not None and sheet.suffix.lower() != ".png":
        raise InputError(f"--sheet {sheet}: the sheet is a PNG file; give it a name that ends in .png")
    opened = find_dataset(dataset).open(data_root)
    facts, images, runs = facts_of(opened), _images(opened), _runs(opened)
    if as_json:
        print(json.dumps(facts.model_dump(mode="json") | {"images": images, "runs": runs}, indent=1))
    else:
        _print(facts, images, runs)
    if sheet is not None:
        _draw(opened, sheet)


def _images(dataset: Dataset) -> dict[str, Any]:
    """Where the images are looked up, and what is missing."""
    from benchmark.data.presence import presence_of

    presence = presence_of(dataset)
    problem = ""
    if presence.state in ("missing", "no data root"):
        try:
            dataset.source.check(dataset.lists.values())
        except InputError as error:
            problem = str(error)
    return {
        "here": presence.text,
        "folder": str(presence.root) if presence.root else None,
        "missing": None if presence.state == "no data root" else len(presence.missing),
        "total": presence.total,
        "problem": problem,
    }


def _runs(dataset: Dataset) -> dict[str, str]:
    """The protocols that runs have by default, and their networks and weights."""
    from benchmark.cli.protocols import facts_of as recipe_of
    from benchmark.spec import PROTOCOLS

    return {
        what: f"{name}: {recipe_of(PROTOCOLS.get(name).recipe)}"
        for what, name in (("protocol", dataset.card.protocol), ("protocol for CLIP", dataset.card.clip_protocol))
    }


def _print(facts: Facts, images: dict[str, Any], runs: dict[str, str]) -> None:
    groups = ", ".join(f"{count} {group}" for group, count in facts.groups.items())
    counts = [one.positives["train"] for one in facts.classes]
    imbalance = f"{facts.imbalance:,.0f}, from {max(counts):,} training images of a class to {min(counts):,}"
    _lines(
        [
            ("dataset", f"{facts.title} ({facts.name})"),
            ("about", facts.notes),
            ("classes", f"{len(facts.classes)}: {groups}; {facts.rule}"),
            ("episodes", f"{facts.episodes}; `train` is the support set of episode 0" if facts.episodes else ""),
            ("imbalance", imbalance),
            ("images", _where(images)),
            *runs.items(),
            *zip(["sources", *[""] * len(facts.sources)], facts.sources, strict=False),
            *zip(["terms", *[""] * len(facts.terms)], facts.terms, strict=False),
            ("fingerprint", facts.fingerprint[:12] if facts.fingerprint else "depends on the image files"),
        ]
    )
    print()
    _table(
        ("list", "images", "labels", "labels an image", "at most", "without a label"),
        [
            (
                name,
                f"{one.images:,}",
                f"{one.labels:,}",
                f"{one.labels_per_image:.2f}",
                one.most_labels,
                one.without_label,
            )
            for name, one in facts.lists.items()
        ],
    )
    print()
    _table(
        ("class", "group", *facts.lists),
        [(one.name, one.group, *(f"{n:,}" for n in one.positives.values())) for one in facts.ranked()],
    )
    if pairs := facts.closest_pairs(_PAIRS):
        print("\nclasses that occur together in training images:")
        _table(
            ("images with", "that also have", "share"),
            [(pair.first, pair.second, f"{pair.both:,} of {pair.given:,}") for pair in pairs],
        )
    if facts.traps:
        print("\ntraps:")
        _lines([(f"{number}.", text) for number, text in enumerate(facts.traps, 1)])


def _where(images: dict[str, Any]) -> str:
    if images["problem"]:
        return images["problem"]
    return f"all {images['total']:,} are in {images['folder']}" if images["folder"] else "rendered, none on disk"


def _lines(rows: Iterable[tuple[str, str]]) -> None:
    _table(("", ""), [row for row in rows if row[1]])


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from benchmark.ui.tables import FittedTable

    words = ("", "list", "class", "group", "images with", "that also have")
    console().print(FittedTable(header, rows, numbers=[name for name in header if name not in words]))


def _draw(dataset: Dataset, file: Path) -> None:
    """Write the sheet. Raises InputError, naming them, where images cannot be used."""
    from benchmark.base.atomic import write_atomically
    from benchmark.data.sheet import chosen_samples, draw_sheet

    samples = chosen_samples(dataset)
    total = len({path for paths in samples.values() for path in paths})
    with stderr_reporter().task("drawing classes", len(samples)) as task:
        sheet = draw_sheet(dataset, task.update)
    if len(sheet.faults) == total:
        dataset.source.check(dataset.lists.values())
        raise InputError(f"no image of the sheet can be used: {next(iter(sheet.faults.values()))}")
    write_atomically(file, sheet.png)
    print_error(f"{file}: {total:,} images of {len(samples)} of {len(dataset.classes):,} classes")
    for fault in list(sheet.faults.values())[:NAMED_IMAGES]:
        print_error(fault)
    if sheet.faults:
        raise InputError(
            f"{len(sheet.faults)} of {total} images of the sheet cannot be used: their fields are empty; replace them "
            "or take them off the lists"
        )
