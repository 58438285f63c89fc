"""Small datasets that are registered for a test, and official-looking archives of their images."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmark.data import archives, dataset

VOC, COCO = "voc-small", "coco-small"
TAR, TRAIN, VAL, LABELS = "VOCtrainval.tar", "train2017.zip", "val2017.zip", "annotations.zip"
JPEG = "VOCdevkit/VOC2012/JPEGImages"
# Of an image that no list names.
UNLISTED = 300_000


def picture(seed: int) -> bytes:
    """A JPEG file."""
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def voc_files() -> dict[str, bytes]:
    """The members of VOC's archive: 12 listed images, a large one that is not listed, labels."""
    files = {f"{JPEG}/2008_{i:06d}.jpg": picture(i) for i in range(12)}
    files[f"{JPEG}/2012_999999.jpg"] = np.random.default_rng(0).bytes(UNLISTED)
    files |= {f"VOCdevkit/VOC2012/Annotations/2008_{i:06d}.xml": b"<annotation/>" for i in range(12)}
    return files | {"VOCdevkit/VOC2012/ImageSets/Main/trainval.txt": b"2008_000000\n"}


def coco_files(split: str) -> dict[str, bytes]:
    """The members of one of COCO's archives."""
    first = 0 if split == "train2017" else 100
    files = {f"{split}/{first + i:012d}.jpg": picture(first + i) for i in range(6)}
    return files | {f"{split}/000000999999.jpg": np.random.default_rng(first).bytes(UNLISTED)}


def tar_of(files: dict[str, bytes], *others: tarfile.TarInfo) -> bytes:
    """A tar file; others: further members, without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in others:
            archive.addfile(info)
    return buffer.getvalue()


def zip_of(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    """A zip file, not compressed, as those of photographs; links: name -> target of symbolic links."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return buffer.getvalue()


def official() -> dict[str, bytes]:
    """File name -> content of every archive."""
    instances = {f"annotations/instances_{split}2017.json": b"{}" for split in ("train", "val")}
    return {
        TAR: tar_of(voc_files()),
        TRAIN: zip_of(coco_files("train2017")),
        VAL: zip_of(coco_files("val2017")),
        LABELS: zip_of({**instances, "annotations/captions_val2017.json": bytes(1000)}),
    }


def register(folder: Path, patch: pytest.MonkeyPatch, contents: dict[str, bytes], *servers: str) -> None:
    """Register the two datasets and these archives, served at each of the addresses in order."""
    fields = {
        "voc": {"file": TAR, "images": [JPEG], "labels": ["VOCdevkit/VOC2012/Annotations"]},
        "labels": {"file": LABELS, "into": "coco", "labels": ["coco/annotations/instances_train2017.json"]},
        "train": {"file": TRAIN, "into": "coco", "images": ["coco/train2017"]},
        "val": {"file": VAL, "into": "coco", "images": ["coco/val2017"]},
    }
    entries = {}
    for name, entry in fields.items():
        file = entry.pop("file")
        content = contents[file]
        urls = [f"{server}/{file}" for server in servers]
        entries[name] = {"urls": urls, "size": len(content), "sha256": hashlib.sha256(content).hexdigest(), **entry}
    (folder / "archives.yaml").write_text(yaml.safe_dump(entries))
    voc = [f"{JPEG}/2008_{i:06d}.jpg" for i in range(12)]
    _dataset(folder / "splits" / VOC, voc[:8], voc[8:], {"archives": ["voc"], "folder": "."})
    coco = [f"train2017/{i:012d}.jpg" for i in range(4)], [f"val2017/{i:012d}.jpg" for i in range(100, 104)]
    _dataset(folder / "splits" / COCO, *coco, {"archives": ["labels", "train", "val"], "folder": "coco"})
    patch.setattr(archives, "ARCHIVES_FILE", folder / "archives.yaml")
    patch.setattr(archives.ARCHIVES, "_entries", {})
    patch.setattr(archives.ARCHIVES, "_load", archives._load_archives)
    patch.setattr(dataset, "SPLITS_FOLDER", folder / "splits")
    patch.setattr(dataset.DATASETS, "_entries", {})
    patch.setattr(dataset.DATASETS, "_load", dataset._load_datasets)


def _dataset(folder: Path, train: list[str], test: list[str], card: dict[str, object]) -> None:
    folder.mkdir(parents=True)
    (folder / "classes.txt").write_text("one\ntwo\n")
    for name, images in (("train", train), ("test", test)):
        (folder / f"{name}.txt").write_text("".join(f"{image} {i % 2}\n" for i, image in enumerate(images)))
    (folder / "dataset.yaml").write_text(yaml.safe_dump({"protocol": "demo", "images": "data-root", **card}))


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files below a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
