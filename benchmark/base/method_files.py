"""Method files: the project's, in the folder `methods` beside `benchmark`, and those in folders of the user's.

By its name, `methods` may be a folder of the user's: that beside a script comes first on the path. The folder has no
`__init__.py`, so that the user's stays importable where both are found.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from benchmark.base.modules import file_of, import_folder
from benchmark.errors import InputError

FOLDER = Path(__file__).resolve().parents[2] / "methods"
# The user's folders, with os.pathsep between them.
VARIABLE = "LTBENCH_METHODS"


def load_files() -> None:
    """Import every file of the project's folder and of those that LTBENCH_METHODS names.

    Raises InputError, naming the folder or file, for a folder that is not there or has no Python file, and for a file
    that cannot be imported.
    """
    _load_own()
    folders = user_folders()
    for folder in folders:
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; name a folder of method files with --methods-dir or {VARIABLE}"
            )
    if folders:
        # Processes that this one starts may be in another working directory.
        os.environ[VARIABLE] = os.pathsep.join(map(str, folders))
    for folder in folders:
        if not import_folder(folder, _package_of(folder)):
            raise InputError(f"{folder}: there is no Python file in it; name a folder of method files, or none")


def user_folders() -> list[Path]:
    """The folders that LTBENCH_METHODS names, each once and without the project's."""
    named = filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))
    return [folder for folder in dict.fromkeys(Path(name).resolve() for name in named) if folder != FOLDER]


def source_file(module: str) -> Path | None:
    """The file of an imported module that lies in a folder of methods, by the module's name; None for any other."""
    file = file_of(module)
    return file if file and any(folder in file.parents for folder in (FOLDER, *user_folders())) else None


def _load_own() -> None:
    places = _places()
    package = "methods" if places[:1] == [FOLDER] else _package_of(FOLDER)
    for module in import_folder(FOLDER, package):
        name = module.__name__.rpartition(".")[2]
        # Where the folder is a part of the user's `methods`, no file will be imported under that name too.
        spec = PathFinder.find_spec(f"methods.{name}", list(map(str, places)))
        if spec is not None and spec.origin and Path(spec.origin).resolve() == file_of(module.__name__):
            sys.modules[f"methods.{name}"] = module


def _package_of(folder: Path) -> str:
    """A package's name that no other folder has, the same in every process."""
    return f"ltbench_methods_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


def _places() -> list[Path]:
    """The folders that `import methods` means here, in the order in which they are searched."""
    known = sys.modules.get("methods") or PathFinder.find_spec("methods")
    names = getattr(known, "__path__", None) or getattr(known, "submodule_search_locations", None) or ()
    return [Path(name).resolve() for name in names]
