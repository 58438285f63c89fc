"""Compare two methods of a dataset: the difference, its interval and p-value, and the classes that moved
most. All from stored logits; nothing is trained.

\b
Examples:
  ltbench compare asl erm --dataset shapes-lt
  ltbench compare cprfl "cprfl (variant=equations)" --dataset shapes-lt --protocol demo-clip
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.options import JsonOption
from benchmark.cli.output import console, print_error, show_problems, stderr_reporter
from benchmark.cli.stores import stores_of
from benchmark.errors import InputError, StoreError

if TYPE_CHECKING:
    from benchmark.leaderboard.contrast import Contrast
    from benchmark.leaderboard.rows import Row
    from benchmark.leaderboard.tables import Table
    from benchmark.store.records import Record
    from benchmark.ui.progress import Reporter


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A method, or a row as the leaderboard names it.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Likewise; differences are A minus B.")],
    dataset: Annotated[str, typer.Option(help="Name of the dataset, as records have it.")] = "shapes-lt",
    protocol: Annotated[str | None, typer.Option(help="Protocol name; by default each that has both.")] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            envvar="LTBENCH_RESULTS", help="Results folder; by default yours where it has both, else results."
        ),
    ] = None,
    classes: Annotated[int, typer.Option(metavar="N", min=0, help="How many classes to show.")] = 10,
    as_json: JsonOption = False,
) -> None:
    from benchmark.leaderboard.contrast import contrast, contrasts_json

    reporter = stderr_reporter()
    store, chosen = _find_tables(stores_of(results), (dataset, protocol, first, second), reporter)
    found = [contrast(store, table, a, b, reporter) for table, a, b in chosen]
    if as_json:
        print(json.dumps(contrasts_json(found), indent=1))
    else:
        for item in found:
            _print_contrast(item, classes)


def _find_tables(
    stores: list[Path], wanted: tuple[str, str | None, str, str], reporter: Reporter
) -> tuple[Path, list[tuple[Table, Row, Row]]]:
    """The first results folder that has both rows, and each table that has them, with these rows.

    Prints to stderr the folders without them, and the records that were left out. Raises InputError when no folder has
    them, or a name fits several rows.
    """
    from benchmark.leaderboard.board import load_board
    from benchmark.leaderboard.build import build_tables
    from benchmark.leaderboard.contrast import NoSuchRow, find_tables
    from benchmark.store.runs import load_records

    problems: list[StoreError] = []
    missing: list[str] = []
    try:
        for store in stores:
            try:
                records = _of_dataset(load_records(store, problems), wanted[0])
                # Before the slow computation of the board, which leaves out contradictory records (a StoreError here).
                with contextlib.suppress(StoreError):
                    find_tables(build_tables(records), *wanted)
                found = find_tables(load_board(store, store, problems, reporter, records).tables, *wanted)
            except NoSuchRow as error:
                missing.append(f"{store}: {error}")
                continue
            except InputError as error:
                raise InputError(f"{store}: {error}") from None
            if missing:
                print_error(f"{'; '.join(missing)}; compared in {store}")
            return store, found
    finally:
        show_problems(problems)
    raise InputError("; ".join(missing))


def _of_dataset(records: Iterable[Record], dataset: str) -> list[Record]:
    """The records on the lists of a dataset, also those under another name: they may show that one of them is wrong.

    All records where none has that name; the message then lists near names.
    """
    records = list(records)
    lists = {record.spec.dataset.fingerprint for record in records if record.spec.dataset.name == dataset}
    return [record for record in records if record.spec.dataset.fingerprint in lists] or records


def _print_contrast(item: Contrast, classes: int) -> None:
    from benchmark.leaderboard.cells import MARKS
    from benchmark.leaderboard.contrast import change_cells, p_text
    from benchmark.leaderboard.stats.statistics import CONFIDENCE
    from benchmark.ui.progress import plural
    from benchmark.ui.tables import compact_table

    print(item.table.title)
    for name, row in (("A", item.first), ("B", item.second)):
        print(f"{name}: {row.label} ({plural(row.n, 'seed')})")
    one_seed = item.first.n == 1 or item.second.n == 1
    print("AP in percent; ± of A and B: 95 % interval over seeds and test images")
    if one_seed:
        print(MARKS)
    else:
        print("± of A - B: 95 % interval over test images and seeds; p: for this pair alone,")
        print("the leaderboard's wins and losses are corrected for all pairs of its table")
    columns = ["A", "B", "A - B"]
    rows: list[list[object]] = [[change.name, *change_cells(change), p_text(change.p)] for change in item.means]
    console().print(compact_table(["mAP", *columns, "p"], rows))
    if classes:
        shown = item.classes[:classes]
        significant = [change.p_holm is not None and change.p_holm <= 1 - CONFIDENCE for change in shown]
        note = "" if one_seed else "; *: p < 0.05, corrected for all (Holm)"
        print(f"the {len(shown)} of {len(item.classes)} classes that moved most{note}")
        rows = [
            [change.name, *item.table.classes[change.name], *change_cells(change), "*" if is_significant else ""]
            for change, is_significant in zip(shown, significant, strict=True)
        ]
        console().print(compact_table(["class", "group", "train", *columns, ""], rows))
    if one_seed:
        print("no test: with one seed nothing is known of what another would give; train more with --seeds 0-2")
