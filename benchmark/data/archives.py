"""The official archives of images and labels: where they are fetched, how they are checked and what they hold.

`archives.yaml` beside this file lists them. A dataset names those that it needs in its `dataset.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field, model_validator

from benchmark.base.yamlio import load_yaml
from benchmark.registry import Registry
from benchmark.spec import Sha256, Strict, parse
from benchmark.ui.text import in_bytes

ARCHIVES_FILE = Path(__file__).with_name("archives.yaml")

Bytes = Annotated[int, Field(ge=0)]


class Archive(Strict):
    """One archive; see the head of `archives.yaml`. All paths are relative to the data root."""

    name: str
    urls: tuple[str, ...] = ()
    size: Bytes = 0
    sha256: Sha256 | None = None
    unpacked: Bytes = 0
    into: str = "."
    images: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _can_be_checked(self) -> Archive:
        if self.urls and (not self.size or not self.sha256):
            raise ValueError("an archive with urls needs its size and sha256")
        return self

    @property
    def file_name(self) -> str:
        """The official name of the file; "" for an archive that may not be fetched."""
        return self.urls[0].rpartition("/")[2] if self.urls else ""

    @property
    def unpacked_size(self) -> int:
        """Bytes of its members together, about."""
        return self.unpacked or self.size

    def path_below_root(self, member: str) -> str:
        """Where a member goes, below the data root."""
        return str(PurePosixPath(self.into) / member)


def _load_archives() -> None:
    for name, fields in load_yaml(ARCHIVES_FILE).items():
        ARCHIVES.register(name)(parse(Archive, {"name": name, **fields}, f"{ARCHIVES_FILE}: {name}"))


ARCHIVES: Registry[Archive] = Registry("archive", Archive, _load_archives)


def how_to_prepare(dataset: str, names: Iterable[str]) -> str:
    """How the images of a registered dataset get onto a machine, for error messages. Raises InputError."""
    archives = [ARCHIVES.get(name) for name in names]
    command = f"`ltbench data prepare {dataset}`"
    files = " and ".join(f"{archive.file_name} ({in_bytes(archive.size)})" for archive in archives if archive.urls)
    if not files:
        return f"{command} links the copies that you have (--source DIR); no archive of them may be fetched"
    return f"{command} links the copies that you have (--source DIR), or fetches {files}"
