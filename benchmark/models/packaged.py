"""Weights that an installed Python package holds as a file."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from benchmark.base.files import file_digest
from benchmark.errors import InputError
from benchmark.models.backbones import WeightsSource
from benchmark.spec import WeightsRef


@dataclass(frozen=True)
class PackagedWeights:
    """A file of weights in a package of the Python Package Index.

    ref: named as the package, with the published file's sha256 as digest. module: the package's name for imports; it is
    never imported. file: within the package. remedy: the command that installs it.
    """

    ref: WeightsRef
    module: str
    file: str
    remedy: str

    def source(self) -> WeightsSource:
        return WeightsSource(self.ref, self.fetch, lambda: self._path() is not None)

    def fetch(self) -> Path:
        """The file. Raises InputError where the package is not installed, or holds another file."""
        path = self._path()
        if path is None:
            raise InputError(f"weights {self.ref.name} are a Python package that is not installed: {self.remedy}")
        if file_digest(path) != self.ref.digest:
            raise InputError(
                f"{path}: not the published file of {self.ref.name}: its sha256 is {file_digest(path)}, not "
                f"{self.ref.digest}; install the package again: {self.remedy}"
            )
        return path

    def _path(self) -> Path | None:
        spec = importlib.util.find_spec(self.module)
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin).parent / self.file
        return path if path.is_file() else None
