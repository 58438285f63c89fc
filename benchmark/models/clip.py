"""CLIP's towers for methods, and how they are made.

Everything is built in float32, whatever the file holds; autocast is the training loop's. `make_clip` and
`make_text_tower` return frozen towers.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from benchmark.base.files import split_file
from benchmark.errors import InputError
from benchmark.models.backbones import BACKBONES, Architecture, Backbone, make_network
from benchmark.models.weights import SILENT, read_card, resolve_weights
from benchmark.registry import did_you_mean
from benchmark.ui.progress import Reporter

if TYPE_CHECKING:
    from open_clip.model import CLIP


class ImageTower(Backbone):
    """CLIP's image tower: a backbone whose pooled features [B, D] lie in the space that text features share.

    num_patches: patch tokens of a vision transformer, None for a ResNet. Its stages are a stem, then one block each
    (open_clip's ResidualAttentionBlock), or the four layers of the ResNet.
    """

    num_patches: int | None = None

    def project(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Output of `stages` [B, 1 + h * w, M] -> class token [B, D] and patch tokens [B, h * w, D], projected."""
        raise NotImplementedError


class TextTower(nn.Module):
    """CLIP's text tower, frozen.

    context_length: most tokens of a prompt, start and end included. width: of a token's embedding.
    feature_dim: of a text feature.
    """

    mask: torch.Tensor

    def __init__(self, network: CLIP, tokenizer: Any):
        super().__init__()
        self.context_length: int = network.context_length
        self.width: int = network.token_embedding.embedding_dim
        self.feature_dim: int = network.text_projection.shape[1]
        self.token_embedding: nn.Embedding = network.token_embedding
        self.position: nn.Parameter = network.positional_embedding
        self.transformer: nn.Module = network.transformer
        self.norm: nn.Module = network.ln_final
        self.projection: nn.Parameter = network.text_projection
        self.register_buffer("mask", network.attn_mask, persistent=False)
        self._tokenizer = tokenizer
        self.requires_grad_(False)

    def tokenize(self, prompts: Sequence[str]) -> torch.Tensor:
        """Token numbers [C, L] on the tower's device; L is the length of the longest prompt, start and end included.

        Shorter prompts are padded: attention is causal, so tokens after a prompt's end do not matter. Raises
        InputError, naming the prompt, when one is longer than the context.
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


class ClipArchitecture(Architecture):
    """A CLIP: the backbone is its image tower, and there is a text tower beside it.

    The network of `build` has both, and the logarithm of the published factor on cosines as `logit_scale`.
    published_name: the first part of the names of its published weights: ViT-B-16 in `ViT-B-16:openai`.
    pretrained_size: side in pixels of the images that published weights were trained on.
    """

    published_name: ClassVar[str]
    pretrained_size: ClassVar[int]

    @classmethod
    @abstractmethod
    def wrap(cls, network: CLIP) -> ImageTower:
        """The image tower of a network from `build`."""

    @classmethod
    @abstractmethod
    def text_tower(cls, network: CLIP) -> TextTower:
        """The text tower of a network from `build`."""


def clip_architectures() -> dict[str, type[ClipArchitecture]]:
    """Name of the backbone -> architecture, of every CLIP."""
    return {name: found for name, found in BACKBONES.items() if issubclass(found, ClipArchitecture)}


def clip_backbones() -> list[str]:
    """Names of the backbones that are CLIP image towers."""
    return list(clip_architectures())


def clip_backbone_of(weights: str) -> str:
    """The CLIP backbone of weights: `architecture:tag`, or a file with a card. Raises InputError."""
    known = clip_architectures()
    if split_file(weights):
        path = Path(weights)
        name = read_card(path).architecture
        if name not in known:
            raise InputError(f"{path}: these are weights of {name!r}, which is not a CLIP")
        return name
    by_published = {architecture.published_name: name for name, architecture in known.items()}
    published, colon, _ = weights.partition(":")
    if not colon or published not in by_published:
        beginnings = [f"{name}:" for name in sorted(by_published)]
        raise InputError(
            f"unknown CLIP weights {weights!r}{did_you_mean(weights, beginnings)}: write architecture:tag, such as "
            "ViT-B-16:openai, or the path of a file"
        )
    return by_published[published]


def make_clip(backbone: str, image_size: int, state: dict[str, torch.Tensor] | None, quick_gelu: bool) -> Clip:
    """A CLIP by its image tower's name; `state` as `benchmark.models.weights.PretrainedWeights.load` gives it.

    Raises InputError when the backbone is not CLIP's.
    """
    architecture = BACKBONES.get(backbone)
    if not issubclass(architecture, ClipArchitecture):
        raise InputError(f"backbone {backbone} has no text tower; use {', '.join(clip_backbones())}")
    network: CLIP = make_network(backbone, image_size, state, quick_gelu)
    return Clip(architecture.wrap(network), architecture.text_tower(network), network.logit_scale)


def make_text_tower(weights: str, load: bool = True, reporter: Reporter = SILENT) -> TextTower:
    """The text tower of other weights than the run's: `architecture:tag`, or a file. Raises InputError.

    load: False for random initialisation. reporter: see `PretrainedWeights.load`.
    """
    backbone = clip_backbone_of(weights)
    architecture = clip_architectures()[backbone]
    pretrained = resolve_weights(backbone, weights, architecture.pretrained_size)
    state = pretrained.load(reporter) if load else None
    network = make_network(backbone, architecture.pretrained_size, state, pretrained.ref.quick_gelu)
    return architecture.text_tower(network)
