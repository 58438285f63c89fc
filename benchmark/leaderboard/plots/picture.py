"""The files of a picture, and the digests in them.

The field `Description` has a digest of the picture's data, which is the same under every version of matplotlib. The
last field has a digest of the file's other bytes, which shows whether the file was edited.
"""

from __future__ import annotations

import hashlib
import io
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.base.files import read_regular
from benchmark.leaderboard.plots import layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DESCRIPTION = "ltbench data sha256:"

_DESCRIPTION = re.compile(re.escape(DESCRIPTION).encode() + rb"[0-9a-f]{64}")
_FIELDS = 4096  # bytes at a file's start that hold its description
_MOST_BYTES = 20_000_000
_ENDS = {"png": b"\0\0\0\0IEND\xaeB`\x82", "svg": b"</svg>\n"}


def files(figure: Figure, description: str) -> dict[str, bytes]:
    """The figure as PNG and as SVG: byte for byte the same under one version of matplotlib."""
    layout.arrange(figure)
    drawn = {"png": _png(figure, description), "svg": _svg(figure, description)}
    return {ending: _with_digest(content, ending) for ending, content in drawn.items()}


def description_of(path: Path) -> str | None:
    """The `Description` of a PNG or SVG file that was not edited; None for any other file."""
    ending = path.suffix[1:]
    try:
        content = read_regular(path, _MOST_BYTES)
    except OSError:
        return None
    end = _ENDS[ending]
    before = len(content) - len(end) - len(_digest_field(b"", ending))
    found = _DESCRIPTION.search(content, 0, _FIELDS)
    if found is None or before < 0 or content != _with_digest(content[:before] + end, ending):
        return None
    return found[0].decode()


def _png(figure: Figure, description: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    fields = PngInfo()
    fields.add_text("Description", description)
    file = io.BytesIO()
    # Without transparency, which typesetting programs handle badly.
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    pixels.save(file, "PNG", pnginfo=fields, dpi=(figure.dpi, figure.dpi))
    return file.getvalue()


def _svg(figure: Figure, description: str) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Description": description})
    return file.getvalue()


def _with_digest(content: bytes, ending: str) -> bytes:
    end = _ENDS[ending]
    return content.removesuffix(end) + _digest_field(content, ending) + end


def _digest_field(content: bytes, ending: str) -> bytes:
    digest = b"sha256:" + hashlib.sha256(content).hexdigest().encode()
    if ending == "svg":
        return b"<!-- " + digest + b" -->\n"
    field = b"tEXtContent\0" + digest
    return (len(field) - 4).to_bytes(4, "big") + field + zlib.crc32(field).to_bytes(4, "big")
