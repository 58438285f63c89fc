"""From records and logits to a board: what is recomputed, what is cached, and what is left out and named."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kit.factories import CLASSES, Scored, edited, make_scored, write_scored
from kit.stores import edit_record, edit_tensors, make_store, register_tiny, run_of
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from benchmark.data.dataset import DATASETS
from benchmark.errors import StoreError
from benchmark.evaluation import average_precision, score
from benchmark.leaderboard import cache
from benchmark.leaderboard import samples as samples_module
from benchmark.leaderboard import thresholds as thresholds_module
from benchmark.leaderboard.board import load_board
from benchmark.leaderboard.cache import read_cached
from benchmark.leaderboard.pages.markdown_page import markdown_page
from benchmark.leaderboard.rows import METRICS
from benchmark.leaderboard.samples import samples
from benchmark.leaderboard.stats.resampling import REPLICATES, image_weights, replicate_weights, run_scores
from benchmark.leaderboard.stats.secondary import at_threshold, best_threshold, secondary
from benchmark.running.plan import make_plan
from benchmark.store.folder import RunFolder
from benchmark.store.records import Record
from benchmark.store.runs import load_records

HISTORY = [{"epoch": epoch, "loss": 0.1, "lr": 0.01} for epoch in (1, 2, 3)]
RUNS = [
    make_scored(method, seed, skill, history=HISTORY)
    for method, skill in (("erm", 1.0), ("asl", 2.5))
    for seed in range(3)
]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(samples_module, "_WORTH_KEEPING", 0)


@pytest.fixture
def store(tmp_path):
    return write_scored(tmp_path / "results", RUNS)


def folder_of(store, scored: Scored):
    return store / "runs" / scored.record.folder_name


def board_of(store):
    problems: list[StoreError] = []
    return load_board(store, store, problems), problems


def test_every_row_has_ranks_noise_and_counts(store):
    board, problems = board_of(store)
    assert problems == [] and board.num_records == 6 and board.excluded == ()
    (table,) = board.tables
    assert [row.label for row in table.rows] == ["asl", "erm"]
    assert table.ranks == {"asl": 1, "erm": 2} and table.wins == {"asl": (1, 0, 0), "erm": (0, 0, 1)}
    for row in table.rows:
        assert row.replicates[:, 0, 0] == pytest.approx([r.metrics.overall for r in row.records], abs=1e-3)
        for column in METRICS:
            score = row.scores[column]
            assert 0 < score.images <= score.half_width and score.seeds <= score.half_width
    text = markdown_page(board, {})
    assert "| 1 | asl |" in text and "| 1 / 0 / 0 |" in text and "6 records." in text


def test_replicates_come_from_the_cache_the_second_time(store, monkeypatch):
    first = [sample.scores for _, sample in samples(store, list(load_records(store)))]
    with monkeypatch.context() as patch:
        patch.setattr(samples_module, "run_scores", lambda *args: pytest.fail("computed again"))
        second = [sample.scores for _, sample in samples(store, list(load_records(store)))]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_what_is_computed_as_fast_as_it_is_read_is_not_kept(store, tmp_path, monkeypatch):
    monkeypatch.setattr(samples_module, "_WORTH_KEEPING", 1000)
    assert board_of(store)[0].num_records == 6
    assert not (tmp_path / "cache" / "replicates").exists()


def test_a_cache_that_was_cut_short_is_made_again(store, tmp_path):
    first = [sample.scores for _, sample in samples(store, list(load_records(store)))]
    files = list((tmp_path / "cache" / "replicates").iterdir())
    assert len(files) == 6
    for path in files:
        path.write_bytes(path.read_bytes()[:-100])
    second = [sample.scores for _, sample in samples(store, list(load_records(store)))]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_cache_whose_content_was_lost_is_made_again(store, tmp_path):
    first = [sample.scores for _, sample in samples(store, list(load_records(store)))]
    for path in (tmp_path / "cache" / "replicates").iterdir():
        path.write_bytes(bytes(path.stat().st_size))
    second = [sample.scores for _, sample in samples(store, list(load_records(store)))]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def rewrite_cache(folder: Path, change: Callable[[bytes], bytes]) -> None:
    """As somebody would who may write to the cache: every file whole again after the change."""
    for path in folder.iterdir():
        content = change(path.read_bytes()[32:])
        path.write_bytes(cache._digest(path, content) + content)


def test_a_cache_file_in_the_place_of_another_is_none(store, tmp_path):
    first = [sample.scores for _, sample in samples(store, list(load_records(store)))]
    folder = tmp_path / "cache" / "replicates"
    contents = [(path, path.read_bytes()) for path in sorted(folder.iterdir())]
    for (path, _), (_, content) in zip(contents, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)
        assert read_cached(path, *[samples_module._SCORES, samples_module._SECONDARY]) is None
    second = [sample.scores for _, sample in samples(store, list(load_records(store)))]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("part", ["scores", "replicates", "secondary"])
def test_a_rewritten_cache_is_not_believed(store, tmp_path, part):
    """Neither a better score, nor replicates that scatter less, nor what stands beside them."""
    first = [sample for _, sample in samples(store, list(load_records(store)))]
    size = first[0].scores.nbytes

    def change(content: bytes) -> bytes:
        scores = np.frombuffer(content[:size], np.float32).reshape(first[0].scores.shape).copy()
        beside = np.frombuffer(content[size:], np.float64).copy()
        if part == "scores":
            scores[:, 0] += 1.0
        elif part == "replicates":
            scores[:, 1:] = scores[:, :1]
        else:
            beside[0] += 5.0
        return scores.tobytes() + beside.tobytes()

    rewrite_cache(tmp_path / "cache" / "replicates", change)
    second = [sample for _, sample in samples(store, list(load_records(store)))]
    assert all(np.array_equal(a.scores, b.scores) for a, b in zip(first, second, strict=True))
    assert [sample.secondary for sample in second] == [sample.secondary for sample in first]


def test_rewritten_thresholds_are_not_believed(tmp_path):
    store = write_scored(tmp_path / "results", validated())
    first = board_of(store)[0].tables[0].rows[0]
    rewrite_cache(tmp_path / "cache" / "thresholds", lambda content: bytes(np.frombuffer(content, np.float64) + 1.0))
    second = board_of(store)[0].tables[0].rows[0]
    assert [sample.at_threshold for sample in second.samples] == [sample.at_threshold for sample in first.samples]


def test_a_rewritten_oracle_is_not_believed(tmp_path, monkeypatch):
    """Of epochs, that is: what the cache says of one of them alone."""
    store = make_store(tmp_path)
    record = run_of(store).record()
    [first] = [sample.oracle for found, sample in samples(store, [record])]
    for path in (tmp_path / "cache" / "replicates").iterdir():
        content = path.read_bytes()
        if len(content) == 32 + 4 * 8:
            better = bytes(np.minimum(np.frombuffer(content[32:], np.float64) + 7.0, 107.0))
            path.write_bytes(cache._digest(path, better) + better)
    [second] = [sample.oracle for found, sample in samples(store, [record])]
    assert second == first and first is not None


def test_of_many_runs_some_are_compared_with_the_cache(store, monkeypatch):
    records = list(load_records(store))
    sources = [samples_module._Source.of(store, record, store) for record in records]
    cells = records[0].num_test_images * len(records[0].groups)
    monkeypatch.setattr(samples_module, "_COMPARED", 2 * cells)
    chosen = {i for _ in range(60) for i, source in enumerate(samples_module._compared(sources)) if source.compared}
    assert len([source for source in samples_module._compared(sources) if source.compared]) == 2
    assert chosen == set(range(6))


def test_one_replicates_weights_are_those_of_all():
    weights = image_weights(50)
    for replicate in (1, 7, REPLICATES):
        assert np.array_equal(replicate_weights(50, replicate)[:, 0], weights[:, replicate])


def test_an_edited_record_is_not_answered_for_by_the_cache(store):
    board_of(store)
    (folder_of(store, RUNS[4]) / "record.json").write_text(edited(RUNS[4].record, num_test_images=9999))
    board, problems = board_of(store)
    assert board.num_records == 5 and "raw is float32 [60, 6], and the record says float32 [9999, 6]" in str(
        problems[0]
    )


def test_two_records_that_contradict_each_other_are_both_left_out(tmp_path):
    pair = [make_scored("erm"), make_scored("asl", classes={**CLASSES, "person": 401})]
    board, problems = board_of(write_scored(tmp_path / "results", pair))
    assert board.num_records == 0 and len(problems) == 2
    assert all("nothing says which is right" in str(problem) for problem in problems)


def _killed(source):
    os._exit(1)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_one_line(store, monkeypatch, tmp_path):
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(samples_module, "_MUCH", 0)
    monkeypatch.setattr(samples_module, "_sample", _killed)
    with pytest.raises(StoreError, match="a worker process ended before its work was done"):
        samples(store, list(load_records(store)))


def test_without_a_cache_it_only_takes_longer(store, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "file" / "cache"))
    board, problems = board_of(store)
    assert board.num_records == 6 and problems == []


def test_several_processes_give_the_same(store, monkeypatch, tmp_path):
    alone = [sample.scores for _, sample in samples(store, list(load_records(store)))]
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(samples_module, "_MUCH", 0)
    together = [sample.scores for _, sample in samples(store, list(load_records(store)))]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


# What is left out


def rewrite(store, scored: Scored, change, **fields) -> None:
    """Put other tensors in a run's logits file, and a record that names them."""
    tensors = change(load_safetensors(scored.content))
    content = save_safetensors(tensors)
    digest = hashlib.sha256(content).hexdigest()
    name = f"logits-{digest[:16]}.safetensors"
    folder = folder_of(store, scored)
    (folder / name).write_bytes(content)
    text = edited(scored.record, logits={"file": name, "sha256": digest}, **fields)
    (folder / "record.json").write_text(text)


def with_raw(values):
    return lambda tensors: tensors | {"raw": values(tensors["raw"])}


def nan_at_one_place(values):
    values = values.copy()
    values[3, 2] = np.nan
    return values


def exchanged(scored: Scored) -> dict[str, float]:
    """The class scores with those of the two medium classes exchanged: every mean stays."""
    scores = scored.record.metrics.per_class
    return {**scores, "dog": scores["cat"], "cat": scores["dog"]}


BROKEN = {
    "missing logits": (lambda s, r: next(folder_of(s, r).glob("logits-*")).unlink(), "cannot be read"),
    "cut logits": (
        lambda s, r: next(folder_of(s, r).glob("logits-*")).write_bytes(r.content[:-5]),
        "and the record names",
    ),
    "a flipped bit": (
        lambda s, r: next(folder_of(s, r).glob("logits-*")).write_bytes(r.content[:-5] + b"\x7f" + r.content[-4:]),
        "and the record names",
    ),
    "no tensors": (
        lambda s, r: rewrite(s, r, lambda tensors: {"targets": tensors["targets"]}),
        "it holds targets instead of raw, targets",
    ),
    "no labels": (lambda s, r: rewrite(s, r, lambda tensors: {"raw": tensors["raw"]}), "it holds raw instead of"),
    "fewer images": (
        lambda s, r: rewrite(s, r, lambda tensors: {name: values[:-1] for name, values in tensors.items()}),
        "raw is float32 [59, 6], and the record says float32 [60, 6]",
    ),
    "float64": (lambda s, r: rewrite(s, r, with_raw(lambda v: v.astype(np.float64))), "raw is float64"),
    "not finite": (
        lambda s, r: rewrite(s, r, with_raw(nan_at_one_place)),
        "raw is nan at image 3, class 2, which is not finite",
    ),
    "other logits": (lambda s, r: rewrite(s, r, with_raw(lambda v: v[::-1].copy())), "and the logits score"),
    "another F1 than that of the logits": (
        lambda s, r: rewrite(
            s,
            make_scored("asl", r.record.spec.seed, 2.5, history=HISTORY, schema_version=1),
            lambda tensors: tensors,
            results={"raw": {"cf1": 99.0}},
        ),
        "results.raw.cf1 is 99.0, and the logits score",
    ),
    "two classes exchanged within a group": (
        lambda s, r: rewrite(s, r, lambda tensors: tensors, results={"raw": {"per_class": exchanged(r)}}),
        "results.raw.per_class.dog is ",
    ),
    "labels that are no labels": (
        lambda s, r: rewrite(s, r, lambda tensors: tensors | {"targets": tensors["targets"] * 7}),
        "targets must be 0 or 1",
    ),
    "unknown schema": (
        lambda s, r: (folder_of(s, r) / "record.json").write_text(edited(r.record, schema_version=7)),
        "schema version 7",
    ),
    "metrics that are not finite": (
        lambda s, r: (folder_of(s, r) / "record.json").write_text(
            edited(r.record).replace(f'"overall": {r.record.metrics.overall}', '"overall": NaN', 1)
        ),
        "record.json",
    ),
    "a copy under another name": (
        lambda s, r: folder_of(s, r).rename(folder_of(s, r).with_name("copy-s0-000000000000")),
        "remove the copy",
    ),
}


@pytest.mark.parametrize("breaking,words", BROKEN.values(), ids=BROKEN)
def test_a_record_that_does_not_hold_is_left_out_and_named(store, breaking, words):
    broken = RUNS[4]
    breaking(store, broken)
    board, problems = board_of(store)
    assert board.num_records == 5 and len(problems) == 1
    (line,) = board.excluded
    assert words in line and line.startswith("runs/") and str(store) not in line
    assert board.tables[0].rows[0].n == 2 and board.tables[0].ranks["asl"] == 1, "the others count"
    page = markdown_page(board, {})
    assert "5 records." in page and "1 excluded:" in page


def test_a_record_of_other_labels_than_most_is_left_out(store):
    odd = RUNS[0]

    def swapped(tensors):
        labels = tensors["targets"].copy()
        labels[[5, 6]] = labels[[6, 5]]
        labels[5] = 1 - labels[5]
        return {"targets": labels, "raw": tensors["raw"]}

    tensors = swapped(load_safetensors(odd.content))
    metrics = score(tensors["raw"], tensors["targets"], odd.record.groups).model_dump(exclude_unset=True)
    rewrite(store, odd, swapped, results={"raw": metrics})
    board, problems = board_of(store)
    assert board.num_records == 5 and "its test labels have the digest" in str(problems[0])


def test_a_record_of_other_classes_under_the_same_fingerprint_is_left_out(store):
    # One training image more: the same labels and scores, another fact about the dataset.
    odd = make_scored("rw", classes={**CLASSES, "person": 401})
    write_scored(store, [odd])
    board, problems = board_of(store)
    assert board.num_records == 6 and "its classes, groups and numbers of images have" in str(problems[0])


def test_a_record_of_another_split_than_the_registered_one_is_left_out(store):
    write_scored(store, [make_scored("rw", spec={"dataset": {"name": "voc-lt"}})])
    board, problems = board_of(store)
    assert board.num_records == 6 and "record.json: the split differs: dataset 'voc-lt' has the" in str(problems[0])
    fingerprint = DATASETS.get("voc-lt").open().fingerprint
    spec = {"dataset": {"name": "voc-lt", "fingerprint": fingerprint}}
    write_scored(store, [make_scored("focal", spec=spec, schema_version=1)])
    board, problems = board_of(store)
    words = "groups, class_counts or numbers of images are not those of dataset 'voc-lt'"
    assert board.num_records == 6 and words in str(problems[0])


def test_labels_other_than_those_of_the_registered_list_are_left_out(tmp_path, monkeypatch):
    store = make_store(tmp_path)
    register_tiny(monkeypatch, tmp_path / "tiny")
    board, problems = board_of(store)
    assert board.num_records == 3 and problems == []
    for prefix in ("erm-s0", "erm-s1", "asl"):
        folder = run_of(store, prefix)
        edit_tensors(
            folder, lambda tensors: tensors["targets"].__setitem__(slice(None), tensors["targets"][::-1].copy())
        )
        tensors = load_safetensors((folder.path / folder.record().logits.file).read_bytes())
        scores = {
            name: score(tensors[name], tensors["targets"], folder.record().groups).model_dump(exclude_unset=True)
            for name in folder.record().results
        }
        edit_record(folder, results=scores, oracle=[])
    board, problems = board_of(store)
    assert board.num_records == 0 and len(problems) == 3
    assert all("targets are not those of the test list of dataset 'tiny'" in str(problem) for problem in problems)


def test_the_logits_of_one_run_under_two_seeds_are_left_out(store):
    copy = make_scored("erm", 7, 1.0, history=HISTORY)
    write_scored(store, [copy])
    metrics = RUNS[0].record.metrics.model_dump(exclude_unset=True)
    rewrite(store, copy, lambda tensors: load_safetensors(RUNS[0].content), results={"raw": metrics})
    board, problems = board_of(store)
    assert board.num_records == 5 and len(problems) == 2
    assert all("its test logits are bit for bit those of erm-s" in str(problem) for problem in problems)


def test_a_record_that_hides_what_was_changed_is_left_out(store):
    raw = {"recipe.report": "raw", "recipe.ema_decay": None}
    spec = make_plan("asl", "shapes-lt", epochs=3, settings={"gamma_neg": 2.0, **raw}).spec.model_dump(mode="json")
    spec["dataset"] = RUNS[0].record.spec.dataset.model_dump()
    write_scored(store, [make_scored("asl", 5, spec=spec, history=HISTORY)])
    board, problems = board_of(store)
    assert problems == [] and board.num_records == 7
    del spec["overrides"]["epochs"]
    write_scored(store, [make_scored("asl", 5, spec=spec, history=HISTORY)])
    board, problems = board_of(store)
    assert board.num_records == 6 and "recipe.epochs is 3, and 25 in protocol 'demo'" in str(problems[0])


def test_the_weights_that_do_not_count_are_scored_too(store):
    tensors = load_safetensors(RUNS[0].content)
    ema = tensors["raw"] * np.float32(0.5) + tensors["targets"]
    right = score(ema, tensors["targets"], RUNS[0].record.groups).model_dump(exclude_unset=True)
    rewrite(store, RUNS[0], lambda tensors: tensors | {"ema": ema}, results={"ema": right})
    assert board_of(store)[0].num_records == 6
    for change in (lambda tensors: tensors | {"ema": -ema}, lambda tensors: tensors):
        rewrite(store, RUNS[0], change, results={"ema": right})
        board, problems = board_of(store)
        assert board.num_records == 5 and re.search(
            "it holds raw, targets instead of ema|results.ema.", str(problems[0])
        )


def test_one_seed_only_has_no_rank_and_says_so(store):
    write_scored(store, [make_scored("rw")])
    board, problems = board_of(store)
    (table,) = board.tables
    assert problems == [] and table.ranks["rw"] is None and table.wins["rw"] is None
    assert {table.ranks["asl"], table.ranks["erm"]} == {1, 2}, "the others are compared as without it"
    page = markdown_page(board, {})
    assert "| – | rw |" in page and "Rows of one seed are not compared" in page


def test_a_class_without_a_test_positive_is_in_no_mean(tmp_path):
    runs = []
    for seed in range(2):
        record, content = make_scored("erm", seed)
        tensors = load_safetensors(content)
        tensors["targets"][:, 5] = 0
        metrics = score(tensors["raw"], tensors["targets"], record.groups)
        content = save_safetensors(tensors)
        digest = hashlib.sha256(content).hexdigest()
        changes = {
            "results": {"raw": metrics.model_dump(exclude_unset=True)},
            "logits": {"file": f"logits-{digest[:16]}.safetensors", "sha256": digest},
        }
        runs.append(Scored(Record.model_validate_json(edited(record, **changes)), content))
    board, problems = board_of(write_scored(tmp_path / "results", runs))
    assert problems == [] and board.num_records == 2
    (row,) = board.tables[0].rows
    groups = tuple(runs[0].record.groups.values())
    assert row.replicates.shape[1:] == run_scores(tensors["raw"], tensors["targets"], groups).shape
    assert "Classes without a test positive, in no mean: sheep." in markdown_page(board, {})


def test_an_empty_store_has_an_empty_board(tmp_path):
    board, problems = board_of(tmp_path)
    assert (board.tables, board.num_records, problems) == ((), 0, [])
    with pytest.raises(StoreError, match="no such results folder"):
        load_board(tmp_path / "none", tmp_path)


# The oracle


# Beside the metric


def validated(method: str = "erm", seeds: int = 3) -> list[Scored]:
    return [make_scored(method, seed, history=HISTORY, validation=50) for seed in range(seeds)]


def test_a_row_has_one_threshold_for_all_its_seeds_and_their_f1_at_it(tmp_path):
    runs = validated()
    board, problems = board_of(write_scored(tmp_path / "results", runs))
    [row] = board.tables[0].rows
    tensors = [load_safetensors(run.content) for run in runs]
    threshold = best_threshold([(t["validation"], t["validation_targets"]) for t in tensors])
    assert problems == [] and row.threshold == threshold
    assert len({best_threshold([(t["validation"], t["validation_targets"])]) for t in tensors}) == 3
    for sample, t in zip(row.samples, tensors, strict=True):
        assert sample.at_threshold == at_threshold(t["raw"], t["targets"], threshold)
        class_ap = 100 * average_precision(t["raw"], t["targets"])
        assert sample.secondary == secondary(t["raw"], t["targets"], class_ap)
    page = markdown_page(board, {})
    assert "| CF1 top-3 | OF1 top-3 | CF1 val | OF1 val |" in page and "LRAP" not in page


def test_a_record_of_other_validation_labels_than_most_is_left_out(tmp_path):
    odd, *others = validated()
    old = make_scored("focal", history=HISTORY, schema_version=1)
    store = write_scored(tmp_path / "results", [odd, *others, old])

    def corrected(tensors):
        labels = tensors["validation_targets"].copy()
        labels[5] = 1 - labels[5]
        return tensors | {"validation_targets": labels}

    tensors = corrected(load_safetensors(odd.content))
    metrics = score(tensors["validation"], tensors["validation_targets"], odd.record.groups)
    rewrite(store, odd, corrected, validation=metrics.model_dump(exclude_unset=True))
    board, problems = board_of(store)
    assert board.num_records == 3 and "its validation labels have the digest" in str(problems[0])


def test_what_stands_beside_the_metric_comes_from_the_cache_the_second_time(tmp_path, monkeypatch):
    store = write_scored(tmp_path / "results", validated())
    first = board_of(store)[0].tables[0].rows[0]
    monkeypatch.setattr(samples_module, "_COMPARED", 0)
    for module, name in ((samples_module, "secondary"), (thresholds_module, "best_threshold")):
        monkeypatch.setattr(module, name, lambda *args: pytest.fail("computed again"))
    second = board_of(store)[0].tables[0].rows[0]
    assert [sample.secondary for sample in second.samples] == [sample.secondary for sample in first.samples]
    assert [sample.at_threshold for sample in second.samples] == [sample.at_threshold for sample in first.samples]
    assert first.threshold is not None


def test_another_seed_is_another_threshold(tmp_path):
    runs = validated()
    store = write_scored(tmp_path / "results", runs[:1])
    first = board_of(store)[0].tables[0].rows[0].threshold
    write_scored(store, runs)
    tensors = [load_safetensors(run.content) for run in runs]
    both = best_threshold([(t["validation"], t["validation_targets"]) for t in tensors])
    assert board_of(store)[0].tables[0].rows[0].threshold == both != first


def test_rows_of_a_track_have_their_own_thresholds(tmp_path):
    store = write_scored(tmp_path / "results", [*validated("erm"), *validated("asl"), make_scored("focal")])
    rows = {row.label: row for row in board_of(store)[0].tables[0].rows}
    assert rows["focal"].threshold is None and rows["focal"].beside("of1_top3") is not None
    assert None not in (rows["erm"].threshold, rows["asl"].threshold)
    assert rows["erm"].threshold != rows["asl"].threshold


def test_a_validation_list_without_a_positive_gives_no_threshold(tmp_path):
    scored = make_scored("erm", history=HISTORY, validation=50)
    store = write_scored(tmp_path / "results", [scored])
    nothing = dict.fromkeys(scored.record.groups)
    scores = {"per_class": nothing} | dict.fromkeys(("overall", "head", "medium", "tail"))
    rewrite(store, scored, lambda t: t | {"validation_targets": 0 * t["validation_targets"]}, validation=scores)
    board, problems = board_of(store)
    assert problems == [] and board.tables[0].rows[0].threshold is None


@pytest.mark.parametrize(
    ("change", "fields", "words"),
    [
        (lambda t: t, {"validation": {"per_class": {"person": 1.0}}}, "(and 2 more numbers differ)"),
        (lambda t: t | {"validation": t["validation"][::-1].copy()}, {}, "record.json: validation.overall is "),
        (
            lambda t: {k: v for k, v in t.items() if not k.startswith("val")},
            {},
            "it holds raw, targets instead of raw, targets, validation",
        ),
        (
            lambda t: {k: v for k, v in t.items() if k != "validation_targets"},
            {},
            "it holds raw, targets, validation instead of",
        ),
        (
            lambda t: t,
            {"num_validation_images": 51},
            "validation is float32 [50, 6], and the record says float32 [51, 6]",
        ),
    ],
    ids=["number", "order", "none", "no labels", "images"],
)
def test_validation_logits_that_do_not_give_the_records_scores_are_told(tmp_path, change, fields, words):
    scored, *others = validated()
    store = write_scored(tmp_path / "results", [scored, *others])
    rewrite(store, scored, change, **fields)
    if "validation" in fields:  # the means follow, so that the record is valid
        edit_record(RunFolder(folder_of(store, scored)))
    board, problems = board_of(store)
    assert board.num_records == 2 and words in str(problems[0])


def with_epochs(scored: Scored, store, skills) -> list[float]:
    """Give a run's record logits of its epochs, of which the last are its own; returns the overall mAP of each."""
    tensors = load_safetensors(scored.content)
    folder, epochs, overall = folder_of(store, scored), [], []
    for number, skill in enumerate(skills, 1):
        values = (tensors["raw"] * 0.5 + skill * tensors["targets"]).astype(np.float32)
        values = tensors["raw"] if number == len(skills) else values
        content = save_safetensors({"raw": values})
        digest = hashlib.sha256(content).hexdigest()
        name = f"epoch-{number:03d}-{digest[:16]}.safetensors"
        (folder / name).write_bytes(content)
        epochs.append({"epoch": number, "file": name, "sha256": digest})
        overall.append(score(values, tensors["targets"], scored.record.groups).overall)
    (folder / "record.json").write_text(edited(scored.record, oracle=epochs))
    return overall


def test_the_oracle_of_the_epoch_that_counts_is_the_honest_number(store):
    for scored in RUNS[:3]:
        content = save_safetensors({"raw": load_safetensors(scored.content)["raw"]})
        digest = hashlib.sha256(content).hexdigest()
        names = {epoch: f"epoch-{epoch:03d}-{digest[:16]}.safetensors" for epoch in (1, 2, 3)}
        for name in names.values():
            (folder_of(store, scored) / name).write_bytes(content)
        epochs = [{"epoch": epoch, "file": name, "sha256": digest} for epoch, name in names.items()]
        (folder_of(store, scored) / "record.json").write_text(edited(scored.record, oracle=epochs))
    [erm] = [row for row in board_of(store)[0].tables[0].rows if row.label == "erm"]
    assert (erm.oracle_gap.mean, erm.oracle_gap.half_width) == (0.0, 0.0)


def test_the_same_epoch_logits_with_other_labels_are_another_oracle(store, tmp_path):
    """Labels that were corrected: the cache must not answer for the old ones."""
    with_epochs(RUNS[0], store, (0.1, 0.5, 0.3))
    [first] = [s for r, s in samples(store, list(load_records(store))) if r.run_id == RUNS[0].record.run_id]
    record, tensors = RUNS[0].record, load_safetensors(RUNS[0].content)
    tensors["targets"] = np.roll(tensors["targets"], 1, axis=1)
    other = tmp_path / "other"
    kept = json.loads((folder_of(store, RUNS[0]) / "record.json").read_text())["oracle"]
    metrics = score(tensors["raw"], tensors["targets"], record.groups).model_dump(exclude_unset=True)
    write_scored(other, [RUNS[0]])
    for epoch in kept:
        (folder_of(other, RUNS[0]) / epoch["file"]).write_bytes(
            (folder_of(store, RUNS[0]) / epoch["file"]).read_bytes()
        )
    rewrite(other, RUNS[0], lambda _: tensors, oracle=kept, results={"raw": metrics})
    [(_, second)] = samples(other, list(load_records(other)))
    assert first.oracle.scores != second.oracle.scores


def test_the_oracle_is_the_best_epoch_on_the_test_set_and_ranks_nothing(store):
    before = board_of(store)[0].tables[0]
    best = [max(with_epochs(scored, store, (0.1, 0.9 + 0.1 * i, 0.4))) for i, scored in enumerate(RUNS[:3])]
    (table,) = board_of(store)[0].tables
    erm = next(row for row in table.rows if row.label == "erm")
    assert erm.oracle.mean == pytest.approx(np.mean(best), abs=1e-3) and erm.oracle.n == 3
    assert erm.oracle_gap.mean == pytest.approx(np.mean(best) - erm.scores["Overall"].mean, abs=1e-3)
    assert [sample.oracle.epoch for sample in erm.samples] == [2, 2, 2]
    assert table.has_oracle and not before.has_oracle
    assert (table.ranks, table.wins) == (before.ranks, before.wins)
    assert next(row for row in table.rows if row.label == "asl").oracle is None
    page = markdown_page(board_of(store)[0], {})
    assert "Oracle (not ranked)" in page and f"{erm.oracle.mean:.2f} ± " in page


def test_an_epoch_that_is_not_whole_is_named(store):
    with_epochs(RUNS[0], store, (0.1, 0.2, 0.3))
    next(folder_of(store, RUNS[0]).glob("epoch-002-*")).write_bytes(b"x")
    board, problems = board_of(store)
    assert board.num_records == 5 and "epoch-002-" in str(problems[0])
