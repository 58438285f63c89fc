"""From images to logits: views of test-time ensembling, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from kit.runs import execute_plan
from kit.tiny import TINY
from torch import nn

import benchmark
from benchmark import spec
from benchmark.data.sizes import scoring_size
from benchmark.method import METHODS
from benchmark.running.plan import make_plan
from benchmark.store.logits import load_logits
from benchmark.training.inference import Normalizer, predict, views_of

CPU = torch.device("cpu")
NONE = spec.TestTime()
FLIP = spec.TestTime(views="flip")
CROPS = spec.TestTime(views="five-crop", margin=2)


class Corner(nn.Module):
    """Logits: value (0 to 255) of the first pixel, and of the last."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled() and not self.training
        return 255 * torch.stack([images[:, 0, 0, 0], images[:, 0, -1, -1]], dim=1)


def scores(pixels: np.ndarray, test_time: spec.TestTime, **options) -> list[list[float]]:
    """Logits of grey images [N, S, S]."""
    images = np.repeat(pixels[..., None], 3, axis=3).astype(np.uint8)
    normalizer = Normalizer((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), CPU)
    logits = predict(Corner(), images, normalizer, CPU, test_time, **options)
    assert logits.dtype == np.float32
    return logits.tolist()


# Row r, column c: 10 r^2 + c.
PIXELS = (10 * np.arange(5)[:, None] ** 2 + np.arange(5))[None]


def test_logits_are_the_mean_over_the_views():
    assert scores(PIXELS, NONE) == [pytest.approx([0, 164])]
    assert scores(PIXELS, FLIP) == [pytest.approx([(0 + 4) / 2, (164 + 160) / 2])]
    # Crops of 3 x 3 at (0, 0), (0, 2), (2, 0), (2, 2), (1, 1): first pixels 0, 2, 40, 42, 11; last two rows and
    # columns further: 42, 44, 162, 164, 93.
    assert scores(PIXELS, CROPS) == [pytest.approx([19, 101])]


def test_five_crops_are_the_right_pixels():
    images = torch.arange(2 * 3 * 6 * 6).reshape(2, 3, 6, 6)
    views = views_of(images, spec.TestTime(views="five-crop", margin=3))
    expected = [
        images[:, :, :3, :3],
        images[:, :, :3, 3:],
        images[:, :, 3:, :3],
        images[:, :, 3:, 3:],
        images[:, :, 1:4, 1:4],
    ]
    assert len(views) == 5 and all(torch.equal(a, b) for a, b in zip(views, expected, strict=True))


def test_flip_is_the_image_and_its_mirror_image():
    images = torch.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    one, other = views_of(images, FLIP)
    assert torch.equal(one, images) and torch.equal(other, images[:, :, :, [1, 0]])
    assert [view is images for view in views_of(images, NONE)] == [True]


def test_flip_of_a_mirror_image_changes_nothing():
    symmetric = np.maximum(PIXELS, PIXELS[:, :, ::-1])
    assert scores(symmetric, FLIP) == scores(symmetric, NONE)


def test_images_are_larger_for_five_crops_alone():
    assert [scoring_size(224, t) for t in (NONE, FLIP)] == [224, 224]
    assert scoring_size(224, spec.TestTime(views="five-crop")) == 248
    assert scoring_size(224, CROPS) == 226


@pytest.mark.parametrize("test_time", [NONE, FLIP, CROPS])
def test_batches_change_nothing_and_are_reported(test_time):
    pixels = np.random.default_rng(0).integers(0, 256, (130, 5, 5))
    done = []
    together = scores(pixels, test_time, advance=done.append)
    assert done == [64, 128, 130]
    assert together == [scores(pixels[i : i + 1], test_time)[0] for i in range(130)]


# --- whole runs ------------------------------------------------------------------------------------------------


def test_views_change_the_scores_and_nothing_before(tiny, tmp_path):
    views = ({}, {"views": "flip"}, {"views": "five-crop", "margin": 4})
    settings = [TINY["settings"] | {"recipe.test_time": test_time} for test_time in views]
    records = [benchmark.run("erm", str(tiny), results=tmp_path, **(TINY | {"settings": s})) for s in settings]
    assert len({record.run_id for record in records}) == 3
    assert len({record.model_digest for record in records}) == 1
    assert len({record.data_digests["train"] for record in records}) == 1
    assert records[0].data_digests["test"] == records[1].data_digests["test"] != records[2].data_digests["test"]
    logits = [load_logits(tmp_path, record)[0]["ema"] for record in records]
    assert not np.array_equal(logits[0], logits[1]) and not np.array_equal(logits[0], logits[2])


@pytest.mark.parametrize(
    ("test_time", "views"),
    [({"views": "flip"}, 2), ({"views": "five-crop", "margin": 4}, 5)],
    ids=["flip", "five-crop"],
)
def test_validation_and_test_are_scored_on_the_same_views(tiny, tmp_path, test_time, views):
    given: dict[int, list[torch.Tensor]] = {10: [], 12: []}  # the validation and the test list, by their lengths

    class Watched(METHODS.get("erm")):
        def forward(self, images):
            logits = super().forward(images)
            if not self.training:
                assert images.shape[-1] == 16
                given[len(images)].append(logits)
            return logits

    settings = TINY["settings"] | {"recipe.test_time": test_time, "recipe.selection": "best-val"}
    plan = replace(make_plan("erm", str(tiny), **(TINY | {"epochs": 6, "settings": settings})), method=Watched)
    record = execute_plan(plan, tmp_path)
    # Validation after each of six epochs and at the end, the test once for each weight set.
    assert (len(given[10]), len(given[12])) == (7 * views, 2 * views)
    logits, _ = load_logits(tmp_path, record)
    for at, name in enumerate(("raw", "ema")):
        mean = torch.stack(given[12][views * at : views * (at + 1)]).mean(dim=0)
        np.testing.assert_allclose(logits[name], mean, rtol=1e-5)
    best = max(entry.val_overall for entry in record.history)
    assert record.history[record.selection.epoch - 1].val_overall == best
    assert record.validation.overall == pytest.approx(best)
