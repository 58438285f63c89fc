"""Method files: the project's, in the folder `methods` beside `benchmark`, and those in the user's folders.

`import methods` may find a folder of the user: the one beside a script comes first on the path. The project's folder
has no `__init__.py`, so that both are importable.
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

    Raises InputError, naming the folder or file, for a folder that does not exist or has no Python file, and for a
    file that cannot be imported.
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
    searched = _searched()
    package = "methods" if searched[:1] == [FOLDER] else _package_of(FOLDER)
    for module in import_folder(FOLDER, package):
        name = module.__name__.rpartition(".")[2]
        # Where the user's `methods` contains the project's folder, no file is imported twice, under two names.
        spec = PathFinder.find_spec(f"methods.{name}", list(map(str, searched)))
        if spec is not None and spec.origin and Path(spec.origin).resolve() == file_of(module.__name__):
            sys.modules[f"methods.{name}"] = module


def _package_of(folder: Path) -> str:
    """Name of a package for a folder: unique to it, and the same in every process."""
    return f"ltbench_methods_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


def _searched() -> list[Path]:
    """The folders that `import methods` searches, in order."""
    known = sys.modules.get("methods") or PathFinder.find_spec("methods")
    names = getattr(known, "__path__", None) or getattr(known, "submodule_search_locations", None) or ()
    return [Path(name).resolve() for name in names]
