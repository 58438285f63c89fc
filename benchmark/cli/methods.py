"""List the methods, or the settings of one method.

\b
Examples:
  ltbench methods
  ltbench methods asl
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from benchmark.cli.options import JsonOption
from benchmark.cli.output import print_lines


def methods(
    name: Annotated[str | None, typer.Argument(help="Show this method's documentation and settings.")] = None,
    as_json: JsonOption = False,
) -> None:
    from benchmark.method import METHODS, source_of

    chosen = METHODS.items() if name is None else [(name, METHODS.get(name))]
    facts: dict[str, dict[str, Any]] = {
        key: {
            "title": method.title,
            "version": method.version,
            "source": source_of(method),
            "about": inspect.cleandoc(method.__doc__ or ""),
            "settings": {
                field: {"default": info.default, "about": info.description or "", "values": _values(info.annotation)}
                for field, info in method.Config.model_fields.items()
            },
        }
        for key, method in chosen
    }
    if as_json:
        print(json.dumps(facts, indent=1))
    elif name is None:
        print_lines(
            (key, f"{fact['title']}: {_first_sentence(fact['about'])} [{fact['source']}]")
            for key, fact in facts.items()
        )
    else:
        rows: list[tuple[str, str]] = []
        fact = facts[name]
        print(f"{fact['title']}, version {fact['version']}, {fact['source']}\n\n{fact['about']}\n")
        for field, about in fact["settings"].items():
            values = " | ".join(map(str, about["values"]))
            rows.append((f"{field}={about['default']}", about["about"] + (f" [{values}]" if values else "")))
        print_lines(rows)


def _values(annotation: Any) -> list[Any]:
    """The values of a setting that is a choice; empty for others."""
    if annotation is bool:
        return [True, False]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in _values(part)]


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[a-z)])[.:;](?=\s)", " ".join(text.split()), maxsplit=1)[0].rstrip(".")
