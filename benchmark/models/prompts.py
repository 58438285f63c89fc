"""Prompts for CLIP's text tower: a fixed one, and learned contexts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from benchmark.errors import InputError
from benchmark.models.clip import TextTower

PROMPT = "a photo of a {}."


def prompts_for(class_names: Sequence[str]) -> list[str]:
    """`PROMPT` for each class; an underscore in a name is read as a space."""
    return [PROMPT.format(name.replace("_", " ")) for name in class_names]


class SoftPrompts(nn.Module):
    """[start][v_1 .. v_M][class name][.][end] with learned vectors v (Zhou et al., CoOp, IJCV 2022, eq. 2-3).

    words: the context starts from their embeddings, exactly `length` tokens; None for N(0, noise_std).
    shared: one context [M, width] for all classes, or one for each class [C, M, width].
    Raises InputError when the words are not `length` tokens or a prompt is longer than the text tower takes.
    """

    tokens: torch.Tensor

    def __init__(
        self,
        text: TextTower,
        class_names: Sequence[str],
        length: int = 4,
        words: str | None = "a photo of a",
        shared: bool = True,
        noise_std: float = 0.02,
    ):
        super().__init__()
        # Any token will do in the context's position: its embedding is never used.
        filler = " ".join(["a"] * length)
        tokens = text.tokenize([f"{filler} {name.replace('_', ' ')}." for name in class_names])
        self.register_buffer("tokens", tokens, persistent=False)
        if words is None:
            context = noise_std * torch.randn(length, text.width)
        else:
            started = text.tokenize([words])[:, 1:-1]
            if started.shape[1] != length:
                raise InputError(f"context {words!r} has {started.shape[1]} tokens, not {length}")
            context = text.embed(started)[0].detach().clone()
        shape = context.shape if shared else (len(class_names), *context.shape)
        self.context = nn.Parameter(context.expand(shape).clone())

    def forward(self, text: TextTower) -> torch.Tensor:
        """Text features [C, D], not normalised; the gradient reaches the context alone, as the tower is frozen."""
        embedded = text.embed(self.tokens)
        length = self.context.shape[-2]
        context = self.context.expand(len(embedded), -1, -1).to(embedded.dtype)
        return text(torch.cat([embedded[:, :1], context, embedded[:, 1 + length :]], dim=1), self.tokens)
