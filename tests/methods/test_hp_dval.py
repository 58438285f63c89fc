"""HP-DVAL: its scores and losses by hand, what each stage trains, its teacher, its variants; whole runs on the demo's
CLIP with random weights."""

import functools

import numpy as np
import pytest
import torch
import torchvision
from kit.checks import refused
from kit.factories import make_recipe, make_task, unneeded
from kit.runs import execute_plan, execute_with_stops, outcome
from torch.utils._python_dispatch import TorchDispatchMode

import benchmark
from benchmark.method import METHODS, Batch, Stage
from benchmark.models.backbones import BACKBONES
from benchmark.models.clip import make_clip
from benchmark.models.local_global import class_normalised_scores, cosine_scores, top_mean
from benchmark.models.prompts import prompts_for
from benchmark.running.plan import make_plan
from benchmark.training.optim import EMA
from methods.db_focal import DistributionBalancedLoss
from methods.hp_dval import HPDVAL
from methods.hp_dval_readings import BatchFocalDBLoss, ClassWeightedDBLoss
from methods.hp_dval_student import ImageNetTower

SIZE, PATCHES, K = 32, 16, 3
NAMES, COUNTS, IMAGES = ("cat", "dining_table", "dog"), (20, 10, 5), 40
ALIGNMENT, PROMPTS = HPDVAL.stages(HPDVAL.configure("", {}))
OFFSET = {"offset.offset", "offset.known"}  # set by the first batch


@functools.cache
def clip_state():
    torch.manual_seed(0)
    clip = make_clip("clip_demo", SIZE, None, False)
    clip.text.token_embedding.weight.data.mul_(20)  # else positions drown the words and all prompts look alike
    return clip.state_dict()


def small_clip():
    clip = make_clip("clip_demo", SIZE, None, False)
    clip.load_state_dict(clip_state())
    clip.logit_scale = 20.0
    return clip


def small_vit(*names):
    """What stands for torchvision's ViT-B/16: the same network, narrow and shallow, with as many patches."""
    assert names in [(), ("vit_b_16", "IMAGENET1K_V1")]
    torch.manual_seed(1)
    vit = BACKBONES.get("vit_b_16").wrap(torchvision.models.VisionTransformer(SIZE, 8, 2, 2, 24, 48))
    vit.map_dim = vit.feature_dim = 24
    return vit


def build(clip=None, recipe=None, **settings) -> HPDVAL:
    fields = {"backbone": "clip_demo", "epochs": 3, "batch_size": 4, "optimizer": {"name": "adamw", "lr": 1e-3}}
    task = make_task(
        make_recipe(**(fields | (recipe or {}))),
        NAMES,
        COUNTS,
        IMAGES,
        make_backbone=unneeded,
        make_clip=lambda: clip or small_clip(),
        make_other_backbone=small_vit if settings.get("student_init") == "imagenet" else unneeded,
    )
    torch.manual_seed(2)
    return HPDVAL(task, HPDVAL.configure("", {"top_k": K} | settings)).train()


def images(count=4, seed=3):
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def batch():
    return Batch(images(), torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 1]]))


def train(method, steps=1, lr=1e-2):
    """Plain gradient steps on what the method declares; the losses before each."""
    optimizer = torch.optim.SGD([{"params": g.parameters} for g in method.parameter_groups() if g.parameters], lr)
    losses = []
    for _ in range(steps):
        loss = method.training_loss(batch())
        method.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def values(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def moved(before, module):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


# --- scores ----------------------------------------------------------------------------------------------------


def test_scores_of_two_classes_by_hand():
    text = torch.tensor([[3.0, 0], [0, 2]])
    features = torch.tensor([[[4.0, 3], [0, -5]]])
    torch.testing.assert_close(cosine_scores(text, features), torch.tensor([[[0.8, 0.6], [0.0, -1.0]]]))
    # Dot products (12, 6) and (0, -10); norms sqrt(180) and 10.
    expected = torch.tensor([[[12 / 180**0.5, 6 / 180**0.5], [0.0, -1.0]]])
    torch.testing.assert_close(class_normalised_scores(text, features), expected)


def test_top_mean_takes_each_classs_own_patches():
    scores = torch.tensor([[[1.0, 0], [5, 2], [3, 7], [-2, 9]]])
    torch.testing.assert_close(top_mean(scores, 2), torch.tensor([[4.0, 8.0]]))
    torch.testing.assert_close(top_mean(scores, 4), torch.tensor([[1.75, 4.5]]))


def scores_by_hand(method, global_text, local_text, variant):
    """Logits [B, C] without the scale, number by number."""
    with torch.no_grad():
        g, local = (x.double().numpy() for x in method.image.project(method.image.stages(images())))
    global_text, local_text = global_text.detach().double().numpy(), local_text.detach().double().numpy()
    result = np.zeros((len(g), len(NAMES)))
    for i in range(len(g)):
        for c in range(len(NAMES)):
            if variant == "paper":
                seen = cosine(global_text[c], g[i])
                found = [cosine(local_text[c], patch) for patch in local[i]]
                weights = (0.4, 0.6)
            else:
                seen = (global_text @ g[i])[c] / np.linalg.norm(global_text @ g[i])
                found = [(local_text @ patch)[c] / np.linalg.norm(local_text @ patch) for patch in local[i]]
                weights = (0.6, 0.4)
            result[i, c] = weights[0] * seen + weights[1] * np.mean(sorted(found)[-K:])
    return result


@pytest.mark.parametrize("variant", ["paper", "released-code"])
def test_logits_by_hand_in_both_stages(variant):
    method = build(variant=variant).eval()
    with torch.no_grad():
        fixed = method.text.encode(prompts_for(NAMES))
        found = method(images()).double().numpy()
        expected = 20 * scores_by_hand(method, fixed, fixed, variant)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert expected.std(axis=0).min() > 0, "all images look alike: the test sees nothing"

        method.begin_stage(PROMPTS)
        method.local_prompts.context += torch.randn(4, method.text.width)  # so that the views differ
        texts = method.global_prompts(method.text), method.local_prompts(method.text)
        assert not torch.allclose(*texts)
        found = method(images()).double().numpy()
    np.testing.assert_allclose(found, 20 * scores_by_hand(method, *texts, variant), rtol=1e-4, atol=1e-5)


def test_without_the_scale_logits_are_the_scores():
    method, plain = build().eval(), build(logit_scale=False).eval()
    with torch.no_grad():
        torch.testing.assert_close(method(images()), 20 * plain(images()))
    assert plain.log_scale is None and "log_scale" not in plain.state_dict()


# --- losses ----------------------------------------------------------------------------------------------------


def db_by_hand(logits, targets, class_weight=False, batch_focal=False, neg_scale=2.0, map_gamma=0.2):
    """Wu et al., ECCV 2020, with HP-DVAL's eq. 14-15 or the released code's focal factor; decision by decision."""
    counts = np.array(COUNTS, float)
    weighted, plain = np.zeros(logits.shape), np.zeros(logits.shape)
    for i, c in np.ndindex(*logits.shape):
        u = logits[i, c] - np.log(IMAGES / counts[c] - 1) * 0.05 / neg_scale
        rho = (1 / counts[c]) / sum(1 / counts[j] for j in range(len(counts)) if targets[i, j])
        r = 0.1 + 1 / (1 + np.exp(-10 * (rho - map_gamma)))
        if targets[i, c]:
            q = u * counts[c] / counts.max() if class_weight else u
            plain[i, c] = np.log1p(np.exp(-q))
            weighted[i, c] = r * plain[i, c]
        else:
            plain[i, c] = np.log1p(np.exp(neg_scale * u))
            weighted[i, c] = r / neg_scale * plain[i, c]
    factor = 2 * (1 - np.exp(-plain.mean())) ** 2 if batch_focal else 1
    return factor * weighted.mean()


@pytest.mark.parametrize("neg_scale", [2.0, 5.0])
@pytest.mark.parametrize(
    ("loss", "options"), [(ClassWeightedDBLoss, {"class_weight": True}), (BatchFocalDBLoss, {"batch_focal": True})]
)
def test_losses_by_hand(loss, options, neg_scale):
    logits = 2 * torch.randn(4, 3, generator=torch.Generator().manual_seed(4))
    targets = batch().targets
    found = loss(COUNTS, IMAGES, neg_scale=neg_scale, map_gamma=0.3)(logits, targets)
    expected = db_by_hand(logits.double().numpy(), targets.numpy(), **options, neg_scale=neg_scale, map_gamma=0.3)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_with_classes_of_one_size_the_class_weight_is_no_weight():
    logits, targets = torch.randn(4, 3), batch().targets
    found = ClassWeightedDBLoss([7, 7, 7], IMAGES)(logits, targets)
    torch.testing.assert_close(found, DistributionBalancedLoss([7, 7, 7], IMAGES, focal=False)(logits, targets))


@pytest.mark.parametrize(
    ("settings", "kind", "focal"),
    [
        ({}, ClassWeightedDBLoss, False),
        ({"loss": "db"}, DistributionBalancedLoss, False),
        ({"loss": "db-focal"}, DistributionBalancedLoss, True),
        ({"variant": "released-code"}, BatchFocalDBLoss, True),
        ({"variant": "released-code", "loss": "db"}, DistributionBalancedLoss, False),
    ],
)
def test_which_loss_is_taken(settings, kind, focal):
    loss = build(**settings, neg_scale=5.0, map_gamma=0.3).loss
    assert (type(loss), loss.focal, loss.neg_scale, loss.map_gamma) == (kind, focal, 5.0, 0.3)


@pytest.mark.parametrize(
    ("settings", "shifted"),
    [
        ({}, True),
        ({"logit_scale": False}, False),
        ({"variant": "released-code"}, False),
        ({"prior_offset": False}, False),
        ({"variant": "released-code", "prior_offset": True}, True),
    ],
)
def test_logits_start_at_the_priors_where_they_are_scaled_cosines(settings, shifted):
    method = build(**settings)
    untrained = method.eval()(images()).mean(dim=0)
    expected = torch.log(torch.tensor(COUNTS) / (IMAGES - torch.tensor(COUNTS))) if shifted else untrained
    torch.testing.assert_close(method.train()(images()).mean(dim=0), expected)
    torch.testing.assert_close(method.eval()(images()).mean(dim=0), expected)


# --- stages ----------------------------------------------------------------------------------------------------


def test_stages_have_the_papers_epochs_and_rates():
    assert (ALIGNMENT.name, ALIGNMENT.lr_scale) == ("alignment", 1.0)
    assert (PROMPTS.name, PROMPTS.lr_scale) == ("prompts", 0.5)
    assert ALIGNMENT.share / PROMPTS.share == 20 / 10
    changed = HPDVAL.stages(HPDVAL.configure("", {"prompt_share": 4.0, "prompt_lr_scale": 30.0}))
    assert changed == (ALIGNMENT, Stage("prompts", 4.0, 30.0))


def grouped(method):
    names = {id(p): name for name, p in method.named_parameters()}
    groups = {}
    for group in method.parameter_groups():
        for p in group.parameters:
            groups[names[id(p)]] = (group.learning_rate, group.weight_decay)
    return groups


def test_alignment_trains_the_image_tower_and_the_scale_alone():
    method = build()
    method.begin_stage(ALIGNMENT)
    before = values(method)
    train(method)
    tower = {f"image.{name}" for name, _ in method.image.named_parameters()}
    assert moved(before, method) == tower | {"log_scale"} | OFFSET
    assert grouped(method) == dict.fromkeys(tower, ("backbone", None)) | {"log_scale": ("backbone", 0.0)}
    assert {name for name, p in method.named_parameters() if p.requires_grad} == tower | {"log_scale"}


def test_prompt_tuning_trains_the_contexts_and_the_scale_alone():
    method = build()
    method.begin_stage(ALIGNMENT)
    train(method)
    method.begin_stage(PROMPTS)
    before = values(method)
    train(method)
    contexts = {"global_prompts.context", "local_prompts.context"}
    assert moved(before, method) == contexts | {"log_scale"}
    assert grouped(method) == dict.fromkeys(contexts, ("head", None)) | {"log_scale": ("head", 0.0)}
    assert {name for name, p in method.named_parameters() if p.requires_grad} == contexts | {"log_scale"}
    assert method.global_prompts.context.shape == (4, method.text.width)
    assert not any(part.training for child in method.train().image.children() for part in child.modules())


def test_frozen_stages_of_the_recipe_stay_fixed():
    method = build(recipe={"frozen_stages": 2})
    before = values(method)
    train(method)
    changed = moved(before, method)
    assert changed and not any(name.startswith(("image.stages.stem", "image.stages.block1")) for name in changed)


def test_losses_of_the_stages_are_classification_and_distance():
    method = build()
    train(method)
    loss = method.training_loss(batch())
    teacher = small_clip().image
    distance = (method.image(images()) - teacher(images())).abs().mean()
    assert distance > 1e-4
    torch.testing.assert_close(loss, method.loss(method(images()), batch().targets) + distance)

    method.begin_stage(PROMPTS)
    loss = method.training_loss(batch())
    fixed = method.text.encode(prompts_for(NAMES))
    distance = (method.global_prompts(method.text) - fixed).abs().mean()
    assert distance > 1e-2
    torch.testing.assert_close(loss, method.loss(method(images()), batch().targets) + distance)


def test_loss_falls_in_each_stage():
    method = build()
    method.begin_stage(ALIGNMENT)
    first = train(method, 15, 0.01)
    method.begin_stage(PROMPTS)
    second = train(method, 15, 0.3)
    assert first[-1] < 0.9 * first[0] and second[-1] < 0.9 * second[0]


def test_contexts_start_small_and_apart():
    method = build()
    contexts = torch.stack([method.global_prompts.context, method.local_prompts.context])
    assert contexts.std().item() == pytest.approx(0.02, rel=0.2) and contexts.mean().abs() < 0.005
    assert not torch.equal(*contexts)


# --- the teacher -----------------------------------------------------------------------------------------------


def test_distillation_is_nothing_at_first_and_something_after_a_step():
    method = build()

    def distance():
        with torch.no_grad():
            return method.distillation(images(), method.image(images())).item()

    assert distance() < 1e-6
    train(method)
    assert distance() > 1e-4


def test_the_teacher_stays_clips_and_is_nobodys_parameter():
    clip = small_clip()
    original, names = values(clip.image), {id(p) for p in clip.image.parameters()}
    method = build(clip)
    [teacher] = method._original
    before = set(method.state_dict())
    ema = EMA(method, 0.5)
    train(method, 2)
    ema.update()
    ema.swap()
    assert torch.equal(method.text.mask, small_clip().text.mask)
    assert moved(original, teacher) == set() and moved(original, method.image) != set()
    theirs = {p.data_ptr() for p in teacher.parameters()}
    assert not theirs & {p.data_ptr() for p in method.state_dict().values()}
    assert names == {id(p) for p in method.image.parameters()}
    assert not {id(p) for p in teacher.parameters()} & {id(p) for p in method.parameters()}
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    assert set(method.state_dict()) == before and not any("original" in name for name in before)


def test_the_teacher_goes_where_the_method_goes_and_is_released_after_alignment():
    method = build()
    assert {p.dtype for p in method.to(torch.float64)._original[0].parameters()} == {torch.float64}
    assert {p.device.type for p in method.to("meta")._original[0].parameters()} == {"meta"}
    method.begin_stage(PROMPTS)
    assert method._original == []


# --- which prompts score ---------------------------------------------------------------------------------------


def test_a_state_brings_the_prompts_that_score():
    method = build()
    train(method)
    aligned = values(method)
    with torch.no_grad():
        before = method(images())
        method.begin_stage(PROMPTS)
    train(method, 3, 0.3)
    with torch.no_grad():
        after = method(images())
        assert not torch.allclose(before, after, atol=1e-3)
        fresh = build()
        fresh.load_state_dict(method.state_dict())
        torch.testing.assert_close(fresh(images()), after)
        fresh.load_state_dict(aligned)
        torch.testing.assert_close(fresh(images()), before)


def test_scores_follow_the_contexts_from_call_to_call():
    method = build().eval()
    method.begin_stage(PROMPTS)
    with torch.no_grad():
        before = method(images())
        method.global_prompts.context += torch.randn(4, method.text.width)
        assert not torch.allclose(before, method(images()), atol=1e-4)


class NothingRead(TorchDispatchMode):
    """Within it no value of a tensor may go to Python: on a GPU that would wait for the device."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        assert operation is not torch.ops.aten._local_scalar_dense.default, "a value was read"
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("stage", [ALIGNMENT, PROMPTS], ids=lambda stage: stage.name)
def test_scoring_reads_nothing_from_the_device(stage):
    method = build().eval()
    method.begin_stage(stage)
    with NothingRead(), torch.no_grad():
        method(images())
    with pytest.raises(AssertionError, match="read"), NothingRead():
        bool(method.tuned)


# --- the released code -----------------------------------------------------------------------------------------


def test_released_code_distils_nothing():
    method = build(variant="released-code")
    train(method, 2)
    loss = method.training_loss(batch())
    torch.testing.assert_close(loss, method.loss(method(images()), batch().targets))


def test_released_code_starts_contexts_from_words_and_holds_the_local_ones():
    method = build(variant="released-code")
    words = method.text.embed(method.text.tokenize(["a photo of a"]))[0, 1:-1]
    for prompts in (method.global_prompts, method.local_prompts):
        torch.testing.assert_close(prompts.context.detach(), words)
    method.begin_stage(PROMPTS)
    with torch.no_grad():
        texts = method.global_prompts(method.text), method.local_prompts(method.text)
        assert method.consistency(*texts).item() == pytest.approx(0, abs=1e-6)
        method.global_prompts.context += torch.randn(4, method.text.width)
        assert method.consistency(*method._prompts(True)).item() == pytest.approx(0, abs=1e-6)
        method.local_prompts.context += torch.randn(4, method.text.width)
        assert method.consistency(*method._prompts(True)).item() > 1e-3


def test_released_code_tunes_prompts_on_clips_own_tower():
    method = build(variant="released-code")
    original = values(method.image)
    train(method, 2)
    assert moved(original, method.image) != set() and method.log_scale.exp().item() != pytest.approx(20, rel=1e-6)
    method.begin_stage(PROMPTS)
    assert moved(original, method.image) == set() and method.log_scale.exp().item() == pytest.approx(20, rel=1e-6)


def test_the_papers_prompts_are_tuned_on_the_aligned_tower():
    method = build()
    train(method, 2)
    aligned = values(method.image)
    method.begin_stage(PROMPTS)
    assert moved(aligned, method.image) == set()


@pytest.mark.parametrize(("variant", "k"), [("paper", 32), ("released-code", 16)])
def test_number_of_patches(variant, k):
    clip = make_clip("clip_demo", 64, None, False)
    assert build(clip, {"image_size": 64}, variant=variant, top_k=None).top_k == k


# --- the ImageNet student --------------------------------------------------------------------------------------


def test_imagenet_tower_sees_images_as_imagenets_networks_do():
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    vit = small_vit().eval()
    tower = ImageNetTower(small_vit(), 10).eval()
    plain = torch.rand(2, 3, SIZE, SIZE)

    def normalised(mean, std):
        return (plain - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

    with torch.no_grad():
        tokens = vit.stages(normalised((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        clips = normalised(OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
        g, local = tower.project(tower.stages(clips))
        torch.testing.assert_close(g, tokens[:, 0] @ tower.projection, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(local, tokens[:, 1:] @ tower.projection, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(tower(clips), g)
    assert tower.num_patches == PATCHES and local.shape == (2, PATCHES, 10)


def test_imagenet_student_learns_from_clips_tower():
    clip = small_clip()
    original = values(clip.image)
    method = build(clip, {"backbone": "clip_vit_b_16"}, student_init="imagenet")
    assert isinstance(method.image, ImageNetTower) and method._original == [clip.image]
    before = values(method)
    distance = method.distillation(images(), method.image(images()))
    torch.testing.assert_close(distance, (method.image(images()) - clip.image(images())).abs().mean())
    assert distance > 0.1
    train(method)
    tower = {f"image.{name}" for name, _ in method.image.named_parameters()}
    assert moved(before, method) == tower | {"log_scale"} | OFFSET and "image.projection" in tower
    assert moved(original, clip.image) == set()


# --- what is refused -------------------------------------------------------------------------------------------


def planned(**settings):
    return make_plan("hp-dval", "voc-lt", **({"protocol": "controlled-clip"} | settings))


def test_unfit_backbones_and_settings_are_refused_before_a_run():
    no_patches = refused(planned, backbone="clip_rn50", weights="RN50:openai")
    assert "hp-dval needs patch tokens; clip_rn50 has none: use clip_vit_b_16" in no_patches
    message = refused(planned, settings={"top_k": 197})
    assert "top_k is 197" in message and "196 patches" in message
    message = refused(
        planned, backbone="clip_demo", weights="none", image_size=64, settings={"student_init": "imagenet"}
    )
    assert "clip_vit_b_16" in message and "clip_demo" in message
    assert "student_init=clip" in refused(planned, settings={"student_init": "imagenet", "variant": "released-code"})
    assert "13" in refused(planned, settings={"recipe.frozen_stages": 14})
    assert "top_k" in refused(planned, settings={"top_k": 0})


def test_defaults_are_the_published_ones():
    voc, coco = (HPDVAL.configure(name, {}) for name in ("voc-lt", "coco-lt"))
    assert (voc.neg_scale, voc.map_gamma, coco.neg_scale, coco.map_gamma) == (5.0, 0.3, 2.0, 0.2)
    assert (voc.alpha, voc.top_k, voc.student_init, voc.variant) == (0.4, None, "clip", "paper")
    assert HPDVAL.configure("shapes-lt", {}).top_k == 10
    assert METHODS.get("hp-dval") is HPDVAL and HPDVAL.samplers(voc) == ("uniform",)
    assert HPDVAL.samplers(HPDVAL.configure("", {"sampler": "class-aware"})) == ("class-aware",)
    assert planned(settings={"student_init": "imagenet"}).config.student_init == "imagenet"


# --- whole runs ------------------------------------------------------------------------------------------------

RUN = {
    "protocol": "demo-clip",
    "weights": "none",
    "image_size": 16,
    "epochs": 2,
    "settings": {"recipe.batch_size": 8, "top_k": 2, "prompt_share": 2.0, "prompt_lr_scale": 10.0},
}


@pytest.mark.slow
def test_a_run_learns_in_both_stages(tiny, tmp_path):
    changes = {"epochs": 40, "settings": RUN["settings"] | {"recipe.optimizer.lr": 1e-3}}
    record = benchmark.run("hp-dval", str(tiny), results=tmp_path, **(RUN | changes))
    losses = {stage: [e.loss for e in record.history if e.stage == stage] for stage in ("alignment", "prompts")}
    assert [len(values) for values in losses.values()] == [20, 20]
    assert losses["alignment"][-1] < 0.9 * losses["alignment"][0]
    assert losses["prompts"][-1] < losses["prompts"][0]
    assert record.metrics.overall > 50


@pytest.mark.parametrize("variant", ["paper", "released-code"])
@pytest.mark.slow
def test_a_run_stopped_at_every_step_ends_as_an_undisturbed_one(tiny, tmp_path, variant):
    plan = make_plan("hp-dval", str(tiny), **(RUN | {"settings": RUN["settings"] | {"variant": variant}}))
    whole = execute_plan(plan, tmp_path / "whole")
    assert [(entry.epoch, entry.stage) for entry in whole.history] == [(1, "alignment"), (2, "prompts")]
    stopped = execute_with_stops(plan, tmp_path / "stopped", {1, 2, 3, 4, 5, 6}, total=6)
    assert outcome(stopped) == outcome(whole)
