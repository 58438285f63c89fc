"""CLIP's towers, prompts and weights, against open_clip's own model of the same weights."""

import json
from functools import cache

import huggingface_hub.constants
import open_clip
import pytest
import torch
from kit.checks import refused
from safetensors.torch import save_file

from benchmark.models import clip
from benchmark.models.backbones import BACKBONES, make_backbone, make_network
from benchmark.models.prompts import SoftPrompts, prompts_for
from benchmark.models.weights import resolve_weights

NAMES = ("dog", "dining_table", "tv monitor")
CARD = {"architecture": "clip_vit_b_16", "mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}


@cache
def network(backbone="clip_vit_b_16", size=64, quick_gelu=False):
    """open_clip's whole model, random; batch norms have seen data."""
    torch.manual_seed(0)
    built = make_network(backbone, size, None, quick_gelu)
    with torch.no_grad():
        built.encode_image(torch.randn(4, 3, size, size))
    return built.eval()


@cache
def make(backbone="clip_vit_b_16", size=64, quick_gelu=False):
    return clip.make_clip(backbone, size, network(backbone, size, quick_gelu).state_dict(), quick_gelu)


def images(size=64, batch=2):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("backbone", ["clip_vit_b_16", "clip_rn50", "clip_demo"])
@pytest.mark.slow
def test_pooled_features_are_open_clips(backbone):
    with torch.no_grad():
        found, expected = make(backbone).image(images()), network(backbone).encode_image(images())
    torch.testing.assert_close(found, expected)
    assert found.std() > 0


@pytest.mark.slow
def test_a_transformers_class_token_and_patches_are_open_clips():
    tower, visual = make().image, network().visual
    with torch.no_grad():
        pooled, patches = tower.project(tower.stages(images()))
        visual.output_tokens = True
        expected, tokens = visual(images())
        visual.output_tokens = False
    torch.testing.assert_close(pooled, expected)
    torch.testing.assert_close(patches, tokens @ visual.proj)
    assert patches.shape == (2, tower.num_patches, tower.feature_dim) and tower.num_patches == 16


@pytest.mark.parametrize("backbone", ["clip_vit_b_16", "clip_rn50"])
def test_feature_map_is_the_last_one_before_pooling(backbone):
    with torch.no_grad():
        found = make(backbone).image.feature_map(images())
        expected = network(backbone).visual.forward_intermediates(images(), indices=1)["image_intermediates"][-1]
    torch.testing.assert_close(found, expected)
    assert found.shape[1] == make(backbone).image.map_dim


def test_a_resnet_has_no_patch_tokens():
    assert make("clip_rn50").image.num_patches is None


@pytest.mark.slow
def test_quick_gelu_is_another_network():
    state = network().state_dict()
    usual, quick = (make_backbone("clip_vit_b_16", 64, state, quick_gelu) for quick_gelu in (False, True))
    with torch.no_grad():
        assert not torch.allclose(usual(images()), quick(images()))


def test_text_features_of_fixed_prompts_are_open_clips():
    """The tower computes as many tokens as the longest prompt has, open_clip the whole context."""
    prompts = prompts_for(NAMES)
    assert prompts[1] == "a photo of a dining table."
    with torch.no_grad():
        expected = network().encode_text(open_clip.tokenize(prompts))
    torch.testing.assert_close(make().text.encode(prompts), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shared", [True, False])
def test_soft_prompts_that_start_from_words_are_those_words(shared):
    text = make().text
    prompts = SoftPrompts(text, NAMES, shared=shared)
    assert prompts.context.shape == ((4, text.width) if shared else (3, 4, text.width))
    torch.testing.assert_close(prompts(text), text.encode(prompts_for(NAMES)), atol=1e-5, rtol=1e-4)


def test_soft_prompts_that_start_from_noise():
    text = make().text
    torch.manual_seed(0)
    context = SoftPrompts(text, NAMES, length=16, words=None, noise_std=0.02).context
    assert context.shape == (16, text.width)
    assert context.std().item() == pytest.approx(0.02, rel=0.05) and abs(context.mean().item()) < 1e-3


def test_only_the_context_learns():
    """Of a class's own context only that class's feature depends, and the text tower gets no gradient."""
    model = make()
    prompts = SoftPrompts(model.text, NAMES, shared=False)
    prompts(model.text)[1].square().sum().backward()
    assert prompts.context.grad[1].abs().sum() > 0 and prompts.context.grad[[0, 2]].abs().sum() == 0
    assert all(p.grad is None for p in model.parameters()) and not any(p.requires_grad for p in model.parameters())


def test_frozen_towers_stay_in_evaluation_mode():
    model = make("clip_rn50")
    before = model.image.stages.layer4[0].bn1.running_mean.clone()
    model.train()
    model.image(images())
    assert torch.equal(model.image.stages.layer4[0].bn1.running_mean, before)


def test_logit_scale_is_the_exponential_of_the_published_parameter():
    state = network().state_dict() | {"logit_scale": torch.tensor(4.6052)}
    assert clip.make_clip("clip_vit_b_16", 64, state, False).logit_scale == pytest.approx(100, rel=1e-4)


def test_prompt_longer_than_the_context():
    text = make().text
    message = refused(text.tokenize, ["a dog.", "a photo of a " + "very " * 80 + "long name."])
    assert "very long name" in message and "77" in message
    assert refused(SoftPrompts, text, NAMES, length=75, words=None)


def test_context_words_must_be_as_many_tokens_as_the_context():
    assert "'a photo of' has 3 tokens, not 4" in refused(SoftPrompts, make().text, NAMES, words="a photo of")


def test_other_backbones_have_no_text_tower():
    assert "resnet50 has no text tower" in refused(clip.make_clip, "resnet50", 64, None, False)


def test_image_size_must_be_whole_patches():
    assert "multiple of 16" in refused(make_backbone, "clip_vit_b_16", 70, None)
    assert "multiple of 32" in refused(make_backbone, "clip_rn50", 80, None)


def test_planning_computes_nothing():
    with torch.device("meta"):
        model = clip.make_clip("clip_vit_b_16", 224, None, False)
        assert model.text.encode(prompts_for(NAMES)).is_meta
        assert SoftPrompts(model.text, NAMES).context.is_meta


# Weights


def test_published_weights_bring_their_normalisation():
    ref = resolve_weights("clip_vit_b_16", "ViT-B-16:openai", 224).ref
    assert ref.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))  # of CLIP's paper's released code
    assert (ref.interpolation, ref.quick_gelu, ref.name) == ("bicubic", True, "ViT-B-16:openai")
    assert not resolve_weights("clip_vit_b_16", "ViT-B-16:laion2b_s34b_b88k", 224).ref.quick_gelu


@pytest.mark.parametrize(
    ("backbone", "weights", "parts"),
    [
        ("clip_rn50", "ViT-B-16:openai", ["ViT-B-16:openai", "clip_rn50", "RN50:"]),
        ("clip_vit_b_16", "ViT-B-16:opnai", ["ViT-B-16:opnai", "did you mean 'openai'"]),
        ("clip_vit_b_16", "IMAGENET1K_V1", ["IMAGENET1K_V1", "ViT-B-16:"]),
        ("clip_demo", "demo:nothing", ["demo:nothing", "shapes"]),
        ("clip_vit_b_16", "missing.safetensors", ["missing.safetensors", "no such"]),
    ],
)
def test_weights_that_do_not_belong_are_named(backbone, weights, parts):
    message = refused(resolve_weights, backbone, weights, 224)
    assert [part for part in parts if part not in message] == []


def test_weights_that_cannot_be_fetched_are_named_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1:9")  # nobody listens
    message = refused(resolve_weights("clip_rn50", "RN50:openai", 224).load)
    folder = tmp_path / "models--timm--resnet50_clip.openai" / "snapshots" / "main"
    for part in (
        "RN50:openai",
        "cannot be reached",
        "https://huggingface.co/timm/resnet50_clip.openai/resolve/main/open_clip_model.safetensors",
        str(folder / "open_clip_model.safetensors"),
        "ltbench weights fetch clip_rn50/RN50:openai",
        "--weights PATH",
    ):
        assert part in message


def small_file(path, change=None, **card):
    """Weights of the demo's architecture in half precision, with what OpenAI's archives hold beside."""
    state = {key: value.half().contiguous() for key, value in network("clip_demo").state_dict().items()}
    state |= {"input_resolution": torch.tensor(64), "context_length": torch.tensor(24)}
    state |= change or {}
    metadata = CARD | {"architecture": "clip_demo"} | card
    save_file(state, path, {key: v if isinstance(v, str) else json.dumps(v) for key, v in metadata.items()})
    return str(path)


def test_a_file_in_half_precision_is_loaded_in_float32(tmp_path):
    loaded = resolve_weights("clip_demo", small_file(tmp_path / "w.safetensors"), 64).load()
    expected = network("clip_demo").state_dict()
    assert set(loaded) == set(expected)
    assert all(value.dtype == torch.float32 for value in loaded.values())
    torch.testing.assert_close(loaded["visual.proj"], expected["visual.proj"], atol=1e-3, rtol=1e-3)


def test_a_card_tells_the_activation(tmp_path):
    path = small_file(tmp_path / "w.safetensors", quick_gelu=True)
    assert resolve_weights("clip_demo", path, 64).ref.quick_gelu


def test_the_text_tower_of_a_file(tmp_path):
    path = small_file(tmp_path / "w.safetensors")
    text = clip.make_text_tower(path)
    expected = make("clip_demo").text.encode(prompts_for(NAMES))
    torch.testing.assert_close(text.encode(prompts_for(NAMES)), expected, atol=0.02, rtol=0.02)  # half precision
    assert not torch.allclose(clip.make_text_tower(path, load=False).encode(["a dog."]), text.encode(["a dog."]))


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = small_file(tmp_path / "w.safetensors")
    message = refused(resolve_weights, "clip_vit_b_16", path, 224)
    assert "'clip_demo'" in message and "'clip_vit_b_16'" in message
    wrong = small_file(tmp_path / "x.safetensors", {"visual.proj": torch.zeros(3, 5)})
    assert "visual.proj is [3, 5]" in refused(resolve_weights("clip_demo", wrong, 64).load)


def test_positions_are_interpolated_to_the_image_size(tmp_path):
    path = small_file(tmp_path / "w.safetensors")
    original = network("clip_demo").state_dict()["visual.positional_embedding"]
    larger = resolve_weights("clip_demo", path, 96).load()["visual.positional_embedding"]
    assert larger.shape == (1 + 12 * 12, original.shape[1])
    torch.testing.assert_close(larger[0], original[0], atol=1e-3, rtol=1e-3)
    # Bicubic interpolation of a grid keeps its mean, but for the borders.
    torch.testing.assert_close(larger[1:].mean(0), original[1:].mean(0), atol=5e-3, rtol=0)
    state = {"visual.attnpool.positional_embedding": torch.arange(5.0)[:, None].expand(5, 2)}
    expected = {"visual.attnpool.positional_embedding": torch.zeros(17, 2)}
    assert BACKBONES.get("clip_rn50").fit(state, expected, 128)["visual.attnpool.positional_embedding"].shape == (17, 2)


@pytest.mark.parametrize("weights", ["ViT-B-17:openai", "openai", "ViT-B-16"])
def test_unknown_clip_weights(weights):
    assert repr(weights) in refused(clip.clip_backbone_of, weights)


def test_the_backbone_of_clip_weights(tmp_path):
    assert clip.clip_backbone_of("RN50:openai") == "clip_rn50"
    assert clip.clip_backbone_of(small_file(tmp_path / "w.safetensors")) == "clip_demo"
