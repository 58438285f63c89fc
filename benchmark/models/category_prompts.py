"""CPRFL's head: prompts from text embeddings, refined by the image in a transformer layer."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

PROMPT_WIDTH = 0.5  # tau: hidden width of the prompt network, as a fraction of its output's


class SelfAttention(nn.Module):
    """Pre-norm multi-head self-attention, [B, L, d] -> [B, L, d]; q, k and v without bias."""

    def __init__(self, dim: int, heads: int, head_dim: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        # [B, L, 3 * heads * head_dim] -> q, k, v, each [B, heads, L, head_dim].
        q, k, v = self.qkv(self.norm(tokens)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.dropout(self.out(mixed))


class FeedForward(nn.Module):
    """Pre-norm MLP with GELU, [B, L, d] -> [B, L, d]."""

    def __init__(self, dim: int, hidden: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.hidden = nn.Linear(dim, hidden)
        self.out = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.dropout(F.gelu(self.hidden(self.norm(tokens))))
        return self.dropout(self.out(hidden))


class ReleasedLayer(nn.Sequential):
    """The layer of CPRFL's released code, [B, L, d] -> [B, L, d]: attention, then the MLP, each after a layer norm.

    Nothing is added to what comes out of either: neither paper nor code has residual connections.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, mlp_dim: int, dropout: float):
        parts = {
            "attention": SelfAttention(dim, heads, head_dim, dropout),
            "mlp": FeedForward(dim, mlp_dim, dropout),
        }
        super().__init__(OrderedDict(parts))


class EquationsLayer(nn.Module):
    """The layer of CPRFL's paper to the letter, eq. 3 to 5, [B, L, d] -> [B, L, d]:

        a_ij = softmax_j((Wq z_i)^T (Wk z_j) / sqrt(d)),  zbar_i = sum_j a_ij W z_j,
        z'_i = GELU(zbar_i W_r + b_3) W_o + b_4

    One head, square matrices without bias, no norms, no dropout. mlp_dim: columns of W_r.
    """

    def __init__(self, dim: int, mlp_dim: int):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.hidden = nn.Linear(dim, mlp_dim)
        self.out = nn.Linear(mlp_dim, dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mixed = F.scaled_dot_product_attention(self.query(tokens), self.key(tokens), self.value(tokens))
        return self.out(F.gelu(self.hidden(mixed)))


class CategoryPromptHead(nn.Module):
    """Feature map [B, M, h, w] -> logits [B, C] (Yan et al., ACM MM 2024).

    F = the map's h*w tokens, through a linear layer to width d; P = prompts [C, d] from the text embeddings W;
    P' = the last C tokens of a transformer layer over (F, P); logit_c = <P'_c, P_c>.

    map_dim: M. embeddings: W, float32 [C, m], constant. dim: d.
    interaction: the transformer layer, [B, L, d] -> [B, L, d]; None leaves it out: logit_c = <mean of F's tokens, P_c>.
    prompt_mlp: P = GELU(W W1 + b1) W2 + b2 with hidden width d / 2; False: one linear layer.
    """

    def __init__(
        self,
        map_dim: int,
        embeddings: torch.Tensor,
        dim: int,
        interaction: nn.Module | None,
        prompt_mlp: bool = True,
    ):
        super().__init__()
        self.register_buffer("embeddings", embeddings)
        width, hidden = embeddings.shape[1], int(PROMPT_WIDTH * dim)
        self.project = nn.Linear(map_dim, dim)
        if prompt_mlp:
            self.prompt = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, dim))
        else:
            self.prompt = nn.Linear(width, dim)
        self.interaction = interaction

    def prompts(self) -> torch.Tensor:
        """P, [C, d]."""
        return self.prompt(self.embeddings)

    def refined(self, feature_map: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """[B, M, h, w] and P [C, d] -> what the prompts are multiplied with: P' [B, C, d], or without the
        transformer the pooled features [B, 1, d]."""
        features = self.project(feature_map.flatten(2).transpose(1, 2))
        if self.interaction is None:
            return features.mean(dim=1, keepdim=True)
        tokens = torch.cat([features, prompts.expand(len(features), -1, -1)], dim=1)
        return self.interaction(tokens)[:, -len(prompts) :]

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        prompts = self.prompts()
        # In float32: the sum of d products decides the ranking.
        return (self.refined(feature_map, prompts).float() * prompts.float()).sum(dim=-1)
