"""The rows every table with CLIP has: zero-shot, by hand and without training, and the linear probe."""

import json

import numpy as np
import pytest
import torch
from kit.checks import refused
from kit.factories import make_recipe, make_task
from kit.runs import execute_plan, outcome
from kit.tiny import write_tiny_dataset
from safetensors.torch import load_file, save_file
from torch import nn

import benchmark
from benchmark.method import METHODS, Batch, MethodConfig, Task
from benchmark.models.backbones import make_backbone
from benchmark.models.clip import make_clip
from benchmark.running.plan import make_plan
from benchmark.store.logits import load_logits
from methods.clip_zero_shot import ClipZeroShot, ZeroShotConfig
from methods.linear_probe import LinearProbe

SIZE, NAMES = 16, ("cat", "dining_table", "dog")


def task_of(backbone: str, **recipe) -> Task:
    def clip():
        torch.manual_seed(0)
        made = make_clip(backbone, SIZE, None, False)
        made.text.token_embedding.weight.data.mul_(20)  # else positions drown the words and all prompts look alike
        made.logit_scale = 20.0
        return made

    def built():
        torch.manual_seed(0)
        return make_backbone(backbone, SIZE, None)

    fields = {"backbone": backbone, "image_size": SIZE, "batch_size": 4, "optimizer": {"name": "sgd", "lr": 0.1}}
    return make_task(make_recipe(**(fields | recipe)), NAMES, (20, 10, 5), make_backbone=built, make_clip=clip)


def images(count=4):
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))


def write_text_features(path, vectors, names=NAMES):
    np.savez(path, own=np.asarray(vectors, dtype=np.float32), own_names=np.array(names))
    return str(path)


# --- zero-shot -------------------------------------------------------------------------------------------------


def zero_shot(**settings):
    return ClipZeroShot(task_of("clip_demo"), ClipZeroShot.configure("", settings)).eval()


def logits_by_hand(features, text):
    return np.array([[20 * (f @ t) / np.sqrt((f @ f) * (t @ t)) for t in text] for f in features])


def test_zero_shot_logits_are_scaled_cosines():
    clip = task_of("clip_demo").make_clip()
    with torch.no_grad():
        text = clip.text.encode(["a photo of a cat.", "a photo of a dining table.", "a photo of a dog."])
        expected = logits_by_hand(clip.image(images()).double().numpy(), text.double().numpy())
        found = zero_shot()(images())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert expected.std(axis=1).max() > 0.1, "all classes look alike: the test sees nothing"


def test_zero_shot_takes_text_features_of_a_file_in_class_order(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(4, 64))
    path = write_text_features(tmp_path / "text.npz", vectors, ("dog", "bird", "cat", "dining_table"))
    with torch.no_grad():
        features = task_of("clip_demo").make_clip().image(images()).double().numpy()
        found = zero_shot(text_features=path)(images())
    np.testing.assert_allclose(found.numpy(), logits_by_hand(features, vectors[[2, 3, 0]]), rtol=1e-4, atol=1e-5)


def test_zero_shot_keeps_the_image_tower_and_the_features_alone():
    method = zero_shot()
    assert [name for name, _ in method.named_children()] == ["image"]
    assert [name for name in method.state_dict() if not name.startswith("image.")] == ["text"]
    assert not any(p.requires_grad for p in method.parameters())
    assert ClipZeroShot.stages(ZeroShotConfig()) == () and METHODS.get("clip-zero-shot") is ClipZeroShot
    with pytest.raises(NotImplementedError):
        method.training_loss(Batch(images(), torch.zeros(4, 3)))


def test_zero_shot_refuses_what_it_cannot_use_before_a_run(tiny, tmp_path):
    def planned(**changes):
        return make_plan("clip-zero-shot", str(tiny), **(CLIP_RUN | changes))

    narrow = write_text_features(tmp_path / "narrow.npz", np.ones((3, 5)), ("red", "green", "blue"))
    message = refused(planned, settings={"text_features": narrow})
    assert "5 wide" in message and "64" in message
    other = write_text_features(tmp_path / "other.npz", np.ones((3, 64)))
    assert "lacks 3 of 3 classes" in refused(planned, settings={"text_features": other})
    assert "nowhere.npz" in refused(planned, settings={"text_features": "nowhere.npz"})
    assert "needs a CLIP backbone" in refused(make_plan, "clip-zero-shot", str(tiny), protocol="demo")


CLIP_RUN = {"protocol": "demo-clip", "image_size": SIZE}


def test_zero_shot_runs_score_once_and_train_nothing(tiny, tmp_path):
    record = benchmark.run("clip-zero-shot", str(tiny), results=tmp_path / "a", **CLIP_RUN)
    assert (record.history, record.selection.epoch, record.parameters.trained) == ([], 0, 0)
    assert record.results["raw"] == record.results["ema"]
    again = benchmark.run("clip-zero-shot", str(tiny), results=tmp_path / "b", **CLIP_RUN)
    assert outcome(again) == outcome(record)


def test_the_content_of_a_file_of_text_features_decides_the_run_and_its_name_does_not(tiny, tmp_path):
    usual = make_plan("clip-zero-shot", str(tiny), **CLIP_RUN)
    rng = np.random.default_rng(0)
    paths = [tmp_path / "first.npz", tmp_path / "second.npz"]
    write_text_features(paths[0], rng.normal(size=(3, 64)), ("red", "green", "blue"))
    paths[1].write_bytes(paths[0].read_bytes())
    plans = [
        make_plan("clip-zero-shot", str(tiny), **CLIP_RUN, settings={"text_features": str(path)}) for path in paths
    ]
    assert plans[0].spec.run_id == plans[1].spec.run_id != usual.spec.run_id
    logits = [load_logits(tmp_path / "r", execute_plan(plan, tmp_path / "r"))[0]["raw"] for plan in (usual, plans[0])]
    assert not np.allclose(*logits)


# --- linear probe ----------------------------------------------------------------------------------------------


def probe(backbone="small_cnn", **recipe) -> LinearProbe:
    torch.manual_seed(1)
    return LinearProbe(task_of(backbone, **recipe), MethodConfig())


def features_by_hand(method):
    with torch.no_grad():
        pooled = method.backbone(images()).numpy()
    return pooled / np.sqrt((pooled**2).mean(axis=1, keepdims=True))


TARGETS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 1]])


@pytest.mark.parametrize("backbone", ["small_cnn", "clip_demo"])
def test_features_have_a_root_mean_square_of_one(backbone):
    method = probe(backbone).eval()
    with torch.no_grad():
        found = method.features(images())
    np.testing.assert_allclose(found.numpy(), features_by_hand(method), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.square().mean(dim=1), torch.ones(4))


def test_only_the_linear_layer_is_trained_and_its_step_is_logistic_regressions():
    method = probe()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    x, y = features_by_hand(method.eval()), TARGETS.numpy()
    method.train()
    [backbone, head] = method.parameter_groups()
    assert backbone.parameters == [] and len(head.parameters) == 2 and head.learning_rate == "head"
    assert sum(p.numel() for p in head.parameters) == (method.backbone.feature_dim + 1) * 3
    with torch.no_grad():
        batch = Batch(method.features(images()), TARGETS)
    loss = method.training_loss(batch)
    loss.backward()
    torch.optim.SGD(head.parameters, 0.5).step()

    w, b = before["classifier.weight"].numpy(), before["classifier.bias"].numpy()
    p = 1 / (1 + np.exp(-(x @ w.T + b)))
    assert loss.item() == pytest.approx(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(), rel=1e-5)
    after = method.state_dict()
    np.testing.assert_allclose(after["classifier.weight"], w - 0.5 * (p - y).T @ x / y.size, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after["classifier.bias"], b - 0.5 * (p - y).sum(axis=0) / y.size, rtol=1e-4, atol=1e-6)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"classifier.weight", "classifier.bias"}


def test_scores_are_the_linear_layer_on_the_features():
    method = probe(dropout=0.5).eval()
    with torch.no_grad():
        expected = features_by_hand(method) @ method.classifier.weight.numpy().T + method.classifier.bias.numpy()
        np.testing.assert_allclose(method(images()).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_dropout_of_the_recipe_is_on_the_features():
    method = probe(dropout=0.5).train()
    method.classifier = nn.Linear(method.backbone.feature_dim, 3)
    nn.init.zeros_(method.classifier.bias)
    nn.init.ones_(method.classifier.weight)
    ones = Batch(torch.ones(1, method.backbone.feature_dim), torch.zeros(1, 3))
    torch.manual_seed(0)
    drawn = {round(method.training_loss(ones).item(), 4) for _ in range(8)}
    assert len(drawn) > 4 and LinearProbe.trains_on == "features"


@pytest.fixture
def probe_run(tmp_path):
    torch.manual_seed(5)
    card = {"architecture": "small_cnn", "mean": [0.5] * 3, "std": [0.5] * 3}
    path = tmp_path / "w.safetensors"
    state = make_backbone("small_cnn", SIZE, None).stages.state_dict()
    save_file(state, path, {key: value if isinstance(value, str) else json.dumps(value) for key, value in card.items()})
    settings = {"recipe.batch_size": 8, "recipe.optimizer.lr": 0.02}
    return {"protocol": "demo", "weights": str(path), "image_size": SIZE, "epochs": 10, "settings": settings}


def test_a_run_leaves_the_backbone_bitwise_and_is_deterministic(tiny, tmp_path, probe_run, monkeypatch):
    built = []
    monkeypatch.setattr(
        "benchmark.running.task.make_backbone", lambda *args: built.append(make_backbone(*args)) or built[-1]
    )
    record = benchmark.run("linear-probe", str(tiny), results=tmp_path / "a", **probe_run)
    trained, given = built[-1].stages.state_dict(), load_file(probe_run["weights"])
    assert set(trained) == set(given)
    assert [name for name, value in given.items() if not torch.equal(trained[name].cpu(), value)] == []
    assert record.parameters.trained == (128 + 1) * 3
    assert record.history[-1].loss < 0.8 * record.history[0].loss and record.metrics.overall > 60
    again = benchmark.run("linear-probe", str(tiny), results=tmp_path / "b", **probe_run)
    assert outcome(again) == outcome(record)


def test_random_features_are_refused(tmp_path):
    folder = write_tiny_dataset(tmp_path / "tiny")
    message = refused(make_plan, "linear-probe", str(folder), protocol="demo")
    assert "needs pretrained weights" in message
