"""Modules found by where they are: of packages, of folders, and what installed packages offer."""

from __future__ import annotations

import sys

import pytest
from kit.checks import refused

from benchmark.base.modules import file_of, import_entry_points, import_folder, import_package

PACKAGE = "modules_of_a_test"


@pytest.fixture(autouse=True)
def as_it_was():
    """What a test imports is forgotten afterwards."""
    before = set(sys.modules)
    yield
    for name in sys.modules.keys() - before:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b.py").write_text("from .a import VALUE\nNAME = __name__\n")
    (tmp_path / "a.py").write_text("VALUE = []\n")
    (tmp_path / "notes.txt").write_text("not Python\n")
    (tmp_path / "data").mkdir()
    return tmp_path


def test_every_file_of_a_folder_is_imported_in_the_order_of_the_names(folder):
    a, b = import_folder(folder, PACKAGE)
    assert (a.__name__, b.NAME) == (f"{PACKAGE}.a", f"{PACKAGE}.b")
    assert b.VALUE is a.VALUE
    assert file_of(a.__name__) == folder / "a.py"
    assert import_folder(folder, PACKAGE) == [a, b]


def test_a_file_is_imported_once_whatever_name_it_has(folder):
    import_folder(folder, PACKAGE)
    a, b = import_folder(folder, f"{PACKAGE}_too")
    assert a is sys.modules[f"{PACKAGE}.a"] and f"{PACKAGE}.b" == b.NAME


def test_a_package_may_have_several_folders(folder, tmp_path, monkeypatch):
    package = tmp_path / "path" / PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"__path__.append({str(folder)!r})\n")
    (package / "c.py").write_text("")
    (package / "inner").mkdir()
    (package / "inner" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(package.parent)
    names = [module.__name__.removeprefix(f"{PACKAGE}.") for module in import_package(PACKAGE)]
    assert sorted(names) == ["a", "b", "c", "inner"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise NameError('no\\nsuch thing')", "NameError: no such thing"),
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit", "SystemExit"),
        ("from benchmark.errors import InputError\nraise InputError('give another')", ": give another"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named(folder, text, words):
    (folder / "broken.py").write_text(text)
    message = refused(import_folder, folder, PACKAGE)
    assert message.startswith(f"{folder / 'broken.py'}: ") and words in message


def offer(folder, value):
    """A package `other` that is installed in a folder and offers a value."""
    facts = folder / "other-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[ltbench.tests]\nthing = {value}\n")


def test_entry_points_are_what_they_name(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    assert import_entry_points("ltbench.tests") == []
    offer(folder, "a:VALUE")
    [(point, value)] = import_entry_points("ltbench.tests")
    assert (point.name, point.dist.name) == ("thing", "other") and value is sys.modules["a"].VALUE


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("broken", ["broken.py: ", "NameError: x"]),
        ("a:NOTHING", ["a.py: ", "AttributeError"]),
        ("no_such_module", ["no_such_module: "]),
        ("no_such_package.module", ["no_such_package.module: "]),
    ],
)
def test_an_entry_point_that_cannot_be_imported_is_named_with_its_package(folder, value, words, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    (folder / "broken.py").write_text("raise NameError('x')\n")
    offer(folder, value)
    message = refused(import_entry_points, "ltbench.tests")
    for word in (*words, "'thing' of other", "update or uninstall other"):
        assert word in message
