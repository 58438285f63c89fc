"""CPRFL's head: prompts from text embeddings, refined by the image in a transformer layer."""

from __future__ import annotations

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


class TransformerLayer(nn.Module):
    """Attention, then the MLP, [B, L, d] -> [B, L, d]; residual: add to each what went in."""

    def __init__(self, dim: int, heads: int, head_dim: int, mlp_dim: int, dropout: float, residual: bool):
        super().__init__()
        self.attention = SelfAttention(dim, heads, head_dim, dropout)
        self.mlp = FeedForward(dim, mlp_dim, dropout)
        self.residual = residual

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        for part in (self.attention, self.mlp):
            tokens = tokens + part(tokens) if self.residual else part(tokens)
        return tokens


class CategoryPromptHead(nn.Module):
    """Feature map [B, M, h, w] -> logits [B, C] (Yan et al., ACM MM 2024).

    F = the map's h*w tokens, through a linear layer to width d; P = prompts [C, d] from the text embeddings W;
    P' = the last C tokens of a transformer layer over (F, P); logit_c = <P'_c, P_c>.

    embeddings: W, float32 [C, m], constant.
    prompt_mlp: P = GELU(W W1 + b1) W2 + b2 with hidden width d / 2; False: one linear layer.
    interaction: False leaves the transformer out: logit_c = <mean of F's tokens, P_c>.
    residual: whether the transformer layer has residual connections.
    """

    def __init__(
        self,
        map_dim: int,
        embeddings: torch.Tensor,
        dim: int = 2048,
        heads: int = 8,
        head_dim: int = 512,
        mlp_dim: int = 2048,
        dropout: float = 0.1,
        prompt_mlp: bool = True,
        interaction: bool = True,
        residual: bool = True,
    ):
        super().__init__()
        self.register_buffer("embeddings", embeddings)
        width, hidden = embeddings.shape[1], int(PROMPT_WIDTH * dim)
        self.project = nn.Linear(map_dim, dim)
        if prompt_mlp:
            self.prompt = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, dim))
        else:
            self.prompt = nn.Linear(width, dim)
        self.interaction = None
        if interaction:
            self.interaction = TransformerLayer(dim, heads, head_dim, mlp_dim, dropout, residual)

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
