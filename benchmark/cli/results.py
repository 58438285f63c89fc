"""Commands on results: show, leaderboard, compare, verify, export, import."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import LOCAL, PUBLISHED, Format, JsonOption, ResultsOption, RunArgument
from benchmark.cli.output import console, number, print_error, print_lines, print_table, show_problems
from benchmark.errors import InputError, LtbenchError, StoreError

if TYPE_CHECKING:
    from benchmark.audit.bundles import Imported
    from benchmark.leaderboard.rows import Row
    from benchmark.leaderboard.stats.contrast import Contrast
    from benchmark.leaderboard.tables import Table
    from benchmark.store.records import Record
    from benchmark.store.runs import RunFolder
    from benchmark.ui.progress import Reporter


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


@app.command(help="Print one run's record.\n\n\b\nExamples:\n  ltbench show erm-s0-1a2b\n  ltbench show 1a2b3c4d")
def show(
    run: RunArgument,
    results: StoresOption = None,
    as_json: JsonOption = False,
) -> None:
    record = _find_run(run, results).record()
    assert record is not None  # only finished runs are found
    if as_json:
        print(record.to_json(), end="")
        return
    from benchmark.store.records import GROUPS, Metrics
    from benchmark.ui.text import plain

    spec, metrics, validation = record.spec, record.metrics, record.validation

    def means(of: Metrics) -> str:
        return ", ".join(f"{name} {number(getattr(of, name))}" for name in ("overall", *GROUPS))

    network = f"{spec.recipe.backbone}, weights {spec.weights.name}"
    if record.own_network:
        network = f"the method's own network, not {spec.recipe.backbone}"
    rows = [
        ("run", f"{spec.folder_name} ({record.run_id})"),
        ("method", f"{record.method_title}, version {spec.method_version}, {json.dumps(spec.config)}"),
        ("dataset", f"{record.dataset_title}, fingerprint {spec.dataset.fingerprint[:12]}"),
        ("protocol", f"{spec.protocol} version {spec.protocol_version}, {json.dumps(spec.overrides)}"),
        ("backbone", f"{network}, {spec.recipe.image_size} px"),
        ("weights scored", f"{record.declared}, epoch {record.selection.epoch} by rule {record.selection.rule}"),
        ("mAP, test list", f"{means(metrics)}; {record.num_test_images:,} images: these are ranked"),
        ("mAP, validation", means(validation) if validation else "none: no validation scores were recorded"),
        (
            "training",
            f"{record.timings.train_s:.0f} s, {record.timings.images_per_second:.0f} images/s, "
            f"{record.environment.gpu or record.environment.device}",
        ),
        ("code", f"commit {record.environment.git_commit}{' with changes' if record.environment.git_dirty else ''}"),
        ("finished", record.finished),
    ]
    print_lines((name, plain(text)) for name, text in rows)
    print_table(
        ["class", "group", "training images", "AP, test list", *["AP, validation"] * bool(validation)],
        [
            [name, record.groups[name], record.class_counts[name], number(ap)]
            + ([number(validation.per_class[name])] if validation else [])
            for name, ap in metrics.per_class.items()
        ],
    )


def _find_run(run: str, results: Path | None) -> RunFolder:
    """A finished run, of one's own or published where no folder is given. Raises InputError or StoreError."""
    from benchmark.store.runs import NoSuchRun, Store

    *others, last = _stores(results)
    for store in others:
        with contextlib.suppress(NoSuchRun):
            return Store(store).find(run)
    return Store(last).find(run)


LEADERBOARD_HELP = """Make the leaderboard from the records of a results folder.

\b
Examples:
  ltbench leaderboard
  ltbench leaderboard --check
  ltbench leaderboard --results results/local --out board
  ltbench leaderboard --results results --format latex --format csv --out paper
"""


@app.command(help=LEADERBOARD_HELP)
def leaderboard(
    results: AllStoresOption = None,
    out: Annotated[Path | None, typer.Option(help="Where to write.  [default: the results folder]")] = None,
    formats: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            metavar="md|html|csv|json|latex",
            help="What to write or check; may be repeated.  [default: md, html, and those whose files are there]",
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a file differs.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Leave text in CSV as it is, even where a spreadsheet takes it for a formula.")
    ] = False,
) -> None:
    from benchmark.leaderboard.board import load_board
    from benchmark.leaderboard.files import check as differences_of
    from benchmark.leaderboard.files import turn, usual_formats, write
    from benchmark.leaderboard.formats import file_name
    from benchmark.ui.progress import Reporter, plural

    reporter = Reporter(console(stderr=True))
    given = list(dict.fromkeys(format.value for format in formats or ()))
    stores = _stores(results)
    if out is not None and len(stores) > 1:
        raise InputError(f"--out takes one results folder: add --results {PUBLISHED} or --results {LOCAL}")
    failures = []
    for store in reversed(stores):
        target = out or store
        chosen = given or usual_formats(target)
        problems: list[StoreError] = []
        with turn(store, reporter):
            board = load_board(store, target, problems, reporter)
            show_problems(problems)
            if check:
                differences = differences_of(board, target, chosen, raw=raw)
            else:
                differences = []
                write(board, target, chosen, reporter, raw=raw)
        for difference in differences:
            print_error(f"{target}: {difference}")
        if differences:
            options = ["--results", str(store), *(["--out", str(out)] if out else [])]
            options += [text for name in given for text in ("--format", name)] + ["--raw"] * raw
            failures.append(
                f"{target}: {plural(len(differences), 'difference')} from what the records of {store} give (above); "
                f"write it anew with ltbench leaderboard {shlex.join(options)}"
            )
        elif check and problems:
            failures.append(f"{store}: {plural(len(problems), 'record')} left out (above); see ltbench verify")
        else:
            for name in chosen:
                print(f"{target / file_name(name)}{': up to date' if check else ''}")
    if failures:
        raise StoreError("; ".join(failures))


def _stores(results: Path | None) -> list[Path]:
    """The results folder that is given, else one's own and the published one, as far as they are there. Raises
    InputError when there is none."""
    stores = [results] if results else [LOCAL, PUBLISHED]
    found = [store for store in stores if (store / "runs").is_dir()]
    if not found:
        raise InputError(f"{stores[-1]}: {_not_a_store(stores[-1])}; give a results folder with --results")
    return found


def _not_a_store(path: Path) -> str:
    """Why a path is no results folder."""
    if not path.is_dir():
        return "is a file" if path.exists() else "no such results folder"
    inner = " (it seems to be the runs folder of one)" if any(path.glob("*/record.json")) else ""
    return f"has no folder runs{inner}"


COMPARE_HELP = """Compare two methods of a dataset: the difference, its interval and p-value, and the classes that moved
most. All from stored logits; nothing is trained.

\b
Examples:
  ltbench compare asl erm --dataset shapes-lt
  ltbench compare cprfl "cprfl (variant=equations)" --dataset shapes-lt --protocol demo-clip
"""


@app.command(help=COMPARE_HELP)
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
    from benchmark.leaderboard.stats.contrast import contrast, contrasts_json
    from benchmark.ui.progress import Reporter

    reporter = Reporter(console(stderr=True))
    store, chosen = _find_tables(_stores(results), (dataset, protocol, first, second), reporter)
    found = [contrast(store, table, a, b, reporter) for table, a, b in chosen]
    if as_json:
        print(json.dumps(contrasts_json(found), indent=1))
    else:
        for item in found:
            _print_contrast(item, classes)


def _find_tables(
    stores: list[Path], wanted: tuple[str, str | None, str, str], reporter: Reporter
) -> tuple[Path, list[tuple[Table, Row, Row]]]:
    """The first results folder that has what is wanted, and it; on stderr the folders passed over and the records left
    out of all that were read. Raises InputError when none has it, or it fits several rows."""
    from benchmark.leaderboard.board import load_board
    from benchmark.leaderboard.build import build_tables
    from benchmark.leaderboard.stats.contrast import NoSuchRow, find_tables
    from benchmark.store.runs import load_records

    problems: list[StoreError] = []
    missing: list[str] = []
    try:
        for store in stores:
            try:
                records = _of_dataset(load_records(store, problems), wanted[0])
                with contextlib.suppress(StoreError):  # records that contradict each other, which the board leaves out
                    find_tables(build_tables(records), *wanted)  # what is not there is told before anything is computed
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
    """The records on the lists of a dataset, whatever name others gave them: these may tell that one of them is wrong.
    All, where no record has that name, for the near names."""
    records = list(records)
    lists = {record.spec.dataset.fingerprint for record in records if record.spec.dataset.name == dataset}
    return [record for record in records if record.spec.dataset.fingerprint in lists] or records


def _print_contrast(item: Contrast, classes: int) -> None:
    from benchmark.leaderboard.cells import MARKS
    from benchmark.leaderboard.stats.contrast import change_cells, p_text
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
    rows = [[change.name, *change_cells(change), p_text(change.p)] for change in item.means]
    console().print(compact_table(["mAP", *columns, "p"], rows))
    if classes:
        shown = item.classes[:classes]
        told = [change.p_holm is not None and change.p_holm <= 1 - CONFIDENCE for change in shown]
        note = "" if one_seed else "; *: p < 0.05, corrected for all (Holm)"
        print(f"the {len(shown)} of {len(item.classes)} classes that moved most{note}")
        rows = [
            [change.name, *item.table.classes[change.name], *change_cells(change), "*" if is_told else ""]
            for change, is_told in zip(shown, told, strict=True)
        ]
        console().print(compact_table(["class", "group", "train", *columns, ""], rows))
    if one_seed:
        print("no test: with one seed nothing is known of what another would give; train more with --seeds 0-2")


VERIFY_HELP = """Check that the runs of a results folder hold: digests, scores made again from the stored logits, test
labels, and the data that runs share.

\b
Examples:
  ltbench verify --results results
  ltbench verify --results results/local --json
"""


@app.command(help=VERIFY_HELP)
def verify(results: AllStoresOption = None, as_json: JsonOption = False) -> None:
    from benchmark.audit.verify import verify as check_all
    from benchmark.ui.progress import Reporter
    from benchmark.ui.text import plain

    stores = _stores(results)[::-1]
    checked = {store: check_all(store, Reporter(console(stderr=True))) for store in stores}
    if as_json:
        facts = {
            "records": sum(found.records for found in checked.values()),
            "scored": sum(found.scored for found in checked.values()),
            "findings": [vars(finding) for found in checked.values() for finding in found.findings],
        }
        print(json.dumps(facts, indent=1))
    else:
        for store, found in checked.items():
            for finding in found.findings:
                print(plain(f"{finding.kind}: {finding.message}"))
            place = f"{store}: " if len(stores) > 1 else ""
            print(f"{place}{found.summary}" if found.records else f"no records in {store}")
    failures = [
        f"{store}: {found.faulty_runs} of {found.records} runs do not hold (above)"
        for store, found in checked.items()
        if found.faulty_runs
    ]
    if failures:
        raise StoreError("; ".join(failures))


EXPORT_HELP = """Write a finished run into one file, which others import into their results.

\b
Examples:
  ltbench export erm-s0-1a2b3c4d5e6f
  ltbench export 1a2b3c4d --results results --out erm.zip
  ltbench export 1a2b3c4d --sign ~/.ssh/id_ed25519
"""


@app.command(help=EXPORT_HELP)
def export(
    run: RunArgument,
    results: StoresOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.zip", help="The file.  [default: RUN.ltbench.zip in this folder]")
    ] = None,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign it with this private Ed25519 key, as ssh-keygen makes it.")
    ] = None,
) -> None:
    from benchmark.audit import bundles

    print(bundles.export(_find_run(run, results), out, sign))


IMPORT_HELP = """Put runs that others have exported into a results folder. A bundle is checked as `ltbench verify`
checks a run: what does not hold or contradicts the runs there is refused, and no run that is there is overwritten;
files that such a run has lost are restored.

\b
Examples:
  ltbench import erm-s0-1a2b3c4d5e6f.ltbench.zip
  ltbench import theirs/*.ltbench.zip --results merged
  ltbench import theirs/*.ltbench.zip --trust keys.pub
"""


@app.command("import", help=IMPORT_HELP)
def import_(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Files that `ltbench export` wrote.")],
    results: ResultsOption = LOCAL,
    trust: Annotated[
        Path | None,
        typer.Option(metavar="KEYS", help="Refuse what none of these public keys has signed; one a line, as KEY.pub."),
    ] = None,
) -> None:
    from benchmark.audit.bundles import import_bundle
    from benchmark.ui.text import plain

    counts: Counter[str] = Counter()
    for bundle in bundles:
        try:
            done = import_bundle(bundle, results, trust)
        except LtbenchError as error:
            refusal = plain(str(error))  # it quotes what somebody sent
            if len(bundles) == 1:
                raise StoreError(refusal) from None
            counts["refused"] += 1
            print_error(f"refused: {refusal}")
            continue
        counts[done.outcome] += 1
        told = "; ".join(text for text in (_signed_by(done), done.note) if text)
        print(plain(f"{done.outcome}: {done.run}{f' ({told})' if told else ''}"))
    print(", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
    if counts["imported"] or counts["restored"]:
        print(f"  ltbench leaderboard --results {shlex.quote(str(results))}")
    if counts["refused"]:
        raise StoreError(f"{counts['refused']} of {len(bundles)} bundles were refused (above)")


def _signed_by(done: Imported) -> str:
    """Whose bundle it was, as far as that is known; empty for one that nobody signed."""
    if done.signer is None:
        return ""
    if done.owner is None:
        return f"signed by {done.signer.fingerprint}, which nothing vouches for without --trust"
    return f"signed by {done.owner or done.signer.fingerprint}"
