"""The training loop: schedules, averaging, and above all that an interrupted run ends as an undisturbed one."""

from __future__ import annotations

import io
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kit.command import ltbench as cli
from kit.runs import execute_plan, outcome
from kit.tiny import TINY, write_tiny_dataset
from kit.trainers import stopping
from rich.console import Console

import benchmark
import benchmark.running.execute
from benchmark.errors import InputError, RunFailed, RunInterrupted, StoreError
from benchmark.evaluation import score
from benchmark.leaderboard.board import load_board
from benchmark.leaderboard.frame import table_rows
from benchmark.leaderboard.pages.markdown_page import markdown_page
from benchmark.method import METHODS, LossMethod, ParameterGroup
from benchmark.running.plan import make_plan
from benchmark.spec import Optimizer, Schedule
from benchmark.store import LOCAL
from benchmark.store.folder import RunFolder
from benchmark.store.logits import load_logits, logits_path, read_logits
from benchmark.store.runs import Store
from benchmark.training.loop import Trainer
from benchmark.training.optim import EMA, lr_factor, make_optimizer
from benchmark.ui.progress import Reporter


def tiny_run(tiny, results, method="erm", **changes):
    settings = TINY["settings"] | changes.pop("settings", {})
    return benchmark.run(method, str(tiny), results=results, **(TINY | {"settings": settings} | changes))


# --- schedules -------------------------------------------------------------------------------------------------


def factors(total=100, per_epoch=10, **schedule):
    return [lr_factor(Schedule(**schedule), step, per_epoch, total) for step in range(total)]


def test_step_schedule_drops_after_its_milestones():
    got = factors(name="step", milestones=[5, 7], gamma=0.1)
    assert got[:50] == [1.0] * 50 and got[50:70] == [0.1] * 20
    assert got[70:] == pytest.approx([0.01] * 30)


def test_cosine_schedule_by_hand():
    got = factors(name="cosine")
    assert got[0] == 1.0 and got[50] == pytest.approx(0.5) and got[99] == pytest.approx(math.sin(math.pi / 200) ** 2)


def test_one_cycle_equals_pytorchs():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=100, cycle_momentum=False)
    expected = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    # PyTorch's peak lies at step 0.3 * 100 - 1, ours at 0.3 * 100: compare the ends, the peak and the shape.
    got = factors(name="one-cycle")
    assert got[0] == pytest.approx(expected[0]) and got[-1] == pytest.approx(expected[-1])
    assert max(got) == pytest.approx(1.0) and got.index(max(got)) == 30
    assert np.abs(np.array(got) - expected).max() < 0.06


def test_warm_up_multiplies():
    got = factors(name="constant", warmup_steps=10, warmup_start=1 / 3)
    assert got[0] == pytest.approx(1 / 3) and got[5] == pytest.approx(2 / 3) and got[10:] == [1.0] * 90


def test_ema_by_hand():
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    ema = EMA(module, decay=0.5)
    module.weight.data.fill_(1.0)
    ema.update()  # decay min(0.5, 1/10): 0.1 * 0 + 0.9 * 1
    module.weight.data.fill_(2.0)
    ema.update()  # decay min(0.5, 2/11): 2/11 * 0.9 + 9/11 * 2
    ema.swap()
    assert module.weight.item() == pytest.approx(2 / 11 * 0.9 + 9 / 11 * 2)
    ema.swap()
    assert module.weight.item() == 2.0


# --- whole runs on a tiny dataset of real files ----------------------------------------------------------------


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if issubclass(method, LossMethod)])
@pytest.mark.slow
def test_training_decreases_the_loss(tiny, tmp_path, method):
    record = tiny_run(tiny, tmp_path / "results", method, epochs=8)
    assert record.history[-1].loss < record.history[0].loss
    assert [entry.epoch for entry in record.history] == list(range(1, 9))


@pytest.mark.slow
def test_a_run_learns_what_can_be_learned(tiny, tmp_path):
    record = tiny_run(tiny, tmp_path / "results", epochs=30)
    assert record.metrics.overall > 95
    assert set(record.results) == {"raw", "ema"} and record.declared == "ema"
    assert record.parameters.trained == record.parameters.all > 0


def test_metrics_can_be_recomputed_from_the_stored_logits(tiny, tmp_path):
    record = tiny_run(tiny, tmp_path / "results")
    logits, targets = load_logits(tmp_path / "results", record)
    assert logits["ema"].dtype == np.float32 and targets.shape == (12, 3)
    for name, values in logits.items():
        assert score(values, targets, record.groups) == record.results[name]


def test_validation_scores_can_be_recomputed_from_the_stored_logits(tiny, tmp_path):
    record = tiny_run(tiny, tmp_path / "results")
    stored = read_logits(logits_path(tmp_path / "results", record), record.logits.sha256)
    logits, targets = stored.validation
    assert (record.schema_version, record.num_validation_images) == (2, 10)
    assert (logits.dtype, targets.dtype) == (np.float32, np.uint8) and logits.shape == targets.shape == (10, 3)
    assert score(logits, targets, record.groups) == record.validation


def test_without_a_validation_list_no_logits_of_it_are_stored(tiny, tmp_path):
    (tiny / "val.txt").unlink()
    record = tiny_run(tiny, tmp_path / "results")
    stored = read_logits(logits_path(tmp_path / "results", record), record.logits.sha256)
    assert record.num_validation_images is record.validation is stored.validation is None


def test_the_same_command_trains_once(tiny, tmp_path, monkeypatch):
    first = tiny_run(tiny, tmp_path / "results")
    monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail("trained twice"))
    assert tiny_run(tiny, tmp_path / "results") == first


def test_the_same_spec_gives_the_same_record_anywhere(tiny, tmp_path):
    first = tiny_run(tiny, tmp_path / "a")
    moved = tiny.rename(tmp_path / "elsewhere")
    second = tiny_run(moved, tmp_path / "b")
    assert second.run_id == first.run_id
    a, b = outcome(first), outcome(second)
    assert a["spec"]["dataset"].pop("name") == "tiny" and b["spec"]["dataset"].pop("name") == "elsewhere"
    a.pop("dataset_title"), b.pop("dataset_title")
    assert a == b


def test_another_seed_gives_another_result(tiny, tmp_path):
    first, second = (tiny_run(tiny, tmp_path / "results", seed=seed) for seed in (0, 1))
    assert first.run_id != second.run_id and first.model_digest != second.model_digest


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("erm", {"recipe.dropout": 0.5}),
        ("db-focal", {"recipe.selection": "best-val", "recipe.augment.photometric": 0.5, "recipe.augment.hue": 9.0}),
        (
            "asl",
            {
                "recipe.optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
                "recipe.ema_decay": None,
                "recipe.report": "raw",
            },
        ),
    ],
)
@pytest.mark.slow
def test_a_run_stopped_at_every_step_ends_as_an_undisturbed_one(tiny, tmp_path, method, settings):
    whole = tiny_run(tiny, tmp_path / "whole", method, settings=settings)
    plan = make_plan(method, str(tiny), **(TINY | {"settings": TINY["settings"] | settings}))
    stops = 0
    with stopping():
        while True:
            torch.manual_seed(stops + 1000)  # whatever state the process is in
            try:
                stopped = execute_plan(plan, tmp_path / "stopped")
                break
            except RunInterrupted:
                stops += 1
                assert Store(tmp_path / "stopped").folder(plan.spec).state() == "preempted"
    assert stops == 6
    assert stopped.attempts == 7
    assert outcome(stopped) == outcome(whole)


def test_best_val_scores_the_best_epoch(tiny, tmp_path):
    record = tiny_run(tiny, tmp_path / "results", epochs=6, settings={"recipe.selection": "best-val"})
    by_epoch = [entry.val_overall for entry in record.history]
    assert record.selection.epoch == 1 + by_epoch.index(max(by_epoch))
    assert record.validation.overall == pytest.approx(max(by_epoch))


def test_best_val_without_a_validation_list_is_refused(tmp_path):
    folder = write_tiny_dataset(tmp_path / "noval", {"train": 16, "test": 8})
    with pytest.raises(InputError, match="has no val.txt"):
        make_plan("erm", str(folder), **(TINY | {"settings": {"recipe.selection": "best-val"}}))


def without_labels(folder, *splits):
    for split in splits:
        path = folder / f"{split}.txt"
        path.write_text("".join(line.split()[0] + "\n" for line in path.read_text().splitlines()))


def test_best_val_on_a_validation_list_without_a_label_is_refused(tiny):
    without_labels(tiny, "val")
    with pytest.raises(InputError, match="no image of val.txt of dataset 'tiny' has a label"):
        make_plan("erm", str(tiny), **(TINY | {"settings": {"recipe.selection": "best-val"}}))


def test_lists_without_a_label_are_warned_of_before_training_and_give_dashes(tiny, tmp_path):
    without_labels(tiny, "val", "test")
    said = io.StringIO()
    plan = make_plan("erm", str(tiny), **TINY)
    record = execute_plan(plan, tmp_path, reporter=Reporter(Console(file=said, width=1000)))
    lines = said.getvalue().splitlines()
    for split in ("val", "test"):
        [warning] = [i for i, line in enumerate(lines) if f"no image of {split}.txt has a label" in line]
        assert warning < next(i for i, line in enumerate(lines) if line.startswith("epoch 1"))
    for metrics in (record.metrics, record.validation):
        assert set(metrics.numbers().values()) == {None}
    board = load_board(tmp_path, tmp_path, [])
    [row] = table_rows(board.tables).to_dict("records")
    missing = ["Overall", "Head", "Medium", "Tail", "CF1 top-3", "OF1 top-3", "CF1 val", "OF1 val", "Micro AP", "LRAP"]
    assert [name for name in missing if not math.isnan(row[name])] == []
    [line] = [line for line in markdown_page(board, {}).splitlines() if line.startswith("| – | erm |")]
    assert "0.00" not in line and line.count("| – ") >= 7
    assert "no image of test.txt has a label" in cli("run", "--method", "erm", "--dataset", tiny, "--dry-run").stderr
    swept = cli("sweep", "--methods", "erm,asl", "--datasets", tiny, "--seeds", "0-1", "--dry-run")
    assert swept.stderr.count("no image of test.txt has a label") == 1


def test_folded_batch_norm_stays_fixed(tiny, tmp_path):
    record = tiny_run(tiny, tmp_path / "results", settings={"recipe.batch_norm": "frozen"})
    moving = tiny_run(tiny, tmp_path / "results")
    assert record.run_id != moving.run_id and record.model_digest != moving.model_digest


# --- what the training code can reach --------------------------------------------------------------------------


def test_test_images_are_opened_once_and_after_training(tiny, tmp_path, monkeypatch):
    from benchmark.data.images import CachedImages

    events = []
    load, run = CachedImages.load, Trainer.run
    monkeypatch.setattr(CachedImages, "load", lambda self: events.append(self.num_images) or load(self))
    monkeypatch.setattr(Trainer, "run", lambda self: (run(self), events.append("trained"))[0])
    tiny_run(tiny, tmp_path / "results", settings={"recipe.ema_decay": None, "recipe.report": "raw"})
    assert events.count(12) == 1, "the test images (12) were not read exactly once"
    assert events.index(12) > events.index("trained")


def test_the_trainer_holds_nothing_of_the_test_split(tiny, tmp_path, monkeypatch):
    sizes = set()
    run = Trainer.run

    def look(held):
        """Note the length of every array that the trainer reaches through its own parts."""
        if isinstance(held, torch.Tensor | np.ndarray):
            sizes.add(len(held))
        elif type(held).__module__.startswith("benchmark.training"):
            for value in vars(held).values():
                look(value)

    monkeypatch.setattr(Trainer, "run", lambda self: look(self) or run(self))
    tiny_run(tiny, tmp_path / "results")
    assert sizes - {3} == {24, 10}, "the trainer holds something besides the 24 training and 10 validation images"


# --- failures --------------------------------------------------------------------------------------------------


def test_a_loss_that_becomes_nan_fails_with_step_rate_and_cause(tiny, tmp_path):
    settings = {"recipe.optimizer.lr": 1e30, "recipe.clip_norm": None}
    with pytest.raises(RunFailed, match=r"loss became (nan|inf) at step \d+ \(epoch \d, learning rate .*lower") as info:
        tiny_run(tiny, tmp_path / "results", epochs=8, settings=settings)
    assert info.value.cause == "nan" and "\n" not in str(info.value)
    [folder] = (tmp_path / "results" / "runs").iterdir()
    assert not (folder / "record.json").exists()
    attempt = json.loads((folder / "attempts" / "001.json").read_text())
    assert attempt["outcome"] == "failed" and attempt["cause"] == "nan"
    with pytest.raises(RunFailed, match="failed before: the loss became .*--rerun failed"):
        tiny_run(tiny, tmp_path / "results", epochs=8, settings=settings)
    with pytest.raises(RunFailed):
        tiny_run(tiny, tmp_path / "results", epochs=8, settings=settings, rerun="failed")
    assert (folder / "attempts" / "002.json").exists()


def test_a_damaged_checkpoint_is_reported_and_always_starts_anew(tiny, tmp_path):
    plan = make_plan("erm", str(tiny), **TINY)
    folder = Store(tmp_path).folder(plan.spec)
    folder.path.mkdir(parents=True)
    folder.checkpoint_path.write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(StoreError, match=r"checkpoint.pt: the checkpoint is truncated or damaged"):
        execute_plan(plan, tmp_path)
    assert execute_plan(plan, tmp_path, rerun="always").metrics.overall is not None


def test_a_checkpoint_of_other_code_is_not_continued_and_that_is_said(tiny, tmp_path):
    plan = make_plan("erm", str(tiny), **TINY)
    with stopping(), pytest.raises(RunInterrupted):
        execute_plan(plan, tmp_path)
    plan = replace(plan, code_digest="0" * 64)
    out = io.StringIO()
    anew = execute_plan(plan, tmp_path, reporter=Reporter(Console(file=out, width=200)))
    assert "of other code" in out.getvalue() and "going on from" not in out.getvalue()
    assert outcome(anew) == outcome(execute_plan(plan, tmp_path / "whole"))


def test_a_checkpoint_of_another_run_is_not_continued(tiny, tmp_path):
    plans = [make_plan("erm", str(tiny), **TINY, seed=seed) for seed in (0, 1)]
    with stopping():
        for plan in plans:
            with pytest.raises(RunInterrupted):
                execute_plan(plan, tmp_path)
    own, others = (Store(tmp_path).folder(plan.spec).checkpoint_path for plan in plans)
    own.write_bytes(others.read_bytes())
    out = io.StringIO()
    record = execute_plan(plans[0], tmp_path, reporter=Reporter(Console(file=out, width=200)))
    assert "another run's" in out.getvalue() and "going on from" not in out.getvalue()
    assert outcome(record) == outcome(execute_plan(plans[0], tmp_path / "whole"))


def test_a_run_that_another_process_finished_meanwhile_is_not_done_twice(tiny, tmp_path, monkeypatch):
    plan = make_plan("erm", str(tiny), **TINY)
    check_writable = RunFolder.check_writable

    def meanwhile(self):
        monkeypatch.setattr(RunFolder, "check_writable", check_writable)
        execute_plan(plan, tmp_path)
        monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail("trained twice"))

    monkeypatch.setattr(RunFolder, "check_writable", meanwhile)
    assert execute_plan(plan, tmp_path).attempts == 1
    assert list((Store(tmp_path).folder(plan.spec).path / "attempts").iterdir()) == []


def test_settings_of_a_registered_dataset_are_not_those_of_another(tiny):
    assert make_plan("db-focal", str(tiny), **TINY).config.neg_scale == 2.0
    assert make_plan("db-focal", "voc-lt", protocol="demo").config.neg_scale == 5.0


def test_stale_records_are_told_and_run_again_on_request(tiny, tmp_path):
    record = tiny_run(tiny, tmp_path)
    folder = Store(tmp_path).folder(record.spec)
    text = folder.record_path.read_text().replace(record.environment.code_digest, "0" * 64)
    folder.record_path.write_text(text)
    assert tiny_run(tiny, tmp_path).environment.code_digest == "0" * 64, "a stale record is kept by default"
    assert tiny_run(tiny, tmp_path, rerun="stale").environment.code_digest == record.environment.code_digest


def test_never_launches_nothing(tiny, tmp_path):
    with pytest.raises(InputError, match="pending and --rerun never launches nothing"):
        tiny_run(tiny, tmp_path, rerun="never")
    assert not (tmp_path / "runs").exists()


def test_no_op_settings_change_nothing(tiny):
    plain = make_plan("asl", str(tiny), **TINY)
    same = make_plan(
        "asl", str(tiny), **(TINY | {"settings": TINY["settings"] | {"gamma_neg": 4.0, "recipe.epochs": 2}})
    )
    assert same.spec == plain.spec
    assert plain.spec.overrides == {"epochs": 2, "batch_size": 8} and plain.spec.config_overrides == {}
    changed = make_plan("asl", str(tiny), **(TINY | {"settings": {"gamma_neg": 2.0}}))
    assert changed.spec.config_overrides == {"gamma_neg": 2.0} and changed.spec.run_id != plain.spec.run_id


def test_default_results_are_the_users_own():
    assert LOCAL.as_posix() == "results/local"


# --- killed for real -------------------------------------------------------------------------------------------


def test_every_global_generator_goes_on_where_it_was(tmp_path):
    from benchmark.training.checkpoint import load_checkpoint, save_checkpoint
    from benchmark.training.randomness import random_states, restore_random_states, seed_everything

    def draw():
        return random.random(), float(np.random.normal()), torch.rand(1).item()

    seed_everything(3)
    draw()
    save_checkpoint(tmp_path / "c.pt", random_states(torch.device("cpu")))
    expected = draw()
    seed_everything(4)
    restore_random_states(load_checkpoint(tmp_path / "c.pt"), torch.device("cpu"))
    assert draw() == expected


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.slow
def test_a_killed_process_is_continued(tiny, tmp_path, how):
    """A real process, a real signal, while it trains; the next call goes on and ends as if nothing had been."""
    arguments = {"epochs": 40, "settings": TINY["settings"], "protocol": "demo", "image_size": 16}
    code = (
        "import sys, json, benchmark, benchmark.running.execute as r, benchmark.training.loop as t\n"
        "from benchmark.errors import RunInterrupted\n"
        "t.SAVE_EVERY_S = 0.0\n"
        "step = t.Trainer._train_step\n"
        "def noisy(self):\n"
        "    step(self); print(self.progress.step, flush=True)\n"
        "t.Trainer._train_step = noisy\n"
        "try: benchmark.run('erm', sys.argv[1], results=sys.argv[2], **json.loads(sys.argv[3]))\n"
        "except RunInterrupted as error: print(error, file=sys.stderr); sys.exit(130)\n"
    )
    command = [sys.executable, "-c", code, str(tiny), str(tmp_path / "killed"), json.dumps(arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) >= 20:
                os.kill(process.pid, how)
                break
        process.stdout.read()
        errors = process.stderr.read()
        code = process.wait(timeout=60)
    assert code == (-9 if how == signal.SIGKILL else 130), errors
    plan = make_plan("erm", str(tiny), **arguments)
    assert Store(tmp_path / "killed").folder(plan.spec).state() == "preempted"
    started = time.monotonic()
    continued = execute_plan(plan, tmp_path / "killed")
    assert continued.attempts == 2 and time.monotonic() - started < 60
    assert outcome(continued) == outcome(execute_plan(plan, tmp_path / "whole"))


def test_learning_rates_of_parameter_groups():
    """The recipe's, times the head's factor, the stage's and the group's own; weight decay is the group's or the
    recipe's."""
    parts = [torch.nn.Parameter(torch.ones(1)) for _ in range(3)]
    groups = [
        ParameterGroup([parts[0]], "backbone"),
        ParameterGroup([parts[1]], "head", weight_decay=0.0),
        ParameterGroup([parts[2]], "head", lr_scale=0.01),
    ]
    recipe = Optimizer(name="sgd", lr=0.2, head_lr_scale=10.0, weight_decay=0.1)
    made = make_optimizer(SimpleNamespace(parameter_groups=lambda: groups), recipe, torch.device("cpu"), lr_scale=0.5)
    assert [group["lr"] for group in made.param_groups] == pytest.approx([0.1, 1.0, 0.01])
    assert [group["weight_decay"] for group in made.param_groups] == [0.1, 0.0, 0.1]
