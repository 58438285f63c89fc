"""YAML as the project reads it: safe, small, floats of YAML 1.2, no key twice, errors that name file and line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from benchmark.base.files import read_regular
from benchmark.errors import InputError, shown

# Far more than any file that people write by hand.
MAX_BYTES = 256 * 1024
MAX_WRITTEN_OUT = 1024 * 1024  # characters and values, with every alias written out


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, stricter in five ways.

    `2e-4` is a number. `1:30` is text, not 90. A repeated key is an error. A value that only looks like its type
    (2024-13-45) is a YAML error, not a ValueError. So are aliases that expand a few lines to billions of values; they
    are counted before any value is made.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count(node, {})
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"{_text(node)!r} is not a valid {kind}; quote it if it is text", node.start_mark
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                problem = f"key {shown(repr(key))} is not text"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key in seen:
                problem = f"key {shown(repr(key))} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _text(node: yaml.Node) -> str:
    return shown(node.value if isinstance(node.value, str) else str(node.value))


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Characters and values in a node, with every alias written out.

    known: identity of a node -> its count, None while it is being counted. Raises ConstructorError beyond
    MAX_WRITTEN_OUT, and for an alias within its own node.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1 + len(node.value)
    if id(node) not in known:
        known[id(node)] = None
        inner = (part for pair in node.value for part in pair) if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_count(part, known) for part in inner)
    count = known[id(node)]
    if count is None or count > MAX_WRITTEN_OUT:
        problem = "it contains itself" if count is None else "its aliases expand to more than 1 MiB"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return count


# SafeLoader's table is shared between all its subclasses: copy it before adding to it.
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in zip(
    _NUMBERS,
    (
        r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)",
        r"[-+]?((\d[\d_]*\.[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
    ),
    strict=True,
):
    _Loader.add_implicit_resolver(_tag, re.compile(f"^({_pattern})$"), list("-+.0123456789"))


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises InputError, naming file, line and problem, when it holds none."""
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8")
    except OSError as error:
        raise InputError(f"{shown(str(path))}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as a UTF-8 text file: {error}") from None
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{where}: not valid YAML: {problem}; correct that line") from None
    except RecursionError:
        raise InputError(f"{path}: not valid YAML: nested too deeply") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a mapping of keys to values, found {type(data).__name__}")
    return data


def parse_value(text: str) -> Any:
    """A value of the command line (`2e-4`, `true`, `[5, 7]`, `class-aware`), read as YAML. Raises InputError."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError):
        raise InputError(f"the value {text[:80]!r} is not valid YAML; quote it or correct it") from None
