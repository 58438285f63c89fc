"""Write the validation list of `voc-lt-val-small`, which is part of the repository.

    python -m benchmark.tools.voc_val_small

It has as many images as VOC-LT's training list: those of VOC-LT's validation list whose sha256 of
"voc-lt/val-small/<image id>" is smallest.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from benchmark.base.atomic import write_atomically
from benchmark.data.annotations import list_bytes_of
from benchmark.data.dataset import DATASETS
from benchmark.data.hashed import smallest_hashes

NAME = "voc-lt-val-small"


def val_small() -> bytes:
    """The content of val.txt, in the order of VOC-LT's."""
    full = DATASETS.get("voc-lt").open()
    paths = {PurePosixPath(path).stem: path for path in full.splits["val"].paths}
    chosen = set(smallest_hashes("voc-lt/val-small", paths, len(full.splits["train"])))
    labels = full.splits["val"].labels
    return list_bytes_of({path: labels[path] for image, path in paths.items() if image in chosen})


if __name__ == "__main__":
    write_atomically(DATASETS.get(NAME).path / "val.txt", val_small())
