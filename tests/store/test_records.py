"""The record: what is refused, what stays loadable."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from kit.factories import edited, make_record
from kit.paths import TESTS
from pydantic import ValidationError

from benchmark.errors import StoreError
from benchmark.store.records import SCHEMA_VERSION, Metrics, Record

# Files of every schema version that was ever written. They are never made anew: add, do not change.
OLD = sorted((TESTS / "records").glob("*.json"))


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "record.json"


def refusal(path: Path, text: str) -> str:
    """The message with which a file of this text is refused: one line that names the file."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StoreError) as error:
        Record.from_file(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


# Round trip


@pytest.mark.parametrize(
    "record",
    [
        make_record(),
        make_record("asl", 3, 12.3456789, method_title="Ä 猫 <b>", validation=None),
        make_record(overall=None),
        make_record(history=[], selection={"epoch": 0}),
        make_record(history=[{"epoch": 1, "loss": 0.1, "lr": 0.01, "stage": "adapters"}]),
        make_record(results={"raw": {"per_class": {"sheep": None}}}),
        make_record(spec={"config": {"a": [1, 2.0, {"b": None}]}, "recipe": {"report": "ema", "ema_decay": 0.9}}),
    ],
    ids=["plain", "text", "no scores", "not trained", "stages", "missing class", "config"],
)
def test_record_comes_back_from_its_file(path, record):
    path.write_text(record.to_json(), encoding="utf-8")
    back = Record.from_file(path)
    assert back == record
    assert (back.to_json(), back.run_id) == (record.to_json(), back.spec.run_id)


VALIDATION = make_record(validation={"per_class": dict.fromkeys(make_record().groups, 70.0)})


def of_version(version: int, cf1: Any = ..., of1: Any = ..., **changes: Any) -> str:
    """A record's text with these values of cf1 and of1."""
    data = json.loads(edited(make_record(), schema_version=version, **changes))
    data["results"]["raw"] |= {key: value for key, value in (("cf1", cf1), ("of1", of1)) if value is not ...}
    return json.dumps(data)


def test_f1_is_in_the_first_schema_version_alone(path):
    path.write_text(of_version(1, cf1=70.0, of1=75.0))
    metrics = Record.from_file(path).metrics
    assert (metrics.numbers()["cf1"], metrics.numbers()["of1"]) == (70.0, 75.0)
    assert not {"cf1", "of1"} & set(make_record().metrics.numbers())
    for given in ({}, {"cf1": 70.0}, {"of1": 75.0}):
        assert "schema version 1 has both of cf1, of1" in refusal(path, of_version(1, **given))
    assert "cf1 or of1 is null" in refusal(path, of_version(1, cf1=None, of1=None))
    for given in ({"cf1": 70.0, "of1": 75.0}, {"cf1": None}, {"of1": 75.0}):
        assert "schema version 2 has none of cf1, of1" in refusal(path, of_version(2, **given))


def test_validation_images_are_counted_where_their_logits_are_stored(path):
    path.write_text(VALIDATION.to_json())
    assert Record.from_file(path).num_validation_images == 40
    data = json.loads(VALIDATION.to_json())
    for wrong in (data | {"num_validation_images": None}, data | {"validation": None}):
        assert "num_validation_images is for schema version 2" in refusal(path, json.dumps(wrong))
    first = of_version(1, cf1=70.0, of1=75.0, num_validation_images=40)
    assert "num_validation_images is for schema version 2" in refusal(path, first)


def test_order_of_classes_is_kept(path):
    record = make_record(classes={"zebra": 120, "ant": 3, "mole": 40})
    path.write_text(record.to_json())
    back = Record.from_file(path)
    assert list(back.groups) == list(back.class_counts) == list(back.metrics.per_class) == ["zebra", "ant", "mole"]


def test_missing_class_is_in_no_mean():
    record = make_record(overall=80.0, results={"raw": {"per_class": {"sheep": None}}})
    assert record.metrics.missing_classes == ["sheep"]
    assert record.metrics.tail == 75.0  # of the sofa alone
    assert record.metrics.overall == pytest.approx((85 + 85 + 80 + 80 + 75) / 5)


def test_group_of_missing_classes_has_no_score():
    record = make_record(results={"raw": {"per_class": {"sofa": None, "sheep": None}}})
    assert record.metrics.tail is None and record.metrics.overall == 82.5


# What does not hold together


RAW = make_record().metrics.model_dump(mode="json", exclude_unset=True)
EPOCH = {"epoch": 1, "loss": 0.1, "lr": 0.01}
KEPT = {"epoch": 8, "file": "epoch-008-0123456789abcdef.safetensors", "sha256": "a" * 64}
INCONSISTENT: dict[str, tuple[dict[str, Any], str]] = {
    "run id of another run": ({"run_id": "0" * 64}, "run_id 000000000000 is not that of its specification"),
    "specification of another run": ({"spec": {"seed": 1}}, "is not that of its specification"),
    "overall is no mean": ({"results": {"raw": {"overall": 80.01}}}, "overall is 80.01, but the mean"),
    "head is no mean": ({"results": {"raw": {"head": 84.0}}}, "head is 84.0, but the mean"),
    "medium is missing": ({"results": {"raw": {"medium": None}}}, "medium is None, but the mean"),
    "tail is no mean": ({"results": {"raw": {"per_class": {"sheep": 70.0, "sofa": 70.0}}}}, "the mean of its classes"),
    "missing counted as 0": ({"results": {"raw": {"per_class": {"sheep": None}}}}, "the mean of its classes"),
    "means of another weight set": ({"results": {"ema": RAW | {"overall": 81.0}}}, "overall is 81.0"),
    "means of the validation": ({"num_validation_images": 40, "validation": RAW | {"tail": 74.0}}, "tail is 74.0"),
    "score of another class": ({"results": {"raw": {"per_class": {"cow": 80.0}}}}, "name different classes"),
    "group of another class": ({"groups": {"cow": "tail"}}, "name different classes"),
    "count of another class": ({"class_counts": {"cow": 3}}, "name different classes"),
    "declared weights without results": ({"declared": "ema"}, "declared weights 'ema' have no results"),
    "weights that the recipe did not declare": (
        {"declared": "ema", "results": {"ema": RAW}},
        "not those of the recipe",
    ),
    "another rule of selection": ({"selection": {"rule": "best-val"}}, "not those of the recipe"),
    "an epoch that was not trained": ({"selection": {"epoch": 9}}, "the selected epoch is 9, and 8 were trained"),
    "no epoch though some were trained": ({"selection": {"epoch": 0}}, "the selected epoch is 0, and 8 were trained"),
    "an epoch though none was trained": ({"history": []}, "the selected epoch is 8, and 0 were trained"),
    "not the last epoch by rule last": ({"selection": {"epoch": 3}}, "is 3, and rule 'last' selects 8"),
    "fewer epochs than the recipe has": ({"history": [EPOCH]}, "history does not list the 8 epochs"),
    "an epoch twice": ({"history": [EPOCH] * 8}, "history does not list the 8 epochs"),
    "an oracle of some epochs": ({"oracle": [KEPT]}, "oracle does not name every epoch of the last stage"),
    "a change that was not made": ({"spec": {"overrides": {"epochs": 9}}}, "overrides has epochs=9, and recipe has 8"),
    "no value for a setting that is none": ({"spec": {"config_overrides": {"gamma": None}}}, "config has no such"),
    "a key of the recipe that is none": ({"spec": {"overrides": {"lr": "nothing"}}}, "recipe has no such setting"),
    "a setting that is none": ({"spec": {"config_overrides": {"gamma": 2}}}, "config_overrides has gamma=2"),
    "more trained than there is": ({"parameters": {"all": 5, "trained": 6}}, "more than there are"),
}


def test_an_oracle_is_of_the_last_stage_alone():
    history = [EPOCH | {"epoch": epoch, "stage": stage} for epoch, stage in enumerate("aab", 1)]
    assert make_record(history=history, oracle=[KEPT | {"epoch": 3}]).oracle
    with pytest.raises(ValidationError, match="every epoch of the last stage"):
        make_record(history=history, oracle=[KEPT | {"epoch": epoch} for epoch in (1, 2, 3)])


def test_a_changed_setting_names_a_file_and_the_configuration_its_content():
    config = {"semantics": f"sha256:{'a' * 64}:glove"}
    record = make_record("cprfl", spec={"config": config, "config_overrides": {"semantics": "glove.npz:glove"}})
    assert record.spec.config == config


@pytest.mark.parametrize(("changes", "message"), INCONSISTENT.values(), ids=INCONSISTENT)
def test_record_that_contradicts_itself_is_refused(path, changes, message):
    text = edited(make_record(), **changes)
    assert message in refusal(path, text)
    with pytest.raises(ValidationError):
        Record.model_validate_json(text)


def test_classes_in_another_order_are_refused(path):
    data = json.loads(make_record().to_json())
    data["class_counts"] = dict(reversed(data["class_counts"].items()))
    assert "name different classes" in refusal(path, json.dumps(data))


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "percent over 100": ({"schema_version": 1, "results": {"raw": {"cf1": 100.1}}}, "results.raw.cf1"),
    "percent below 0": ({"results": {"raw": {"per_class": {"sheep": -0.1}}}}, "results.raw.per_class.sheep"),
    "unknown key": ({"mAP": 80.0}, "mAP"),
    "unknown key inside": ({"environment": {"user": "x"}}, "environment.user"),
    "unknown weight set": ({"results": {"swa": RAW}}, "results.swa.[key]"),
    "class name of two lines": ({"results": {"raw": {"per_class": {"a\nb": 101}}}}, "results.raw.per_class.a b"),
    "unknown group": ({"groups": {"sheep": "rare"}}, "groups.sheep"),
    "number as text": ({"schema_version": 1, "results": {"raw": {"cf1": "70"}}}, "results.raw.cf1"),
    "no validation image": ({"num_validation_images": 0}, "num_validation_images"),
    "seed as text": ({"spec": {"seed": "0"}}, "spec.seed"),
    "no attempt": ({"attempts": 0}, "attempts"),
    "epoch before the first": ({"selection": {"epoch": -1}}, "selection.epoch"),
    "views that there are not": (
        {"spec": {"recipe": {"test_time": {"views": "ten-crop"}}}},
        "spec.recipe.test_time.views",
    ),
    "negative time": ({"timings": {"train_s": -1.0}}, "timings.train_s"),
    "digest that is none": ({"model_digest": "d" * 63}, "model_digest"),
    "logits elsewhere": ({"logits": {"file": "../logits-0123456789abcdef.safetensors"}}, "logits.file"),
    "method that is no name": ({"spec": {"method": "../erm"}}, "spec.method"),
}


@pytest.mark.parametrize(("changes", "place"), INVALID.values(), ids=INVALID)
def test_invalid_value_is_refused_and_placed(path, changes, place):
    assert f"not a valid record: {place}: " in refusal(path, edited(make_record(), **changes))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "place",
    [
        {"results": {"raw": {"overall": ...}}},
        {"results": {"raw": {"per_class": {"sheep": ...}}}},
        {"history": [{"epoch": 8, "loss": ..., "lr": 0.1}]},
        {"timings": {"train_s": ...}},
        {"spec": {"config": {"gamma": ...}}},
        {"spec": {"config_overrides": {"gamma": ...}}},
    ],
    ids=["overall", "class", "loss", "time", "config", "overrides"],
)
def test_what_is_no_number_is_refused(path, place, value):
    def filled(data: Any) -> Any:
        if isinstance(data, dict):
            return {key: filled(inner) for key, inner in data.items()}
        return [filled(inner) for inner in data] if isinstance(data, list) else value if data is ... else data

    assert "not a valid record" in refusal(path, edited(make_record(), **filled(place)))


@pytest.mark.parametrize("key", ["run_id", "spec", "results", "environment", "logits", "finished", "validation"])
def test_missing_key_is_refused(path, key):
    data = json.loads(make_record().to_json())
    del data[key]
    assert f"not a valid record: {key}: " in refusal(path, json.dumps(data))


@pytest.mark.parametrize("version", [0, 3, 999, "1", 1.5, True, None, [1]])
def test_unknown_schema_version_asks_for_another_ltbench(path, version):
    message = refusal(path, edited(make_record(), schema_version=version))
    assert f"schema version {version!r} is not known" in message and "update ltbench" in message


@pytest.mark.parametrize("text", ["[]", "1", "null", '"record"', "{}"])
def test_other_json_is_no_record(path, text):
    assert "schema version None is not known" in refusal(path, text)


# Files that are not whole


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_record_is_refused(path, share):
    text = make_record().to_json().rstrip()
    assert "truncated" in refusal(path, text[: int(len(text) * share)])


def test_record_cut_by_any_number_of_its_last_bytes_is_refused(path):
    text = make_record().to_json().rstrip()
    for cut in range(1, 40):
        assert "truncated" in refusal(path, text[:-cut])


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"\x00" * 4096, b"{}{}"])
def test_bytes_that_are_no_json_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(StoreError, match="truncated or not JSON") as error:
        Record.from_file(path)
    assert str(path) in str(error.value)


def test_record_that_cannot_be_read_is_named(path):
    with pytest.raises(StoreError, match="cannot be read") as error:
        Record.from_file(path)
    assert str(path) in str(error.value)
    path.mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        Record.from_file(path)


# Records of the past


@pytest.mark.parametrize("old", OLD, ids=lambda old: old.stem)
def test_old_record_stays_loadable(old):
    record = Record.from_file(old)
    assert record.run_id == record.spec.run_id
    assert isinstance(record.metrics, Metrics) and record.metrics.overall is not None


def test_first_version_says_what_it_said():
    record = Record.from_file(TESTS / "records" / "v1.json")
    assert record.run_id == "23ffb0523403332ce19ce4d523436822f00b7d17bfc59470ec29ca544bf48d9b"
    assert record.spec.folder_name == "asl-s2-23ffb0523403"
    assert record.spec.config["clip"] == 0.05 and record.spec.recipe.optimizer.lr == 2e-4
    assert (record.declared, record.selection.rule, record.selection.epoch) == ("ema", "best-val", 11)
    assert record.metrics.overall == 82.71667607363229 and record.results["raw"].overall == 79.73449792599183
    assert record.metrics.per_class["sheep"] == 72.786717919408
    assert record.validation is not None and record.validation.missing_classes == ["sheep"]
    assert (record.class_counts["pottedplant"], record.groups["pottedplant"]) == (100, "head")
    assert list(record.groups.values()).count("tail") == 8
    assert len(record.history) == 12 and record.history[0].val_overall == 61.4
    assert record.environment.scheduler == {"SLURM_JOB_ID": "123456", "SLURM_ARRAY_TASK_ID": "7"}
    assert record.finished == "2025-06-01T12:34:56+00:00"


def test_second_version_says_what_it_said():
    record = Record.from_file(TESTS / "records" / "v2.json")
    assert (record.schema_version, record.spec.method, record.spec.dataset.name) == (2, "asl", "shapes-lt")
    assert record.metrics.overall == 9.396064678441734
    assert record.validation is not None and record.num_validation_images == 1000
    assert {"cf1", "of1"}.isdisjoint(record.metrics.numbers())


def test_what_came_later_has_its_meaning_of_before_in_an_old_record():
    record = Record.from_file(TESTS / "records" / "v1.json")
    assert {entry.stage for entry in record.history} == {"training"}
    assert record.spec.recipe.test_time.views == "none"


@pytest.mark.parametrize("old", OLD, ids=lambda old: old.stem)
def test_old_record_is_written_as_it_was_read(old):
    assert Record.from_file(old).to_json() == old.read_text(encoding="utf-8")


def test_every_schema_version_has_a_file():
    versions = {json.loads(old.read_text())["schema_version"] for old in OLD}
    assert versions == set(range(1, SCHEMA_VERSION + 1))
