"""Print one run's record.

\b
Examples:
  ltbench show erm-s0-1a2b
  ltbench show 1a2b3c4d
"""

from __future__ import annotations

import json

from benchmark.cli.options import JsonOption, RunArgument, StoresOption
from benchmark.cli.output import number, print_lines, print_table
from benchmark.cli.stores import find_run


def show(
    run: RunArgument,
    results: StoresOption = None,
    as_json: JsonOption = False,
) -> None:
    record = find_run(run, results).record()
    assert record is not None  # only finished runs are found
    if as_json:
        print(record.to_json(), end="")
        return
    from benchmark.store.records import GROUPS, Metrics
    from benchmark.ui.progress import plural
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
        *([] if record.episode is None else [("episode", f"{record.episode}: its support set was trained on")]),
        ("protocol", f"{spec.protocol} version {spec.protocol_version}, {json.dumps(spec.overrides)}"),
        ("backbone", f"{network}, {spec.recipe.image_size} px"),
        ("weights scored", f"{record.declared}, epoch {record.selection.epoch} by rule {record.selection.rule}"),
        ("mAP, test list", f"{means(metrics)}; {record.num_test_images:,} images: these are ranked"),
        *(
            [("duplicates", f"{plural(record.shared_images, 'image')} in two lists under different names: allowed")]
            if record.shared_images
            else []
        ),
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
