"""Train one method and score it once on the test set.

\b
Examples:
  ltbench run --method erm
  ltbench run --method asl --seeds 0-2 --set gamma_neg=2
  ltbench run --method db-focal --dataset voc-lt --data-root /data --device cuda
  ltbench run --method erm --dataset my/dataset --backbone mobilenet_v2 \\
      --weights mobilenet.safetensors --image-size 161 --set recipe.optimizer.lr=1e-4
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from benchmark.cli.launched import print_plan, print_report
from benchmark.cli.options import (
    BackboneOption,
    DataRootOption,
    DeviceOption,
    DryRunOption,
    DuplicatesOption,
    EpochsOption,
    GpusOption,
    JsonOption,
    OracleOption,
    ProtocolOption,
    RerunOption,
    ResultsOption,
    SetOption,
    SizeOption,
    WeightsOption,
    parse_settings,
)
from benchmark.cli.output import stderr_reporter
from benchmark.errors import InputError
from benchmark.store import LOCAL


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
    allow_duplicates: DuplicatesOption = False,
    results: ResultsOption = LOCAL,
    rerun: RerunOption = "missing",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    if seed is not None and seeds is not None:
        raise InputError("give --seed or --seeds, not both")
    from benchmark.launch.backend import make_backend
    from benchmark.launch.launch import launch, left_to_do
    from benchmark.launch.product import parse_seeds
    from benchmark.running.plan import make_plans

    common: dict[str, Any] = {
        "protocol": protocol,
        "backbone": backbone,
        "weights": weights,
        "image_size": image_size,
        "epochs": epochs,
        "settings": parse_settings(settings),
        "data_root": data_root,
        "oracle": oracle,
        "allow_duplicates": allow_duplicates,
    }
    chosen = parse_seeds(seeds) if seeds is not None else [seed or 0]
    plans = make_plans(method, dataset, seeds=chosen, **common)
    if dry_run:
        print_plan(left_to_do(plans, results, rerun), results, as_json)
        return
    # A launcher starts the processes of a run that is spread over several.
    spread = {"workers": 1, "gpus": gpus, "retries": 0}
    backend = make_backend("inline", {}) if gpus == 1 else make_backend("local", spread)
    report = launch(plans, results, backend=backend, rerun=rerun, device=device, reporter=stderr_reporter())
    print_report(report, as_json)
