"""Methods that train in several stages, not at all, or on features: shares, rates, hand-over, and interruptions."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from kit.checks import refused
from kit.runs import execute_plan, execute_with_stops, outcome
from kit.tiny import TINY
from torch import nn

import benchmark.running.images
import benchmark.running.plan
import benchmark.running.score
from benchmark.method import Batch, Method, MethodConfig, ParameterGroup, Stage
from benchmark.running.plan import make_plan
from benchmark.spec import Recipe, parse
from benchmark.store.logits import load_logits
from benchmark.training.inference import Normalizer
from benchmark.training.loop import Trainer
from benchmark.training.optim import EMA
from benchmark.training.progress import Outcome
from benchmark.training.setup import ImageSet, Runtime, TrainingConfig, TrainingData
from benchmark.training.stages import epochs_per_stage
from benchmark.ui.progress import Reporter

# 12 images in batches of 4: an epoch has 3 steps.
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
TARGETS = np.eye(3, dtype=np.uint8)[np.arange(12) % 3]
FIRST, SECOND = Stage("first"), Stage("second")


def train(method: Method, *stages: Stage, **recipe) -> Outcome:
    """Train with plain SGD at rate 1, unless the recipe says otherwise."""
    common = {
        "backbone": "none",
        "weights": "none",
        "image_size": 16,
        "epochs": len(stages),
        "batch_size": 4,
        "optimizer": {"name": "sgd", "lr": 1.0},
        "schedule": {"name": "constant"},
    }
    cpu = torch.device("cpu")
    return Trainer(
        method,
        TrainingConfig(parse(Recipe, common | recipe, "recipe"), ("uniform",), stages, seed=0),
        TrainingData(
            ImageSet(IMAGES, TARGETS),
            ImageSet(IMAGES, TARGETS),
            {"a": "head", "b": "medium", "c": "tail"},
            Normalizer((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), cpu),
        ),
        Runtime(cpu, Reporter()),
    ).run()


class Numbers(Method):
    """Two numbers with gradients 3 and 4, so that every weight can be computed by hand. The first stage trains `a`,
    the second `b`, a stage `both` both."""

    def __init__(self):
        super().__init__(None, MethodConfig())
        self.a, self.b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        self.begun = []

    def begin_stage(self, stage: Stage) -> None:
        self.begun.append((stage.name, self.a.item(), self.b.item()))
        self.a.requires_grad_(stage.name in ("first", "both"))
        self.b.requires_grad_(stage.name in ("second", "both"))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.a * x + self.b * x**2 for x in images[:, :, 0, 0]])

    def training_loss(self, batch: Batch) -> torch.Tensor:
        return (3 * self.a + 4 * self.b).sum()


# --- shares ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shares", "epochs", "expected"),
    [
        ((), 7, ()),
        ((1,), 7, (7,)),
        ((1, 1), 10, (5, 5)),
        ((1, 1), 5, (3, 2)),  # the first of equals
        ((3, 1), 8, (6, 2)),
        ((0.5, 0.3, 0.2), 7, (4, 2, 1)),  # 3.5, 2.1, 1.4
        ((1, 1, 1), 8, (3, 3, 2)),
        ((99, 1), 10, (9, 1)),  # 9.9, 0.1
        ((100, 1, 1), 4, (2, 1, 1)),  # 3.9, 0.04, 0.04
        ((1, 100, 1, 100), 6, (1, 2, 1, 2)),
        ((5, 5), 2, (1, 1)),
    ],
)
def test_epochs_are_shared_by_largest_remainder_and_none_goes_without(shares, epochs, expected):
    assert epochs_per_stage([Stage(share=share) for share in shares], epochs) == expected


def test_fewer_epochs_than_stages_are_refused():
    message = refused(epochs_per_stage, (Stage("prompts"), Stage("adapters")), 1)
    assert message == "recipe.epochs is 1, but training has 2 stages (prompts, adapters); give one each"


# --- what a stage has of its own -------------------------------------------------------------------------------


def test_stages_begin_in_order_and_each_trains_its_own():
    method = Numbers()
    result = train(method, FIRST, SECOND, epochs=3)
    # Two epochs of three steps of 3, then one of three steps of 4.
    assert method.begun == [("first", 0.0, 0.0), ("second", -18.0, 0.0)]
    assert result.states["raw"] == {"a": torch.tensor([-18.0]), "b": torch.tensor([-12.0])}
    assert [(entry.epoch, entry.stage) for entry in result.history] == [(1, "first"), (2, "first"), (3, "second")]
    assert result.selected_epoch == 3


def test_what_a_later_stage_does_not_train_stays_to_the_bit():
    method = Numbers()
    method.a.data.fill_(0.1)
    optimizer = {"name": "adamw", "lr": 0.1, "weight_decay": 0.5}
    result = train(method, FIRST, SECOND, optimizer=optimizer, ema_decay=0.9, report="ema")
    assert method.begun[1][1] != 0.1
    for state in result.states.values():
        assert state["a"].item() == method.begun[1][1] and state["b"].item() != 0.0


def test_each_stage_has_a_schedule_and_a_rate_of_its_own():
    result = train(
        Numbers(),
        FIRST,
        replace(SECOND, lr_scale=0.5),
        epochs=4,
        optimizer={"name": "sgd", "lr": 0.4, "head_lr_scale": 10.0},
        schedule={"name": "step", "milestones": [1]},
    )
    assert [entry.lr for entry in result.history] == pytest.approx([0.4, 0.04, 0.2, 0.02])
    # Both numbers are outside a backbone: ten times the rate.
    assert result.states["raw"]["a"].item() == pytest.approx(-3 * 3 * (4 + 0.4))
    assert result.states["raw"]["b"].item() == pytest.approx(-4 * 3 * (2 + 0.2))


def test_cosine_schedule_ends_with_the_stage():
    result = train(Numbers(), FIRST, replace(SECOND, share=2), epochs=3, schedule={"name": "cosine"})
    last_of_three, last_of_six = (1 + np.cos(np.pi * 2 / 3)) / 2, (1 + np.cos(np.pi * 5 / 6)) / 2
    assert [result.history[i].lr for i in (0, 2)] == pytest.approx([last_of_three, last_of_six])


def test_each_stage_has_an_optimizer_of_its_own():
    both = Stage("both")
    result = train(Numbers(), both, both, optimizer={"name": "sgd", "lr": 1.0, "momentum": 0.5})
    # Velocities 1, 1.5, 1.75 times the gradient, twice: a kept momentum would go on from 1.75.
    assert result.states["raw"]["a"].item() == pytest.approx(-3 * 2 * 4.25)


@pytest.mark.parametrize(
    ("report", "handed_over", "raw", "ema"),
    [
        # Of three steps of -1 the average is -0.9, -1.8, -2.7 after each (decays 1/10, 2/11, 3/12).
        ("raw", -3.0, -6.0, -5.7),
        ("ema", -2.7, -5.7, -5.4),
    ],
)
def test_what_the_recipe_reports_is_handed_over(report, handed_over, raw, ema):
    method, both = Numbers(), Stage("both")
    result = train(
        method, both, both, optimizer={"name": "sgd", "lr": 1 / 3, "head_lr_scale": 1.0}, ema_decay=0.5, report=report
    )
    assert method.begun[1][1] == pytest.approx(handed_over)
    assert result.states["raw"]["a"].item() == pytest.approx(raw)
    assert result.states["ema"]["a"].item() == pytest.approx(ema)


def test_gradients_of_an_earlier_stage_are_in_no_later_norm():
    method = Numbers()
    result = train(method, FIRST, SECOND, clip_norm=1.0)
    assert method.a.grad is None
    # Three steps each of length 1: together with the other's gradient they would be shorter.
    assert [result.states["raw"][name].item() for name in "ab"] == pytest.approx([-3, -3])


def test_gradients_of_what_the_optimizer_does_not_have_are_in_no_norm():
    class OneOfBoth(Numbers):
        def parameter_groups(self):
            return [ParameterGroup([self.b], "head")]

    assert train(OneOfBoth(), Stage("both"), clip_norm=1.0).states["raw"]["b"].item() == pytest.approx(-3)


def test_parameters_of_every_stage_count_as_trained():
    assert train(Numbers(), FIRST, SECOND).num_trained == 2
    assert train(Numbers(), FIRST).num_trained == 1


@pytest.mark.parametrize(("right_at", "chosen"), [((0.0, -12.0), 3), ((0.0, -24.0), 4)])
def test_best_val_chooses_among_the_last_stage(right_at, chosen):
    class RightAtTimes(Numbers):
        def forward(self, images):
            return torch.from_numpy(TARGETS) * (1.0 if self.b.item() in right_at else -1.0)

    # b is 0 in the first stage's epochs, which would win, then -12 and -24.
    result = train(RightAtTimes(), FIRST, SECOND, epochs=4, selection="best-val")
    assert [entry.val_overall is None for entry in result.history] == [True, True, False, False]
    assert result.selected_epoch == chosen and result.states["raw"]["b"].item() == right_at[1]


def test_a_stage_may_add_modules():
    class Grows(Numbers):
        def begin_stage(self, stage):
            if stage == SECOND:
                self.c = nn.Parameter(self.a.detach().clone())

        def parameter_groups(self):
            return [ParameterGroup([self.c] if hasattr(self, "c") else [self.a], "head")]

        def training_loss(self, batch):
            return (self.c if hasattr(self, "c") else self.a).sum()

    result = train(Grows(), FIRST, SECOND, ema_decay=0.5)
    assert {name: value.item() for name, value in result.states["raw"].items()} == {"a": -3.0, "b": 0.0, "c": -6.0}
    assert result.states["ema"]["c"].item() == pytest.approx(-5.7)


# --- interruptions ---------------------------------------------------------------------------------------------


class TwoStages(Method):
    """Draws random numbers while it trains and when a stage begins; its second stage copies what the first learnt."""

    title = "Two stages"

    @classmethod
    def stages(cls, config):
        return FIRST, Stage("second", share=2.0, lr_scale=0.5)

    def __init__(self, task, config):
        super().__init__(task, config)
        layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        self.encoder = nn.Sequential(*layers, nn.Dropout(0.5))
        self.head = nn.Linear(16, len(task.class_names))

    def begin_stage(self, stage):
        nn.init.normal_(self.head.bias)
        if stage.name == "second":
            self.encoder.requires_grad_(False)
            self.adapter = copy.deepcopy(self.head)

    def forward(self, images):
        features = self.encoder(images)
        return self.head(features) + (self.adapter(features) if hasattr(self, "adapter") else 0)

    def training_loss(self, batch):
        return nn.functional.binary_cross_entropy_with_logits(self(batch.images), batch.targets)


class Probe(Method):
    """A linear layer on what a fixed one makes of the images."""

    title = "Probe"
    trains_on = "features"

    def __init__(self, task, config):
        super().__init__(task, config)
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten()).requires_grad_(False)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, 3))

    def features(self, images):
        return self.encoder(images)

    def forward(self, images):
        return self.head(self.features(images))

    def training_loss(self, batch):
        return nn.functional.binary_cross_entropy_with_logits(self.head(batch.images), batch.targets)


def work_of(method, tiny, **settings) -> benchmark.running.plan.Plan:
    """Three epochs of three steps on the tiny dataset; only the method is not the one that the specification names."""
    recipe = {f"recipe.{key}": value for key, value in settings.items()}
    arguments = TINY | {"epochs": 3, "settings": TINY["settings"] | recipe}
    return replace(make_plan("erm", str(tiny), **arguments), method=method)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ema_decay": None, "report": "raw", "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}},
        {"selection": "best-val", "schedule": {"name": "step", "milestones": [1]}},
    ],
    ids=["ema", "raw", "best-val"],
)
@pytest.mark.slow
def test_an_interrupted_run_of_two_stages_ends_as_an_undisturbed_one(tiny, tmp_path, settings):
    plan = work_of(TwoStages, tiny, **settings)
    whole = execute_plan(plan, tmp_path / "whole")
    assert [entry.stage for entry in whole.history] == ["first", "second", "second"]
    # In the first stage, at the border (after step 3), in the second, everywhere.
    for stops in ({2}, {3}, {5}, {2, 7}, set(range(1, 10))):
        record = execute_with_stops(plan, tmp_path / f"stopped{len(stops)}{min(stops)}", stops, total=9)
        assert record.attempts == len(stops) + 1
        assert outcome(record) == outcome(whole)


def test_parameters_of_both_stages_are_in_the_record(tiny, tmp_path):
    record = execute_with_stops(work_of(TwoStages, tiny), tmp_path, {5}, total=9)
    # Encoder 3 * 4 * 9 + 4, batch norm 8, head and its copy 16 * 3 + 3.
    assert record.parameters.trained == record.parameters.all == 112 + 8 + 2 * 51


def test_an_interrupted_run_on_features_ends_as_an_undisturbed_one(tiny, tmp_path):
    plan = work_of(Probe, tiny)
    whole = execute_plan(plan, tmp_path / "whole")
    assert (whole.parameters.trained, whole.parameters.all) == (51, 112 + 51)
    assert outcome(execute_with_stops(plan, tmp_path / "stopped", {1, 4, 8}, total=9)) == outcome(whole)


# --- features --------------------------------------------------------------------------------------------------


class Watched(Probe):
    """Checks and keeps what it is given; the feature of an image is its mean colour."""

    def __init__(self):
        Method.__init__(self, None, MethodConfig())
        self.encoder, self.head = nn.Conv2d(3, 3, 1).requires_grad_(False), nn.Linear(3, 3)
        self.seen, self.batches = [], []

    def features(self, images):
        assert not torch.is_grad_enabled() and not self.training and images.dtype == torch.float32
        self.seen.append(images)
        return self.encoder(images).mean(dim=(2, 3))

    def training_loss(self, batch):
        self.batches.append(batch)
        return super().training_loss(batch)


def test_features_are_made_once_of_images_as_they_are():
    method = Watched()
    before = copy.deepcopy(method.encoder.state_dict())
    augment = {"flip": 1.0, "crop_min_side": 0.5, "photometric": 1.0, "brightness": 0.5}
    result = train(method, Stage(), Stage(), epochs=4, augment=augment, optimizer={"name": "sgd", "lr": 0.1})
    seen = torch.cat(method.seen)
    torch.testing.assert_close(seen, torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255)
    made = method.encoder(seen).mean(dim=(2, 3)).detach()
    assert len(method.batches) == 12
    for epoch in range(4):
        batches = method.batches[3 * epoch : 3 * epoch + 3]
        rows, targets = torch.cat([b.images for b in batches]), torch.cat([b.targets for b in batches])
        which = torch.cdist(rows, made).argmin(dim=1)
        assert sorted(which.tolist()) == list(range(12)), "an epoch draws every image once"
        torch.testing.assert_close(rows, made[which])
        assert torch.equal(targets, torch.from_numpy(TARGETS).float()[which])
    for name, value in before.items():
        assert torch.equal(result.states["raw"][f"encoder.{name}"], value), "the encoder was trained"


def sizes_cached(plan, monkeypatch) -> dict[str, int]:
    sizes = {}
    with monkeypatch.context() as patch:
        original = benchmark.running.images.cache_split
        patch.setattr(
            "benchmark.running.images.cache_split",
            lambda split, source, size, *a, **k: (
                sizes.update({split.name: size}) or original(split, source, size, *a, **k)
            ),
        )
        benchmark.running.images.prepare_images(plan, Reporter())
    return sizes


def test_training_images_of_features_are_those_of_scoring(tiny, monkeypatch):
    augment = {"crop_min_side": 0.8}
    on_images = work_of(TwoStages, tiny, augment=augment)
    assert sizes_cached(on_images, monkeypatch) == {"train": 20, "val": 16, "test": 16}
    on_features = work_of(Probe, tiny, augment=augment)
    assert sizes_cached(on_features, monkeypatch) == {"train": 16, "val": 16, "test": 16}


def test_five_crops_are_taken_from_larger_images(tiny, monkeypatch):
    plan = work_of(TwoStages, tiny, augment={"crop_min_side": 0.8}, test_time={"views": "five-crop", "margin": 6})
    assert sizes_cached(plan, monkeypatch) == {"train": 20, "val": 22, "test": 22}


# --- no stage --------------------------------------------------------------------------------------------------


class Untrained(TwoStages):
    """A method that is not trained."""

    title = "Untrained"

    @classmethod
    def stages(cls, config):
        return ()

    def begin_stage(self, stage):
        pytest.fail("there is no stage to begin")

    def training_loss(self, *batches):
        pytest.fail("there is nothing to train")


@pytest.mark.parametrize("selection", ["last", "best-val"])
def test_a_method_without_stages_is_scored_as_it_is(tiny, tmp_path, monkeypatch, selection):
    built = []
    original = Trainer.__init__

    def watched(self, method, *args, **kwargs):
        built.append(copy.deepcopy(method))
        original(self, method, *args, **kwargs)

    monkeypatch.setattr(Trainer, "__init__", watched)
    record = execute_plan(work_of(Untrained, tiny, selection=selection), tmp_path)
    assert (record.history, record.selection.epoch, record.selection.rule) == ([], 0, selection)
    assert record.parameters.trained == 0 < record.parameters.all
    assert record.timings.images_per_second == 0.0
    assert record.declared == "ema" and record.results["ema"] == record.results["raw"]
    assert record.model_digest == benchmark.running.score.state_digest(built[0].state_dict())
    logits, _ = load_logits(tmp_path, record)
    assert np.array_equal(logits["raw"], logits["ema"])


def test_a_method_without_stages_keeps_the_weight_sets_of_the_recipe():
    assert set(train(Numbers(), epochs=1).states) == {"raw"}
    assert set(train(Numbers(), epochs=1, ema_decay=0.9).states) == {"raw", "ema"}


def test_an_average_over_nothing_is_nothing():
    module = nn.Linear(2, 2).requires_grad_(False)
    before = module.weight.clone()
    ema = EMA(module, decay=0.5)
    ema.update()
    ema.restore(ema.state())
    ema.swap()
    assert torch.equal(module.weight, before)
