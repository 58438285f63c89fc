"""docs/architecture.md says what is there: its rooms are those of the import contract, its paths exist."""

from __future__ import annotations

import re
import tomllib

from kit.paths import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_rooms_are_those_of_the_import_contract_in_its_order():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    rooms = re.findall(r"^\| `([a-z_]+)(?:/|\.py)` \|", PAGE, re.M)
    assert rooms == layers
    there = {path.stem for path in (ROOT / "benchmark").iterdir() if not path.name.startswith("__")}
    assert there - {"protocols"} == set(rooms)


def test_the_files_that_it_names_are_there():
    named = set(re.findall(r"`((?:benchmark|tests|methods|splits|docs)/[\w/.-]*|[a-z]+/[a-z_]+\.py)`", PAGE))
    missing = [path for path in sorted(named) if not ((ROOT / path).exists() or (ROOT / "benchmark" / path).exists())]
    assert len(named) > 10 and not missing
