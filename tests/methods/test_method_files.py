"""Where methods are found: in the project's folder, whatever a script has beside it, in folders of the user's, in
installed packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kit.code import forget_code
from kit.command import ltbench, refused
from kit.paths import ROOT
from kit.tiny import TINY_ARGS

from benchmark.audit.code_digest import digest_of
from benchmark.base.method_files import VARIABLE
from benchmark.base.modules import file_of
from benchmark.data.dataset import DATASETS
from benchmark.method import ENTRY_POINTS, METHODS, _load_methods
from benchmark.store.runs import load_records

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys
for line in sys.argv[1:]:
    exec(line)
import benchmark
from benchmark.data.dataset import find_dataset
from benchmark.audit.code_digest import digest_of
from benchmark.method import METHODS

print(json.dumps([list(METHODS), digest_of(METHODS.get("cprfl")), str(find_dataset("voc-lt").path)]))
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
    return [list(METHODS), digest_of(METHODS.get("cprfl")), str(DATASETS.get("voc-lt").path)]


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


# --- folders of the user's, and installed packages -----------------------------------------------------------------

METHOD = """from benchmark.method import METHODS, LossMethod
from methods.focal import FocalLoss

from .shared import title


@METHODS.register("{name}")
class Mine(LossMethod):
    \"\"\"Focal loss again.\"\"\"

    title = title()

    def make_loss(self, task, config):
        return FocalLoss()
"""


@pytest.fixture
def mine(tmp_path):
    """A folder with one method, `mine`, which takes from a module beside it and from a method of the project."""
    folder = tmp_path / "my methods"
    folder.mkdir()
    (folder / "mine.py").write_text(METHOD.format(name="mine"))
    (folder / "shared.py").write_text("def title():\n    return 'Mine'\n")
    return folder


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Calls `ltbench` as a new process would that had imported the project's methods: it loads all others anew."""
    own = METHODS._entries.copy()

    def called(*args: object, variable: str = "", folder: Path = ROOT):
        monkeypatch.setattr(METHODS, "_entries", own.copy())
        monkeypatch.setattr(METHODS, "_load", _load_methods)
        monkeypatch.setattr(METHODS, "_error", None)
        forget()
        forget_code()
        monkeypatch.setenv(VARIABLE, variable)
        return ltbench(*args, folder=folder)

    def forget():
        for name in [name for name in sys.modules if tmp_path in getattr(file_of(name), "parents", ())]:
            del sys.modules[name]

    yield called
    forget()


def facts(done) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_folder_is_named_by_an_option_or_by_the_variable(mine, tmp_path, call):
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.py").write_text(METHOD.format(name="second"))
    (other / "shared.py").write_text("def title():\n    return 'Second'\n")
    # Of the project's own folder, of one folder twice and of nothing, nothing comes.
    both = os.pathsep.join([str(mine), str(other), "", str(mine), str(ROOT / "methods")])
    found = facts(call("methods", "--json", variable=both))
    assert {name: found[name]["source"] for name in ("mine", "second", "erm")} == {
        "mine": str(mine / "mine.py"), "second": str(other / "mine.py"), "erm": "methods/erm.py",
    }  # fmt: skip
    assert found["second"]["title"] == "Second"
    listed = call("--methods-dir", mine.name, "methods", folder=tmp_path, variable=str(other)).stdout
    assert f"[{mine / 'mine.py'}]" in listed and "second" not in listed
    assert facts(call("--methods-dir", mine, "--methods-dir", other, "methods", "--json")).keys() == found.keys()


def test_what_is_wrong_with_a_folder_is_one_line(mine, tmp_path, call):
    none = tmp_path / "none"
    refused(call("methods", variable=str(none)), f"{none}: no such folder", "--methods-dir", VARIABLE)
    none.mkdir()
    refused(call("methods", variable=str(none)), f"{none}: there is no Python file in it")
    broken = mine / "broken.py"
    broken.write_text("import no_such_module\n")
    refused(call("methods", variable=str(mine)), f"{broken}: cannot be imported: ModuleNotFoundError", "correct")
    broken.write_text(METHOD.format(name="erm"))
    refused(
        call("methods", variable=str(mine)), f"{broken}: method 'erm' is registered twice", f"{ROOT}/methods/erm.py"
    )
    broken.write_text(METHOD.format(name="nameless").replace("title = title()", ""))
    refused(call("methods", variable=str(mine)), f"{broken}: method 'nameless', Mine, has no title; give it one")


def test_an_installed_package_offers_a_module_or_a_class(mine, tmp_path, call, monkeypatch):
    site = tmp_path / "site"
    package = Path(shutil.copytree(mine, site / "other"))
    (package / "__init__.py").write_text("")
    unregistered = METHOD.format(name="x").replace('@METHODS.register("x")\n', "")
    (package / "plain.py").write_text(unregistered)
    information = site / "other-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(site)

    def install(*lines: str) -> None:
        (information / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINTS}]", *lines]))

    before = set(METHODS)
    install("a = other.mine", "b = other.mine:Mine", "plain = other.plain:Mine")
    found = facts(call("methods", "--json"))
    assert set(found) == {*before, "mine", "plain"}
    assert found["plain"]["source"] == str(package / "plain.py")
    install("erm = other.plain:Mine")
    refused(call("methods"), "method 'erm' is registered twice", str(package / "plain.py"), "methods/erm.py")
    install("a = other.shared:title")
    refused(call("methods"), "'a' (other.shared:title)", "neither a module nor a class of methods")
    install("a = other.none")
    refused(call("methods"), "entry point 'a' of other cannot be imported", "uninstall other")


def test_the_processes_of_a_sweep_see_the_same_methods(mine, tmp_path, tiny, call):
    options = ["--datasets", tiny, *TINY_ARGS, "--device", "cpu", "--results", tmp_path / "results"]
    sweep = ["sweep", "--methods", "mine", *options]
    done = call("--methods-dir", mine.name, *sweep, "--cluster", "local", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    [record] = load_records(tmp_path / "results")
    assert (record.spec.method, record.method_title) == ("mine", "Mine")
    # Told apart by the code, that of the module beside it included.
    look = [*sweep, "--rerun", "stale", "--dry-run", "--json"]
    assert [row["action"] for row in facts(call(*look, variable=str(mine)))] == ["skip"]
    (mine / "shared.py").write_text("def title():\n    return 'Other'\n")
    assert [row["action"] for row in facts(call(*look, variable=str(mine)))] != ["skip"]
