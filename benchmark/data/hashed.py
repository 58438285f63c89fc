"""A choice of images that anyone can repeat: by the digests of their ids, with no random generator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def smallest_hashes(purpose: str, ids: Iterable[str], count: int) -> list[str]:
    """The `count` ids whose sha256 of "<purpose>/<id>" is smallest, in the order of these; fewer where there are
    fewer."""
    return sorted(ids, key=lambda name: hashlib.sha256(f"{purpose}/{name}".encode()).digest())[:count]
