"""Published results beside measured ones: the file, the verdicts, the section of the page."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from kit.checks import refused
from kit.factories import make_record, make_sample
from kit.pages import TABLE_TAGS, rendered

from benchmark.data.dataset import DATASETS
from benchmark.leaderboard import verdicts as module
from benchmark.leaderboard.build import build_tables
from benchmark.leaderboard.pages.published_markdown import published_section
from benchmark.leaderboard.published import load_published
from benchmark.leaderboard.tracks import settings_text
from benchmark.leaderboard.verdicts import Verdict, published, unmeasured
from benchmark.models.backbones import BACKBONES
from benchmark.running.plan import make_plan
from benchmark.spec import PROTOCOLS

LINE = {
    "dataset": "voc-lt",
    "method": "DB Focal",
    "variant": "printed",
    "epoch": "",
    "backbone": "ResNet-50",
    "pretraining": "ImageNet",
    "image_size": "224",
    "overall": "80.00",
    "head": "85.00",
    "medium": "80.00",
    "tail": "75.00",
    "source": "A paper",
    "caveat": "",
    "measured_by": "db-focal",
    "settings": "",
}
CLIP = {"name": "ViT-B-16:openai", "digest": "open_clip/ViT-B-16:openai"}


@pytest.fixture(scope="session")
def fingerprint():
    return DATASETS.get("voc-lt").open().fingerprint


@pytest.fixture
def measure(fingerprint):
    """Records of protocol paper on VOC-LT, one for each value of the overall mAP."""

    def make(*values, method="db-focal", recipe=None, config=None, gap=None, **spec):
        spec = {"protocol": "paper", "protocol_version": 2, "dataset": {"fingerprint": fingerprint}} | spec
        spec |= {"recipe": recipe or {}, "config": config or {}, "config_overrides": config or {}}
        results = {"raw": {"per_class": dict.fromkeys(gap or [])}}
        return [make_record(method, seed, value, spec=spec, results=results) for seed, value in enumerate(values)]

    return make


def write(folder: Path, *lines: dict[str, str], columns=tuple(LINE)) -> Path:
    path = folder / "published.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([(LINE | line)[column] for column in columns] for line in lines)
    return path


@pytest.fixture
def compare(tmp_path):
    """The one line that a published result and these records give."""

    def run(records, **line):
        [table] = published(build_tables(records), load_published(write(tmp_path, line)))
        [row] = table.rows
        return row

    return run


def both_datasets(measure) -> list:
    """A record of protocol paper on each dataset that has published results."""
    coco = {"name": "coco-lt", "fingerprint": DATASETS.get("coco-lt").open().fingerprint}
    return [*measure(80.0), *measure(60.0, dataset=coco)]


# The packaged file


def test_what_is_published_of_our_methods_is_mapped():
    lines = load_published()
    assert len(lines) == 113
    mapped = {(line.method, line.row_label) for line in lines if line.measured_by}
    assert mapped == {
        ("ERM", "erm"),
        ("RW", "rw"),
        ("Focal", "focal"),
        ("CB Focal", "cb-focal"),
        ("DB", "db"),
        ("DB Focal", "db-focal"),
        ("ASL", "asl"),
        ("LTML", "ltml"),
        ("CPRFL-CLIP", "cprfl"),
        ("CPRFL-GloVe", 'cprfl (semantics="glove_300.npz:voc_glove")'),
        ("CPRFL-GloVe", 'cprfl (semantics="glove_300.npz:coco_glove")'),
        ("CAPNET", "capnet"),
        ("HP-DVAL", "hp-dval"),
        ("HP-DVAL", "hp-dval (variant=released-code)"),
        ("HP-DVAL with DB Focal", "hp-dval (loss=db-focal)"),
        ("CLIP zero-shot", "clip-zero-shot"),
    }
    methods = {name for name, _ in mapped}
    assert all(line.measured_by for line in lines if line.method in methods)
    assert {line.measured_by for line in lines} - {None} == set(PROTOCOLS.get("paper").methods) - {"linear-probe"}
    keys = [(line.dataset, line.method, line.variant, line.epoch, line.backbone, line.source) for line in lines]
    assert len(set(keys)) == len(keys)


def test_every_last_epoch_has_the_best_one_of_its_log_beside_it(measure):
    """And only one of each: settings that the file gives to one of the two alone would part them."""
    rows = [row for table in published(build_tables(both_datasets(measure))) for row in table.rows]
    pairs = [row for row in rows if row.last]
    assert len(pairs) == sum(line.epoch == "last" for line in load_published()) == 12
    assert len(rows) == len(load_published()) - len(pairs)
    assert {row.result.epoch for row in pairs} == {"best on test"}
    for row in pairs:
        assert row.scores["Overall"].gap >= 0  # the best of all epochs is not below one of them


SEVEN_LOSSES = {"ERM", "RW", "Focal", "CB Focal", "DB", "DB Focal", "ASL"}


def test_of_the_seven_losses_the_authors_own_rows_alone_have_a_known_length():
    known = {
        (line.dataset, line.method, line.variant)
        for line in load_published()
        if line.method in SEVEN_LOSSES and "length of training unknown" not in line.caveats
    }
    # The repository of the DB loss has the schedule of its own two.
    own = [("DB", "printed"), ("DB Focal", "printed"), ("DB Focal", "official repository")]
    assert known == {(dataset, *row) for dataset in ("voc-lt", "coco-lt") for row in own}


def test_the_rows_of_cprfl_say_what_its_code_does_and_ours_does_not():
    lines = [line for line in load_published() if line.method.startswith("CPRFL")]
    assert len(lines) == 8
    for line in lines:
        [said] = [caveat for caveat in line.caveats if caveat.startswith("released code trains")]
        assert all(part in said for part in ("text tower", "everything at one rate", "raw (unscaled) text embeddings"))


MEASURED = sorted({(line.dataset, line.measured_by, line.settings) for line in load_published() if line.measured_by})


@pytest.mark.parametrize(("dataset", "method", "settings"), MEASURED)
@pytest.mark.slow
def test_a_run_with_these_settings_has_the_label_and_the_printed_network(
    dataset, method, settings, tmp_path, monkeypatch
):
    """A run as somebody would start it to measure a published result: it can be planned, its row is found by its
    label, and the protocol's own backbone, pretraining and size are those that were printed."""
    monkeypatch.chdir(tmp_path)
    names, key = np.array(DATASETS.get(dataset).open().classes), f"{dataset.removesuffix('-lt')}_glove"
    np.savez("glove_300.npz", **{key: np.ones((len(names), 300), np.float32), f"{key}_names": names})
    given = dict(item.split("=") for item in settings.split(", ") if item)
    given = {name: json.loads(value) if value.startswith('"') else value for name, value in given.items()}
    spec = make_plan(method, dataset, protocol="paper", settings=given).spec
    assert settings_text(spec.config_overrides) == settings and spec.overrides == {}
    [table] = build_tables([make_record(method, spec=spec.model_dump(mode="json"), history=[], selection={"epoch": 0})])
    [row] = [
        row
        for table in published([table])
        for row in table.rows
        if (row.result.measured_by, row.result.settings) == (method, settings)
        and row.verdict.reasons != ("its images were not normalised",)
    ][:1]
    assert row.measured.row.records[0].spec.method == method
    assert row.verdict == Verdict("not comparable", ("one seed only: no interval",))


def test_backbones_are_registered_ones():
    assert {name for names in module._BACKBONES.values() for name in names} <= set(BACKBONES)
    printed = {line.backbone for line in load_published()}
    assert printed - set(module._BACKBONES) == {"not stated"}
    assert {line.pretraining for line in load_published()} == set(module._PRETRAINING)


def test_caveats_that_decide_are_those_of_the_file():
    assert set(module._SOMETHING_ELSE) <= {caveat for line in load_published() for caveat in line.caveats}


def test_every_result_of_a_dataset_with_a_paper_track_has_a_line(measure):
    records = [*measure(78.0, 79.0, 80.0), make_record("erm", spec={"dataset": {"name": "coco-lt"}})]
    tables = build_tables(records)
    [table] = published(tables)
    assert (table.dataset, table.title) == ("voc-lt", "VOC-LT")
    shown = [line for row in table.rows for line in (row.result, row.last) if line]
    assert sorted(shown, key=repr) == sorted((li for li in load_published() if li.dataset == "voc-lt"), key=repr)
    assert unmeasured(tables) == {"COCO-LT": 55}
    verdicts = {(row.result.method, row.result.variant): row.verdict for row in table.rows}
    assert verdicts["DB Focal", "printed"].kind == "within"
    assert verdicts["ERM", "printed"] == Verdict("not measured", ("no run of protocol paper",))
    assert verdicts["OLTR", "printed"] == Verdict("not measured", ("not implemented here",))
    assert verdicts["LTML baseline-uniform", "printed"] == Verdict("not measured", ("not implemented here",))


def test_the_contradiction_in_what_was_printed_is_a_footnote(measure):
    [table] = published(build_tables(measure(93.0, 94.0, method="hp-dval")))
    notes = {
        row.result.variant: [table.footnotes[note - 1] for note in row.notes]
        for row in table.rows
        if row.result.method == "HP-DVAL"
    }
    contradiction = "the printed groups do not average to the printed overall, over the classes of this split"
    assert contradiction in notes["printed"] and contradiction not in notes["released log"]
    assert "best epoch picked on the test set" in notes["released log"]


@pytest.mark.parametrize(
    ("overall", "caveat", "noted"),
    [
        ("79.50", "", False),  # 6 x 85 + 6 x 80 + 8 x 75 over 20 classes
        ("79.51", "", False),  # all that is printed is rounded
        ("79.52", "", True),
        ("79.48", "resolution presumed", True),
        ("80.00", "measured on PLT-VOC / PLT-COCO, another benchmark", False),
    ],
)
def test_groups_that_do_not_average_to_the_overall_are_a_footnote(overall, caveat, noted, measure, tmp_path):
    lines = load_published(write(tmp_path, {"overall": overall, "caveat": caveat}))
    [table] = published(build_tables(measure(79.0, 80.0)), lines)
    contradictions = [note for note in table.footnotes if "do not average to the printed overall" in note]
    assert len(contradictions) == noted
    [row] = table.rows
    assert [table.footnotes[note - 1] for note in row.notes] == [caveat] * bool(caveat) + contradictions


def test_groups_that_do_so_with_medium_and_tail_exchanged_are_said_to(measure, tmp_path):
    # 6 x 85 + 6 x 75 + 8 x 80 over 20 classes.
    [table] = published(build_tables(measure(79.0, 80.0)), load_published(write(tmp_path, {"overall": "80.00"})))
    [note] = table.footnotes
    assert note.endswith(
        "do not average to the printed overall, over the classes of this split; with medium and tail exchanged they do"
    )


def test_which_packaged_results_contradict_themselves(measure):
    found = {}
    for table in published(build_tables(both_datasets(measure))):
        for number, text in enumerate(table.footnotes, 1):
            if "do not average to the printed overall" in text:
                methods = [row.result.method for row in table.rows if number in row.notes]
                found[table.dataset, text.endswith("exchanged they do")] = methods
    assert found == {
        ("voc-lt", False): ["LDAM", "MLC-NC", "PG Loss", "CAE-Net", "LMPT", "HP-DVAL"],
        ("coco-lt", False): ["ERM", "PG Loss", "Stitch-Up", "CLIP zero-shot", "LMPT", "LMPT with BCE"],
        ("coco-lt", True): ["HP-DVAL"]
        + [f"HP-DVAL with {loss}" for loss in ("BCE", "multi-label soft margin", "CB Focal", "ASL", "DB Focal")],
    }


def test_no_caveat_of_the_file_says_what_is_computed():
    words = ("average to", "epoch picked", "best epoch", "last epoch", "best test")
    assert not [line.caveat for line in load_published() if any(word in line.caveat for word in words)]


def test_without_a_paper_track_nothing_is_beside(measure):
    records = [make_record("db-focal"), *measure(79.0, overrides={"epochs": 9}, recipe={"epochs": 9})]
    tables = build_tables(records)
    assert len(tables) == 2 and published(tables) == []
    assert unmeasured(tables) == {"VOC-LT": 46, "COCO-LT": 55}


# Verdicts


@pytest.mark.parametrize(
    ("printed", "kind"),
    [("75.02", "above"), ("75.03", "within"), ("80.00", "within"), ("84.97", "within"), ("84.98", "below")],
)
def test_the_prediction_interval_decides(printed, kind, measure, compare):
    # 79, 80, 81: the mean is 80 ± 2.484, and one more run lies in 80 ± 4.302653 sqrt(1 + 1/3) = 80 ± 4.968.
    row = compare(measure(79.0, 80.0, 81.0), overall=printed)
    assert row.verdict == Verdict(kind)
    assert row.scores["Overall"].difference == pytest.approx(80.0 - float(printed))
    assert row.scores["Overall"].measured.n == 3
    assert row.scores["Tail"].verdict == Verdict("within") and row.scores["Tail"].measured.mean == 75.0


def test_the_noise_of_the_test_images_is_in_the_prediction_interval(measure, tmp_path):
    records = measure(80.0, 80.0, 80.0)
    samples = {record.run_id: make_sample(record) for record in records}
    [table] = build_tables(records, samples)
    images = table.rows[0].scores["Overall"].images
    for shift, kind in ((1.35 * images, "within"), (1.5 * images, "below"), (-1.5 * images, "above")):
        [found] = published([table], load_published(write(tmp_path, {"overall": f"{80 + shift:.2f}"})))
        assert found.rows[0].verdict == Verdict(kind)


def test_a_printed_value_is_no_more_exact_than_its_digits(measure, compare):
    records = measure(80.004, 80.004, 80.004)
    assert compare(records, overall="80.00").verdict.kind == "within"
    assert compare(records, overall="80.01").verdict.kind == "below"
    assert compare(records, overall="79.99").verdict.kind == "above"


def test_every_column_has_a_verdict_of_its_own(measure, compare):
    row = compare(measure(79.0, 80.0, 81.0), head="95.00", medium="80.10", tail="60.00")
    kinds = {column: score.verdict.kind for column, score in row.scores.items()}
    assert kinds == {"Overall": "within", "Head": "below", "Medium": "within", "Tail": "above"}


def test_groups_that_were_not_printed_have_no_verdict(measure, compare):
    row = compare(measure(79.0, 80.0, 81.0), head="", medium="", tail="")
    assert row.verdict == Verdict("within")
    for column in ("Head", "Medium", "Tail"):
        score = row.scores[column]
        assert score.printed is score.difference is score.verdict is None and score.measured is not None


def test_one_seed_has_no_interval(measure, compare):
    row = compare(measure(80.0))
    assert row.verdict == Verdict("not comparable", ("one seed only: no interval",))
    assert row.scores["Overall"].difference == 0.0


def test_a_group_without_a_value_is_not_compared(measure, compare):
    row = compare(measure(80.0, 80.0, gap=["sofa", "sheep"]))
    assert row.scores["Tail"].verdict == Verdict("not comparable", ("a seed has no value",))
    assert row.scores["Tail"].measured is row.scores["Tail"].difference is None
    assert row.scores["Head"].verdict == Verdict("within")


@pytest.mark.parametrize(
    ("line", "spec", "reason"),
    [
        ({"backbone": "ResNet-101"}, {}, "backbone differs: printed ResNet-101, measured resnet50"),
        ({"backbone": "not stated"}, {}, "backbone differs: printed not stated, measured resnet50"),
        ({"pretraining": "CLIP"}, {}, "pretraining differs: printed CLIP, measured IMAGENET1K_V1"),
        ({}, {"weights": {"name": "own"}}, "pretraining differs: printed ImageNet, measured own"),
        ({}, {"weights": {"name": "IMAGENET1K_SWAG_E2E_V1"}}, "measured IMAGENET1K_SWAG_E2E_V1"),
        ({"image_size": "448"}, {}, "image size differs: printed 448 px, measured 224 px"),
        ({}, {"dataset": {"fingerprint": "b" * 64}}, "the dataset's split differs"),
        (
            {"caveat": "measured on PLT-VOC / PLT-COCO, another benchmark; not comparable"},
            {},
            "another benchmark",
        ),
        ({"caveat": "loader without mean/std normalisation"}, {}, "its images were not normalised"),
    ],
)
def test_what_differs_is_not_comparable_and_says_why(line, spec, reason, measure, compare):
    row = compare(measure(79.0, 80.0, 81.0, **spec), **line)
    assert row.verdict.kind == "not comparable"
    [found] = row.verdict.reasons
    assert found.endswith(reason)
    assert {score.verdict for score in row.scores.values()} == {row.verdict}
    assert row.measured is not None and row.scores["Overall"].difference == 0.0


def test_all_that_differs_is_said(measure, compare):
    records = measure(79.0, 80.0, recipe={"backbone": "clip_vit_b_16", "image_size": 336}, weights=CLIP)
    assert len(compare(records).verdict.reasons) == 3


def test_another_benchmark_needs_no_method_of_ours(measure, compare):
    caveat = "measured on PLT-VOC / PLT-COCO, another benchmark; not comparable"
    row = compare(measure(80.0), method="COMIC", measured_by="", caveat=caveat)
    assert row.verdict == Verdict("not comparable", ("another benchmark",)) and row.measured is None


@pytest.mark.parametrize(
    ("printed", "backbone", "weights"),
    [
        ("ResNet-50, ImageNet", "resnet50", "IMAGENET1K_V2"),
        ("ResNet-101, ImageNet", "resnet101", "IMAGENET1K_V1"),
        ("ViT-B/16, ImageNet", "vit_b_16", "IMAGENET1K_V1"),
        ("ResNet-50, CLIP", "clip_rn50", "RN50:openai"),
        ("ViT-B/16, CLIP", "clip_vit_b_16", "ViT-B-16:openai"),
    ],
)
def test_names_of_networks(printed, backbone, weights, measure, compare):
    records = measure(79.0, 80.0, 81.0, recipe={"backbone": backbone}, weights={"name": weights})
    network, pretraining = printed.split(", ")
    assert compare(records, backbone=network, pretraining=pretraining).verdict.kind == "within"
    other = "CLIP" if pretraining == "ImageNet" else "ImageNet"
    assert compare(records, backbone=network, pretraining=other).verdict.kind == "not comparable"


def test_other_weights_than_openais_are_no_clip(measure, compare):
    laion = {"name": "ViT-B-16:laion2b_s34b_b88k"}
    records = measure(79.0, 80.0, 81.0, recipe={"backbone": "clip_vit_b_16"}, weights=laion)
    [reason] = compare(records, backbone="ViT-B/16", pretraining="CLIP").verdict.reasons
    assert reason == "pretraining differs: printed CLIP, measured ViT-B-16:laion2b_s34b_b88k"


def test_settings_tell_rows_apart(measure, compare):
    records = measure(79.0, 80.0, config={"sampler": "uniform"})
    assert compare(records).verdict == Verdict("not measured", ("no run of protocol paper",))
    assert compare(records, settings="sampler=uniform").verdict.kind == "within"
    assert compare(records, settings="sampler=uniform").result.row_label == "db-focal (sampler=uniform)"


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": {"fingerprint": "b" * 64}},
        {"recipe": {"backbone": "resnet101"}},
        {"recipe": {"image_size": 448}},
        {"protocol_version": 1},
        {"weights": {"name": "IMAGENET1K_V2"}},
        {"recipe": {"backbone": "clip_rn50"}, "weights": {"name": "RN50:openai"}},
    ],
    ids=["split", "backbone", "size", "old protocol", "later weights", "CLIP"],
)
@pytest.mark.parametrize("score", [70.0, 90.0])
def test_the_nearest_row_is_chosen_whatever_its_score(other, score, measure, compare):
    right, wrong = measure(79.0, 80.0), measure(*[score + seed for seed in range(4)], **other)
    for records in (right + wrong, wrong + right):
        row = compare(records)
        assert row.measured.row.scores["Overall"].mean == 79.5
        assert row.verdict.kind == "within"


def test_the_newest_version_of_a_method_counts(measure, compare):
    records = measure(10.0, 11.0, 12.0) + measure(79.0, 80.0, method_version=2)
    assert compare(records).measured.row.label == "db-focal v2"


# Two epochs of one log

BEST = {"epoch": "best on test", "overall": "86.00"}
LAST = {
    "epoch": "last",
    "overall": "80.10",
    "head": "85.25",
    "medium": "",
    "variant": "released log",
    "source": "A log",
}


@pytest.fixture
def compare_two(tmp_path, measure):
    """The rows that these lines give beside 79, 80, 81, of which a further run lies within 80 ± 4.968."""

    def run(*lines):
        [table] = published(build_tables(measure(79.0, 80.0, 81.0)), load_published(write(tmp_path, *lines)))
        return table

    return run


@pytest.mark.parametrize("lines", [(BEST, LAST), (LAST, BEST)], ids=["best first", "last first"])
def test_ours_is_held_against_the_last_epoch(lines, compare_two):
    assert compare_two(BEST).rows[0].verdict.kind == "below"
    [row] = compare_two(*lines).rows
    assert (row.result.epoch, row.last.epoch) == ("best on test", "last")
    overall = row.scores["Overall"]
    assert (overall.printed, overall.last, overall.verdict) == (86.0, 80.1, Verdict("within"))
    assert overall.gap == pytest.approx(5.9) and overall.difference == pytest.approx(-0.1)
    assert row.scores["Head"].gap == pytest.approx(-0.25) and row.scores["Head"].gap_text == "-0.25"


def test_a_group_that_the_last_epoch_lacks_is_not_compared_with_the_best_one(compare_two):
    [row] = compare_two(BEST, LAST).rows
    medium = row.scores["Medium"]
    assert medium.printed == 80.0 and medium.measured is not None
    assert medium.last is medium.gap is medium.difference is medium.verdict is None


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "coco-lt"},
        {"method": "DB"},
        {"backbone": "ResNet-101"},
        {"pretraining": "CLIP"},
        {"image_size": "448"},
        {"settings": "sampler=uniform"},
        {"epoch": ""},
    ],
    ids=str,
)
def test_epochs_of_other_logs_stay_apart(other, compare_two):
    table = compare_two(BEST, LAST | other)
    assert all(row.last is None for row in table.rows)
    assert [row.result.epoch for row in table.rows][:1] == ["best on test"]
    assert len(table.rows) == (1 if "dataset" in other else 2)


def test_a_last_epoch_too_many_is_not_lost(compare_two):
    rows = compare_two(BEST, LAST | {"overall": "79.00"}, LAST).rows
    assert [(row.result.overall, row.last and row.last.overall) for row in rows] == [(86.0, 80.1), (79.0, None)]


def test_that_the_test_set_picked_the_epoch_is_a_footnote_and_each_caveat_is_there_once(compare_two):
    table = compare_two(BEST | {"tail": "", "caveat": "a; b"}, LAST | {"caveat": "b; c"})
    assert table.footnotes == ("a", "b", "best epoch picked on the test set", "c")
    assert compare_two({"tail": ""}).footnotes == compare_two(LAST).footnotes == ()


def test_two_epochs_are_counted_as_one_result(tmp_path, measure):
    lines = load_published(write(tmp_path, BEST | {"dataset": "coco-lt"}, LAST | {"dataset": "coco-lt"}))
    assert unmeasured(build_tables(measure(80.0)), lines) == {"COCO-LT": 1}


def test_the_section_shows_both_epochs_and_their_gap(compare_two):
    text = published_section([compare_two(BEST, LAST)])
    [[header, row]] = rendered(text).tables
    cells = dict(zip(header, row, strict=True))
    assert cells["Printed"] == "86.00 / 85.00 / 80.00 / 75.00"
    assert cells["Last epoch"] == "80.10 / 85.25 / – / 75.00 (gap 5.90)"
    assert cells["Difference"] == "-0.10 / -0.25 / – / +0.00"
    assert (cells["Variant"], cells["Source"]) == (
        "printed; last epoch: released log",
        "A paper; last epoch: A log",
    )
    assert "1 published result: 1 within." in text


# The section


def test_the_section_shows_printed_measured_difference_and_verdict(measure, tmp_path):
    lines = [
        {"tail": "76.25", "caveat": "resolution presumed; best epoch"},
        {"method": "CAPNET", "measured_by": "", "head": "", "medium": "", "tail": "", "caveat": "best epoch"},
        {"dataset": "coco-lt"},
    ]
    results = load_published(write(tmp_path, *lines))
    tables = build_tables(measure(79.0, 80.0, 81.0))
    text = published_section(published(tables, results), unmeasured(tables, results))
    page = rendered(text)
    [[header, first, second]] = page.tables
    assert dict(zip(header, first, strict=True)) == {
        "Method": "DB Focal",
        "Variant": "printed",
        "Backbone, pretraining, size": "ResNet-50, ImageNet, 224 px",
        "Printed": "80.00 / 85.00 / 80.00 / 76.25",
        "Last epoch": "–",
        "Our row": "db-focal",
        "Measured": "80.00 ± 2.48ˢ / 85.00 ± 2.48ˢ / 80.00 ± 2.48ˢ / 75.00 ± 2.48ˢ (n = 3)",
        "Difference": "+0.00 / +0.00 / +0.00 / -1.25",
        "Verdict": "within",
        "Source": "A paper",
        "Notes": "1, 2",
    }
    assert second[3:9] == ["80.00 / – / – / –", "–", "–", "–", "–", "not measured: not implemented here"]
    assert second[-1] == "2"
    assert "### VOC-LT\n\n2 published results: 1 within, 1 not measured.\n" in text
    assert "\n1. resolution presumed\n2. best epoch\n" in text
    assert "1 published result of COCO-LT: no run of protocol `paper` here.\n" in text


def test_no_tables_no_section():
    assert published_section([]) == ""
    assert "38 published results of VOC-LT: no run of protocol `paper` here.\n" in published_section([], {"VOC-LT": 38})


def test_a_difference_of_nothing_has_no_minus(measure, tmp_path):
    results = load_published(write(tmp_path, {}))
    text = published_section(published(build_tables(measure(79.999, 79.999)), results))
    assert "+0.00" in text and "-0.00" not in text


def test_what_a_file_or_a_record_says_cannot_break_the_section(measure, tmp_path):
    hostile = "<script>alert(1)</script>|[x](y)\n| *z*"
    line = dict.fromkeys(("method", "variant", "backbone", "pretraining", "source"), hostile)
    weights = {"name": hostile}
    results = load_published(write(tmp_path, line | {"caveat": f"{hostile}; <b>"}))
    page = rendered(published_section(published(build_tables(measure(80.0, weights=weights)), results), {hostile: 2}))
    assert set(page.tags) <= {"h2", "h3", "p", "ul", "ol", "li", "strong", "em", "code", *TABLE_TAGS}
    [[header, row]] = page.tables
    assert len(row) == len(header)
    assert row[header.index("Source")] == hostile.replace("\n", " ")
    assert f"measured {row[0]}" in row[header.index("Verdict")]


# A file that is not whole


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"overall": "8O.0"}, "overall: Input should be a valid number"),
        ({"overall": "nan"}, "(found 'nan')"),
        ({"overall": ""}, "overall: Input should be a valid number (found None)"),
        ({"tail": "178.0"}, "tail: Input should be less than or equal to 100 (found 178.0)"),
        ({"head": "-1"}, "(found '-1')"),
        ({"image_size": "224.5"}, "image_size: Input should be a valid integer"),
        ({"image_size": ""}, "image_size"),
        ({"source": ""}, "source"),
        ({"dataset": "voc lt"}, "(found 'voc lt')"),
        ({"epoch": "best"}, "epoch: Input should be 'best on test' or 'last' (found 'best')"),
        ({"measured_by": "db focal"}, "(found 'db focal')"),
        ({"measured_by": "", "settings": "a=b"}, "settings 'a=b' without measured_by"),
    ],
)
def test_a_bad_value_is_named_with_file_and_line(change, said, tmp_path):
    path = write(tmp_path, {}, change)
    message = refused(load_published, path)
    assert message.startswith(f"{path}:3: ") and said in message


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("", ":1", "column 'dataset' is there 0 times"),
        ("dataset,metod\n", ":1", "unknown column 'metod'; did you mean 'method'"),
        (",".join([*LINE, "dataset"]) + "\n", ":1", "column 'dataset' is there 2 times"),
        (",".join(LINE) + "\nvoc-lt,ERM\n", ":2", "2 values, but the first line names 15 columns"),
        (",".join(LINE) + '\n"voc-lt"x,ERM\n', ":2", "not CSV"),
    ],
)
def test_a_file_of_another_form_is_refused(text, place, said, tmp_path):
    path = tmp_path / "published.csv"
    path.write_text(text)
    message = refused(load_published, path)
    assert message.startswith(f"{path}{place}: ") and said in message


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    assert "published.csv" in refused(load_published, tmp_path / "published.csv")
    (tmp_path / "published.csv").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refused(load_published, tmp_path / "published.csv")


def test_a_run_with_another_validation_list_is_shown_and_said_to_be_on_other_lists(measure, compare):
    small = {"name": "voc-lt-val-small", "fingerprint": DATASETS.get("voc-lt-val-small").open().fingerprint}
    row = compare(measure(79.0, 80.0, 81.0, dataset=small))
    assert row.verdict.kind == "not comparable"
    assert row.verdict.reasons == ("measured on voc-lt-val-small, which has another list",)
    both = compare([*measure(79.0, 80.0, 81.0, dataset=small), *measure(70.0, 71.0)])
    assert both.measured.track.dataset == "voc-lt", "a run on the published lists comes first"
