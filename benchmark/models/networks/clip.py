"""CLIP through open_clip: its networks as backbones with a text tower, and their published weights.

open_clip is imported when the first CLIP is built, as that takes seconds.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmark.errors import InputError
from benchmark.models.backbones import BACKBONES, WeightsSource
from benchmark.models.clip import ClipArchitecture, ImageTower, TextTower, clip_architectures
from benchmark.models.vision_transformer import PatchEmbedding, transformer_stages
from benchmark.models.weight_files import HubFile
from benchmark.registry import did_you_mean
from benchmark.spec import WeightsRef

if TYPE_CHECKING:
    from open_clip.model import CLIP
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer


class _TransformerTower(ImageTower):
    """open_clip's VisionTransformer."""

    def __init__(self, visual: VisionTransformer):
        stem = PatchEmbedding(visual.conv1, visual.class_embedding, visual.positional_embedding, visual.ln_pre)
        stages = transformer_stages(stem, visual.transformer.resblocks)
        super().__init__(stages, map_dim=visual.conv1.out_channels, feature_dim=visual.proj.shape[1])
        self.norm: nn.Module = visual.ln_post
        self.projection: nn.Parameter = visual.proj
        self.num_patches = visual.grid_size[0] * visual.grid_size[1]

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        return self.norm(features[:, 0]) @ self.projection

    def project(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        projected = self.norm(features) @ self.projection
        return projected[:, 0], projected[:, 1:]


class _ResNetTower(ImageTower):
    """open_clip's ModifiedResNet, with attention pooling."""

    def __init__(self, visual: ModifiedResNet):
        names = ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "conv3", "bn3", "act3", "avgpool")
        stem = nn.Sequential(*(getattr(visual, name) for name in names))
        layers = {f"layer{i}": getattr(visual, f"layer{i}") for i in range(1, 5)}
        attention = visual.attnpool
        super().__init__(OrderedDict(stem=stem, **layers), attention.c_proj.in_features, attention.c_proj.out_features)
        self.attention: nn.Module = attention

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        return self.attention(features)


class OpenClipArchitecture(ClipArchitecture):
    """A CLIP as open_clip builds it; `published_name` is its name of the architecture."""

    has_quick_gelu = True

    @classmethod
    def config(cls) -> dict[str, Any]:
        """open_clip's description of the architecture, a copy."""
        import open_clip

        return open_clip.get_model_config(cls.published_name)

    @classmethod
    def tokenizer(cls) -> Any:
        """open_clip's tokenizer of the architecture."""
        return _tokenizer()

    @classmethod
    def build(cls, image_size: int, quick_gelu: bool) -> nn.Module:
        from open_clip.model import CLIP

        config = cls.config()
        config["vision_cfg"]["image_size"] = image_size
        return CLIP(**{**config, "quick_gelu": quick_gelu})

    @classmethod
    def wrap(cls, network: CLIP) -> ImageTower:
        visual = network.visual
        return _TransformerTower(visual) if hasattr(visual, "transformer") else _ResNetTower(visual)

    @classmethod
    def text_tower(cls, network: CLIP) -> TextTower:
        return TextTower(network, cls.tokenizer())

    @classmethod
    def published(cls, backbone: str, weights: str) -> WeightsSource:
        """Weights by `architecture:tag`. Raises InputError, with the near names, for an unknown tag, and for weights of
        another architecture."""
        name, _, tag = weights.partition(":")
        if name != cls.published_name:
            others = [other for other, found in clip_architectures().items() if found.published_name == name]
            raise InputError(
                f"weights {weights!r} are not of backbone {backbone}, which is open_clip's {cls.published_name}; write "
                + (f"--backbone {others[0]}, or " if others else "")
                + f"--weights {cls.published_name}:TAG, the path of a file, or none"
            )
        return cls.tagged(tag)

    @classmethod
    def tagged(cls, tag: str) -> WeightsSource:
        """Weights by their tag. Raises InputError, with the near names, for an unknown one."""
        facts = published(cls.published_name, tag)
        weights = f"{cls.published_name}:{tag}"
        ref = WeightsRef(
            name=weights,
            digest=f"open_clip/{weights}",
            mean=tuple(facts["mean"]),
            std=tuple(facts["std"]),
            interpolation=facts["interpolation"],
            batch_norm="normal",
            quick_gelu=facts.get("quick_gelu", False),
        )
        return WeightsSource(ref, published_file(facts))

    @classmethod
    def fit(
        cls, state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], image_size: int
    ) -> dict[str, torch.Tensor]:
        """Leave out the numbers in OpenAI's archives, and interpolate position embeddings to the image size."""
        extra = ("input_resolution", "context_length", "vocab_size")
        state = {key: value for key, value in state.items() if key not in extra}
        for key in ("visual.positional_embedding", "visual.attnpool.positional_embedding"):
            if key in state and key in expected and state[key].ndim == 2 and len(state[key]) > 1:
                state[key] = _resized(state[key], len(expected[key]))
        return state


@BACKBONES.register("clip_rn50")
class ClipRN50(OpenClipArchitecture):
    """CLIP's ResNet-50 (Radford et al., ICML 2021), 1024 features."""

    published_name = "RN50"
    pretrained_size = 224
    size_step = 32  # the attention pooling has one position for each 32 x 32 pixels


@BACKBONES.register("clip_vit_b_16")
class ClipViTB16(OpenClipArchitecture):
    """CLIP's ViT-B/16 (Radford et al., ICML 2021), 512 features."""

    published_name = "ViT-B-16"
    pretrained_size = 224
    size_step = 16  # the side of a patch


@functools.cache
def _tokenizer() -> Any:
    import open_clip

    return open_clip.SimpleTokenizer()


def unknown_tag(name: str, tag: str, known: list[str]) -> InputError:
    """The error for a tag that an architecture does not have."""
    return InputError(f"unknown CLIP weights {f'{name}:{tag}'!r}{did_you_mean(tag, known)}; or give a file or none")


def published(name: str, tag: str) -> dict[str, Any]:
    """open_clip's entry for published weights: mean, std, interpolation, quick_gelu, and where to fetch them.

    Raises InputError, with the near names, for an unknown tag.
    """
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    facts = get_pretrained_cfg(name, tag)
    if not facts:
        raise unknown_tag(name, tag, list_pretrained_tags_by_model(name))
    return facts


def published_file(facts: dict[str, Any]) -> HubFile:
    """The file of published weights; open_clip looks for it in the same cache."""
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repository, _, name = facts["hf_hub"].rpartition("/")  # `owner/name/`, or `owner/name/file`
    return HubFile(repository, *([name] if name else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]))


def _resized(positions: torch.Tensor, length: int) -> torch.Tensor:
    """Position embeddings [1 + s * s, M] -> [length, M]: bicubic, with the class token's unchanged.

    A grid that is not square stays as it is, and the caller refuses its shape.
    """
    old, new = math.isqrt(len(positions) - 1), math.isqrt(length - 1)
    if old == new or old * old != len(positions) - 1:
        return positions
    grid = positions[1:].T.reshape(1, -1, old, old)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([positions[:1], grid[0].flatten(1).T])
