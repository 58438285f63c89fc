"""Tracks: which records may share a table."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmark.spec import canonical_json, flatten
from benchmark.store.records import Record
from benchmark.ui.text import plain

# Instead of the recipe's weights where a method has its own network: there they only prepare the images.
OWN_WEIGHTS = "its own weights"


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings as `epochs=3, optimizer.lr=0.01`, with sorted keys: equal settings give the same text."""
    return ", ".join(f"{plain(key)}={_value_text(value)}" for key, value in sorted(flatten(settings).items()))


def _value_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./+-]*", value) and value not in ("true", "false", "null"):
        return value
    return plain(json.dumps(value, ensure_ascii=False, sort_keys=True))


@dataclass(frozen=True)
class Track:
    """The settings that all rows of a table share. Records of different tracks never share a table.

    A method that scores images by its own network has a separate track, with the method's name for the backbone.
    dataset_title: not part of the comparison of tracks. image_size: in pixels. overrides: the text of the user's
    changes to the protocol's recipe, empty without changes.
    """

    dataset: str
    fingerprint: str
    protocol: str
    protocol_version: int
    backbone: str
    weights: str
    weights_digest: str | None
    image_size: int
    overrides: str
    dataset_title: str = field(compare=False)

    @classmethod
    def from_record(cls, record: Record) -> Track:
        """The track that a record belongs to."""
        spec, own = record.spec, record.own_network
        return cls(
            dataset=spec.dataset.name,
            fingerprint=spec.dataset.fingerprint,
            protocol=spec.protocol,
            protocol_version=spec.protocol_version,
            backbone=f"own network of {spec.method}" if own else spec.recipe.backbone,
            weights=OWN_WEIGHTS if own else spec.weights.name,
            weights_digest=spec.weights.digest,
            image_size=spec.recipe.image_size,
            overrides=settings_text(spec.overrides),
            dataset_title=record.dataset_title,
        )

    @property
    def title(self) -> str:
        """The track in words, without digests; `titles` adds them where two tracks have the same title."""
        parts = [
            self.dataset_title,
            f"{self.protocol} v{self.protocol_version}",
            f"{self.backbone}, {'not pretrained' if self.weights == 'none' else self.weights}",
            f"{self.image_size} px",
            self.overrides,
        ]
        return " · ".join(plain(part) for part in parts if part)

    @property
    def sort_key(self) -> tuple:
        """Order of the tracks on the page."""
        return tuple((value is not None, value) for value in self._key().values())

    @property
    def slug(self) -> str:
        """A file name's stem: lower-case letters, digits, dots and dashes. It does not depend on other tracks."""
        words = (
            f"{self.dataset} {self.protocol} v{self.protocol_version} {self.backbone} {self.weights} {self.image_size}"
        )
        readable = re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-.")[:80]
        digest = hashlib.sha256(canonical_json(self._key()).encode()).hexdigest()[:8]
        return f"{readable}-{digest}"

    def _key(self) -> dict[str, Any]:
        key = asdict(self)
        del key["dataset_title"]
        return key

    def _fine_print(self) -> list[str]:
        """The details that `title` leaves out, in the order in which `titles` adds them."""
        digest = self.weights_digest or "none"
        short = digest[:8] if re.fullmatch("[0-9a-f]{64}", digest) else digest
        return [f"dataset {self.dataset}", f"dataset {self.fingerprint[:8]}", f"weights {short}"]


def titles(tracks: Iterable[Track]) -> dict[Track, str]:
    """A title for each track; tracks with the same title get the names or short digests in which they differ."""
    alike = defaultdict(list)
    for track in tracks:
        alike[track.title].append(track)
    result = {}
    for title, group in alike.items():
        fine_prints = [track._fine_print() for track in group]
        differs = [len(set(texts)) > 1 for texts in zip(*fine_prints, strict=True)]
        for track, fine_print in zip(group, fine_prints, strict=True):
            extra = [plain(text) for text, is_shown in zip(fine_print, differs, strict=True) if is_shown]
            result[track] = " · ".join([title, *extra])
    return result
