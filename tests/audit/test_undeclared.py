"""Changes that a record does not name: they are found, and nothing else is."""

from __future__ import annotations

import json

import pytest
from kit.factories import make_record
from kit.tiny import TINY

from benchmark.audit.undeclared import undeclared_change
from benchmark.data.dataset import DATASETS
from benchmark.running.plan import make_plan


def change_of(spec, **changes) -> str | None:
    data = json.loads(spec.model_dump_json()) | changes
    selection = {"epoch": 0} if data["method"] == "clip-zero-shot" else {"epoch": data["recipe"]["epochs"]}
    history = {"history": []} if selection["epoch"] == 0 else {}
    metrics = make_record().metrics.model_dump(mode="json", exclude_unset=True)
    return undeclared_change(make_record(spec=data, selection=selection, results={"ema": metrics}, **history))


@pytest.mark.parametrize(
    ("method", "dataset", "given"),
    [
        ("erm", "shapes-lt", {}),
        ("clip-zero-shot", "shapes-lt", {}),
        ("hp-dval", "shapes-lt", {}),
        ("erm", "shapes-lt", {"epochs": 3, "image_size": 32}),
        ("asl", "shapes-lt", {"settings": {"gamma_neg": 2.0, "recipe.optimizer.lr": 0.5}}),
        ("erm", "shapes-lt", {"settings": {"recipe.schedule.name": "step", "recipe.schedule.milestones": [2.0, 5.0]}}),
        ("erm", "voc-lt", {"backbone": "mobilenet_v2", "weights": "IMAGENET1K_V2"}),
        ("ltml", "coco-lt", {"protocol": "paper"}),
        ("db-focal", "coco-lt", {"protocol": "paper"}),
        ("capnet", "voc-lt", {"protocol": "paper"}),
        ("cprfl", "shapes-lt", {"protocol": "demo-clip", "settings": {"variant": "equations"}}),
    ],
)
def test_a_planned_run_names_all_that_it_changed(method, dataset, given):
    spec = make_plan(method, dataset, **given).spec
    assert change_of(spec) is None


def test_so_does_one_of_a_folder(tiny):
    assert change_of(make_plan("db-focal", str(tiny), **TINY).spec) is None


def test_a_registered_dataset_given_by_its_folder_is_the_registered_one():
    by_name = make_plan("db-focal", "coco-lt", protocol="paper").spec
    assert make_plan("db-focal", str(DATASETS.get("coco-lt").path), protocol="paper").spec == by_name


def test_a_change_of_the_recipe_that_is_not_named_is_found():
    spec = make_plan("erm", "shapes-lt", epochs=3, settings={"recipe.optimizer.lr": 0.5}).spec
    found = change_of(spec, overrides={"optimizer.lr": 0.5})
    assert found.startswith("recipe.epochs is 3, and 25 in protocol 'demo' version 2")
    found = change_of(spec, overrides={})
    assert "recipe.epochs is 3" in found


def test_a_change_of_the_configuration_that_is_not_named_is_found():
    spec = make_plan("asl", "shapes-lt", settings={"gamma_neg": 2.0}).spec
    assert change_of(spec, config_overrides={}).startswith("gamma_neg is 2.0, and 4.0 in 'asl' version 1")


def test_of_other_versions_nothing_can_be_told():
    spec = make_plan("asl", "shapes-lt", epochs=3, settings={"gamma_neg": 2.0}).spec
    hidden = {"overrides": {}, "config_overrides": {}}
    assert change_of(spec, protocol_version=1, method_version=9, **hidden) is None
    assert change_of(spec, protocol="theirs", method="theirs", **hidden) is None
