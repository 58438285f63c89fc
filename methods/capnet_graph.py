"""CAPNET's graph of the classes, from their text features, and the residual graph network on it."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from benchmark.errors import InputError

GraphKind = Literal["clip", "identity", "uniform"]


def label_graph(
    text_features: torch.Tensor, kind: GraphKind = "clip", top_k: int | None = None, neighbour_share: float = 0.2
) -> torch.Tensor:
    """Adjacency [C, C] of the classes, without gradient, from text features [C, D] of any length.

    kind: "clip" takes the cosines of the features. Two controls, since CLIP's cosines are nearly flat: "uniform"
        takes all cosines as equal and all classes as neighbours, "identity" gives the identity matrix.
    top_k: entries kept in each row, the diagonal one of them; None for all.
    neighbour_share: s, what the neighbours of a class weigh together; the class itself weighs 1 - s.
    Raises InputError unless 1 <= top_k <= C.
    """
    classes = len(text_features)
    if top_k is not None and not 1 <= top_k <= classes:
        raise InputError(f"top_k is {top_k}, but each of the {classes} classes has 1 to {classes} entries; change it")
    if kind == "identity":
        return torch.eye(classes, device=text_features.device)
    if kind == "uniform":
        flat = torch.ones(classes, classes, device=text_features.device)
        return _weighted_neighbours(flat, classes, neighbour_share)
    features = F.normalize(text_features.detach().float(), dim=1)
    return _weighted_neighbours(features @ features.T, classes if top_k is None else top_k, neighbour_share)


def _weighted_neighbours(cosines: torch.Tensor, top_k: int, neighbour_share: float) -> torch.Tensor:
    """A_ij = s R_ij / sum_{j != i} R_ij over the kept entries and A_ii = 1 - s (Ding et al., SCPNet, CVPR 2023).

    Negative cosines count as 0; a class without a neighbour has A_ii alone.
    """
    diagonal = torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
    # Infinity, since two classes of one name tie with their diagonal, which must stay one of the k.
    kept = cosines.masked_fill(diagonal, torch.inf).topk(top_k, dim=1).indices
    keep = torch.zeros_like(diagonal).scatter(1, kept, True) & ~diagonal
    weights = torch.where(keep, cosines.clamp(min=0), 0)
    total = weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    return neighbour_share * weights / total + (1 - neighbour_share) * diagonal


class ResidualGCN(nn.Module):
    """G = A H2 W3, H2 = LeakyReLU(A H1 W2), H1 = LeakyReLU(A F W1), slope 0.2, no bias, D -> 2D -> 2D -> D.

    W3 starts at zero, so that the residual does; W1 and W2 as Xavier's uniform.
    """

    SLOPE = 0.2
    adjacency: torch.Tensor

    def __init__(self, adjacency: torch.Tensor, dim: int):
        super().__init__()
        self.register_buffer("adjacency", adjacency)
        self.w1 = nn.Parameter(nn.init.xavier_uniform_(torch.empty(dim, 2 * dim)))
        self.w2 = nn.Parameter(nn.init.xavier_uniform_(torch.empty(2 * dim, 2 * dim)))
        self.w3 = nn.Parameter(torch.zeros(2 * dim, dim))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Class features F [C, D] -> residuals G [C, D]."""
        hidden = F.leaky_relu(self.adjacency @ (features @ self.w1), self.SLOPE)
        hidden = F.leaky_relu(self.adjacency @ (hidden @ self.w2), self.SLOPE)
        return self.adjacency @ (hidden @ self.w3)
