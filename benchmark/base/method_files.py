"""The project's methods: the files of the folder `methods` beside `benchmark`, found by their place.

By its name, `methods` may be a folder of the user's: that beside a script comes first on the path. The folder has no
`__init__.py`, so that the user's stays importable where both are found.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from pathlib import Path

from benchmark.errors import InputError

FOLDER = Path(__file__).resolve().parents[2] / "methods"
# What the package is called where `methods` is the user's.
_OTHER_NAME = "ltbench_methods"


def load_all() -> None:
    """Import every file of the folder. Raises InputError, naming the file, for one that cannot be imported."""
    places = _places()
    package = "methods" if places[:1] == [FOLDER] else _OTHER_NAME
    if package == _OTHER_NAME:
        spec = ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [str(FOLDER)]
        sys.modules[package] = module_from_spec(spec)
    names = [found.name for found in pkgutil.iter_modules([str(FOLDER)])]
    # Where the folder is a part of the user's `methods`, no file is to be imported under both names: not one that was
    # imported before, nor one that will be.
    for name in names:
        if source_file(f"methods.{name}") is not None:
            sys.modules[f"{package}.{name}"] = sys.modules[f"methods.{name}"]
    for name in names:
        try:
            module = importlib.import_module(f"{package}.{name}")
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise InputError(f"methods/{name}.py: cannot be imported: {reason}; mend the file") from error
        spec = PathFinder.find_spec(f"methods.{name}", list(map(str, places)))
        if spec is not None and spec.origin and Path(spec.origin).resolve() == source_file(f"{package}.{name}"):
            sys.modules[f"methods.{name}"] = module


def source_file(module: str) -> Path | None:
    """The file of an imported module of the folder, by the module's name; None for any other module."""
    file = getattr(sys.modules.get(module), "__file__", None)
    path = Path(file).resolve() if file else None
    return path if path is not None and FOLDER in path.parents else None


def _places() -> list[Path]:
    """The folders that `import methods` means here, in the order in which they are searched."""
    known = sys.modules.get("methods") or PathFinder.find_spec("methods")
    names = getattr(known, "__path__", None) or getattr(known, "submodule_search_locations", None) or ()
    return [Path(name).resolve() for name in names]
