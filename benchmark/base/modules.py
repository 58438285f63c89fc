"""Importing every module of a package or of a folder, and the entry points of installed packages.

Registries are filled so: each file registers its entry when it is imported, and a new entry is one new file.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmark.errors import InputError


def import_package(name: str) -> list[ModuleType]:
    """Import every module of a package, in the order of their names.

    Raises InputError, naming the file, for a module that cannot be imported.
    """
    files = _files(name, importlib.import_module(name).__path__)
    return [_imported(module, file) for module, file in files.items()]


def import_folder(folder: Path, package: str) -> list[ModuleType]:
    """Import every Python file and package of a folder that is no package itself, in the order of their names.

    package: the name of the package that they become, created if missing. They may import each other by
    `from .other import ...`. A file that was imported before, under another name, is not imported again.
    Raises InputError, naming the file, for a file that cannot be imported.
    """
    if package not in sys.modules and importlib.util.find_spec(package) is None:
        spec = ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[package] = importlib.util.module_from_spec(spec)
    files = _files(package, [str(folder)])
    ends = tuple({file.name for file in files.values()})
    names = [name for name, module in list(sys.modules.items()) if _path_of(module).endswith(ends)] if ends else []
    imported = {file_of(name): name for name in names}
    # Before the first import: the files may import each other.
    for name, file in files.items():
        if file in imported:
            sys.modules.setdefault(name, sys.modules[imported[file]])
    return [_imported(name, file) for name, file in files.items()]


def import_entry_points(group: str) -> list[tuple[EntryPoint, Any]]:
    """The entry points of a group and the objects that they name, in the order of the entry points' names.

    Raises InputError, naming the file, the entry point and the package, for one that cannot be imported.
    """
    found = []
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            found.append((point, point.load()))
        except (Exception, SystemExit) as error:
            package = point.dist.name if point.dist else "its package"
            raise InputError(
                f"{_origin(point.module)}: entry point {point.name!r} of {package} cannot be imported: "
                f"{_reason(error)}; update or uninstall {package}"
            ) from error
    return found


def file_of(module: str) -> Path | None:
    """The file of an imported module; None where it has none."""
    path = _path_of(sys.modules.get(module))
    return Path(path).resolve() if path else None


def _path_of(module: Any) -> str:
    # Not by getattr: some modules import others when an attribute is looked up.
    path = getattr(module, "__dict__", {}).get("__file__")
    return path if isinstance(path, str) else ""


def _files(package: str, folders: Iterable[str]) -> dict[str, Path]:
    """Name of each module in the folders -> its file."""
    searched = list(folders)
    names = [name for _, name, _ in pkgutil.iter_modules(searched)]
    specs = {f"{package}.{name}": PathFinder.find_spec(name, searched) for name in names}
    return {name: Path(spec.origin).resolve() for name, spec in specs.items() if spec and spec.origin}


def _imported(name: str, file: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{file}: cannot be imported: {_reason(error)}; correct the file, or remove it") from error


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def _origin(module: str) -> str:
    """The file of a module that may fail to be imported, or its name."""
    try:
        spec = importlib.util.find_spec(module)
    except (Exception, SystemExit):  # raised by a package that contains it
        spec = None
    return spec.origin if spec and spec.origin else module
