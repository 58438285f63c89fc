"""The command of a record: read by a shell and planned, it is the same run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kit.command import ltbench
from kit.factories import make_record
from kit.tiny import TINY
from safetensors.numpy import save_file

from benchmark.audit.reproduce import _spelt, command
from benchmark.base.yamlio import parse_value
from benchmark.cli.options import parse_settings
from benchmark.running.plan import make_plan
from benchmark.spec import RunSpec
from benchmark.store.records import Record

STEPS = {"name": "step", "milestones": [5, 7]}


def record_of(spec: RunSpec, **changes) -> Record:
    return make_record(spec=json.loads(spec.model_dump_json()), **changes)


def words_of(text: str) -> list[str]:
    """What a shell makes of a command."""
    assert "\n" not in text
    return shlex.split(text, comments=True)


def planned(words: list[str]) -> str:
    """The run id that the command line plans."""
    assert words[:2] == ["ltbench", "run"]
    done = ltbench(*words[1:], "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)
    return row["run_id"]


@pytest.mark.parametrize(
    ("method", "dataset", "given", "words"),
    [
        ("erm", "shapes-lt", {}, "--protocol demo --seed 0"),
        ("erm", "shapes-lt", {"seed": 12, "epochs": 3}, "--seed 12 --epochs 3"),
        ("asl", "shapes-lt", {"settings": {"gamma_neg": 2, "detach_focusing": False}},
         "--set gamma_neg=2.0 --set detach_focusing=false"),
        ("db-focal", "shapes-lt", {"settings": {"sampler": "uniform"}}, "--set sampler=uniform"),
        ("erm", "shapes-lt", {"settings": {"recipe.optimizer.lr": 1e-4}}, "--set recipe.optimizer.lr=0.0001"),
        ("erm", "shapes-lt", {"settings": {"recipe.optimizer.lr": 1e-7}}, "--set recipe.optimizer.lr=1e-07"),
        ("erm", "shapes-lt", {"settings": {"recipe.schedule": STEPS}},
         "--set recipe.schedule.name=step --set 'recipe.schedule.milestones=[5.0, 7.0]'"),
        ("erm", "voc-lt", {"protocol": "paper", "settings": {"recipe.schedule.milestones": [], "recipe.schedule.name":
         "cosine", "recipe.neck": None}}, "'recipe.schedule.milestones=[]'"),
        ("erm", "shapes-lt", {"settings": {"recipe.clip_norm": None, "recipe.selection": "best-val"}},
         "--set recipe.clip_norm=null --set recipe.selection=best-val"),
        ("erm", "shapes-lt", {"settings": {"recipe.test_time.views": "flip"}}, "--set recipe.test_time.views=flip"),
        ("erm", "voc-lt", {"backbone": "mobilenet_v2", "weights": "IMAGENET1K_V2", "image_size": 161},
         "--backbone mobilenet_v2 --weights IMAGENET1K_V2 --image-size 161"),
        ("erm", "voc-lt", {"backbone": "resnet18"}, "--backbone resnet18"),
        ("erm", "coco-lt", {"weights": "none"}, "--weights none"),
        ("erm", "shapes-lt", {"protocol": "demo-clip"}, "--protocol demo-clip --seed 0"),
        ("cprfl", "coco-lt", {"protocol": "paper"}, "--protocol paper --seed 0"),
        ("cprfl", "shapes-lt", {"settings": {"semantics": "random", "variant": "equations"}},
         "--set semantics=random --set variant=equations"),
        ("cprfl", "shapes-lt", {"settings": {"semantics": "ViT-B-16:openai"}}, "--set semantics=ViT-B-16:openai"),
        ("hp-dval", "shapes-lt", {"settings": {"top_k": None, "prior_offset": True}},
         "--set top_k=null --set prior_offset=true"),
        ("capnet", "voc-lt", {"protocol": "paper", "backbone": "clip_vit_b_16", "weights": "ViT-B-16:openai"},
         "--backbone clip_vit_b_16 --weights ViT-B-16:openai"),
        ("linear-probe", "shapes-lt", {}, "--protocol demo-clip --seed 0"),
    ],
)  # fmt: skip
def test_the_command_plans_the_same_run(method, dataset, given, words):
    plan = make_plan(method, dataset, **given)
    text = command(record_of(plan.spec))
    assert text.endswith(words) or words in text
    assert "#" not in text
    assert planned(words_of(text)) == plan.run_id


def test_what_the_protocol_has_is_left_out():
    assert command(record_of(make_plan("erm", "voc-lt").spec)) == (
        "ltbench run --method erm --dataset voc-lt --protocol controlled --seed 0"
    )


def test_a_dataset_folder_and_files_have_no_name(tiny, tmp_path):
    weights, text = tmp_path / "mine.safetensors", tmp_path / "text.npz"
    save_file({}, weights, {"architecture": "small_cnn", "mean": "[0, 0, 0]", "std": "[1, 1, 1]"})
    np_savez(text)
    plan = make_plan(
        "cprfl", str(tiny), **TINY | {"settings": {"recipe.batch_size": 8, "semantics": f"{text}:own"}},
        weights=str(weights),
    )  # fmt: skip
    told = command(record_of(plan.spec))
    assert str(tmp_path) not in told
    comment = told.partition("  # ")[2]
    assert f"dataset folder with fingerprint {plan.spec.dataset.fingerprint}" in comment
    assert f"weights file with sha256 {plan.spec.weights.digest}" in comment
    assert "file of setting 'semantics' with sha256 " in comment
    places = {"FOLDER": str(tiny), "FILE": str(weights), "semantics=FILE.npz:own": f"semantics={text}:own"}
    assert planned([places.get(word, word) for word in words_of(told)]) == plan.run_id


def np_savez(path: Path) -> None:
    import numpy as np

    np.savez(path, own=np.ones((3, 8)), own_names=np.array(["red", "green", "blue"]))


def test_a_folder_that_is_named_as_a_registered_dataset_is_still_a_folder(tiny):
    spec = make_plan("erm", str(tiny), **TINY).spec
    named = spec.dataset.model_copy(update={"name": "voc-lt"})
    told = command(record_of(spec.model_copy(update={"dataset": named})))
    assert "--dataset FOLDER" in told and "dataset folder with fingerprint" in told


def test_without_the_protocol_backbone_weights_and_size_are_named():
    spec = make_plan("erm", "shapes-lt").spec.model_copy(update={"protocol": "theirs"})
    assert command(record_of(spec)).endswith(
        "--protocol theirs --seed 0 --backbone small_cnn --weights none --image-size 64"
    )


def test_the_logits_of_every_epoch_are_asked_for_where_the_record_has_them():
    spec = make_plan("erm", "shapes-lt").spec
    epochs = [
        {"epoch": epoch, "file": f"epoch-{epoch:03d}-0123456789abcdef.safetensors", "sha256": "a" * 64}
        for epoch in range(1, spec.recipe.epochs + 1)
    ]
    told = command(record_of(spec, oracle=epochs))
    assert told.endswith("--seed 0 --oracle")
    assert planned(words_of(told)) == spec.run_id


@pytest.mark.parametrize("text", ["a; rm -rf $HOME", "`id`", 'it\'s "so"', "# no\ncomment", "-x", "", " ", "\x1b[0m"])
def test_what_a_record_says_is_no_command(text):
    spec = make_plan("cprfl", "shapes-lt").spec
    changes = {
        "config": spec.config | {"semantics": text, text: f"sha256:{'a' * 64}"},
        "config_overrides": {"semantics": text, text: text},
        "overrides": {f"optimizer.{text}": text, "epochs": text},
        "weights": spec.weights.model_copy(update={"name": text, "digest": None}),
        "recipe": spec.recipe.model_copy(update={"backbone": text, "weights": text}),
        "dataset": spec.dataset.model_copy(update={"name": text}),
    }
    # Not validated: some of it could not be in a record.
    told = command(record_of(spec).model_copy(update={"spec": spec.model_copy(update=changes)}))
    words = shlex.split(told.rpartition("  # ")[0])
    assert "\n" not in told.rpartition("  # ")[2]
    given = words[words.index("--seed") + 2 :]
    assert set(given[::2]) == {"--backbone", "--weights", "--epochs", "--set"}
    settings = [value for option, value in zip(given[::2], given[1::2], strict=True) if option == "--set"]
    assert f"semantics={_spelt(text)}" in settings
    if text:
        assert parse_settings(settings)["semantics"] == text


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["true", "null", "2e-4", "1:30", "2024-01-01", "~", "- a", "a: b", "é\u2028\x85", "\x7f", "😀"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES)
def test_every_value_is_read_back_as_it_was(value):
    again = parse_value(_spelt(value))
    assert json.dumps(again) == json.dumps(value)
    assert "\n" not in _spelt(value)


def test_a_word_is_spelt_as_a_word():
    assert _spelt("class-aware") == "class-aware" and _spelt("demo:shapes") == "demo:shapes"
    assert _spelt("true") == '"true"' and yaml.safe_load(_spelt([1.5, None])) == [1.5, None]
