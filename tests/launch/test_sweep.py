"""What a sweep expands to, from options and from a file."""

import json

import pytest
from kit.checks import refused
from kit.command import ltbench
from kit.command import refused as refused_call
from kit.paths import ROOT
from kit.runs import execute_plan
from kit.tiny import TINY_ARGS

from benchmark.launch.product import Sweep, estimate, expand, parse_axis, stand
from benchmark.method import METHODS
from benchmark.spec import parse


def runs(**axes):
    """(method, dataset, protocol, backbone, changed settings, seed) of every run."""
    found, _ = expand(parse(Sweep, axes, "sweep"))
    specs = [plan.spec for plan in found]
    return [(s.method, s.dataset.name, s.protocol, s.recipe.backbone, s.config_overrides, s.seed) for s in specs]


def test_a_sweep_is_the_product_of_its_axes():
    found = runs(
        methods=["erm", "asl"], protocols=["demo"], backbones=["small_cnn", "resnet18"], seeds="0-1", weights="none"
    )
    assert len(found) == len({str(run) for run in found}) == 2 * 2 * 2
    assert {run[3] for run in found} == {"small_cnn", "resnet18"} and {run[5] for run in found} == {0, 1}


def test_settings_are_axes_and_a_method_may_have_its_own():
    found = runs(methods={"erm": None, "asl": {"gamma_neg": [2.0, 3.0]}}, settings={"recipe.epochs": [5, 6]})
    assert [run[0] for run in found].count("erm") == 2
    assert [run[4]["gamma_neg"] for run in found if run[0] == "asl"] == [2.0, 3.0, 2.0, 3.0]


def test_what_two_ways_lead_to_is_run_once():
    # 4 is the default, so that it is the same run as without the setting.
    assert len(runs(methods=["asl"], settings={"gamma_neg": [4.0, 2.0]}, seeds=[0])) == 2
    assert len(runs(methods=["asl"], datasets=["shapes-lt", str(ROOT / "splits" / "shapes-lt")])) == 1


def test_methods_that_do_not_fit_are_left_out_of_all_and_refused_by_name():
    found, unfit = expand(parse(Sweep, {"methods": "all", "protocols": "demo"}, "sweep"))
    fit = [name for name, method in METHODS.items() if method.requires == "any"]
    assert sorted(plan.spec.method for plan in found) == fit and len(fit) >= 9
    assert len(unfit) == len(METHODS.items()) - len(fit) >= 4
    assert "capnet" in refused(expand, parse(Sweep, {"methods": ["erm", "capnet"], "protocols": "demo"}, "sweep"))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("2,4", [2, 4]),
        ("1e-4,3e-4", [1e-4, 3e-4]),
        ("[5, 7],[9]", [[5, 7], [9]]),
        ("random,RN50:openai", ["random", "RN50:openai"]),
    ],
)
def test_values_on_the_command_line(text, values):
    assert parse_axis(text) == values


def sweep_file(tmp_path, text):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    return path


def test_a_file_holds_the_axes_and_options_replace_them(tiny, tmp_path):
    file = sweep_file(
        tmp_path, "methods: {erm: , asl: {gamma_neg: [2, 4]}}\nseeds: 0-2\nsettings: {recipe.epochs: [1, 2]}\n"
    )
    common = ["sweep", "--file", file, "--datasets", tiny, *TINY_ARGS[:4], "--dry-run", "--json"]
    assert len(json.loads(ltbench(*common).stdout)) == (1 + 2) * 3 * 2
    fewer = ltbench(*common, "--seeds", "0", "--methods", "erm")
    assert [row["method"] for row in json.loads(fewer.stdout)] == ["erm", "erm"]


def test_the_estimate_is_of_runs_of_the_same_method_else_of_the_same_recipe(tiny, tmp_path):
    common = {"datasets": [str(tiny)], "weights": "none", "image_size": 20}
    axes = {"epochs": 1, "settings": {"recipe.batch_size": 8}, "backbones": "small_cnn"}
    sweep = parse(Sweep, common | axes | {"methods": ["erm", "asl"], "seeds": [0, 1]}, "sweep")
    planned, _ = expand(sweep)
    jobs = stand(planned, tmp_path, "missing")
    assert [job.decision.launch for job in jobs] == [True] * 4 and estimate(jobs, []) == (0.0, 4)
    record = execute_plan(planned[0], tmp_path)
    seconds = record.timings.prepare_s + record.timings.train_s + record.timings.evaluate_s
    jobs = stand(planned, tmp_path, "missing")
    assert [(job.decision.state, job.decision.launch) for job in jobs] == [("done", False)] + [("pending", True)] * 3
    # One more of erm, two of asl, of which nothing is known but what erm took.
    assert estimate(jobs, []) == (pytest.approx(3 * seconds), 0)
    other = record.model_copy(
        update={"spec": planned[2].spec, "timings": record.timings.model_copy(update={"train_s": 1e4})}
    )
    assert estimate(jobs, [other])[0] > 2e4


def test_the_plan_tells_runs_apart_and_says_how_long_they_take():
    done = ltbench("sweep", "--methods", "asl", "--set", "gamma_neg=2,4", "--set", "recipe.epochs=25,26", "--dry-run")
    for words in ("gamma_neg=2, recipe.epochs=26", "4 of 4 runs to launch (4 pending)", "about", "of 2 no record"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("methods: all\nseed: 0\n", ["sweep.yaml", "unknown key 'seed'", "did you mean 'seeds'"]),
        ("methods: [erm]\nseeds: []\n", ["sweep.yaml", "seeds"]),
        ("methods: [erm]\nsettings: {recipe.epochs: []}\n", ["sweep.yaml", "settings.recipe.epochs"]),
        ("methods: [emr]\n", ["'emr'", "did you mean 'erm'"]),
        ("methods: {}\n", ["empty"]),
        ("seeds: 0\n", ["--methods"]),
        ("methods: [erm\n", ["sweep.yaml", "YAML"]),
        ("methods: [erm]\nseeds: 4-x\n", ["seeds '4-x'"]),
    ],
)
def test_bad_sweep_files_are_one_line(tmp_path, text, words):
    refused_call(ltbench("sweep", "--file", sweep_file(tmp_path, text), "--dry-run"), *words)
