"""Bundles, taken apart and put together again by whoever likes to."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmark.audit.archive import packed
from benchmark.audit.files import files_of
from benchmark.store.folder import RunFolder
from kit.command import ltbench, refused
from kit.stores import snapshot

Members = dict[str, bytes]


def members_of(bundle: Path) -> Members:
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(bundle: Path, members: Iterable[tuple[str | zipfile.ZipInfo, bytes]], kind: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(bundle, "w", kind) as archive:
        for name, content in members:
            archive.writestr(name, content)


def change(bundle: Path, edit: Callable[[Members], object], sums: bool = True) -> None:
    """Edit the members of a bundle; sums: and have the manifest say what they are now."""
    members = members_of(bundle)
    edit(members)
    if sums:
        manifest = json.loads(members["manifest.json"])
        manifest["files"] = {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            for name, content in members.items()
            if name != "manifest.json"
        }
        members["manifest.json"] = json.dumps(manifest).encode()
    pack(bundle, members.items())


def bundle_of(folder: RunFolder, bundle: Path) -> Path:
    """What somebody could send whose own export would refuse the run."""
    record = folder.record()
    members = {name: (folder.path / name).read_bytes() for name in ("record.json", *files_of(record))}
    members |= {"config.yaml": b""}
    bundle.write_bytes(packed(folder.path.name, members))
    return bundle


def nothing_arrives(bundle: Path, target: Path, *words: str) -> str:
    """Assert that an import is refused in one line, and that the results folder is as it was."""
    before = snapshot(target.parent)
    line = refused(ltbench("import", bundle, "--results", target), *words)
    assert snapshot(target.parent) == before
    assert not target.exists() or not list(target.glob("runs/.*"))
    return line
