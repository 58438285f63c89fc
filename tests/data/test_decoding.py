"""From the file of an image to RGB pixels: 16 bits, other samples, orientation, which formats are open, damage."""

from __future__ import annotations

import io
import os
import random
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from kit.checks import refused
from kit.paths import TESTS
from PIL import Image, ImageOps

from benchmark.data.images import cache_split
from benchmark.data.lists import Split
from benchmark.data.sources import FileImages
from benchmark.errors import InputError

CASES = TESTS / "cases" / "images"
ORIENTATION = 0x0112
UPRIGHT = Image.open(CASES / "upright.png").convert("RGB")
GREY = Image.open(CASES / "grey8.png").convert("RGB")


def decoded(path: Path) -> np.ndarray:
    return np.asarray(FileImages(path.parent, "").open(path.name))


def message(path: Path) -> str:
    text = refused(FileImages(path.parent, "").open, path.name)
    assert str(path) in text and "cannot be decoded" in text
    return text


def tiff(path: Path, samples: np.ndarray, order: str = "<", **changes: int) -> Path:
    """Write an uncompressed TIFF, one strip. changes: tags by name, beyond those that follow from the samples."""
    height, width, *channels = samples.shape
    number = channels[0] if channels else 1
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    tags = {
        256: width,
        257: height,
        258: changes.get("bits", 8 * samples.itemsize),
        259: 1,
        262: changes.get("photometric", 1 if number == 1 else 2),
        277: number,
        278: height,
        279: samples.nbytes,
        339: kind,
    }
    if "orientation" in changes:
        tags[274] = changes["orientation"]
    pixels = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    if "bits" in changes:
        pixels = packed12(samples)
        tags[279] = len(pixels)
    size = 8 + 2 + 12 * (len(tags) + 1) + 4
    extra = b""
    for tag in (258, 339):
        if number > 1:
            extra += struct.pack(f"{order}{number}H", *[tags[tag]] * number)
            tags[tag] = (size + len(extra) - 2 * number, number)
    tags[273] = size + len(extra)
    entries = b""
    for tag, value in sorted(tags.items()):
        value, count = value if isinstance(value, tuple) else (value, 1)
        wide = count > 1 or tag in (273, 279)
        # A short stands in the first two bytes of its field; an offset to shorts fills all four.
        entries += struct.pack(f"{order}HHI", tag, 4 if tag in (273, 279) else 3, count)
        entries += struct.pack(f"{order}I", value) if wide else struct.pack(f"{order}HH", value, 0)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    path.write_bytes(head + struct.pack(f"{order}H", len(tags)) + entries + b"\0\0\0\0" + extra + pixels)
    return path


def packed12(samples: np.ndarray) -> bytes:
    """Two samples of 12 bits in three bytes; the width is even."""
    first, second = samples.reshape(-1, 2).astype(int).T
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()


def scaled(samples: np.ndarray, bits: int = 16) -> np.ndarray:
    """Grey samples of so many bits as RGB of 8, to the nearest level."""
    grey = np.rint(samples / (2**bits - 1) * 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


SAMPLES = np.random.default_rng(0).integers(0, 2**16, (5, 8), dtype=np.uint16)
SAMPLES[0, :4] = 0, 128, 129, 65535  # 128 / 257 is nearer to 0, 129 / 257 to 1


@pytest.mark.parametrize("name", ["grey16.png", "grey16.tif"])
def test_a_photograph_of_16_bits_is_that_of_8(name):
    pixels = decoded(CASES / name)
    np.testing.assert_array_equal(pixels, np.asarray(GREY))
    assert abs(pixels.mean() - 135.25) < 1


@pytest.mark.parametrize("suffix", ["png", "tif", "jp2", "pgm", "plain.pgm"])
def test_grey_of_16_bits_is_scaled_to_the_nearest_of_8(suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    if suffix.endswith("pgm"):
        numbers = " ".join(map(str, SAMPLES.ravel())).encode()
        head = b"P2 8 5 65535\n" if suffix.startswith("plain") else b"P5 8 5 65535\n"
        path.write_bytes(head + (numbers if suffix.startswith("plain") else SAMPLES.astype(">u2").tobytes()))
    else:
        Image.fromarray(SAMPLES).save(path)
    np.testing.assert_array_equal(decoded(path), scaled(SAMPLES))


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_16_bits_in_either_order_of_bytes(order, tmp_path):
    np.testing.assert_array_equal(decoded(tiff(tmp_path / "x.tif", SAMPLES, order)), scaled(SAMPLES))


def test_tiff_of_12_bits_is_scaled_by_its_own_range(tmp_path):
    samples = SAMPLES >> 4
    np.testing.assert_array_equal(decoded(tiff(tmp_path / "x.tif", samples, bits=12)), scaled(samples, 12))


def test_where_white_is_zero_16_bits_are_turned_round_as_8_are(tmp_path):
    wide = decoded(tiff(tmp_path / "wide.tif", SAMPLES, photometric=0))
    np.testing.assert_array_equal(wide, scaled(65535 - SAMPLES))
    narrow = decoded(tiff(tmp_path / "narrow.tif", (SAMPLES >> 8).astype(np.uint8), photometric=0))
    assert np.abs(wide.astype(int) - narrow).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_colour_of_16_bits_is_within_a_level(order, tmp_path):
    colours = np.random.default_rng(1).integers(0, 2**16, (5, 8, 3), dtype=np.uint16)
    pixels = decoded(tiff(tmp_path / "x.tif", colours, order))
    assert np.abs(pixels - colours / 257).max() < 1
    photograph = np.asarray(UPRIGHT).astype(np.uint16) * 257
    np.testing.assert_array_equal(decoded(tiff(tmp_path / "y.tif", photograph, order)), np.asarray(UPRIGHT))


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (SAMPLES.astype(np.float32), "floating-point"),
        ((SAMPLES / 65535).astype(np.float32), "floating-point"),
        (SAMPLES.astype(np.uint32), "32 bits"),
        (SAMPLES.astype(np.int32), "signed"),
        (SAMPLES.view(np.int16), "signed"),
        (SAMPLES.astype(np.int8), "signed"),
    ],
    ids=["float", "float to 1", "32 bits", "32 bits signed", "16 bits signed", "8 bits signed"],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_samples_whose_range_is_not_known_are_refused_by_name(samples, said, order, tmp_path):
    path = tiff(tmp_path / "x.tif", samples, order)
    text = message(path)
    # Big-endian and of 32 bits without a sign: Pillow knows no such file.
    assert "8 or 16 bits" in text or (order == ">" and samples.dtype == np.uint32)
    assert said in text or (order == ">" and samples.dtype == np.uint32)


def test_a_float_image_is_refused(tmp_path):
    assert "floating-point" in message(CASES / "float01.tif")
    (tmp_path / "x.pfm").write_bytes(b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0.1, 0.2))
    assert "floating-point" in message(tmp_path / "x.pfm")


def as_stored(orientation: int) -> Image.Image:
    """The upright image as a file of that orientation holds it."""
    turned = UPRIGHT.copy()
    turned.getexif()[ORIENTATION] = {6: 8, 8: 6}.get(orientation, orientation)
    return ImageOps.exif_transpose(turned)


SAVED = {
    "jpg": {"quality": 95, "subsampling": 0},
    "png": {},
    "webp": {"lossless": True},
    "tif": {},
    "avif": {"quality": 95, "subsampling": "4:4:4"},
    "mpo": {"quality": 95, "subsampling": 0, "save_all": True, "append_images": [UPRIGHT]},
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", SAVED)
def test_every_format_is_turned_upright(suffix, orientation, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    as_stored(orientation).save(tmp_path / f"x.{suffix}", exif=exif, **SAVED[suffix])
    pixels = decoded(tmp_path / f"x.{suffix}")
    if suffix in ("jpg", "mpo", "avif"):
        assert np.abs(pixels.astype(int) - np.asarray(UPRIGHT)).mean() < 2
    else:
        np.testing.assert_array_equal(pixels, np.asarray(UPRIGHT))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_of_every_orientation_look_alike(orientation):
    pixels = decoded(CASES / f"exif_{orientation}.jpg")
    assert pixels.shape == (40, 60, 3)
    assert np.abs(pixels.astype(int) - np.asarray(UPRIGHT)).mean() < 3


def test_16_bits_and_an_orientation(tmp_path):
    for name, path in {"png": tmp_path / "x.png", "tif": tmp_path / "x.tif"}.items():
        if name == "png":
            exif = Image.Exif()
            exif[ORIENTATION] = 6
            Image.fromarray(SAMPLES).save(path, exif=exif)
        else:
            tiff(path, SAMPLES, orientation=6)
        np.testing.assert_array_equal(decoded(path), np.rot90(scaled(SAMPLES), -1))


@pytest.mark.filterwarnings("ignore")  # Pillow's, which the cache does not show either
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0nothing of the kind",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x02a\0\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01",
        b"Exif\0\0",
    ],
    ids=["no header", "orientation 9", "orientation of text", "cut short", "empty"],
)
def test_an_exif_block_that_says_nothing_turns_nothing(exif, tmp_path):
    UPRIGHT.save(tmp_path / "x.png")
    for suffix in ("jpg", "png", "webp"):
        UPRIGHT.save(tmp_path / f"with.{suffix}", exif=exif, **SAVED[suffix])
        UPRIGHT.save(tmp_path / f"without.{suffix}", **SAVED[suffix])
        np.testing.assert_array_equal(decoded(tmp_path / f"with.{suffix}"), decoded(tmp_path / f"without.{suffix}"))


MODES = {
    "jpg": ["L", "RGB", "CMYK", "YCbCr"],
    "png": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "webp": ["L", "RGB", "RGBA"],
    "tif": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"],
    "avif": ["L", "RGB", "RGBA"],
    "bmp": ["1", "L", "P", "RGB", "RGBA"],
    "gif": ["1", "L", "P", "RGB", "RGBA"],
    "ppm": ["1", "L", "RGB"],
    "jp2": ["L", "LA", "RGB", "RGBA"],
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in MODES.items() for mode in modes])
def test_ordinary_images_keep_the_pixels_that_pillow_gives(suffix, mode, tmp_path):
    """Bit for bit: the digests of stored records are of these."""
    path = tmp_path / f"x.{suffix}"
    UPRIGHT.convert("L" if mode == "LA" else mode).convert(mode).save(path)
    with Image.open(path) as image:
        np.testing.assert_array_equal(decoded(path), np.asarray(image.convert("RGB")))


def test_postscript_starts_no_program(tmp_path, monkeypatch):
    started = tmp_path / "started"
    (tmp_path / "gs").write_text(f"#!/bin/sh\necho $@ >> {started}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    text = message(CASES / "postscript.jpg")
    assert not started.exists() and "JPEG" in text and "PNG" in text


@pytest.mark.parametrize("suffix", ["dds", "blp", "tga", "ico", "pcx", "sgi", "eps", "psd"])
def test_other_formats_are_not_open(suffix, tmp_path):
    path = tmp_path / "x.jpg"
    if suffix == "psd":
        path.write_bytes(b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 4, 4, 8, 3) + bytes(100))
    else:
        (GREY if suffix != "blp" else GREY.convert("P")).save(path, format=Image.registered_extensions()[f".{suffix}"])
    assert "JPEG, PNG" in message(path)


def test_a_damaged_avif_is_named():
    assert "Decoding of color planes failed" in message(CASES / "damaged.avif")


@pytest.mark.parametrize("error", [RuntimeError("two\nlines"), KeyError(), ZeroDivisionError(), RecursionError()])
def test_whatever_a_decoder_raises_names_the_file(error, monkeypatch):
    def broken(*args):
        raise error

    monkeypatch.setattr("PIL.Image.Image.convert", broken)
    assert ("two" if str(error).startswith("two") else type(error).__name__) in message(CASES / "upright.png")


def test_too_little_memory_is_no_damage_of_the_file(monkeypatch):
    def broken(*args):
        raise MemoryError

    monkeypatch.setattr("PIL.Image.Image.convert", broken)
    with pytest.raises(MemoryError):
        decoded(CASES / "upright.png")


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "link to a fifo"])
def test_only_regular_files_are_opened(kind, tmp_path):
    path = tmp_path / "x.jpg"
    if kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(tmp_path / "fifo" if kind.startswith("link") else path)
        if kind.startswith("link"):
            path.symlink_to(tmp_path / "fifo")
    source = FileImages(tmp_path, "")
    for call in (source.digest, source.open):
        text = refused(call, path.name)
        assert str(path) in text and ("directory" if kind == "folder" else "not a regular file") in text


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_of_every_format_are_decoded_or_named(tmp_path):
    """Bytes of real files changed, cut and doubled: pixels or one line with the file's name, nothing else."""
    rng = random.Random(0)
    whole = {"jpg": {}, "png": {}, "webp": {}, "tif": {"compression": "tiff_lzw"}, "avif": {}, "bmp": {}, "gif": {},
             "jp2": {}, "dds": {}, "blp": {}, "ppm": {}}  # fmt: skip
    for suffix, options in whole.items():
        buffer = io.BytesIO()
        image = GREY.convert("P") if suffix == "blp" else UPRIGHT
        image.save(buffer, format=Image.registered_extensions()[f".{suffix}"], **options)
        for _ in range(40):
            data = bytearray(buffer.getvalue())
            for _ in range(rng.randrange(1, 12)):
                data[rng.randrange(min(len(data), rng.choice([64, 4096])))] = rng.randrange(256)
            if rng.random() < 0.3:
                del data[rng.randrange(len(data)) :]
            (tmp_path / "x").write_bytes(data)
            try:
                assert decoded(tmp_path / "x").shape[2] == 3
            except InputError as error:
                assert "x: cannot be decoded" in str(error) and "\n" not in str(error)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("limit", [89_478_485, None])
def test_an_image_that_would_fill_the_memory_is_named(limit, tmp_path, monkeypatch):
    """15,000 x 15,000 pixels in 30 kB, whatever a library did to Pillow's limit."""
    Image.new("1", (15_000, 15_000)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert "more than 178,956,970 pixels: make it smaller" in message(tmp_path / "bomb.png")


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000), (9_000, 10_000)])
@pytest.mark.filterwarnings("error")
def test_wide_high_and_large_images_are_read(size, tmp_path):
    path = tmp_path / "x.png"
    Image.new("1", size, 1).save(path)
    split = Split("train", ("x.png",), np.ones((1, 1), np.uint8))
    cached = cache_split(split, FileImages(tmp_path, ""), 16, "bilinear", tmp_path / "cache")
    assert (cached.load()[:] == 255).all()


def test_large_images_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmark.data.decoding.LARGE_PIXELS", 99)
    for name, side in (("large", 10), ("small", 9)):
        Image.new("RGB", (side, side)).save(tmp_path / f"{name}.png")
    source, inside, most = FileImages(tmp_path, ""), [], {"large": 0, "small": 0}

    def use(name):
        with source.opened(f"{name}.png"):
            inside.append(name)
            most[name] = max(most[name], inside.count(name))
            time.sleep(0.05)
            inside.remove(name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, ["large", "small"] * 4))
    assert most["large"] == 1 and most["small"] > 1
