"""The project's methods are found by their place, whatever `methods` or `splits` a script has beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kit.paths import ROOT

from benchmark.data.dataset import DATASETS
from benchmark.method import METHODS
from benchmark.running.environment import code_digest

SCRIPT = """
import json, sys
for line in sys.argv[1:]:
    exec(line)
import benchmark
from benchmark.data.dataset import find_dataset
from benchmark.running.environment import code_digest
from benchmark.method import METHODS

print(json.dumps([list(METHODS), code_digest(METHODS.get("cprfl")), str(find_dataset("voc-lt").path)]))
"""
USERS_FIRST = ["from methods.mine import VALUE", "assert VALUE == 7"]


@pytest.fixture
def beside(tmp_path):
    """A script with folders `methods` and `splits` beside it."""
    for name in ("methods", "splits"):
        (tmp_path / name / "voc-lt").mkdir(parents=True)
        (tmp_path / name / "mine.py").write_text("VALUE = 7\n")
    (tmp_path / "script.py").write_text(SCRIPT + "\nfrom methods.mine import VALUE\nassert VALUE == 7\n")
    return tmp_path


def run(script: Path, *lines: str):
    command = [sys.executable, script, *lines]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=script.parent, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def expected():
    return [list(METHODS), code_digest(METHODS.get("cprfl")), str(DATASETS.get("voc-lt").path)]


@pytest.mark.parametrize("lines", [[], USERS_FIRST], ids=["product first", "user first"])
@pytest.mark.parametrize("package", [True, False], ids=["package", "folder"])
def test_a_folder_methods_beside_a_script_hides_nothing_and_is_importable(beside, package, lines):
    if package:
        (beside / "methods" / "__init__.py").write_text("")
    (beside / "methods" / "db_focal.py").write_text("raise SystemError('of the user')\n")
    (beside / "methods" / "own.py").write_text("raise SystemError('nobody asked for it')\n")
    assert run(beside / "script.py", *lines) == expected()


@pytest.mark.parametrize(
    "line", ["from methods.db import DB", "import benchmark; list(benchmark.METHODS); from methods.db import DB"]
)
def test_a_script_may_build_on_a_method_of_the_project(beside, line):
    """From a folder that is no package, the project's are importable by name too, once each."""
    assert run(beside / "script.py", line, "from methods.cprfl import CPRFL", "import methods.db_focal") == expected()
