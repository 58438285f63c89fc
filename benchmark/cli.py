"""The command `ltbench`: a thin layer over the Python API.

Nothing heavy is imported here: `--help` must answer at once.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.errors import InputError, LtbenchError, RunFailed, RunInterrupted, StoreError

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.records import Record
    from benchmark.runner import Plan

app = typer.Typer(
    name="ltbench",
    help="Train and compare methods of long-tailed multi-label image recognition.",
    no_args_is_help=True,
    add_completion=False,
    # Plain help: rich's renderer alone would take longer than everything else.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

PUBLISHED = Path("results")
LOCAL = PUBLISHED / "local"


class Rerun(StrEnum):
    """Which runs are launched; see `benchmark.runner.decide`."""

    never = "never"
    missing = "missing"
    failed = "failed"
    stale = "stale"
    always = "always"


class Cluster(StrEnum):
    """Where a sweep runs."""

    inline = "inline"


ProtocolOption = Annotated[str | None, typer.Option(help="Protocol name; by default the dataset's own.")]
BackboneOption = Annotated[str | None, typer.Option(help="Backbone name; by default the protocol's.")]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|NAME|none", help="Pretrained weights: a file, torchvision's name, CLIP's arch:tag, none."
    ),
]
SizeOption = Annotated[int | None, typer.Option(help="Image size in pixels; by default the protocol's.")]
EpochsOption = Annotated[int | None, typer.Option(help="Epochs; by default the protocol's.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the method, or of the recipe: recipe.optimizer.lr."),
]
DeviceOption = Annotated[str, typer.Option(metavar="auto|cpu|cuda[:i]", help="Where to train.")]
ResultsOption = Annotated[Path, typer.Option(envvar="LTBENCH_RESULTS", help="Results folder.")]
RerunOption = Annotated[Rerun, typer.Option(help="Which runs to launch, by where they stand.")]
DataRootOption = Annotated[
    Path | None, typer.Option(help="Root of the images of registered datasets; or the variable LTBENCH_DATA.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]

RUN_HELP = """Train one method and score it once on the test set.

\b
Examples:
  ltbench run --method erm
  ltbench run --method asl --seeds 0-2 --set gamma_neg=2
  ltbench run --method db-focal --dataset voc-lt --data-root /data --device cuda
  ltbench run --method erm --dataset my/dataset --backbone mobilenet_v2 \\
      --weights mobilenet.safetensors --image-size 161 --set recipe.optimizer.lr=1e-4
"""


@app.command(help=RUN_HELP)
def run(
    method: Annotated[str, typer.Option(help="Method name; `ltbench methods` lists them.")],
    dataset: Annotated[str, typer.Option(help="Registered name, or the path of a dataset folder.")] = "shapes-lt",
    protocol: ProtocolOption = None,
    seed: Annotated[int | None, typer.Option(help="One seed.  [default: 0]")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="0,1,2|0-4", help="Several seeds, one run each.")] = None,
    backbone: BackboneOption = None,
    weights: WeightsOption = None,
    image_size: SizeOption = None,
    epochs: EpochsOption = None,
    settings: SetOption = None,
    data_root: DataRootOption = None,
    device: DeviceOption = "auto",
    results: ResultsOption = LOCAL,
    rerun: RerunOption = Rerun.missing,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    if seed is not None and seeds is not None:
        raise InputError("give --seed or --seeds, not both")
    from benchmark.runner import plan
    from benchmark.sweep import parse_seeds

    common = {
        "protocol": protocol,
        "backbone": backbone,
        "weights": weights,
        "image_size": image_size,
        "epochs": epochs,
        "settings": _parse_settings(settings),
        "data_root": data_root,
    }
    chosen = parse_seeds(seeds) if seeds is not None else [seed or 0]
    plans = [plan(method, dataset, seed=s, **common) for s in chosen]
    _carry_out(plans, results, rerun, device, dry_run, as_json)


SWEEP_HELP = """Train every combination of methods, datasets, protocols, backbones, settings and seeds; only what is
missing is run.

\b
Examples:
  ltbench sweep --methods all --seeds 0-2
  ltbench sweep --methods erm,asl,db-focal --datasets voc-lt,coco-lt --data-root /data --seeds 0-4
  ltbench sweep --methods asl --set gamma_neg=2,4 --set recipe.optimizer.lr=1e-4,3e-4 --dry-run
  ltbench sweep --file sweep.yaml

\b
A file holds the same axes; an option replaces the file's axis, and methods may have settings of their own:
  methods: {erm: , asl: {gamma_neg: [2, 4]}}
  seeds: 0-2
"""


@app.command(help=SWEEP_HELP)
def sweep(
    methods: Annotated[str | None, typer.Option(metavar="all|a,b", help="Method names; all: those that fit.")] = None,
    datasets: Annotated[
        str | None, typer.Option(metavar="d,e", help="Registered names or dataset folders.  [default: shapes-lt]")
    ] = None,
    protocols: Annotated[
        str | None,
        typer.Option("--protocols", "--protocol", metavar="p,q", help="By default each dataset's own."),
    ] = None,
    backbones: Annotated[
        str | None, typer.Option("--backbones", "--backbone", metavar="b,c", help="By default the protocol's.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="0,1,2|0-4", help="One run for each seed.  [default: 0]")] = None,
    weights: WeightsOption = None,
    image_size: SizeOption = None,
    epochs: EpochsOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=V1,V2", help="Values of a method's setting, or of the recipe's."),
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A YAML file with these axes.")] = None,
    data_root: DataRootOption = None,
    device: DeviceOption = "auto",
    cluster: Annotated[Cluster, typer.Option(help="Where to run: inline, in this process.")] = Cluster.inline,
    results: ResultsOption = LOCAL,
    rerun: RerunOption = Rerun.missing,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    from benchmark.spec import parse
    from benchmark.sweep import Sweep, expand, load_sweep, parse_axis, parse_seeds

    axes = load_sweep(file) if file is not None else {}
    if methods is None and "methods" not in axes:
        raise InputError("a sweep needs methods: give --methods all, --methods a,b or --file")
    given = {
        "methods": methods if methods in (None, "all") else _parse_names(methods, "--methods"),
        "datasets": None if datasets is None else _parse_names(datasets, "--datasets"),
        "protocols": None if protocols is None else _parse_names(protocols, "--protocols"),
        "backbones": None if backbones is None else _parse_names(backbones, "--backbones"),
        "seeds": None if seeds is None else parse_seeds(seeds),
        "weights": weights,
        "image_size": image_size,
        "epochs": epochs,
        "settings": _parse_settings(settings, parse_axis) or None,
    }
    axes |= {key: value for key, value in given.items() if value is not None}
    plans, unfit = expand(parse(Sweep, axes, "sweep"), data_root)
    for error in unfit:
        print(f"left out: {error}", file=sys.stderr)
    _carry_out(plans, results, rerun, device, dry_run, as_json)


def _carry_out(plans: list[Plan], results: Path, rerun: Rerun, device: str, dry_run: bool, as_json: bool) -> None:
    """Run every plan; one that fails does not stop the others."""
    from benchmark import leaderboard
    from benchmark.progress import Reporter
    from benchmark.runner import execute

    if dry_run:
        _show_plan(plans, results, rerun, as_json)
        return
    reporter = Reporter(_console(stderr=True))
    records, failures = [], []
    for number, work in enumerate(plans, 1):
        if len(plans) > 1:
            reporter.line(f"run {number} of {len(plans)}")
        try:
            records.append(execute(work, results, rerun.value, device, reporter))
        except RunInterrupted:
            raise
        except Exception as error:
            # What cannot even be started is most often wrong for all: say it once.
            if len(plans) == 1 or (number == 1 and isinstance(error, InputError)):
                raise
            kind = "" if isinstance(error, LtbenchError) else f"{type(error).__name__}: "
            failures.append(f"{work.spec.method} on {work.spec.dataset.name}, seed {work.spec.seed}: {kind}{error}")
            reporter.line(f"failed: {kind}{error}")
    problems: list[StoreError] = []
    if records:
        leaderboard.write(results, results, problems)
    if as_json:
        print(json.dumps([record.model_dump(mode="json") for record in records], indent=1))
    elif records:
        shown = {record.run_id for record in records}
        for table in leaderboard.tables(results, problems=[]):
            if shown & table.run_ids:
                _console().print(table.to_rich())
        print(f"leaderboard: {results / 'leaderboard.md'}")
    _show_problems(problems)
    if failures:
        raise RunFailed(f"{len(failures)} of {len(plans)} runs failed: {failures[0]}", cause="code")


def _show_plan(plans: list[Plan], results: Path, rerun: Rerun, as_json: bool) -> None:
    from benchmark.leaderboard.tables import duration
    from benchmark.leaderboard.tracks import settings_text
    from benchmark.sweep import estimate, stand

    jobs = stand(plans, results, rerun.value)
    rows = [
        {
            "method": job.spec.method,
            "dataset": job.spec.dataset.name,
            "protocol": job.spec.protocol,
            "changes": job.spec.config_overrides | {f"recipe.{k}": v for k, v in job.spec.overrides.items()},
            "seed": job.spec.seed,
            "run_id": job.spec.run_id,
            "state": job.state,
            "action": "launch" if job.launch else "skip",
        }
        for job in jobs
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    columns = ["method", "dataset", "protocol", "changes", "seed", "run", "state", "action"]
    shown = [row | {"changes": settings_text(row["changes"]), "run": row["run_id"][:12]} for row in rows]
    _print_table(columns, [[row[column] for column in columns] for row in shown])
    launched = sum(job.launch for job in jobs)
    states = Counter(job.state for job in jobs)
    print(f"{launched} of {len(jobs)} runs to launch ({', '.join(f'{n} {state}' for state, n in states.items())})")
    seconds, unknown = estimate(jobs, _known_records(results) if launched else [])
    if launched > unknown:
        more = f"; of {unknown} no record says anything" if unknown else ""
        print(f"about {duration(seconds)} on one device, as long as such runs took before{more}")


def _known_records(results: Path) -> list[Record]:
    from benchmark.store import load_records

    stores = [root for root in dict.fromkeys((results, PUBLISHED)) if root.is_dir()]
    return [record for root in stores for record in load_records(root, problems=[])]


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
                field: {"default": info.default, "about": info.description or ""}
                for field, info in method.Config.model_fields.items()
            },
        }
        for key, method in chosen
    }
    if as_json:
        print(json.dumps(facts, indent=1))
    elif name is None:
        _print_lines((key, f"{fact['title']}: {_first_sentence(fact['about'])}") for key, fact in facts.items())
    else:
        print(f"{facts[name]['title']}, version {facts[name]['version']}\n\n{facts[name]['about']}\n")
        _print_lines(
            (f"{field}={about['default']}", about["about"]) for field, about in facts[name]["settings"].items()
        )


@app.command(help="List the registered datasets.\n\n\b\nExample:\n  ltbench datasets --json")
def datasets(as_json: JsonOption = False) -> None:
    from benchmark.data.dataset import DATASETS

    cards = {name: folder.card for name, folder in DATASETS.items()}
    if as_json:
        print(json.dumps({name: card.model_dump(mode="json") for name, card in cards.items()}, indent=1))
    else:
        _print_lines((name, f"{card.title}: {card.notes}") for name, card in cards.items())


@app.command(help="List the protocols.\n\n\b\nExample:\n  ltbench protocols --json")
def protocols(as_json: JsonOption = False) -> None:
    from benchmark.spec import PROTOCOLS

    if as_json:
        print(json.dumps({name: entry.model_dump(mode="json") for name, entry in PROTOCOLS.items()}, indent=1))
    else:
        _print_lines(
            (name, f"{entry.title}: {entry.recipe.backbone}, {entry.recipe.weights}, {entry.recipe.image_size} px")
            for name, entry in PROTOCOLS.items()
        )


@app.command(
    help="Print one run's record.\n\n\b\nExamples:\n  ltbench show erm-s0-1a2b3c4d5e6f\n  ltbench show 1a2b3c4d"
)
def show(
    run: Annotated[str, typer.Argument(help="Folder name of the run, or the first digits of its id.")],
    results: Annotated[
        Path | None, typer.Option(envvar="LTBENCH_RESULTS", help="Results folder; by default both.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    record = _find_record(run, [results] if results else [LOCAL, PUBLISHED])
    if as_json:
        print(record.to_json(), end="")
        return
    from benchmark.leaderboard.tracks import plain

    spec, metrics = record.spec, record.metrics
    rows = [
        ("run", f"{spec.folder_name} ({record.run_id})"),
        ("method", f"{record.method_title}, version {spec.method_version}, {json.dumps(spec.config)}"),
        ("dataset", f"{record.dataset_title}, fingerprint {spec.dataset.fingerprint[:12]}"),
        ("protocol", f"{spec.protocol} version {spec.protocol_version}, {json.dumps(spec.overrides)}"),
        ("backbone", f"{spec.recipe.backbone}, weights {spec.weights.name}, {spec.recipe.image_size} px"),
        ("weights scored", f"{record.declared}, epoch {record.selection.epoch} by rule {record.selection.rule}"),
        *((name, _number(getattr(metrics, name))) for name in ("overall", "head", "medium", "tail", "cf1", "of1")),
        (
            "training",
            f"{record.timings.train_s:.0f} s, {record.timings.images_per_second:.0f} images/s, "
            f"{record.environment.gpu or record.environment.device}",
        ),
        ("code", f"commit {record.environment.git_commit}{' with changes' if record.environment.git_dirty else ''}"),
        ("finished", record.finished),
    ]
    _print_lines((name, plain(text)) for name, text in rows)
    _print_table(
        ["class", "group", "training images", "AP"],
        [[name, record.groups[name], record.class_counts[name], _number(ap)] for name, ap in metrics.per_class.items()],
    )


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[a-z)])[.:;](?=\s)", " ".join(text.split()), maxsplit=1)[0].rstrip(".")


def _find_record(run: str, stores: list[Path]) -> Any:
    from benchmark.store import RunNotFound, Store

    for root in stores[:-1]:
        with contextlib.suppress(RunNotFound):
            return Store(root).find(run).record()
    return Store(stores[-1]).find(run).record()


@app.command(
    help="Tell where every run of a results folder stands.\n\n\b\nExample:\n  ltbench status --results results"
)
def status(results: ResultsOption = LOCAL, as_json: JsonOption = False) -> None:
    from benchmark.store import RunFolder

    # One's own folder appears with the first run; another that is missing was misspelt.
    if results != LOCAL and not results.is_dir():
        raise InputError(f"{results}: no such results folder; name one with --results")
    rows = []
    for path in sorted(results.glob("runs/*/")):
        folder = RunFolder(path)
        try:
            state, note = folder.state(), ""
            if state == "failed":
                note = str((folder.last_attempt() or {}).get("message", ""))
        except StoreError as error:
            state, note = "damaged", str(error)
        rows.append({"run": path.name, "state": state, "note": note})
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    _print_table(["run", "state", "note"], [list(row.values()) for row in rows])
    print(f"{len(rows)} runs in {results}")


@app.command(
    help="Check a dataset's lists and images and decode the images into the cache.\n\n\b\n"
    "Examples:\n  ltbench data\n  ltbench data --dataset voc-lt --data-root /data"
)
def data(
    dataset: Annotated[str, typer.Option(help="Registered name, or the path of a dataset folder.")] = "shapes-lt",
    protocol: ProtocolOption = None,
    backbone: BackboneOption = None,
    weights: WeightsOption = None,
    image_size: SizeOption = None,
    data_root: DataRootOption = None,
) -> None:
    from benchmark.progress import Reporter
    from benchmark.runner import plan, prepare_images

    work = plan(
        "erm",
        dataset,
        protocol=protocol,
        backbone=backbone,
        weights=weights,
        image_size=image_size,
        data_root=data_root,
    )
    cached = prepare_images(work, Reporter(_console(stderr=True)))
    groups = list(work.dataset.groups.values())
    print(
        f"{work.dataset.card.title}: {len(groups)} classes, "
        + ", ".join(f"{groups.count(group)} {group}" for group in ("head", "medium", "tail"))
    )
    _print_lines(
        (name, f"{images.num_images} images, {images.size} px, pixels {images.digest[:12]}")
        for name, images in cached.items()
    )


@app.command(
    help="Make the leaderboard from the records of a results folder.\n\n\b\nExamples:\n  ltbench leaderboard\n"
    "  ltbench leaderboard --check\n  ltbench leaderboard --results results/local --out board"
)
def leaderboard(
    results: Annotated[
        Path | None,
        typer.Option(
            envvar="LTBENCH_RESULTS",
            help="Results folder.  [default: results (published) and, where it exists, results/local (yours)]",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write.  [default: the results folder]")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a file differs.")] = False,
) -> None:
    from benchmark import leaderboard as board

    stores = [results] if results else [PUBLISHED, *([LOCAL] if (LOCAL / "runs").exists() else [])]
    if out is not None and results is None:
        stores = [PUBLISHED]
    for store in stores:
        if not store.is_dir():
            raise InputError(f"{store}: no such results folder; give one with --results")
        target = out or store
        problems: list[StoreError] = []
        if check:
            differences = board.check(store, target, problems)
            for difference in differences:
                print(difference, file=sys.stderr)
            _show_problems(problems)
            if problems:
                raise StoreError(f"{store}: {len(problems)} records are not whole (above); run them again")
            if differences:
                raise StoreError(
                    f"{target / 'leaderboard.md'}: not what the records of {store} give ({len(differences)} "
                    "differences above); write it anew with ltbench leaderboard"
                )
            print(f"{target / 'leaderboard.md'}: up to date")
        else:
            board.write(store, target, problems)
            print(f"{target / 'leaderboard.md'}")
        _show_problems(problems)


def _show_problems(problems: list[StoreError]) -> None:
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)


def _parse_settings(settings: Iterable[str] | None, parse: Callable[[str], Any] | None = None) -> dict[str, Any]:
    from benchmark.yamlio import parse_value

    parse = parse or parse_value
    parsed: dict[str, Any] = {}
    for item in settings or ():
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise InputError(f"--set {item!r}: write --set key=value")
        if key in parsed:
            raise InputError(f"--set {key} is given twice")
        parsed[key] = parse(value)
    return parsed


def _parse_names(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise InputError(f"{option} {text!r}: give names separated by commas, each once")
    return names


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _print_lines(rows: Iterable[tuple[str, str]]) -> None:
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        print(f"{name:<{width}}  {text}")


def _print_table(header: list[str], rows: list[list[Any]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from benchmark.leaderboard.tracks import plain

    # What is copied into the next command must not be cut.
    table = Table()
    for name in header:
        table.add_column(name, no_wrap=name in ("run", "method"), overflow="fold")
    for row in rows:
        table.add_row(*(escape(plain(str(cell))) for cell in row))
    _console().print(table)


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, an interruption 130."""
    try:
        app()
    except RunInterrupted as error:
        print(f"interrupted: {error}", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # A reader that goes away (`| head`) ends the program quietly; Python must not try to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except LtbenchError as error:
        if os.environ.get("LTBENCH_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
