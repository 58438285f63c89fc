"""Whether the disks have room for what is about to be written."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from benchmark.errors import InputError
from benchmark.ui.text import in_bytes


def check_space(needs: Iterable[tuple[Path, int]]) -> None:
    """Raise InputError where a disk has less room than the sum of what (folder, bytes) say."""
    disks: defaultdict[int, list[tuple[Path, int]]] = defaultdict(list)
    for folder, size in needs:
        while not folder.exists():
            folder = folder.parent
        disks[folder.stat().st_dev].append((folder, size))
    for on_disk in disks.values():
        folder, needed = on_disk[0][0], sum(size for _, size in on_disk)
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise InputError(
                f"{folder}: {in_bytes(needed)} are needed there and {in_bytes(free)} are free; nothing was fetched; "
                "free some space, choose another data root, or take less with --only-needed"
            )
