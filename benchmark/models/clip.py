"""CLIP through open_clip: the image tower as a backbone, the text tower, published weights.

Everything is built in float32, whatever the file holds; autocast is the training loop's. `make_clip` and
`make_text_tower` freeze what they give. open_clip itself is imported when a CLIP is first built: that takes seconds.
"""

from __future__ import annotations

import copy
import functools
import json
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmark.errors import InputError
from benchmark.models.backbones import BACKBONES, Backbone, BackboneEntry, PatchEmbedding, make_network
from benchmark.models.weights import clip_backbone_of, resolve_weights
from benchmark.registry import did_you_mean

# The small CLIP of the demo set: benchmark/tools/demo_clip.py makes it. Another training is another tag.
DEMO = "demo"
_DEMO_FOLDER = Path(__file__).parent / "demo_clip"
SHIPPED = {f"{DEMO}:shapes": _DEMO_FOLDER / "weights.safetensors"}


class ImageTower(Backbone):
    """CLIP's image tower: a backbone whose pooled features [B, D] lie in the space that text features share.

    num_patches: patch tokens of a vision transformer, None for a ResNet. Its stages are a stem, then one block each
    (open_clip's ResidualAttentionBlock), or the four layers of the ResNet.
    """

    num_patches: int | None = None

    def project(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Output of `stages` [B, 1 + h * w, M] -> class token [B, D] and patch tokens [B, h * w, D], projected."""
        raise NotImplementedError


class _TransformerTower(ImageTower):
    def __init__(self, visual: nn.Module):
        blocks = list(visual.transformer.resblocks)
        stem = PatchEmbedding(visual.conv1, visual.class_embedding, visual.positional_embedding, visual.ln_pre)
        stages: OrderedDict[str, nn.Module] = OrderedDict(stem=stem)
        stages.update((f"block{i}", block) for i, block in enumerate(blocks, 1))
        super().__init__(stages, map_dim=visual.conv1.out_channels, feature_dim=visual.proj.shape[1])
        self.norm = visual.ln_post
        self.projection = visual.proj
        self.num_patches = visual.grid_size[0] * visual.grid_size[1]

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        return self.norm(features[:, 0]) @ self.projection

    def project(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        projected = self.norm(features) @ self.projection
        return projected[:, 0], projected[:, 1:]


class _ResNetTower(ImageTower):
    def __init__(self, visual: nn.Module):
        names = ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "conv3", "bn3", "act3", "avgpool")
        stem = nn.Sequential(*(getattr(visual, name) for name in names))
        layers = {f"layer{i}": getattr(visual, f"layer{i}") for i in range(1, 5)}
        attention = visual.attnpool
        super().__init__(OrderedDict(stem=stem, **layers), attention.c_proj.in_features, attention.c_proj.out_features)
        self.attention = attention

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        return self.attention(features)


class TextTower(nn.Module):
    """CLIP's text tower, frozen.

    context_length: most tokens of a prompt, start and end included. width: of a token's embedding.
    feature_dim: of a text feature.
    """

    def __init__(self, network: nn.Module, tokenizer: Any):
        super().__init__()
        self.context_length = network.context_length
        self.width = network.token_embedding.embedding_dim
        self.feature_dim = network.text_projection.shape[1]
        self.token_embedding = network.token_embedding
        self.position = network.positional_embedding
        self.transformer = network.transformer
        self.norm = network.ln_final
        self.projection = network.text_projection
        self.register_buffer("mask", network.attn_mask, persistent=False)
        self._tokenizer = tokenizer
        self.requires_grad_(False)

    def tokenize(self, prompts: Sequence[str]) -> torch.Tensor:
        """Token numbers [C, L], on the tower's device; L is the longest prompt's length, start and end included:
        attention is causal, so what follows the end of a prompt does not matter.

        Raises InputError, naming the prompt, when one is longer than the context.
        """
        start, end = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        rows = [[start, *self._tokenizer.encode(prompt), end] for prompt in prompts]
        for prompt, row in zip(prompts, rows, strict=True):
            if len(row) > self.context_length:
                raise InputError(
                    f"prompt {prompt!r} has {len(row)} tokens, and this text tower takes {self.context_length}; "
                    "use shorter class names or a shorter context"
                )
        length = max(map(len, rows))
        padded = [row + [0] * (length - len(row)) for row in rows]
        return torch.tensor(padded, device=self.position.device)

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token numbers [C, L] -> embeddings [C, L, width], without positions."""
        return self.token_embedding(tokens)

    def forward(self, embedded: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Embeddings [C, L, width] of `tokens` [C, L] -> the feature at each prompt's end [C, D], not normalised."""
        length = embedded.shape[1]
        x = embedded + self.position[:length]
        x = self.norm(self.transformer(x, attn_mask=self.mask[:length, :length]))
        # The end token has the highest number.
        return x[torch.arange(len(x), device=x.device), tokens.argmax(dim=1)] @ self.projection

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        """Features [C, D] of fixed prompts, not normalised, without gradient. Raises InputError: see `tokenize`."""
        tokens = self.tokenize(prompts)
        return self(self.embed(tokens), tokens)


class Clip(nn.Module):
    """Both towers of a CLIP, frozen; a method unfreezes what it trains.

    logit_scale: factor on the cosines, the exponential of the published parameter.
    """

    def __init__(self, image: ImageTower, text: TextTower, log_scale: torch.Tensor):
        super().__init__()
        self.image = image
        self.image.freeze_all()
        self.text = text
        self.logit_scale = 1.0 if log_scale.is_meta else math.exp(log_scale.item())


def make_clip(backbone: str, image_size: int, state: dict[str, torch.Tensor] | None, quick_gelu: bool) -> Clip:
    """A CLIP by its image tower's name; `state` as `benchmark.models.weights.PretrainedWeights.load` gives it.

    Raises InputError when the backbone is not CLIP's.
    """
    entry = BACKBONES.get(backbone)
    if entry.clip_name is None:
        raise InputError(f"backbone {backbone} has no text tower; use {', '.join(clip_backbones())}")
    network = make_network(backbone, image_size, state, quick_gelu)
    return Clip(entry.wrap(network), TextTower(network, _tokenizer(entry.clip_name)), network.logit_scale)


def make_text_tower(weights: str, load: bool = True, say: Callable[[str], None] = lambda line: None) -> TextTower:
    """The text tower of other weights than the run's: `architecture:tag`, or a file. Raises InputError.

    load: False leaves it random. say: see `PretrainedWeights.load`.
    """
    backbone = clip_backbone_of(weights)
    name = BACKBONES.get(backbone).clip_name
    size = _config(name)["vision_cfg"]["image_size"]
    pretrained = resolve_weights(backbone, weights, size)
    network = make_network(backbone, size, pretrained.load(say) if load else None, pretrained.ref.quick_gelu)
    return TextTower(network, _tokenizer(name))


def clip_backbones() -> list[str]:
    """Names of the backbones that are CLIP image towers."""
    return [name for name, entry in BACKBONES.items() if entry.clip_name is not None]


@functools.cache
def _config(name: str) -> dict[str, Any]:
    """open_clip's description of an architecture; ours for the demo's."""
    if name == DEMO:
        return json.loads((_DEMO_FOLDER / "config.json").read_text(encoding="utf-8"))["model_cfg"]
    import open_clip

    return open_clip.get_model_config(name)


@functools.cache
def _tokenizer(name: str) -> Any:
    import open_clip

    if name == DEMO:
        return open_clip.SimpleTokenizer(str(_DEMO_FOLDER / "merges.txt.gz"))
    return open_clip.SimpleTokenizer()


def _build(name: str, image_size: int, quick_gelu: bool) -> nn.Module:
    from open_clip.model import CLIP

    config = copy.deepcopy(_config(name))
    # A ResNet's attention pooling has one position for each 32 x 32 pixels.
    step = config["vision_cfg"]["patch_size"] or 32
    if image_size % step:
        raise InputError(f"CLIP {name} needs an image size that is a multiple of {step}; {image_size} is not")
    config["vision_cfg"]["image_size"] = image_size
    return CLIP(**{**config, "quick_gelu": quick_gelu})


def published(name: str, tag: str) -> dict[str, Any]:
    """What open_clip knows of published weights: mean, std, interpolation, quick_gelu, where they are.

    Raises InputError, with the near names, for an unknown tag.
    """
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    facts = get_pretrained_cfg(name, tag) if name != DEMO else None
    if not facts:
        known = list_pretrained_tags_by_model(name) if name != DEMO else [key.partition(":")[2] for key in SHIPPED]
        raise InputError(f"unknown CLIP weights {f'{name}:{tag}'!r}{did_you_mean(tag, known)}; or give a file or none")
    return facts


def is_cached(name: str, tag: str) -> bool:
    """Whether `fetch` would find published weights without a network. Raises InputError for an unknown tag."""
    from huggingface_hub import try_to_load_from_cache
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    facts = published(name, tag)
    if hub := facts.get("hf_hub", "").rstrip("/"):
        return any(
            isinstance(try_to_load_from_cache(hub, file), str) for file in (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
        )
    return (Path("~/.cache/clip").expanduser() / facts["url"].rpartition("/")[2]).exists()


def fetch(name: str, tag: str) -> Path:
    """The local file of published weights, from the Hugging Face cache or, where that is possible, fetched.

    Raises InputError naming tag, file and remedy.
    """
    from open_clip.pretrained import download_pretrained

    facts = published(name, tag)
    hub = facts.get("hf_hub", "").rstrip("/")
    # It logs every attempt; one line is enough, and it follows.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return Path(download_pretrained(facts))
    except Exception as error:  # the hub's own, urllib's, the file system's
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"CLIP weights {name}:{tag} are not in the cache of Hugging Face and could not be fetched ({first}): "
            f"fetch open_clip_model.safetensors of {hub or facts.get('url')} on a machine that can, and either "
            "bring its cache (HF_HOME) or give the file's path instead of the name"
        ) from None


def fit(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A published state dict as open_clip's CLIP takes it: without the archive's own numbers, and with position
    embeddings interpolated to the image size."""
    extra = ("input_resolution", "context_length", "vocab_size")
    state = {key: value for key, value in state.items() if key not in extra}
    for key in ("visual.positional_embedding", "visual.attnpool.positional_embedding"):
        if key in state and key in expected and state[key].ndim == 2 and len(state[key]) > 1:
            state[key] = _resized(state[key], len(expected[key]))
    return state


def _resized(positions: torch.Tensor, length: int) -> torch.Tensor:
    """[1 + s * s, M] -> [length, M], bicubic, the class token's apart; another grid is left to be refused."""
    old, new = math.isqrt(len(positions) - 1), math.isqrt(length - 1)
    if old == new or old * old != len(positions) - 1:
        return positions
    grid = positions[1:].T.reshape(1, -1, old, old)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([positions[:1], grid[0].flatten(1).T])


def _wrap(network: nn.Module) -> ImageTower:
    visual = network.visual
    return _TransformerTower(visual) if hasattr(visual, "transformer") else _ResNetTower(visual)


for _backbone, _name in [("clip_rn50", "RN50"), ("clip_vit_b_16", "ViT-B-16"), ("clip_demo", DEMO)]:
    BACKBONES.register(_backbone)(
        BackboneEntry(
            build=lambda size, quick_gelu, name=_name: _build(name, size, quick_gelu),
            wrap=_wrap,
            clip_name=_name,
        )
    )
