"""YAML, protocols, canonical JSON and the run id."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.factories import make_recipe, make_record
from kit.paths import TESTS

import benchmark.spec
from benchmark.base.yamlio import load_yaml, parse_value
from benchmark.data.dataset import DatasetCard
from benchmark.data.samplers import make_sampler
from benchmark.errors import InputError
from benchmark.launch.product import Sweep
from benchmark.method import METHODS
from benchmark.running.plan import make_plan
from benchmark.spec import PROTOCOLS, Protocol, Recipe, RunSpec, canonical_json, deep_merge, flatten, parse
from benchmark.store.records import Record

SHIPPED = sorted((Path(benchmark.spec.__file__).parent / "protocols").glob("*.yaml"))


def refusal(call, *args, **kwargs) -> str:
    """The message of the InputError that a call ends with: always one line."""
    with pytest.raises(InputError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


# YAML


@pytest.mark.parametrize("text", ["2e-4", "2E-4", "2.e-4", ".2e-3", "+2e-4", "0.0002", "2.0e-4"])
def test_exponents_are_floats(text):
    value = parse_value(text)
    assert isinstance(value, float) and value == 2e-4


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-1e3", -1000.0),
        ("12", 12),
        ("true", True),
        ("[5, 7]", [5, 7]),
        ("class-aware", "class-aware"),
        ("e5", "e5"),
        ("1e", "1e"),
        ("", None),
    ],
)
def test_command_line_values_have_their_types(text, value):
    parsed = parse_value(text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize("text", ["[1, 2", "a: b: c", "{a: 1, a: 2}", "2024-13-45", "0b_", "!!python/name:os.system"])
def test_bad_command_line_value_is_named(text):
    assert text in refusal(parse_value, text)


def test_plain_yaml_is_left_as_it_is():
    assert yaml.safe_load("2e-4") == "2e-4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", ":3:1: .*key 'a' is given twice"),
        ("a:\n  b: {c: 1, c: 2}\n", ":2:13: .*key 'c' is given twice"),
        ("a: 1\n2: 3\n", ":2:1: .*key 2 is not text"),
        ("a: 1\nb: [1, 2\nc: 3\n", ":3:2: .*not valid YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", ":1:4: .*not valid YAML"),
        ("a: 1\nb: 2024-13-45\n", ":2:4: .*'2024-13-45' is not a valid timestamp"),
        ("a: !!bool maybe\n", ":1:4: .*'maybe' is not a valid bool"),
        ("- 1\n- 2\n", ": expected a mapping of keys to values, found list"),
        ("", ": expected a mapping of keys to values, found NoneType"),
        ("a: \x00\n", "not valid YAML"),
    ],
    ids=["twice", "twice inside", "number key", "broken", "object", "no date", "no bool", "list", "empty", "control"],
)
def test_bad_yaml_names_file_place_and_problem(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    found = refusal(load_yaml, path)
    assert found.startswith(str(path)) and re.search(message, found)


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, ": not valid YAML: its aliases expand to more than 1 MiB"),
        (
            BOMB.replace("[", "{k: ").replace("]", "}").replace(", *", ", k: *").replace("x, x", "x"),
            "given twice|aliases",
        ),
        (f"a: &a {'x' * 100_000}\nb: [{'*a, ' * 30_000}]\n", ": not valid YAML: its aliases expand to more than 1 MiB"),
        ("a: &a [*a]\n", ":1:4: not valid YAML: it contains itself"),
        ("a: &a {b: [*a]}\n", ":1:4: not valid YAML: it contains itself"),
        (f"a: {'[' * 100_000}\n", "nested too deeply"),
        (f"a: {'9' * 5000}\n", ":1:4: not valid YAML: '9999.*5,000 characters"),
        ("a: " + "x" * 2**18, "has more than the 262144 bytes"),
    ],
    ids=["aliases", "aliases of mappings", "long text", "itself", "itself inside", "nested", "number", "large"],
)
def test_yaml_that_would_grow_is_refused_before_it_does(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    found = refusal(load_yaml, path)
    assert found.startswith(str(path)) and re.search(message, found) and len(found) < 1000
    if len(text) < 1000:
        assert "not valid YAML" in refusal(parse_value, text)


YAML_PIECES = [
    "a",
    "k: ",
    "- ",
    "&a ",
    "*a ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "\n",
    "  ",
    "? ",
    "| ",
    "> ",
    "<<: ",
    "!!int ",
    "!x ",
]
YAML_PIECES += [
    "'",
    '"',
    "#",
    "%",
    "1",
    "9" * 5000,
    "2024-13-45",
    "~",
    "\t",
    "\x00",
    "\u2028",
    "\ufeff",
    "---\n",
    "...",
]


@settings(deadline=None, max_examples=400, database=None)
@given(st.lists(st.sampled_from(YAML_PIECES), max_size=14))
def test_any_yaml_is_read_or_refused_in_a_line(pieces):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.yaml"
        path.write_bytes("".join(pieces).encode())
        try:
            parse(DatasetCard, load_yaml(path), str(path))
        except InputError as error:
            assert len(str(error).splitlines()) == 1 and str(path) in str(error) and len(str(error)) < 2000


def test_an_anchor_may_be_used_again(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: &a [1, 2]\nb: [*a, *a]\n")
    assert load_yaml(path) == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_a_yaml_file_is_a_regular_file(tmp_path, kind):
    path = tmp_path / "x.yaml"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert f"{path}: cannot be read: is not a regular file" in refusal(load_yaml, path)


def test_a_long_value_is_not_quoted_whole():
    found = refusal(parse, DatasetCard, {"title": ["x"] * 10_000, "y" * 10_000: 1}, "card")
    assert "characters)" in found and len(found) < 1000


def test_yaml_file_that_is_not_text_or_not_there(tmp_path):
    path = tmp_path / "x.yaml"
    assert str(path) in refusal(load_yaml, path)
    path.write_bytes("title: Ä".encode("latin-1"))
    found = refusal(load_yaml, path)
    assert str(path) in found and "UTF-8" in found
    assert str(tmp_path) in refusal(load_yaml, tmp_path)


# Protocols


PROTOCOL = {
    "name": "mine",
    "version": 1,
    "title": "Mine",
    "recipe": {
        "backbone": "small_cnn",
        "weights": "none",
        "image_size": 64,
        "epochs": 3,
        "batch_size": 8,
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
        "schedule": {"name": "constant"},
    },
}


def protocol_file(folder: Path, **changes: Any) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(deep_merge(PROTOCOL, changes)))
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_protocols_are_valid(path):
    protocol = Protocol.from_file(path)
    assert protocol == PROTOCOLS.get(path.stem)
    for method in protocol.methods or ["erm"]:
        assert isinstance(protocol.recipe_for(method), Recipe)


def test_every_protocol_file_is_registered():
    assert list(PROTOCOLS) == sorted(path.stem for path in SHIPPED)
    assert set(PROTOCOLS) >= {"controlled", "controlled-clip", "demo", "demo-clip", "paper"}
    assert PROTOCOLS.get("controlled").recipe.optimizer.lr == 2e-4


def test_every_method_has_a_published_recipe_or_a_baselines():
    page = (Path(benchmark.spec.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    [table] = re.findall(r"^\| name \| what it is .*?\n\n", page, flags=re.M | re.S)
    described = {name for names in re.findall(r"^\| (`.*?) \|", table, flags=re.M) for name in names.split(", ")}
    assert described == {f"`{name}`" for name in PROTOCOLS.get("paper").methods}
    assert set(PROTOCOLS.get("paper").methods) <= set(METHODS)


def test_a_method_may_differ_on_a_dataset(tmp_path):
    changes = {"methods": {"asl": {"epochs": 5}}, "datasets": {"coco-lt": {"asl": {"optimizer": {"lr": 0.2}}}}}
    protocol = Protocol.from_file(protocol_file(tmp_path, **changes))
    assert protocol.recipe_for("asl").optimizer.lr == protocol.recipe_for("asl", "voc-lt").optimizer.lr == 0.1
    there = protocol.recipe_for("asl", "coco-lt")
    assert (there.optimizer.lr, there.epochs) == (0.2, 5)
    assert protocol.recipe_for("erm", "coco-lt") == protocol.recipe


def test_published_recipe_of_cprfl():
    recipes = [PROTOCOLS.get("paper").recipe_for("cprfl", name) for name in ("voc-lt", "coco-lt")]
    assert [recipe.optimizer.lr for recipe in recipes] == [5e-5, 1e-5]
    assert {recipe.optimizer.name for recipe in recipes} == {"adamw"} and {r.neck for r in recipes} == {None}


@pytest.mark.parametrize(
    ("method", "dataset", "steps", "milestones"),
    [
        *((method, "voc-lt", 1440, [25, 35]) for method in ("erm", "rw", "focal", "cb-focal", "asl")),
        *((method, "coco-lt", 4800, [55, 75]) for method in ("erm", "rw", "focal", "cb-focal", "asl")),
        *((method, "voc-lt", 976, [5, 7]) for method in ("db", "db-focal")),
        *((method, "coco-lt", 5640, [5, 7]) for method in ("db", "db-focal")),
    ],
)
def test_the_shared_recipe_trains_past_its_warm_up(method, dataset, steps, milestones):
    plan = make_plan(method, dataset, protocol="paper")
    recipe = plan.spec.recipe
    [name] = plan.method.samplers(plan.config)
    draws = make_sampler(name, plan.dataset.splits["train"].targets, seed=0).epoch_length
    assert recipe.epochs * math.ceil(draws / recipe.batch_size) == steps > recipe.schedule.warmup_steps
    assert recipe.schedule.milestones == milestones and recipe.neck == 256 and recipe.dropout == 0.5
    assert (recipe.optimizer.name, recipe.optimizer.lr) == ("sgd", 0.07 if method == "asl" else 0.02)


def test_a_neck_of_relu_cannot_be_planned_and_its_record_can_be_read():
    with pytest.raises(InputError, match=r"recipe.neck_width was a linear layer and ReLU.*use recipe.neck"):
        make_plan("erm", "voc-lt", protocol="paper", settings={"recipe.neck_width": 256})
    old = Record.from_file(TESTS / "records" / "v1.json").spec.recipe
    assert (old.neck_width, old.neck) == (256, None)


def test_a_neck_is_part_of_the_id_and_no_neck_is_not():
    plain, necked = (make_plan("erm", "voc-lt", settings={"recipe.neck": width}).spec for width in (None, 256))
    assert plain == make_plan("erm", "voc-lt").spec and necked.run_id != plain.run_id
    assert "neck" not in plain.identity()["recipe"] and necked.identity()["recipe"]["neck"] == 256


def test_a_neck_needs_batches_with_a_spread():
    with pytest.raises(InputError, match=r"neck: its batch norm needs batches of 2 images or more"):
        make_plan("erm", "voc-lt", protocol="paper", settings={"recipe.batch_size": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": {"epoch": 3}}, r"unknown key 'recipe.epoch'; did you mean 'epochs'"),
        ({"recipe": {"optimizer": {"momentun": 0.9}}}, r"'recipe.optimizer.momentun'; did you mean 'momentum'"),
        ({"recipes": {}}, r"unknown key 'recipes'; did you mean 'recipe'"),
        ({"recipe": {"epochs": "many"}}, r"recipe.epochs: .*integer.*'many'"),
        ({"recipe": {"epochs": True}}, r"recipe.epochs: .*integer.*True"),
        ({"recipe": {"epochs": 3.0}}, r"recipe.epochs: .*integer"),
        ({"recipe": {"epochs": "3"}}, r"recipe.epochs: .*integer"),
        ({"recipe": {"epochs": 0}}, r"recipe.epochs: .*greater than or equal to 1"),
        ({"recipe": {"amp": 1}}, r"recipe.amp: .*boolean"),
        ({"recipe": {"optimizer": {"lr": True}}}, r"recipe.optimizer.lr: .*number.*True"),
        ({"recipe": {"optimizer": {"lr": math.nan}}}, r"recipe.optimizer.lr: "),
        ({"recipe": {"optimizer": {"lr": math.inf}}}, r"recipe.optimizer.lr: "),
        ({"recipe": {"optimizer": {"lr": -0.1}}}, r"recipe.optimizer.lr: .*greater than 0"),
        ({"recipe": {"optimizer": {"name": "adam"}}}, r"momentum is an option of sgd, not of adam"),
        ({"recipe": {"schedule": {"name": "step"}}}, r"milestones belong to the schedule 'step'"),
        ({"recipe": {"schedule": {"name": "step", "milestones": [7, 5]}}}, r"milestones must rise"),
        ({"recipe": {"report": "ema"}}, r"report: ema needs ema_decay"),
        ({"recipe": {"test_time": {"views": "ten-crop"}}}, r"test_time.views: .*'none', 'flip' or 'five-crop'"),
        ({"recipe": {"test_time": {"margin": 32}}}, r"margin is an option of five-crop, not of none"),
        ({"recipe": {"test_time": {"views": "five-crop", "margin": 0}}}, r"test_time.margin: .*equal to 1"),
        ({"recipe": {"selection": "best-test"}}, r"recipe.selection: .*'last' or 'best-val'"),
        ({"name": "other"}, r"name is 'other'; it must be the file's name, 'mine'"),
        ({"name": "../mine"}, r"name: "),
        ({"version": "1"}, r"version: .*integer"),
        ({"methods": {"erm": {"epoch": 5}}}, r"methods.erm: unknown key 'epoch'; did you mean 'epochs'"),
        ({"methods": {"erm": {"optimizer": {"name": "adamw"}}}}, r"methods.erm: .*momentum is an option of sgd"),
        ({"methods": {"erm": 5}}, r"methods.erm: "),
        ({"datasets": {"voc-lt": {"erm": {"epoch": 5}}}}, r"datasets.voc-lt.erm: unknown key 'epoch'"),
    ],
    ids=str,
)
def test_bad_protocol_names_file_key_and_remedy(tmp_path, changes, message):
    path = protocol_file(tmp_path, **changes)
    found = refusal(Protocol.from_file, path)
    assert found.startswith(f"{path}: ") and re.search(message, found)


def test_missing_key_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in PROTOCOL.items() if key != "version"}))
    assert "key 'version' is missing" in refusal(Protocol.from_file, path)


def test_a_method_may_differ_in_what_it_names_and_nothing_else(tmp_path):
    own = {"epochs": 5, "optimizer": {"lr": 0.2}}
    protocol = Protocol.from_file(protocol_file(tmp_path, methods={"asl": own}))
    common, asl = protocol.recipe_for("erm"), protocol.recipe_for("asl")
    assert common == protocol.recipe
    before, after = (flatten(recipe.model_dump(mode="json")) for recipe in (common, asl))
    assert {key: after[key] for key in after if after[key] != before[key]} == {"epochs": 5, "optimizer.lr": 0.2}


def test_protocol_of_listed_methods_has_no_recipe_for_others(tmp_path):
    path = protocol_file(tmp_path, listed_methods_only=True, methods={"erm": {}, "asl": {}})
    protocol = Protocol.from_file(path)
    assert protocol.recipe_for("erm") == protocol.recipe
    found = refusal(protocol.recipe_for, "rw")
    assert "'mine' has no recipe for method 'rw' (it has: asl, erm)" in found


# Canonical JSON


def test_canonical_json_has_one_spelling():
    one = {"b": [1, 2.0, None, True], "a": {"y": "Ä", "x": 1e-05}}
    other = {"a": {"x": 0.00001, "y": "\u00c4"}, "b": [1, 2.0, None, True]}
    assert canonical_json(one) == canonical_json(other) == r'{"a":{"x":1e-05,"y":"\u00c4"},"b":[1,2.0,null,true]}'


def test_lists_keep_their_order_and_numbers_their_type():
    assert canonical_json([1, 2]) != canonical_json([2, 1])
    assert canonical_json(1) != canonical_json(1.0) != canonical_json("1.0")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_comes_back(value):
    assert json.loads(canonical_json(value)) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError):
        canonical_json({"a": [value]})


# The run id


SPEC = make_record("asl", 3, spec={"config": {"gamma_neg": 4.0, "clip": 0.05}, "protocol_version": 1}).spec
PINNED = "445434cd9e2e98732637399c8ffe04bcd94abbdd861c3b98a66415c6a75b6a28"

DEFINING = {
    "method": {"method": "erm"},
    "method version": {"method_version": 2},
    "config": {"config": {"gamma_neg": 2.0}},
    "config key": {"config": {"other": None}},
    "fingerprint": {"dataset": {"fingerprint": "b" * 64}},
    "protocol": {"protocol": "paper"},
    "protocol version": {"protocol_version": 2},
    "backbone": {"recipe": {"backbone": "resnet101"}},
    "image size": {"recipe": {"image_size": 448}},
    "epochs": {"recipe": {"epochs": 9}},
    "learning rate": {"recipe": {"optimizer": {"lr": 0.010000000000000002}}},
    "schedule": {"recipe": {"schedule": {"name": "constant"}}},
    "augmentation": {"recipe": {"augment": {"flip": 0.5}}},
    "ema": {"recipe": {"ema_decay": 0.99}},
    "selection": {"recipe": {"selection": "best-val"}},
    "amp": {"recipe": {"amp": False}},
    "weights digest": {"weights": {"digest": "resnet50-11ad3fa6.pth"}},
    "no weights": {"weights": {"digest": None}},
    "mean": {"weights": {"mean": [0.5, 0.5, 0.5]}},
    "std": {"weights": {"std": [0.5, 0.5, 0.5]}},
    "interpolation": {"weights": {"interpolation": "bicubic"}},
    "batch norm": {"weights": {"batch_norm": "folded"}},
    "activation": {"weights": {"quick_gelu": True}},
    "test-time ensembling": {"recipe": {"test_time": {"views": "flip"}}},
    "margin of five crops": {"recipe": {"test_time": {"views": "five-crop", "margin": 32}}},
    "cutout": {"recipe": {"augment": {"cutout": 0.5}}},
    "seed": {"seed": 4},
}
NAMING = {
    "dataset name": {"dataset": {"name": "my-voc"}},
    "weights name": {"weights": {"name": "resnet50.safetensors"}},
    "weights in the recipe": {"recipe": {"weights": "resnet50.safetensors"}},
    "overrides": {"overrides": {"epochs": 8}},
    "config overrides": {"config_overrides": {"gamma_neg": 4.0}},
}


def changed(spec: RunSpec, changes: dict[str, Any]) -> RunSpec:
    return RunSpec.model_validate_json(json.dumps(deep_merge(spec.model_dump(mode="json"), changes)))


def test_run_id_of_one_specification_stays_for_ever():
    # Another id here means that every stored record becomes unreadable: never change it to make this pass.
    assert SPEC.run_id == PINNED
    assert SPEC.folder_name == f"asl-s3-{PINNED[:12]}"


@pytest.mark.parametrize("change", DEFINING.values(), ids=DEFINING)
def test_what_decides_a_result_decides_the_id(change):
    assert changed(SPEC, change).run_id != SPEC.run_id


def test_different_runs_have_different_ids():
    assert len({changed(SPEC, change).run_id for change in DEFINING.values()}) == len(DEFINING)


@pytest.mark.parametrize("change", NAMING.values(), ids=NAMING)
def test_names_and_what_follows_do_not_decide_the_id(change):
    other = changed(SPEC, change)
    assert other != SPEC
    assert (other.run_id, other.folder_name) == (SPEC.run_id, SPEC.folder_name)


def leaves(data: Any, path: tuple = ()) -> list[tuple]:
    if isinstance(data, dict) and data:
        return [leaf for key, value in data.items() for leaf in leaves(value, (*path, key))]
    return [path]


def test_every_field_of_a_specification_is_defining_or_a_name_or_at_its_default():
    names = {("dataset", "name"), ("weights", "name"), ("recipe", "weights"), ("overrides",), ("config_overrides",)}
    left_out = set(leaves(SPEC.model_dump(mode="json"))) - set(leaves(SPEC.identity()))
    parts = {"recipe": SPEC.recipe, "weights": SPEC.weights}
    set_by_default = {
        leaf
        for name, part in parts.items()
        for leaf in set(leaves({name: part.model_dump(mode="json")}))
        - set(leaves({name: part.model_dump(mode="json", exclude_defaults=True)}))
    }
    assert left_out == names | set_by_default


def test_released_defaults_of_the_recipe_never_change():
    # Ids leave defaults out: another default would give an old id to a new meaning. Adding fields is fine.
    defaults = flatten(make_recipe().model_dump(mode="json"))
    released = {
        "neck": None, "neck_width": None, "dropout": 0.0, "frozen_stages": 0, "batch_norm": "train",
        "epoch_length": "dataset",
        "optimizer.head_lr_scale": 1.0, "optimizer.momentum": 0.0, "optimizer.weight_decay": 0.0,
        "schedule.milestones": [], "schedule.gamma": 0.1, "schedule.peak": 0.3, "schedule.warmup_steps": 0,
        "schedule.warmup_start": 0.1, "clip_norm": None, "amp": True, "ema_decay": None, "report": "raw",
        "selection": "last", "augment.flip": 0.0, "augment.crop_min_side": 1.0, "augment.photometric": 0.0,
        "augment.brightness": 0.0, "augment.contrast": 0.0, "augment.saturation": 0.0, "augment.hue": 0.0,
        "augment.channel_swap": False, "augment.rand_augment": 0, "augment.cutout": 0.0,
        "test_time.views": "none", "test_time.margin": 24,
    }  # fmt: skip
    assert {key: defaults[key] for key in released} == released


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CONFIGS = st.dictionaries(st.text(max_size=5), JSON, max_size=3)


@given(CONFIGS, CONFIGS, st.integers(0, 2**31 - 1))
def test_id_survives_the_way_to_a_file_and_back(config, overrides, seed):
    spec = SPEC.model_copy(update={"config": config, "config_overrides": overrides, "seed": seed})
    for text in (spec.model_dump_json(), json.dumps(spec.model_dump(mode="json"), indent=1)):
        assert RunSpec.model_validate_json(text).run_id == spec.run_id


@given(CONFIGS, CONFIGS)
def test_ids_are_equal_only_for_equal_configurations(one, other):
    ids = [SPEC.model_copy(update={"config": config}).run_id for config in (one, other)]
    assert (ids[0] == ids[1]) == (canonical_json(one) == canonical_json(other))


@given(st.dictionaries(st.text(max_size=5), JSON, min_size=2, max_size=4), st.randoms())
def test_id_does_not_depend_on_the_order_of_keys(config, rng):
    items = list(config.items())
    rng.shuffle(items)
    assert changed(SPEC, {"config": dict(items)}).run_id == changed(SPEC, {"config": config}).run_id


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["config", "overrides", "config_overrides"])
def test_specification_holds_numbers_only(field, value):
    with pytest.raises(ValueError):
        changed(SPEC, {field: {"gamma_neg": [value]}})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_id_is_made_of_what_is_no_number(value):
    with pytest.raises(ValueError):
        _ = SPEC.model_copy(update={"config": {"gamma_neg": value}}).run_id


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"seed": 2**31},
        {"seed": True},
        {"seed": 1.0},
        {"method": "../erm"},
        {"method": "erm\n"},
        {"method": ""},
        {"protocol": "a|b"},
        {"dataset": {"fingerprint": "A" * 64}},
        {"weights": {"mean": [0.5, 0.5]}},
        {"weights": {"std": [0.5, 0.5, 0.0]}},
        {"host": "node1"},
    ],
    ids=str,
)
def test_bad_specification_is_refused(change):
    with pytest.raises(ValueError):
        changed(SPEC, change)


RELEASED = {
    ("controlled", 1): "11edd6e860d5e4e8",
    ("controlled-clip", 1): "9d5e1b7c907b8528",
    ("demo", 2): "0ba295e54befbfec",
    ("demo-clip", 2): "d0f85dea279e080b",
    ("paper", 3): "8985156bfb179c42",
}


def test_a_released_protocol_changes_only_with_its_version():
    # Another digest under the same version would put two recipes into one table: raise the version instead.
    released = {name for name, _ in RELEASED}  # a protocol of one's own is none
    shipped = {
        (p.name, p.version): hashlib.sha256(
            canonical_json(p.model_dump(mode="json", exclude={"title"}, exclude_defaults=True)).encode()
        ).hexdigest()[:16]
        for name, p in PROTOCOLS.items()
        if name in released
    }
    assert shipped == RELEASED


def test_numbers_of_numpy_and_pytorch_are_numbers(tiny):
    """As they come from a loop over `np.arange` or out of an array."""
    settings = {"gamma_neg": 2.0, "detach_focusing": False, "recipe.batch_size": 8, "recipe.optimizer.lr": 0.5}
    steps = {"recipe.schedule.name": "step", "recipe.schedule.milestones": [1.0, 2.0]}
    plain = make_plan("asl", str(tiny), seed=1, protocol="demo", image_size=16, epochs=3, settings=settings | steps)
    given = {
        "gamma_neg": np.float32(2.0),
        "detach_focusing": np.bool_(False),
        "recipe.batch_size": np.int64(8),
        "recipe.optimizer.lr": torch.tensor(0.5),
        "recipe.schedule.name": np.str_("step"),
        "recipe.schedule.milestones": np.array([1.0, 2.0]),
    }
    found = make_plan(
        "asl",
        str(tiny),
        seed=np.int64(1),
        protocol="demo",
        image_size=np.uint16(16),
        epochs=torch.tensor(3),
        settings=given,
    )
    assert found.spec == plain.spec and type(found.spec.seed) is int
    assert found.request == plain.request and json.loads(json.dumps(found.request)) == found.request
    nested_in = make_plan(
        "asl", str(tiny), seed=1, settings={"recipe.optimizer": {"lr": np.float64(0.5)}}, epochs=3
    ).spec
    assert nested_in.recipe.optimizer.lr == 0.5
    sweep = parse(Sweep, {"methods": "erm", "seeds": np.arange(2), "epochs": np.int32(3)}, "sweep")
    assert (sweep.seeds, sweep.epochs) == ([0, 1], 3)


@pytest.mark.parametrize(
    "seed", [True, np.bool_(True), 1.0, np.float64(1), "1", None, -1, np.int64(-1), 2**31, np.uint64(2**40)], ids=repr
)
def test_seeds_that_are_no_whole_numbers_in_range_are_refused(seed):
    assert f"seed {seed} is out of range" in refusal(make_plan, "erm", seed=seed)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": np.float64(2.5)}, ["epochs", "2.5"]),
        ({"image_size": np.array([64, 64])}, ["image_size", "[64, 64]"]),
        ({"settings": {"gamma_neg": np.float64("nan")}}, ["gamma_neg"]),
        ({"settings": {"gamma_neg": np.array(["a"])}}, ["gamma_neg", "'a'"]),
    ],
    ids=str,
)
def test_what_is_no_number_is_refused_by_name(given, words):
    message = refusal(make_plan, "asl", **given)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("method", ["erm", "hp-dval", "linear-probe"])
@pytest.mark.parametrize(("name", "near"), [("resnet_50", "resnet50"), ("clip_vit_b16", "clip_vit_b_16")])
def test_an_unknown_backbone_is_told_with_the_near_names_and_nothing_else(method, name, near):
    message = refusal(make_plan, method, backbone=name)
    assert message.startswith(f"unknown backbone {name!r}; did you mean {near!r}") and "--weights" not in message
    assert message == refusal(make_plan, method, backbone=name, weights="none", protocol="controlled")


def test_weights_of_another_backbone_than_the_protocols_are_still_asked_for():
    assert "these are protocol 'controlled-clip''s: give --weights too" in refusal(
        make_plan, "erm", protocol="controlled-clip", backbone="resnet50"
    )
