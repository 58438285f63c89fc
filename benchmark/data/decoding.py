"""From an image file to upright RGB of 8 bits: one rule for every format, and only formats named here are opened."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

# Formats of photographs. Pillow's other decoders read files that pose as these: EPS starts Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "JPEG2000", "BMP", "GIF", "PPM")
RULES = "turned upright by their EXIF orientation; grey of 16 bits scaled by 1/257 to 8 bits"

# Pixels of the largest image that is read: Pillow's limit for what may be made to fill the memory.
MOST_PIXELS = 178_956_970
# An image with more takes 50 MB as RGB, and several times as much while it is decoded.
LARGE_PIXELS = 2**24
_large_alone = threading.Lock()
_TOO_LARGE = f"more than {MOST_PIXELS:,} pixels: make it smaller"

_OF_8_BITS = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB"}
_ORIENTATION = 0x0112
# Not ImageOps.exif_transpose: it writes the EXIF block anew, which fails for blocks that cameras do write.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3  # sample formats


@contextlib.contextmanager
def decoded(file: BinaryIO) -> Iterator[Image.Image]:
    """The image in an open file for the duration of a block: RGB, 8 bits, as its EXIF orientation shows it; of several
    frames the first. While one thread has a large image, others wait with theirs, so that memory stays bounded.

    Grey of 16 bits is scaled by 1/257 to the nearest level; of colours of 16 bits Pillow keeps the high byte, which is
    less than a level away. Transparency is dropped. Raises ValueError for another format, for samples whose black
    and white the file does not give, for more than MOST_PIXELS, and any error of Pillow's decoders for a damaged file.
    """
    try:
        image = Image.open(file, "r", _formats())
    except UnidentifiedImageError:
        raise ValueError(
            f"not a whole file of {', '.join(_formats())}, or of a kind of these that is not read"
        ) from None
    except Image.DecompressionBombError:
        raise ValueError(_TOO_LARGE) from None
    with image, _large_alone if image.width * image.height > LARGE_PIXELS else contextlib.nullcontext():
        # Pillow's own limit is a setting that any library may change.
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(_TOO_LARGE)
        yield _upright(image)


def _upright(image: Image.Image) -> Image.Image:
    pixels = _to_rgb(image)
    # Read last: some formats store it behind the pixels, and Pillow updates it where it rotates a TIFF itself.
    transpose = _UPRIGHT.get(_orientation(image))
    return pixels if transpose is None else pixels.transpose(transpose)


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats that this build of Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _to_rgb(image: Image.Image) -> Image.Image:
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    samples = set(tags.get(_SAMPLE_FORMAT, (_UNSIGNED,)))
    if image.mode == "F" or _FLOAT in samples:
        raise ValueError("floating-point samples, whose black and white it does not tell: convert it to 8 or 16 bits")
    if _SIGNED in samples:
        raise ValueError("signed samples, whose black and white it does not tell: convert it to 8 or 16 bits")
    if image.mode in _OF_8_BITS:
        return image.convert("RGB")
    # Mode I has 32 bits, of which PNG and PPM fill at most 16.
    if not image.mode.startswith("I;16") and not (image.mode == "I" and image.format in ("PNG", "PPM")):
        raise ValueError(
            "samples of 32 bits, whose black and white it does not tell: convert it to 8 or 16 bits"
            if image.mode == "I"
            else f"pixels of the kind {image.mode}: convert it to RGB"
        )
    white = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
    grey = np.asarray(image).astype(np.int32)
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero; Pillow inverts 8 bits and leaves 16
        grey = white - grey
    grey = (2 * 255 * grey + white) // (2 * white)  # to the nearest: white is odd, so there are no halves
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """The orientation by EXIF, or by XMP where EXIF has none; 0 for none and for a block that cannot be read."""
    with contextlib.suppress(Exception):
        value = image.getexif().get(_ORIENTATION)
        return value if type(value) is int else 0
    return 0


def is_image_name(name: str) -> bool:
    """Whether a file's suffix is that of a format that is read."""
    return Image.registered_extensions().get(PurePosixPath(name).suffix.lower()) in _formats()
