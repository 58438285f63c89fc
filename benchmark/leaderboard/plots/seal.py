"""What a picture's file says of itself: a digest of what it shows, and one of its own content.

The first is in its field `Description`, the same under every version of matplotlib. The second tells whether the
drawing is still the one that was written: of a PNG its pixels, with nothing in the file that would have them shown in
another way, of an SVG its bytes.
"""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.base.files import open_regular

if TYPE_CHECKING:
    from PIL import Image

DESCRIPTION = "ltbench data sha256:"
PNG_FIELD = "Content"  # of the digest; an SVG's is `Identifier`
UNSEALED = "sha256:" + 64 * "0"

_MAX_PIXELS = 50_000_000
_SVG_HEAD = 4096  # bytes that hold an SVG's fields
_MAX_BYTES = 20_000_000
# Pixels and text. Others have pixels shown in other colours, or one after the other.
_PNG_CHUNKS = (b"IHDR", b"IDAT", b"pHYs", b"tEXt", b"zTXt", b"iTXt")
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_SVG_START = b'<?xml version="1.0" encoding="utf-8" standalone="no"?>\n<!DOCTYPE svg'
_SVG_DESCRIPTION = re.compile(rb"<dc:description>(" + re.escape(DESCRIPTION).encode() + rb"[0-9a-f]{64})</dc:")
_SVG_CONTENT = re.compile(rb"<dc:identifier>(sha256:[0-9a-f]{64})</dc:identifier>")


def pixels_digest(image: Image.Image) -> str:
    """The digest of an image as it is decoded, for its field PNG_FIELD."""
    head = f"{image.mode} {image.width} {image.height}\n"
    return "sha256:" + hashlib.sha256(head.encode() + image.tobytes()).hexdigest()


def sealed_svg(content: bytes) -> bytes:
    """An SVG whose identifier is UNSEALED, with the digest of these bytes in its place."""
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    return content.replace(UNSEALED.encode(), digest.encode(), 1)


def description_of(path: Path) -> str | None:
    """The `Description` of a PNG or SVG file whose content is as we wrote it; None for anything else."""
    try:
        with open_regular(path) as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError:
        return None
    if len(content) > _MAX_BYTES:
        return None
    return _svg_description(content) if path.suffix == ".svg" else _png_description(content)


def _png_description(content: bytes) -> str | None:
    from PIL import Image

    if not _is_plain_png(content):
        return None
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            # In RGB, as we write them, pixels are colours: a palette would be content too.
            if image.mode != "RGB" or image.width * image.height > _MAX_PIXELS or "transparency" in image.info:
                return None
            description = image.info.get("Description")
            if not isinstance(description, str) or image.info.get(PNG_FIELD) != pixels_digest(image):
                return None
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.verify()  # the checksums
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return description


def _is_plain_png(content: bytes) -> bool:
    """Whether a PNG has chunks of our kinds alone, and ends where they do."""
    place = 8
    while (kind := content[place + 4 : place + 8]) != b"IEND":
        if kind not in _PNG_CHUNKS:
            return False
        place += 12 + int.from_bytes(content[place : place + 4], "big")
    return content[place:] == _PNG_END


def _svg_description(content: bytes) -> str | None:
    # Not parsed: XML can be made to take any time and memory, and what we wrote has one spelling.
    head = content[:_SVG_HEAD]
    description, digest = _SVG_DESCRIPTION.search(head), _SVG_CONTENT.search(head)
    if not head.startswith(_SVG_START) or description is None or digest is None:
        return None
    start, end = digest.span(1)
    whole = content[:start] + UNSEALED.encode() + content[end:]
    return description.group(1).decode() if sealed_svg(whole) == content else None
