"""List the pretrained weights that protocols need.

Each with the file's place on this machine, whether it is there or not, its address and its published sha256.

\b
Examples:
  ltbench weights list --protocol controlled
  ltbench weights list --method cprfl --json
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.cli.options import JsonOption
from benchmark.cli.output import print_lines, show_problems
from benchmark.ui.text import in_bytes

if TYPE_CHECKING:
    from benchmark.running.pretrained import Needed

# More methods than this are counted.
_NAMED = 3


def list_(
    protocol: Annotated[str | None, typer.Option(help="What this protocol needs; by default all.")] = None,
    method: Annotated[str | None, typer.Option(help="What this method needs; by default all.")] = None,
    as_json: JsonOption = False,
) -> None:
    from benchmark.running.pretrained import needed_weights

    needed, problems = needed_weights(protocol, method)
    if as_json:
        print(json.dumps([_facts(item) for item in needed], indent=1))
    else:
        print_lines(row for item in needed for row in _rows(item))
        if missing := sum(not item.weights.is_here() for item in needed):
            print(f"{missing} missing: `ltbench weights fetch` brings them, or put each file at its place by hand")
    show_problems(problems)


def _facts(needed: Needed) -> dict[str, Any]:
    weights, file = needed.weights, needed.weights.file
    here = weights.is_here()
    return {
        "name": weights.name,
        "here": here,
        "path": None if file is None else str(file.path),
        "size": file.path.stat().st_size if file is not None and here else None,
        "sha256": (file.sha256 if file is not None else "") or None,
        "address": (file.address if file is not None else "") or None,
        "remedy": None if file is None or here else file.remedy(weights.name),
        "used_by": needed.users,
    }


def _rows(item: Needed) -> Iterator[tuple[str, str]]:
    facts = _facts(item)
    size = "" if facts["size"] is None else f", {in_bytes(facts['size'])}"
    yield facts["name"], "random" if item.weights.file is None else f"here{size}" if facts["here"] else "missing"
    cut = "..." if facts["sha256"] and len(facts["sha256"]) < 64 else ""
    shown = {"file": facts["path"], "from": facts["address"], "sha256": facts["sha256"] and facts["sha256"] + cut}
    if not facts["address"]:
        shown["remedy"] = facts["remedy"]
    yield from ((f"  {key}", value) for key, value in shown.items() if value)
    for protocol, methods in facts["used_by"].items():
        yield f"  for {protocol}", ", ".join(methods) if len(methods) <= _NAMED else f"{len(methods)} methods"
