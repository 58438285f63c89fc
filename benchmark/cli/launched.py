"""Output of the commands that launch runs: the plan of a dry run, and the report of a launch."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cli.output import (
    console,
    print_table,
    report_unwritten,
    show_problems,
    stderr_reporter,
)
from benchmark.errors import RunFailed, StoreError

if TYPE_CHECKING:
    from benchmark.launch.jobs import Job
    from benchmark.launch.report import Report


def print_plan(jobs: Sequence[Job], results: Path, as_json: bool) -> None:
    """Print the runs of a dry run, their states, and whether they would be launched."""
    from benchmark.launch.forecast import forecast, missing, warnings
    from benchmark.leaderboard.tracks import settings_text

    rows: list[dict[str, Any]] = [
        {
            "method": job.spec.method,
            "dataset": job.spec.dataset.name,
            "protocol": job.spec.protocol,
            "backbone": job.spec.recipe.backbone,
            "changes": job.spec.config_overrides | {f"recipe.{k}": v for k, v in job.spec.overrides.items()},
            "seed": job.spec.seed,
            "run_id": job.plan.run_id,
            "state": job.decision.state,
            "action": "launch" if job.decision.launch else "skip",
        }
        for job in jobs
    ]
    for line in missing(jobs):
        print(f"missing: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    columns = ["method", "dataset", "protocol", "backbone", "changes", "seed", "run", "state", "action"]
    # A protocol gives a method its network: only a sweep over networks has several.
    if len({(row["method"], row["protocol"], row["backbone"]) for row in rows}) == len(
        {(row["method"], row["protocol"]) for row in rows}
    ):
        columns.remove("backbone")
    shown = [row | {"changes": settings_text(row["changes"]), "run": row["run_id"][:12]} for row in rows]
    print_table(columns, [[row[column] for column in columns] for row in shown])
    for line in warnings(jobs):
        print(line, file=sys.stderr)
    for line in forecast(jobs, results):
        print(line)


def print_report(report: Report, as_json: bool) -> None:
    """Update the leaderboard in the results folder, and print its tables of these runs and the runs that are not done.

    Raises RunFailed where a run failed.
    """
    from benchmark.leaderboard.board import load_board
    from benchmark.leaderboard.files import sole_writer, write
    from benchmark.leaderboard.terminal import terminal_table

    problems: list[StoreError] = []
    ended = report.of_state("done", "held", "failed")
    records = list(report.records())
    if records:
        reporter = stderr_reporter()
        with sole_writer(report.results, reporter):
            board = load_board(report.results, report.results, problems, reporter)
            write(board, report.results, reporter=reporter)
    if as_json:
        print(json.dumps([record.model_dump(mode="json") for record in records], indent=1))
    elif records:
        shown = {record.run_id for record in records}
        for table in board.tables:
            if shown & table.run_ids:
                console().print(terminal_table(table))
        print(f"leaderboard: {report.results / 'leaderboard.md'}")
    report_unwritten(f"{len(records)} of {len(ended)} runs are done: ltbench leaderboard shows them")
    show_problems(problems)
    if held := report.of_state("held"):
        print(f"{len(held)} runs are being worked on by other processes: ltbench status", file=sys.stderr)
    if failed := report.of_state("failed"):
        first = f"{failed[0].run}: {failed[0].message}"
        raise RunFailed(f"{len(failed)} of {len(ended)} runs failed: {first}", cause="code")
