"""Small trees in the formats of the official annotations of VOC, COCO and NUS-WIDE."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.data.dataset import DATASETS

COCO_CLASSES = DATASETS.get("coco-lt").open().classes
NUS_CLASSES = tuple((DATASETS.get("nus-wide").path / "classes.txt").read_text().split())


def write_image(path: Path, shade: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (shade % 256, shade // 256 % 256, 7)).save(path)
    return path


def write_voc(folder: Path, labels: Mapping[str, Iterable[str]], difficult: Iterable[str] = ()) -> None:
    """`<folder>/Annotations/<image>.xml`: labels by image id; those in `difficult` have objects marked so alone."""
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    for image, names in labels.items():
        objects = "".join(
            f"<object><name>{name}</name><difficult>{int(image in difficult)}</difficult></object>" for name in names
        )
        text = f"<annotation><folder>VOC2012</folder><filename>{image}.jpg</filename>{objects}</annotation>"
        (folder / "Annotations" / f"{image}.xml").write_text(text)


def coco_annotation(image: int, label: int, crowd: int = 0, box: Iterable[float] = (1, 2, 30, 40)) -> dict:
    """An annotation in the official format; label: index of the class among the 80."""
    box = list(box)
    outline = {"counts": [4, 3], "size": [10, 10]} if crowd else [[1, 2, 31, 2, 31, 42]]
    return {
        "segmentation": outline,
        "area": box[2] * box[3],
        "iscrowd": crowd,
        "image_id": image,
        "bbox": box,
        "category_id": category(label),
    }


def category(label: int) -> int:
    """COCO's id of a class: 1 to 90 with ten gaps."""
    gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    return [number for number in range(1, 91) if number not in gaps][label]


def write_coco(file: Path, images: Iterable[int], annotations: Iterable[dict]) -> Path:
    """`instances_*.json` with the official categories."""
    content = {
        "info": {"year": 2017},
        "licenses": [],
        "images": [{"id": i, "file_name": f"{i:012d}.jpg", "width": 64, "height": 48, "license": 1} for i in images],
        "annotations": [{"id": i} | annotation for i, annotation in enumerate(annotations, 1)],
        "categories": [{"supercategory": "x", "id": category(i), "name": name} for i, name in enumerate(COCO_CLASSES)],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def write_nus_wide(folder: Path, targets: Mapping[str, np.ndarray], ends: str = "\r\n") -> dict[str, list[str]]:
    """The official label files. targets: Train and Test -> {0, 1} [N, 81]. Returns the entries of each list, with /."""
    lists, labels = folder / "ImageList", folder / "Groundtruth" / "TrainTestLabels"
    for made in (lists, labels, folder / "ConceptsList"):
        made.mkdir(parents=True, exist_ok=True)
    (folder / "ConceptsList" / "Concepts81.txt").write_text("".join(f"{name}{ends}" for name in NUS_CLASSES))
    entries, number = {}, 0
    for part, rows in targets.items():
        entries[part] = [f"{NUS_CLASSES[i % 81]}/{i:04d}_{2124494179 + number + i}.jpg" for i in range(len(rows))]
        number += len(rows)
        listed = ("\\".join(entry.split("/")) for entry in entries[part])
        (lists / f"{part}Imagelist.txt").write_bytes("".join(f"{entry}{ends}" for entry in listed).encode())
        for name, column in zip(NUS_CLASSES, rows.T, strict=True):
            digits = np.where(column, "1", "0")
            (labels / f"Labels_{name}_{part}.txt").write_bytes("".join(f"{digit}{ends}" for digit in digits).encode())
    return entries
