"""What somebody may edit in a finished run so that it still reads well: `verify`, `export` and `import` say so."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from kit.bundles import bundle_of, nothing_arrives
from kit.command import ltbench, refused
from kit.factories import CLASSES, edited, make_record
from kit.stores import edit_record, edit_tensors, made, register_tiny, run_of  # noqa: F401 - fixtures
from kit.verification import faults, others
from safetensors.numpy import load_file

from benchmark.audit.names import misnamed
from benchmark.errors import StoreError
from benchmark.method import METHODS
from benchmark.spec import RunSpec, deep_merge
from benchmark.store.folder import RunFolder
from benchmark.store.records import Record


@pytest.fixture
def store(made, tmp_path):
    return shutil.copytree(made, tmp_path / "theirs")


def edit_spec(folder: RunFolder, **changes) -> RunFolder:
    """Change the specification, with the id and the folder that follow from it."""
    data = deep_merge(json.loads(folder.record_path.read_text()), {"spec": changes})
    spec = RunSpec.model_validate_json(json.dumps(data["spec"]))
    folder.record_path.write_text(json.dumps(data | {"run_id": spec.run_id}))
    moved = RunFolder(folder.path.parent / spec.folder_name)
    folder.path.rename(moved.path)
    Record.from_file(moved.record_path)
    return moved


def as_another_seed(folder: RunFolder, seed: int) -> RunFolder:
    """A copy of a run as one of another seed."""
    copy = RunFolder(folder.path.with_name("copy"))
    shutil.copytree(folder.path, copy.path)
    return edit_spec(copy, seed=seed)


def found(store, folder: RunFolder, tmp_path, *words: str) -> str:
    """The one fault of the run, as `verify` tells it; `import` refuses the run with the same words."""
    [message] = faults(store)[folder.path.name]
    assert all(word in message for word in words), message
    sent = bundle_of(folder, tmp_path / "sent.zip")
    nothing_arrives(sent, tmp_path / "fresh" / "results", *words)
    return message


# --- one training under several seeds ----------------------------------------------------------------------------


def test_the_same_logits_under_two_seeds(store, tmp_path):
    copy, sound = as_another_seed(run_of(store), 7), run_of(store)
    # In another order in the file: its digest is another one, the numbers are not.
    edit_tensors(copy, lambda tensors: tensors.update({"ema": tensors.pop("ema")}))
    messages = faults(store)
    assert set(messages) == {copy.path.name, sound.path.name}
    assert f"bit for bit those of {sound.path.name}" in messages[copy.path.name][0]
    sent = bundle_of(copy, tmp_path / "sent.zip")
    shutil.rmtree(copy.path)
    assert faults(store) == {}
    line = nothing_arrives(sent, store, "bit for bit those of", sound.path.name)
    assert line.startswith(f"error: {sent}: ")
    # Beside runs that it was not taken from, nothing is wrong with it.
    shutil.rmtree(sound.path)
    assert ltbench("import", sent, "--results", store).returncode == 0


def test_what_no_seed_decides_may_be_the_same_under_all(store):
    copy, sound = as_another_seed(run_of(store), 7), run_of(store)
    for folder in (copy, sound):
        edit_record(folder, parameters={"trained": 0})
    assert faults(store) == {}


def test_scores_that_do_not_depend_on_the_image_may_be_the_same(store):
    sound = run_of(store, "erm-s1")
    edit_tensors(sound, lambda tensors: [tensors[name].fill(0.5) for name in ("raw", "ema", "validation")])
    tensors = load_file(sound.path / sound.record().logits.file)
    share = tensors["targets"].mean(axis=0) * 100
    val = tensors["validation_targets"].mean(axis=0) * 100
    names = list(sound.record().groups)
    scores = {"per_class": dict(zip(names, map(float, share), strict=True))}
    edit_record(
        sound, results={"raw": scores, "ema": scores},
        validation={"per_class": dict(zip(names, map(float, val), strict=True))},
    )  # fmt: skip
    as_another_seed(sound, 7)
    assert faults(store) == {}


# --- names that are not part of the id ---------------------------------------------------------------------------


def test_a_method_of_a_version_that_is_not_known(store, tmp_path):
    """Its settings cannot be compared: what was changed would stand under the label of what was not."""
    folder = edit_spec(run_of(store, "asl"), method_version=9, config={"gamma_neg": 1.0})
    found(store, folder, tmp_path, "spec.method_version is 9", "'asl' has no version above 1", "update ltbench")


def test_settings_that_cannot_be_compared_are_told(store, monkeypatch, tmp_path):
    folder = run_of(store, "asl")
    monkeypatch.setattr(METHODS.get("asl"), "version", 2)
    assert any("method 'asl' has version 1, and 2 here" in note for note in others(store, "note"))
    done = ltbench("import", bundle_of(folder, tmp_path / "a.zip"), "--results", tmp_path / "results")
    assert done.returncode == 0 and "has version 1, and 2 here: its settings could not be compared" in done.stdout
    monkeypatch.delitem(METHODS._entries, "asl")
    shutil.rmtree(tmp_path / "results")
    done = ltbench("import", tmp_path / "a.zip", "--results", tmp_path / "results")
    assert done.returncode == 0 and "'asl' is not registered here: its settings could not be compared" in done.stdout


def test_another_name_for_a_registered_dataset(store, made, monkeypatch, tmp_path):
    register_tiny(monkeypatch, made.parent / "tiny")
    folder = run_of(store, "asl")
    assert faults(store) == {}
    edit_record(folder, spec={"dataset": {"name": "my-set"}})
    found(store, folder, tmp_path, "spec.dataset.name is 'my-set'", "the registered dataset 'tiny'")


def weights(name: str, digest: str | None, backbone: str = "resnet50", recipe: str | None = None) -> list[str]:
    given = {"name": name, "digest": digest}
    spec = {"weights": given, "recipe": {"weights": recipe or name, "backbone": backbone}, "protocol_version": 7}
    return list(misnamed(make_record("erm", spec=spec)))


def test_the_name_of_weights_edited_alone(store, tmp_path):
    folder = run_of(store, "asl")
    edit_record(folder, spec={"weights": {"name": "IMAGENET1K_V1"}})
    found(store, folder, tmp_path, "spec.weights.name is 'IMAGENET1K_V1', and spec.recipe.weights 'none'")


def test_names_of_weights_are_those_of_their_digest():
    own, copied = "1" * 64, "0676ba61" + "2" * 56
    assert weights("IMAGENET1K_V1", "torchvision/resnet50-0676ba61.pth") == []
    assert weights("IMAGENET1K_V1", "resnet50-0676ba61.pth") == []  # as early records have it
    assert weights("IMAGENET1K_V1", copied) == [] and weights("mine", own) == [] and weights("none", None) == []
    assert weights("ViT-B-16:openai", "open_clip/ViT-B-16:openai", "clip_vit_b_16") == []
    assert weights("mine", own, "a_backbone_of_my_own") == []
    for wrong in (
        weights("IMAGENET1K_V1", "torchvision/resnet50-11ad3fa6.pth"),  # V2's
        weights("IMAGENET1K_V2", "torchvision/resnet50-0676ba61.pth"),
        weights("IMAGENET1K_V1", own),
        weights("better", "torchvision/resnet50-0676ba61.pth"),
        weights("none", own),
        weights("IMAGENET1K_V1", None),
        weights("none", None, recipe="IMAGENET1K_V1"),
        weights("ViT-B-16:laion400m_e32", "open_clip/ViT-B-16:openai", "clip_vit_b_16"),
    ):
        assert len(wrong) == 1 and "spec.weights." in wrong[0]


def test_the_shipped_weights_under_another_name():
    from benchmark.base.files import file_digest
    from benchmark.models.weights import shipped_weights

    [(tag, path)] = shipped_weights().items()
    assert weights(tag, file_digest(path), "clip_demo") == []
    assert weights(path.stem, file_digest(path), "clip_demo") == []
    assert "these are the weights" in weights("openai", file_digest(path), "clip_demo")[0]


# --- the oracle --------------------------------------------------------------------------------------------------


def test_the_oracles_last_epoch_is_the_record(store, tmp_path):
    folder = run_of(store)
    last = len(folder.record().oracle)
    path = edit_tensors(folder, lambda tensors: tensors["ema"].__imul__(1.0 + 1e-6), epoch=last)
    assert faults(store) == {}  # as another GPU would compute it
    path = edit_tensors(folder, lambda tensors: tensors["ema"].__imul__(-1), epoch=last)
    message = found(store, folder, tmp_path, "ema differs by up to ", "the record's logits, which are of this epoch")
    assert message.startswith(f"{path}: ")


def test_the_oracle_of_another_epoch_is_its_own(store):
    edit_tensors(run_of(store), lambda tensors: tensors["ema"].__imul__(-1), epoch=1)
    assert faults(store) == {}


# --- records that say too little or what cannot be ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": True}, "schema version True is not known"),
        ({"schema_version": 2.0}, "schema version 2.0 is not known"),
        ({"class_counts": {"car": -1}}, "class_counts.car: Input should be greater than or equal to 0"),
        ({"class_counts": {"car": 100_000}}, "class_counts has 100000 for 'car', of 1142 training images"),
        ({"num_train_images": 0}, "num_train_images: Input should be greater than or equal to 1"),
        ({"num_test_images": -4952}, "num_test_images: Input should be greater"),
        ({"parameters": {"all": -1, "trained": -2}}, "parameters.all: Input should be greater"),
        ({"environment": {"cpu_threads": -2}}, "environment.cpu_threads: Input should be greater"),
        ({"history": [{"epoch": 1, "loss": 0.1, "lr": -0.1}]}, "history.0.lr: Input should be greater"),
    ],
)
def test_numbers_that_cannot_be(changes, words):
    with pytest.raises(StoreError, match=words.replace(".", r"\.")):
        Record.from_bytes(edited(make_record(), **changes).encode(), "record.json")


def test_a_record_that_claims_endless_epochs_takes_no_memory():
    """A list of them would take all there is; found by tests/test_fuzz.py."""
    record = json.loads(make_record().to_json())
    record["spec"]["recipe"]["epochs"] = 2**62
    record["run_id"] = RunSpec.model_validate_json(json.dumps(record["spec"])).run_id
    with pytest.raises(StoreError, match=f"history does not list the {2**62} epochs"):
        Record.from_bytes(json.dumps(record).encode(), "record.json")


@pytest.mark.parametrize("digests", [{}, {"train": "a" * 64}, {"test": "a" * 64}, {"train", "val", "test"}])
def test_digests_of_the_images_are_those_of_the_lists(digests):
    data = json.loads(make_record().to_json())
    data["data_digests"] = digests if isinstance(digests, dict) else dict.fromkeys(digests, "a" * 64)
    with pytest.raises(StoreError, match="data_digests are those of .*, and the run has test, train"):
        Record.from_bytes(json.dumps(data).encode(), "record.json")


def test_a_bundle_of_format_true(store, tmp_path):
    from kit.bundles import change

    sent = bundle_of(run_of(store), tmp_path / "a.zip")
    change(
        sent,
        lambda members: members.update(
            {"manifest.json": members["manifest.json"].replace(b'"format": 1', b'"format": true')}
        ),
        sums=False,
    )
    nothing_arrives(sent, tmp_path / "results", "format True is not known")


def test_export_refuses_what_verify_finds(store, tmp_path):
    folder = run_of(store, "asl")
    edit_record(folder, spec={"weights": {"name": "IMAGENET1K_V1"}})
    refused(ltbench("export", folder.path.name, "--results", store, "--out", tmp_path / "x.zip"), "spec.weights.name")


def test_sound_records_of_a_first_version_still_hold():
    record = make_record(schema_version=1, classes=CLASSES)
    assert list(misnamed(record)) == [] and np.isfinite(record.metrics.overall)
