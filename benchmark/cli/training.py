"""Commands that train, and those that follow what is being trained: run, sweep, status, cancel, logs."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import (
    LOCAL,
    PUBLISHED,
    BackboneOption,
    Cluster,
    DataRootOption,
    DeviceOption,
    DryRunOption,
    EpochsOption,
    GpusOption,
    JsonOption,
    OracleOption,
    ProtocolOption,
    Rerun,
    RerunOption,
    ResultsOption,
    RunArgument,
    SetOption,
    SizeOption,
    WeightsOption,
    parse_names,
    parse_settings,
)
from benchmark.cli.output import console, print_error, print_table, settle_output, show_problems
from benchmark.errors import InputError, LtbenchError, RunFailed, RunHeld, RunInterrupted, StoreError
from benchmark.ui.text import harmless

if TYPE_CHECKING:
    from benchmark.launch.backends.slurm import Site
    from benchmark.launch.product import Job
    from benchmark.launch.worker import Ending
    from benchmark.running.plan import Plan
    from benchmark.store.records import Record


# More finished runs than this are only counted, unless they are asked for.
FEW = 40

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
    gpus: GpusOption = 1,
    oracle: OracleOption = False,
    results: ResultsOption = LOCAL,
    rerun: RerunOption = Rerun.missing,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    if seed is not None and seeds is not None:
        raise InputError("give --seed or --seeds, not both")
    from benchmark.launch.product import parse_seeds
    from benchmark.running.plan import make_plan

    common = {
        "protocol": protocol,
        "backbone": backbone,
        "weights": weights,
        "image_size": image_size,
        "epochs": epochs,
        "settings": parse_settings(settings),
        "data_root": data_root,
        "oracle": oracle,
    }
    chosen = parse_seeds(seeds) if seeds is not None else [seed or 0]
    plans = [make_plan(method, dataset, seed=s, **common) for s in chosen]
    if dry_run:
        _show_plan(_stand(plans, results, rerun), results, as_json)
    elif gpus == 1:
        _run_inline(plans, results, rerun, device, as_json)
    else:
        _check_batches(plans, gpus)
        _run_locally(_stand(plans, results, rerun), results, device, workers=1, gpus=gpus, retries=0, as_json=as_json)


SWEEP_HELP = """Train every combination of methods, datasets, protocols, backbones, settings and seeds; only what is
missing is run.

\b
Examples:
  ltbench sweep --methods all --seeds 0-2
  ltbench sweep --methods erm,asl,db-focal --datasets voc-lt,coco-lt --data-root /data --seeds 0-4
  ltbench sweep --methods asl --set gamma_neg=2,4 --set recipe.optimizer.lr=1e-4,3e-4 --dry-run
  ltbench sweep --file sweep.yaml
  ltbench sweep --methods all --cluster local --workers 2
  ltbench sweep --file sweep.yaml --cluster slurm --slurm partition=gpu --slurm time=4:00:00 --pack 4

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
    cluster: Annotated[
        Cluster,
        typer.Option(help="local: one run on each GPU of this machine; slurm: a cluster; inline: in this process."),
    ] = Cluster.local,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="local: runs at once.  [default: one a GPU; without a GPU 1]")
    ] = None,
    gpus: GpusOption = 1,
    nodes: Annotated[int, typer.Option(metavar="M", min=1, help="slurm: nodes that one run is spread over.")] = 1,
    retries: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="local, slurm: tries again of a run that crashed.  [default: 1]"),
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="slurm: partition, account, qos, gres, constraint, time, memory ..."),
    ] = None,
    pack: Annotated[int, typer.Option(metavar="K", min=1, help="slurm: runs in one job, one after the other.")] = 1,
    parallelism: Annotated[
        int | None,
        typer.Option("--array-parallelism", metavar="N", min=1, help="slurm: jobs at once.  [default: 256]"),
    ] = None,
    oracle: OracleOption = False,
    results: ResultsOption = LOCAL,
    rerun: RerunOption = Rerun.missing,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    from benchmark.launch.product import Sweep, expand, load_sweep, parse_axis, parse_seeds
    from benchmark.spec import parse

    axes = load_sweep(file) if file is not None else {}
    if methods is None and "methods" not in axes:
        raise InputError("a sweep needs methods: give --methods all, --methods a,b or --file")
    given = {
        "methods": methods if methods in (None, "all") else parse_names(methods, "--methods"),
        "datasets": None if datasets is None else parse_names(datasets, "--datasets"),
        "protocols": None if protocols is None else parse_names(protocols, "--protocols"),
        "backbones": None if backbones is None else parse_names(backbones, "--backbones"),
        "seeds": None if seeds is None else parse_seeds(seeds),
        "weights": weights,
        "image_size": image_size,
        "epochs": epochs,
        "settings": parse_settings(settings, parse_axis) or None,
        "oracle": oracle or None,
    }
    axes |= {key: value for key, value in given.items() if value is not None}
    plans, unfit = expand(parse(Sweep, axes, "sweep"), data_root)
    show_problems(unfit)
    _check_cluster_options(
        cluster,
        workers=workers is not None,
        gpus=gpus > 1,
        nodes=nodes > 1,
        slurm=bool(slurm),
        pack=pack > 1,
        array_parallelism=parallelism is not None,
        retries=retries is not None,
    )
    retries = 1 if retries is None else retries
    _check_batches(plans, gpus * nodes)
    if cluster is Cluster.slurm:
        from benchmark.launch.backends.slurm import Site, check_folder, site_options

        if device not in ("auto", "cuda", "cpu"):
            raise InputError(f"--device {device!r}: with --cluster slurm use auto, cuda or cpu")
        options = site_options(parse_settings(slurm, option="--slurm"))
        check_folder(results)
        site = Site(options, pack, parallelism or 256, retries, gpus, nodes)
        _submit(plans, results, rerun, device, site, dry_run, as_json)
    elif dry_run:
        _show_plan(_stand(plans, results, rerun), results, as_json)
    elif cluster is Cluster.inline:
        _run_inline(plans, results, rerun, device, as_json)
    else:
        jobs = _stand(plans, results, rerun)
        _run_locally(jobs, results, device, workers, gpus, retries, as_json)


def _check_cluster_options(cluster: Cluster, **given: bool) -> None:
    """Raise InputError for an option that would have no effect."""
    only_slurm = {"nodes", "slurm", "pack", "array_parallelism"}
    idle = {
        Cluster.local: only_slurm,
        Cluster.slurm: {"workers"},
        Cluster.inline: only_slurm | {"workers", "gpus", "retries"},
    }[cluster]
    for name, is_given in given.items():
        if is_given and name in idle:
            option = name.replace("_", "-")
            raise InputError(f"--{option} has no effect with --cluster {cluster.value}; leave it out")


def _check_batches(plans: list[Plan], processes: int) -> None:
    from benchmark.distributed import check_batch_size

    for work in plans:
        check_batch_size(work.spec.recipe.batch_size, processes)


def _stand(plans: list[Plan], results: Path, rerun: Rerun) -> list[Job]:
    """Where each run stands; one that waits in SLURM's queue is not launched again."""
    from benchmark.launch.backends.slurm import queue
    from benchmark.launch.product import stand
    from benchmark.launch.sweeps import Sweeps

    ids = Sweeps(results).job_ids()
    queued = queue(ids[work.folder_name] for work in plans if work.folder_name in ids)
    return stand(plans, results, rerun.value, {run for run, job in ids.items() if job in queued})


def _run_inline(plans: list[Plan], results: Path, rerun: Rerun, device: str, as_json: bool) -> None:
    """Run every plan in this process; one that fails does not stop the others."""
    from benchmark.launch.worker import Ending
    from benchmark.running.execute import execute, summary
    from benchmark.running.rerun import decide
    from benchmark.store.runs import Store
    from benchmark.ui.progress import Reporter

    reporter = Reporter(console(stderr=True))
    endings: dict[str, Ending] = {}
    for number, work in enumerate(plans, 1):
        if len(plans) > 1:
            reporter.line(f"run {number} of {len(plans)}")
        run = work.spec.folder_name
        try:
            folder = Store(results).folder(work.spec)
            record = execute(work, decide(work, folder, rerun.value), folder, device, reporter)
            endings[run] = Ending("done", summary(record.metrics))
        except RunInterrupted:
            raise
        except Exception as error:
            # What cannot even be started is most often wrong for all: say it once.
            if len(plans) == 1 or (number == 1 and isinstance(error, InputError)):
                raise
            kind = "" if isinstance(error, LtbenchError) else f"{type(error).__name__}: "
            endings[run] = Ending("held" if isinstance(error, RunHeld) else "failed", f"{kind}{error}")
            reporter.line(f"{endings[run].outcome}: {kind}{error}")
    _conclude(endings, results, as_json)


def _run_locally(
    jobs: list[Job], results: Path, device: str, workers: int | None, gpus: int, retries: int, as_json: bool
) -> None:
    """Run what is to launch on this machine's devices, in processes of their own."""
    from benchmark.data.images import cache_folder
    from benchmark.launch.backends.local import Pool, local_slots
    from benchmark.launch.sweeps import Sweeps
    from benchmark.launch.worker import order

    slots = local_slots(device, workers, gpus)
    cache_folder()  # what is wrong for all is said once
    orders = [order(job, results, device) for job in jobs if job.decision.launch]
    _print_summary(jobs, results, stderr=True)
    endings = {}
    if orders:
        sweeps = Sweeps(results)
        sweeps.write(sweeps.new_folder(), "local", {order.run: "" for order in orders})
        endings = Pool(slots, retries, console(stderr=True)).run(orders)
    if len(endings) < len(orders) or any(ending.outcome == "interrupted" for ending in endings.values()):
        raise RunInterrupted("run the same command again to go on")
    for job in jobs:
        if not job.decision.launch and (ending := _stood(job, results)):
            endings[job.spec.folder_name] = ending
    _conclude(endings, results, as_json)


def _stood(job: Job, results: Path) -> Ending | None:
    """How a run ended that was not launched, as far as it has ended."""
    from benchmark.launch.worker import Ending
    from benchmark.store.runs import Store

    folder = Store(results).folder(job.spec)
    match job.decision.state:
        case "done" | "stale":
            return Ending("done", "before")
        case "other images":
            return Ending(
                "failed", f"{folder.path}: done on other images than are here now; make it anew with --rerun stale"
            )
        case "running" | "queued":
            return Ending("held", "")
        case "failed":
            message = (folder.last_attempt() or {}).get("message")
            return Ending("failed", f"failed before: {message}; try again with --rerun failed")
    return None


def _submit(
    plans: list[Plan], results: Path, rerun: Rerun, device: str, site: Site, dry_run: bool, as_json: bool
) -> None:
    """Put what is to launch in SLURM's queue."""
    from benchmark.launch.backends.slurm import submit, withdraw
    from benchmark.launch.sweeps import Sweeps
    from benchmark.launch.worker import order

    if dry_run:
        _show_plan(_stand(plans, results, rerun), results, as_json)
        return
    sweeps = Sweeps(results)
    with sweeps.lock():
        jobs = _stand(plans, results, rerun)
        orders = [order(job, results, device) for job in jobs if job.decision.launch]
        _print_summary(jobs, results, stderr=True)
        if not orders:
            if as_json:
                print(json.dumps({"jobs": {}}))
            return
        folder = sweeps.new_folder()
        ids: dict[str, str] = {}
        try:
            ids = submit(orders, folder, site)
            sweep = sweeps.write(folder, "slurm", ids)
        except BaseException:
            withdraw(ids)
            shutil.rmtree(folder, ignore_errors=True)
            raise
    if as_json:
        print(sweep.model_dump_json(indent=1))
    else:
        print(f"sweep {sweep.name}: {len(orders)} runs in {len(set(sweep.jobs.values()))} jobs; this shell may exit")
        where = "" if results == LOCAL else f" --results {shlex.quote(str(results))}"
        print(f"  ltbench status --watch{where}\n  ltbench cancel {sweep.name}{where}")
    settle_output(f"sweep {sweep.name} is submitted")


def _print_summary(jobs: list[Job], results: Path, stderr: bool = False) -> None:
    """What is to launch, how the runs stand, and how long it will take."""
    from benchmark.launch.product import estimate, without_oracle
    from benchmark.running.images import label_warnings
    from benchmark.ui.progress import duration

    for warning in dict.fromkeys(line for job in jobs for line in label_warnings(job.work.dataset)):
        print(warning, file=sys.stderr)
    out = sys.stderr if stderr else sys.stdout
    launched = sum(job.decision.launch for job in jobs)
    states = Counter(job.decision.state for job in jobs)
    counts = ", ".join(f"{n} {state}" for state, n in states.items())
    print(f"{launched} of {len(jobs)} runs to launch ({counts})", file=out)
    if bare := without_oracle(jobs, results):
        print(f"{bare} done runs have no logits of every epoch: --rerun always makes them anew with --oracle", file=out)
    seconds, unknown = estimate(jobs, _other_records(jobs, results) if launched else [])
    if launched > unknown:
        more = f"; of {unknown} no record says anything" if unknown else ""
        print(f"about {duration(seconds)} on one device, as long as such runs took before{more}", file=out)


def _conclude(endings: dict[str, Ending], results: Path, as_json: bool) -> None:
    """The leaderboard of what is done, and what is not."""
    from benchmark.leaderboard.board import load_board
    from benchmark.leaderboard.files import turn, write
    from benchmark.store.runs import RunFolder
    from benchmark.ui.progress import Reporter

    problems: list[StoreError] = []
    done = [run for run, ending in endings.items() if ending.outcome == "done"]
    records = [RunFolder(results / "runs" / run).record() for run in done]
    if records:
        reporter = Reporter(console(stderr=True))
        with turn(results, reporter):
            board = load_board(results, results, problems, reporter)
            write(board, results, reporter=reporter)
    if as_json:
        print(json.dumps([record.model_dump(mode="json") for record in records], indent=1))
    elif records:
        shown = {record.run_id for record in records}
        for table in board.tables:
            if shown & table.run_ids:
                console().print(table.to_rich())
        print(f"leaderboard: {results / 'leaderboard.md'}")
    settle_output(f"{len(done)} of {len(endings)} runs are done: ltbench leaderboard shows them")
    show_problems(problems)
    held = [run for run, ending in endings.items() if ending.outcome == "held"]
    if held:
        print(f"{len(held)} runs are being worked on by other processes: ltbench status", file=sys.stderr)
    failures = [f"{run}: {ending.message}" for run, ending in endings.items() if ending.outcome == "failed"]
    if failures:
        raise RunFailed(f"{len(failures)} of {len(endings)} runs failed: {failures[0]}", cause="code")


def _show_plan(jobs: list[Job], results: Path, as_json: bool) -> None:
    from benchmark.leaderboard.tracks import settings_text

    rows = [
        {
            "method": job.spec.method,
            "dataset": job.spec.dataset.name,
            "protocol": job.spec.protocol,
            "changes": job.spec.config_overrides | {f"recipe.{k}": v for k, v in job.spec.overrides.items()},
            "seed": job.spec.seed,
            "run_id": job.work.run_id,
            "state": job.decision.state,
            "action": "launch" if job.decision.launch else "skip",
        }
        for job in jobs
    ]
    for line in _absences(jobs):
        print(line, file=sys.stderr)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    columns = ["method", "dataset", "protocol", "changes", "seed", "run", "state", "action"]
    shown = [row | {"changes": settings_text(row["changes"]), "run": row["run_id"][:12]} for row in rows]
    print_table(columns, [[row[column] for column in columns] for row in shown])
    _print_summary(jobs, results)


def _absences(jobs: list[Job]) -> list[str]:
    """What the runs to launch need and is not on this machine, each line once."""
    from benchmark.running.absent import absences

    # Runs that differ in the seed or in the rest of the recipe need the same.
    first: dict[tuple, Job] = {}
    for job in jobs:
        spec = job.spec
        needs = (spec.method, repr(spec.config), spec.dataset.fingerprint, spec.recipe.backbone, spec.weights.name)
        if job.decision.launch:
            first.setdefault(needs, job)
    lines = [line for job in first.values() for line in absences(job.work)]
    return [f"missing: {line}" for line in dict.fromkeys(lines)]


def _other_records(jobs: list[Job], results: Path) -> Iterator[Record]:
    from benchmark.store.runs import load_records

    names = {job.work.folder_name for job in jobs}
    for root in dict.fromkeys((results, PUBLISHED)):
        if root.is_dir():
            yield from load_records(root, problems=[], leave_out=names if root == results else ())


STATUS_HELP = """Tell where the runs of a results folder stand, and where in SLURM's queue.

\b
Examples:
  ltbench status
  ltbench status --watch --results results
"""


@app.command(help=STATUS_HELP)
def status(
    results: ResultsOption = LOCAL,
    show_all: Annotated[
        bool, typer.Option("--all", help=f"List finished runs too where there are over {FEW}.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing them until none is running or queued.")] = False,
    as_json: JsonOption = False,
) -> None:
    from benchmark.launch import status as board

    # One's own folder appears with the first run; another that is missing was misspelt.
    if results != LOCAL and not results.is_dir():
        raise InputError(f"{results}: no such results folder; name one with --results")
    if watch:
        board.watch(results, console(), show_all)
        return
    rows, unknown = board.rows(results)
    if unknown:
        print_error(unknown)
    if as_json:
        print(json.dumps([vars(row) for row in rows], indent=1))
        return
    shown = rows if show_all or len(rows) <= FEW else [row for row in rows if row.state != "done"]
    print_table(board.HEADER, board.cells(shown))
    hidden = " (done ones not listed: --all)" if len(shown) < len(rows) else ""
    print(f"{board.summary(rows)} in {results}{hidden}")


@app.command(
    help="Cancel a sweep: what waits is taken out of SLURM's queue; what runs saves itself.\n\n\b\n"
    "Example:\n  ltbench cancel 20260131-120000-1a2b"
)
def cancel(
    sweep: Annotated[str, typer.Argument(help="Name of the sweep, or the beginning of it.")],
    results: ResultsOption = LOCAL,
) -> None:
    from benchmark.launch.sweeps import Sweeps, stop

    print(stop(Sweeps(results).find(sweep)))


@app.command(
    help="Print the log of a run.\n\n\b\nExamples:\n  ltbench logs 1a2b3c4d\n  ltbench logs erm-s0-1a2b3c4d5e6f -f"
)
def logs(
    run: RunArgument,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run ends.")] = False,
    results: ResultsOption = LOCAL,
) -> None:
    from benchmark.launch.logs import follow_log, log_of

    path, folder = log_of(run, results)
    for text in follow_log(path, folder, results, follow):
        print(harmless(text), end="", flush=True)
