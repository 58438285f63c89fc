"""Train every combination of methods, datasets, protocols, backbones, settings and seeds; only what is
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

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.cli.backend_options import DEFAULT_CLUSTER, ClusterOption, given_options, takes_backend_options
from benchmark.cli.launched import print_plan, print_report
from benchmark.cli.options import (
    DataRootOption,
    DeviceOption,
    DryRunOption,
    DuplicatesOption,
    EpochsOption,
    JsonOption,
    OracleOption,
    RerunOption,
    ResultsOption,
    SizeOption,
    WeightsOption,
    parse_names,
    parse_settings,
)
from benchmark.cli.output import report_unwritten, show_problems, stderr_reporter
from benchmark.errors import InputError
from benchmark.launch.backend import Cluster, make_backend
from benchmark.store import LOCAL

if TYPE_CHECKING:
    from benchmark.launch.report import Report


@takes_backend_options(after="cluster")
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
    cluster: ClusterOption = DEFAULT_CLUSTER,
    oracle: OracleOption = False,
    allow_duplicates: DuplicatesOption = False,
    results: ResultsOption = LOCAL,
    rerun: RerunOption = "missing",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    from benchmark.launch.launch import launch, left_to_do
    from benchmark.launch.product import Sweep, expand, load_sweep, parse_axis, parse_seeds
    from benchmark.spec import parse

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
        "allow_duplicates": allow_duplicates or None,
    }
    axes = load_sweep(file) if file is not None else {}
    axes |= {key: value for key, value in given.items() if value is not None}
    if "methods" not in axes:
        raise InputError("a sweep needs methods: give --methods all, --methods a,b or --file")
    plans, unfit = expand(parse(Sweep, axes, "sweep"), data_root)
    show_problems(unfit)
    backend = make_backend(cluster.value, given_options(options))
    if dry_run:
        backend.check(plans, device, results)
        print_plan(left_to_do(plans, results, rerun), results, as_json)
        return
    report = launch(plans, results, backend=backend, rerun=rerun, device=device, reporter=stderr_reporter())
    show = _print_submitted if isinstance(backend, Cluster) else print_report
    show(report, as_json)


def _print_submitted(report: Report, as_json: bool) -> None:
    """Print the submitted sweep, and the commands that follow and cancel it."""
    sweep = report.sweep
    if sweep is None:
        if as_json:
            print(json.dumps({"jobs": {}}))
        return
    if as_json:
        print(sweep.model_dump_json(indent=1))
    else:
        runs, jobs = len(sweep.jobs), len(set(sweep.jobs.values()))
        print(f"sweep {sweep.name}: {runs} runs in {jobs} jobs; this shell may exit")
        where = "" if report.results == LOCAL else f" --results {shlex.quote(str(report.results))}"
        print(f"  ltbench status --watch{where}\n  ltbench cancel {sweep.name}{where}")
    report_unwritten(f"sweep {sweep.name} is submitted")
