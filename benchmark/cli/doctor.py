"""Tell what this machine offers to runs, what it lacks, and what to do about it.

\b
Examples:
  ltbench doctor
  ltbench doctor --results /scratch/results --data-root /data --json
"""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from benchmark.cli.options import DataRootOption, JsonOption, ResultsOption
from benchmark.cli.output import console, stderr_reporter
from benchmark.store import LOCAL


def doctor(results: ResultsOption = LOCAL, data_root: DataRootOption = None, as_json: JsonOption = False) -> None:
    from benchmark.running.doctor import Finding, Place, all_checks, examine
    from benchmark.ui.progress import plural
    from benchmark.ui.tables import FittedTable

    checks, findings = all_checks(), list[Finding]()
    with stderr_reporter().task("checking", len(checks)) as task:
        for done, check in enumerate(checks, 1):
            findings += examine(check, Place(results, data_root))
            task.update(done)
    verdicts = [finding.verdict for finding in findings]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        rows = [
            (finding.verdict, finding.check, "; ".join(filter(None, (finding.text, finding.remedy))))
            for finding in findings
        ]
        console().print(FittedTable(("", "", ""), rows))
        print(f"{plural(verdicts.count('bad'), 'fault')}, {plural(verdicts.count('warn'), 'warning')}")
    if "bad" in verdicts:
        raise typer.Exit(1)
