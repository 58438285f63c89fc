"""Demo set shapes-lt: renderer, class mapping and label lists."""

import hashlib
import itertools
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from kit.paths import ROOT

from benchmark.data import shapes

VOC_LT = ROOT / "splits" / "voc-lt"
SHAPES_LT = ROOT / "splits" / "shapes-lt"
SPLITS = ("train", "val", "test")

# sha256 of the pixels under renderer version 1. A changed pixel needs a new RENDERER_VERSION and new values.
PINNED_VERSION = 1
PINNED_PIXELS = {
    ("train/0001.png", (4, 14, 19)): "318eeda9b34ca8d21b09828e89efe308436b3115a974af7ade7da5fb00c31bd1",
    ("val/0001.png", (9,)): "abdbfdd1cd907dcbf714a9ff16de5a5eb69b17ebb03c7d9b4a7c3b30f8fc543d",
    ("test/0042.png", (0, 2, 3, 5)): "2200ed66c080b6937f15d04ac6bf60d8552f4d04793b487961046bd79f812adc",
}


def read_rows(folder, split):
    lines = (folder / f"{split}.txt").read_text(encoding="utf-8").splitlines()
    return [(line.split()[0], tuple(int(k) for k in line.split()[1:])) for line in lines]


def positives(rows):
    counts = Counter(k for _, labels in rows for k in labels)
    return [counts[k] for k in range(20)]


def parts(classes):
    """Surfaces and shapes that occur among the given class indices."""
    surfaces, forms = zip(*(shapes.CLASS_NAMES[k].split() for k in classes), strict=True)
    return set(surfaces), set(forms)


def classes_where(condition):
    return [k for k, n in enumerate(positives(read_rows(VOC_LT, "train"))) if condition(n)]


def pixels(image_id, labels):
    return shapes.render(image_id, labels).tobytes()


def test_image_is_64x64_rgb_uint8():
    image = shapes.render("train/0001.png", [4, 14, 19])
    assert image.shape == (shapes.IMAGE_SIZE, shapes.IMAGE_SIZE, 3) == (64, 64, 3)
    assert image.dtype == np.uint8
    assert image.std() > 10


def test_same_row_gives_same_pixels_whatever_was_rendered_before():
    first = pixels("train/0001.png", [4, 14])
    np.random.seed(0)
    shapes.render("train/0002.png", [6])
    assert pixels("train/0001.png", [4, 14]) == first


def test_label_order_and_container_do_not_matter():
    expected = pixels("a", [4, 14, 19])
    assert pixels("a", (19, 4, 14)) == expected
    assert pixels("a", np.array([14, 19, 4])) == expected


def test_image_id_and_labels_each_change_the_pixels():
    images = {pixels(image_id, labels) for image_id in ("a", "b") for labels in ([], [0], [1], [0, 1])}
    assert len(images) == 8


@pytest.mark.parametrize(("row", "digest"), PINNED_PIXELS.items(), ids=[row[0] for row in PINNED_PIXELS])
def test_pixels_are_pinned_to_the_renderer_version(row, digest):
    assert shapes.RENDERER_VERSION == PINNED_VERSION, "new renderer version: pin its pixels here"
    assert hashlib.sha256(pixels(*row)).hexdigest() == digest


@pytest.mark.parametrize("label", range(20))
def test_every_class_draws_an_object(label):
    # The background and the clutter behind the objects depend on the id alone, so a label must show.
    empty = shapes.render("probe", []).astype(int)
    assert (np.abs(shapes.render("probe", [label]).astype(int) - empty).max(axis=2) > 60).sum() > 60


def test_image_with_all_classes_renders():
    assert shapes.render("crowd", range(20)).shape == (64, 64, 3)


@pytest.mark.parametrize("label", [-1, 20])
def test_label_out_of_range_is_rejected(label):
    with pytest.raises(ValueError, match="not in 0..19"):
        shapes.render("train/0001.png", [3, label])


def test_class_names_are_the_20_combinations():
    assert len(shapes.CLASS_NAMES) == 20
    combinations = itertools.product(shapes.SURFACES, shapes.SHAPES)
    assert set(shapes.CLASS_NAMES) == {f"{surface} {form}" for surface, form in combinations}


def test_class_mapping_follows_the_frequency_rank():
    counts = positives(read_rows(VOC_LT, "train"))
    for rank, k in enumerate(sorted(range(20), key=lambda k: (-counts[k], k))):
        assert shapes.CLASS_NAMES[k] == f"{shapes.SURFACES[rank % 4]} {shapes.SHAPES[rank % 5]}"


def test_head_has_every_part_that_medium_and_tail_classes_are_made_of():
    head, medium, tail = (
        classes_where(lambda n: n >= 100),
        classes_where(lambda n: 20 <= n < 100),
        classes_where(lambda n: n < 20),
    )
    assert (len(head), len(medium), len(tail)) == (6, 6, 8)
    assert parts(head) == parts(medium) == parts(tail) == (set(shapes.SURFACES), set(shapes.SHAPES))


def test_class_list_names_the_classes():
    names = (SHAPES_LT / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert tuple(names) == shapes.CLASS_NAMES


def test_train_rows_are_voc_lts_in_order():
    train = read_rows(SHAPES_LT, "train")
    assert [labels for _, labels in train] == [labels for _, labels in read_rows(VOC_LT, "train")]
    counts = [6, 34, 8, 14, 154, 17, 249, 29, 479, 4, 240, 48, 11, 20, 775, 100, 5, 82, 7, 64]
    assert positives(train) == counts


@pytest.mark.parametrize(("split", "fewest"), [("val", 5), ("test", 10)])
def test_evaluation_rows_are_drawn_without_replacement_in_list_order(split, fewest):
    drawn = [labels for _, labels in read_rows(SHAPES_LT, split)]
    published = [labels for _, labels in read_rows(VOC_LT, split)]
    assert len(drawn) == 1000
    assert not Counter(drawn) - Counter(published)
    remaining = iter(published)
    assert all(labels in remaining for labels in drawn)  # a subsequence: the list's order is kept
    assert min(positives(read_rows(SHAPES_LT, split))) >= fewest


@pytest.mark.parametrize(("split", "size"), [("train", 1142), ("val", 1000), ("test", 1000)])
def test_ids_count_the_rows_of_their_split(split, size):
    assert [image_id for image_id, _ in read_rows(SHAPES_LT, split)] == [
        f"{split}/{i:04d}.png" for i in range(1, size + 1)
    ]


def test_command_reproduces_the_shipped_lists(tmp_path):
    shapes.main(["lists", "--voc", str(VOC_LT), "--out", str(tmp_path / "new")])
    for name in ("classes", *SPLITS):
        assert (tmp_path / "new" / f"{name}.txt").read_bytes() == (SHAPES_LT / f"{name}.txt").read_bytes()


def copy_of_voc_lt(folder, **replaced):
    for split in SPLITS:
        lines = replaced.get(split, (VOC_LT / f"{split}.txt").read_text(encoding="utf-8").splitlines())
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"train": ["a.jpg 3"] * 1142}, "training rows"),
        ({"val": ["a.jpg 3"] * 999}, "999 rows"),
        ({"val": ["a.jpg 3"] * 1000}, "0 positives in val"),
        ({"test": [" ".join(["a.jpg", *map(str, range(19))])] * 991 + ["a.jpg 19"] * 9}, "9 positives"),
    ],
)
def test_lists_are_refused_without_voc_lts_rows_or_enough_positives(tmp_path, replaced, message):
    with pytest.raises(ValueError, match=message):
        shapes.write_lists(copy_of_voc_lt(tmp_path, **replaced), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_module_does_not_import_torch():
    code = "import sys; import benchmark.data.shapes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
