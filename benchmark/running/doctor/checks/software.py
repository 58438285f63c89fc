"""Python, the packages that runs need, and the project's own code."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
from collections.abc import Iterator

from benchmark.errors import InputError
from benchmark.method import METHODS
from benchmark.running.doctor.finding import Finding, Place
from benchmark.running.environment import git_state

PLACE = 1
# Package -> the module that is imported from it. A package may be there and fail: torchvision for another PyTorch does.
_PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "open_clip_torch": "open_clip",
    "timm": "timm",
    "safetensors": "safetensors.torch",
    "submitit": "submitit",
}


def check(place: Place) -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()}, {platform.platform(terse=True)}")
    yield _own_code()
    for package, module in _PACKAGES.items():
        yield _package(package, module)
    try:
        yield Finding("methods", "ok", f"{len(METHODS.items())} methods are registered")
    except InputError as error:
        yield Finding("methods", "bad", str(error))


def _own_code() -> Finding:
    try:
        version = importlib.metadata.version("ltbench")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed as a package"
    commit, dirty = git_state()
    if commit is None:
        return Finding("ltbench", "ok", f"{version}, not in a git checkout")
    if dirty:
        remedy = "commit the changes before a run that others should repeat"
        return Finding("ltbench", "warn", f"{version}, commit {commit[:12]} with changes", remedy)
    return Finding("ltbench", "ok", f"{version}, commit {commit[:12]}")


def _package(package: str, module: str) -> Finding:
    try:
        version = importlib.metadata.version(package)
        importlib.import_module(module)
    except importlib.metadata.PackageNotFoundError:
        return Finding(package, "bad", "is not installed", "install ltbench anew: pip install -e .")
    except Exception as error:  # a package of compiled code may raise anything
        reason = next(iter(str(error).splitlines()), "")
        remedy = f"install versions that fit each other: pip install --upgrade torch torchvision {package}"
        return Finding(package, "bad", f"{version} cannot be imported: {type(error).__name__}: {reason}", remedy)
    return Finding(package, "ok", version)
