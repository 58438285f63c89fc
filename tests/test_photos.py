"""End to end on real photographs with real pretrained weights; skipped, and said so, where PHOTOS_LT is not set."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import benchmark
from benchmark.errors import InputError
from benchmark.running.plan import make_plan

pytestmark = pytest.mark.slow

WEIGHTS = "mobilenet_v2_imagenet.safetensors"


def options(photos: Path, **changes):
    given = {"backbone": "mobilenet_v2", "weights": str(photos / WEIGHTS), "image_size": 161}
    return given | changes


def test_a_folder_without_a_card_groups_its_classes_and_keeps_folded_batch_norm(photos):
    plan = make_plan("db-focal", str(photos), **options(photos))
    groups = plan.dataset.groups
    assert [c for c in groups if groups[c] == "head"] == ["person", "dog", "cat", "horse", "sheep"]
    assert [c for c in groups if groups[c] == "medium"] == ["cow", "sofa", "chair", "car"]
    assert [c for c in groups if groups[c] == "tail"] == ["pottedplant", "bottle", "tvmonitor", "diningtable"]
    assert plan.spec.protocol == "controlled" and plan.spec.recipe.batch_norm == "frozen"
    assert plan.spec.weights.mean == plan.spec.weights.std == (0.5, 0.5, 0.5)
    assert plan.spec.weights.batch_norm == "folded" and plan.spec.overrides == {}
    with pytest.raises(InputError, match="batch norm is folded"):
        make_plan("erm", str(photos), **options(photos, settings={"recipe.batch_norm": "train"}))


def test_two_epochs_on_photographs_are_far_above_chance(photos, tmp_path):
    record = benchmark.run("db-focal", str(photos), results=tmp_path, **options(photos, epochs=2))
    assert record.num_test_images == 1500 and record.num_train_images == 621
    # The mean prevalence, which random scores give, is 11 %.
    assert record.metrics.overall > 25 and record.metrics.head > 45
    assert record.metrics.missing_classes == []
    assert record.history[1].loss < record.history[0].loss


@pytest.mark.parametrize("method", ["ltml", "cprfl", "linear-probe"])
def test_the_other_methods_learn_from_photographs(photos, tmp_path, method):
    """CPRFL with the real text embeddings, of which the row tells the file and the run's id the content alone."""
    settings = {}
    if method == "cprfl":
        settings = {"semantics": f"{photos / 'clip_vit_b16_text.npz'}:photos", "dim": 256, "heads": 4, "head_dim": 64}
    given = options(photos, epochs=2, image_size=97, settings=settings)
    record = benchmark.run(method, str(photos), results=tmp_path, **given)
    assert record.metrics.overall > 22 and record.metrics.head > 40
    assert record.history[1].loss < record.history[0].loss
    if method == "cprfl":
        assert record.spec.config_overrides["semantics"] == "clip_vit_b16_text.npz:photos"
        assert str(photos) not in (tmp_path / "runs" / record.spec.folder_name / "record.json").read_text()


def test_classes_without_a_text_embedding_are_named(photos, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(photos, folder, ignore=shutil.ignore_patterns("images", "*.safetensors"))
    (folder / "images").symlink_to(photos / "images")
    (folder / "classes.txt").chmod(0o644)
    (folder / "classes.txt").write_text((photos / "classes.txt").read_text().replace("dog", "dogg"))
    settings = {"semantics": str(folder / "clip_vit_b16_text.npz")}
    with pytest.raises(InputError, match=r"clip_vit_b16_text.npz: .*'dogg'"):
        make_plan("cprfl", str(folder), **options(photos, settings=settings))


def test_weights_of_another_architecture_are_refused(photos):
    with pytest.raises(InputError, match="weights of 'mobilenet_v2', not of 'resnet18'"):
        make_plan("erm", str(photos), **options(photos, backbone="resnet18"))


def test_a_damaged_photograph_is_named(photos, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(photos, folder, ignore=shutil.ignore_patterns("*.npz", "*.safetensors"))
    victim = folder / "images" / "2008_000026.jpg"
    victim.chmod(0o644)
    (folder / "images").chmod(0o755)
    victim.write_bytes(victim.read_bytes()[:4000])
    with pytest.raises(InputError, match=r"2008_000026.jpg: cannot be decoded"):
        benchmark.run("erm", str(folder), results=tmp_path / "results", **options(photos, image_size=64))
    victim.unlink()
    with pytest.raises(InputError, match=r"1 image is missing below .*2008_000026.jpg"):
        benchmark.run("erm", str(folder), results=tmp_path / "results", **options(photos, image_size=64))
    assert not (tmp_path / "results").exists()


def test_two_epochs_of_the_mini_track_are_far_above_chance(voc_mini, tmp_path):
    """VOC-mini-LT by its defaults: EfficientNet-Lite0 of timm with the weights of a Python package."""
    record = benchmark.run("erm", "voc-mini-lt", results=tmp_path, data_root=voc_mini, epochs=2, image_size=96)
    assert (record.spec.protocol, record.spec.recipe.backbone) == ("mini", "timm:tf_efficientnet_lite0")
    assert record.spec.weights.mean == record.spec.weights.std == (0.5, 0.5, 0.5)
    assert [list(record.groups.values()).count(group) for group in ("head", "medium", "tail")] == [5, 4, 4]
    assert record.num_test_images == 1000 and not record.own_network
    # The mean prevalence, which random scores give, is 11 %.
    assert record.metrics.overall > 22 and record.metrics.head > 40
    assert record.history[1].loss < record.history[0].loss
