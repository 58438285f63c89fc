"""CPRFL: category prompts from text embeddings, refined by the image."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from benchmark.base.files import split_file
from benchmark.errors import InputError
from benchmark.method import METHODS, Batch, Method, MethodConfig, ParameterGroup, Task
from benchmark.models.embeddings import is_embeddings_file, load_embeddings
from benchmark.models.prompts import prompts_for
from benchmark.spec import FileOrName, Fraction, Positive

from .asl import AsymmetricLoss
from .cb_focal import ClassBalancedFocalLoss
from .db_focal import DBMethod, DistributionBalancedLoss

RANDOM = "random"
RANDOM_WIDTH = 300  # GloVe's, as in the paper's figure 3
PROMPT_WIDTH = 0.5  # tau: hidden width of the prompt network, as a fraction of its output's
Size = Annotated[int, Field(ge=1)]


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

    There are no residual connections, neither in the paper nor in the code.
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

    embeddings: torch.Tensor
    prompt: nn.Module

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
        """Feature map [B, M, h, w] and P [C, d] -> the factor of the prompts: P' [B, C, d], or without the transformer
        the pooled features [B, 1, d]."""
        features = self.project(feature_map.flatten(2).transpose(1, 2))
        if self.interaction is None:
            return features.mean(dim=1, keepdim=True)
        tokens = torch.cat([features, prompts.expand(len(features), -1, -1)], dim=1)
        return self.interaction(tokens)[:, -len(prompts) :]

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        prompts = self.prompts()
        # In float32, as the sum of d products decides the ranking.
        return (self.refined(feature_map, prompts).float() * prompts.float()).sum(dim=-1)


class CPRFLConfig(MethodConfig):
    """Configuration of `cprfl`; the sizes are those of the released code, for ResNet-101."""

    semantics: FileOrName = Field(
        "RN50:openai",
        description="text embeddings of the classes: random, a CLIP's architecture:tag or file, or FILE.npz[:KEY]",
    )
    variant: Literal["released", "equations"] = Field(
        "released", description="the transformer layer of the released code, or the paper's equations to the letter"
    )
    dim: Annotated[int, Field(ge=2)] = Field(2048, description="d, width of prompts and image tokens")
    heads: Size = Field(8, description="attention heads")
    head_dim: Size = Field(512, description="width of an attention head")
    mlp_dim: Size = Field(2048, description="hidden width of the transformer's MLP")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="in the transformer layer")
    vsi: bool = Field(True, description="visual-semantic interaction, the transformer; false: pooled features instead")
    pi: bool = Field(True, description="prompt initialisation by an MLP; false: by one linear layer")
    loss: Literal["asl", "bce", "soft-margin", "cb-focal", "db", "db-focal"] = Field("asl", description="the loss")
    neg_scale: Positive = Field(2.0, description="lambda of the losses cb-focal, db and db-focal")
    map_gamma: Fraction = Field(0.2, description="mu of the losses db and db-focal")

    def without_effect(self) -> dict[str, str]:
        idle: dict[str, str] = {}
        if self.variant == "equations":
            idle |= dict.fromkeys(("heads", "head_dim", "dropout"), "variant=equations")
        if not self.vsi:
            transformer = ("variant", "heads", "head_dim", "mlp_dim", "dropout")
            idle |= dict.fromkeys(transformer, "vsi=false")
        if self.loss not in ("cb-focal", "db", "db-focal"):
            idle["neg_scale"] = f"loss={self.loss}"
        if self.loss not in ("db", "db-focal"):
            idle["map_gamma"] = f"loss={self.loss}"
        return idle


@METHODS.register("cprfl")
class CPRFL(Method):
    """Category-prompt refined feature learning (Yan et al., ACM MM 2024): `CategoryPromptHead` on the backbone's
    last feature map, trained end to end with ASL (g+ 0, g- 4, margin 0.05, mean).

    A CLIP's text embeddings bring in knowledge from its image-text pairs: a row with `semantics` other than random uses
    more pretraining than its backbone's, also in a from-scratch track.

    The text embeddings ("a photo of a {class}.") are constant and made once, before training; the text tower is
    dropped. Weight decay acts on matrices only, as in the released code.

    variant "released": the transformer layer of the released code: layer norm, attention of several heads, layer norm,
    MLP, dropout, and no residual connections. variant "equations": the paper's eq. 3 to 5 to the letter, with one head,
    without norms and dropout. Neither has residual connections: with them every logit would hold |P_c|^2, start at 70
    and more at the published size, and leave ASL without a gradient.

    Differences from the released code:
    - The code runs the text tower in every step and trains it (the lines that would freeze it are commented out); the
      paper does not say whether it is frozen. Here it is frozen.
    - The code is meant to train some parameters at a tenth of the rate, but its test of names selects none. So all
      parameters are trained at the full rate there, and here too.
    - The code uses CLIP's text embeddings without scaling. Here those of every source are scaled to root mean square 1,
      so that sources are comparable and files of unit vectors train as well.
    - The code does not normalise images, and reports the epoch that is best on the test set.

    Our choices:
    - The default text embeddings, RN50's, are the code's.
    - semantics "random": normal vectors of width 300, from the run's seed.
    - vsi false: the logit is the product of the mean image token and the prompt; pi false: a linear layer with bias.
    - Every part of the head starts as PyTorch initialises it.
    - Images are drawn uniformly whatever the loss. cb-focal, db and db-focal take the weights of the methods of
      these names (10, 0.5, 1) and the DB loss's lambda and mu for VOC-LT and COCO-LT, elsewhere COCO-LT's.
    - On the rendered demo a small head: d 128, 4 heads of 32, MLP 128.
    soft-margin (PyTorch's multi-label soft margin loss) is, by its formula, the mean BCE: the paper lists both.
    The recipe's `neck` and `dropout` belong to the linear classifier and are not used.
    """

    title = "CPRFL"
    version = 2
    Config = CPRFLConfig
    dataset_defaults = DBMethod.dataset_defaults | {
        "shapes-lt": {"semantics": "demo:shapes", "dim": 128, "heads": 4, "head_dim": 32, "mlp_dim": 128},
    }

    def __init__(self, task: Task, config: CPRFLConfig):
        super().__init__(task, config)
        self.backbone = task.make_backbone()
        # A CLIP tower has weights for pooling, which the feature map does not use.
        used = {id(p) for p in self.backbone.stages.parameters()}
        for parameter in self.backbone.parameters():
            parameter.requires_grad_(parameter.requires_grad and id(parameter) in used)
        self.head = CategoryPromptHead(
            self.backbone.map_dim,
            _text_embeddings(task, config.semantics),
            config.dim,
            _make_layer(config) if config.vsi else None,
            prompt_mlp=config.pi,
        )
        self.loss = _make_loss(task, config)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone.feature_map(images))

    def training_loss(self, batch: Batch) -> torch.Tensor:
        return self.loss(self(batch.images).float(), batch.targets)

    def parameter_groups(self) -> list[ParameterGroup]:
        groups = []
        for group in super().parameter_groups():
            matrices = [p for p in group.parameters if p.ndim > 1]
            vectors = [p for p in group.parameters if p.ndim <= 1]
            groups.append(ParameterGroup(matrices, group.learning_rate))
            groups.append(ParameterGroup(vectors, group.learning_rate, weight_decay=0.0))
        return groups


def _make_layer(config: CPRFLConfig) -> nn.Module:
    if config.variant == "equations":
        return EquationsLayer(config.dim, config.mlp_dim)
    return ReleasedLayer(config.dim, config.heads, config.head_dim, config.mlp_dim, config.dropout)


def _text_embeddings(task: Task, semantics: str) -> torch.Tensor:
    """W, float32 [C, m], rows of root mean square 1. Raises InputError."""
    if semantics == RANDOM:
        embeddings = torch.randn(len(task.class_names), RANDOM_WIDTH)
    elif is_embeddings_file(semantics):
        embeddings = load_embeddings(semantics, task.class_names)
    elif ":" in semantics or split_file(semantics):
        embeddings = task.make_text_tower(semantics).encode(prompts_for(task.class_names))
    else:
        raise InputError(
            f"CPRFL: semantics {semantics!r} is unknown; use random, a CLIP's architecture:tag such as "
            "ViT-B-16:openai, or a .npz file of text embeddings"
        )
    return F.normalize(embeddings.float(), dim=1) * embeddings.shape[1] ** 0.5


def _make_loss(task: Task, config: CPRFLConfig) -> nn.Module:
    counts, images = task.class_counts, task.num_images
    if config.loss == "asl":
        return AsymmetricLoss(gamma_neg=4.0, gamma_pos=0.0, margin=0.05, reduction="mean")
    if config.loss == "bce":
        return nn.BCEWithLogitsLoss()
    if config.loss == "soft-margin":
        return nn.MultiLabelSoftMarginLoss()
    if config.loss == "cb-focal":
        return ClassBalancedFocalLoss(counts, images, neg_scale=config.neg_scale, loss_weight=10.0)
    focal = config.loss == "db-focal"
    return DistributionBalancedLoss(
        counts, images, config.neg_scale, config.map_gamma, focal=focal, loss_weight=1.0 if focal else 0.5
    )
