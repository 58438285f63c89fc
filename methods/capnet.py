"""CAPNET: soft prompts, a graph network over the classes and adapters on CLIP. A reading: no code was released."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from benchmark.errors import InputError
from benchmark.method import METHODS, Batch, Method, MethodConfig, ParameterGroup, Task
from benchmark.models.losses import Reduction
from benchmark.models.prior_offset import PriorOffset
from benchmark.models.prompts import SoftPrompts, prompts_for
from benchmark.spec import Fraction, Positive

from .capnet_adapters import ScaleShift, adapter_width, add_adapters
from .capnet_graph import GraphKind, ResidualGCN, label_graph
from .db_focal import ALPHA, DBMethod, DistributionBalancedLoss

START_SCALE = 10.0  # 1 / tau at the start
PositiveInt = Annotated[int, Field(ge=1)]


class ClassAwareDBLoss(DistributionBalancedLoss):
    """DB-Focal with a weight of the class, r_c = alpha + sigma(tau N / n_c), instead of the instance's: alpha 0.1,
    tau 0.01 (the precursor's, see `CAPNET`)."""

    TEMPERATURE = 0.01
    class_weight: torch.Tensor

    def __init__(
        self, class_counts: Sequence[int], num_images: int, neg_scale: float = 2.0, reduction: Reduction = "mean"
    ):
        super().__init__(class_counts, num_images, neg_scale, reduction=reduction)
        weight = ALPHA + torch.sigmoid(self.TEMPERATURE * num_images / self.counts)
        self.register_buffer("class_weight", weight, persistent=False)

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """r_c, [C], the same for every image."""
        return self.class_weight


class CAPNETConfig(MethodConfig):
    """Configuration of `capnet`."""

    shared_context: bool = Field(False, description="one learned context for all classes instead of one each")
    graph: GraphKind = Field("clip", description="adjacency of the classes; identity and uniform are controls")
    top_k: int | None = Field(None, description="clip graph: entries kept in a row, itself included; null for all")
    neighbour_share: Fraction = Field(0.2, description="s, what the neighbours of a class weigh in the graph")
    image_tuning: Literal["adapters", "full"] = Field("adapters", description="what is trained in the image tower")
    adapter_width: PositiveInt | None = Field(None, description="r of the adapters; null: LIFT's rule")
    reweighting: Literal["class", "instance"] = Field("class", description="weight of a decision: r_c or DB's r_ic")
    neg_scale: Positive = Field(2.0, description="lambda, factor on the logits of negatives")
    map_gamma: Fraction = Field(0.2, description="instance: mu, centre of DB's smoothing function")
    prior_offset: bool = Field(True, description="logits start at the class priors, by a fixed offset")
    sampler: Literal["uniform", "class-aware"] = Field("uniform", description="how training images are drawn")

    def without_effect(self) -> dict[str, str]:
        idle = {}
        if self.graph != "clip":
            idle["top_k"] = f"graph={self.graph}"
        if self.graph == "identity":
            idle["neighbour_share"] = "graph=identity"
        if self.image_tuning == "full":
            idle["adapter_width"] = "image_tuning=full"
        if self.reweighting == "class":
            idle["map_gamma"] = "reweighting=class"
        return idle


@METHODS.register("capnet")
class CAPNET(Method):
    """Correlation adaptation prompt network (Tang et al., arXiv 2511.20641), as far as it can be known.

    Only the abstract and summaries were available, and no code was released: this is a documented reading, not a
    reproduction, and the row's title says so. CLIP's towers are frozen, and the text tower runs once per step:

        f = text features of soft prompts "[v_1 .. v_4] class.", f'_c = normalise(f_c + G_c), G = `ResidualGCN`(f)
        logits x_ic = <z_i, f'_c> / tau, z the normalised image feature

    Known: soft prompts through the frozen text tower, the graph from CLIP's text features, a three-layer graph
    network as residual, cosine / tau with trainable tau, DB-Focal with class-aware weights, AdaptFormer adapters,
    trained at once in one stage.
    Known from summaries: a context for each class.
    From relatives: contexts start from "a photo of a" (the precursor, a public fork of SCPNet of 2023, which shares
    one context: `shared_context`), graph with k = C and s = 0.2 and the network's widths (SCPNet, CVPR 2023,
    and precursor), r_c (precursor), 1 / tau = 10 learned as its logarithm, and adapters of LIFT's form (ICML 2024).

    Our choices:
    - W3 of the graph network starts at zero, so training starts from CLIP; the relatives start it at random.
    - Negative text cosines are no edge; the graph stays fixed.
    - RN50: scale and shift on the attention pooling's output (LIFT's form); adapters need transformer blocks.
    - `image_tuning` "full" trains the whole image tower instead, frozen stages and batch norm as the recipe says;
      otherwise all of CLIP stays fixed, batch norm included, whatever the recipe says.
    - `PriorOffset` on the logits: with 1 / tau = 10 all would start large and positive.
    - Uniform sampling: "class-aware re-weighting" is read as the loss's weight alone; `sampler` switches.
    - lambda and mu as for `db-focal`: the paper's of DB on VOC-LT and COCO-LT, elsewhere COCO-LT's.
    - The graph network learns at the rate of the head, everything else at that of the backbone (the relatives: 1e-3
      and 3e-4).
    - Weight decay on matrices alone, the contexts among them; none on vectors and tau.
    - Class features and logits in float32 also under autocast: the cosines of CLIP lie close together.
    - `neck` and `dropout` of the recipe are ignored.

    Raises InputError when `top_k` is not in 1..C, `adapter_width` is given for a tower without transformer blocks, or
    a prompt is longer than the text tower takes.
    """

    title = "CAPNET (reading)"
    Config = CAPNETConfig
    requires = "clip"
    dataset_defaults = DBMethod.dataset_defaults

    def __init__(self, task: Task, config: CAPNETConfig):
        super().__init__(task, config)
        self.clip = task.make_clip()
        text, image = self.clip.text, self.clip.image
        self.prompts = SoftPrompts(text, task.class_names, shared=config.shared_context)
        fixed = text.encode(prompts_for(task.class_names))
        adjacency = label_graph(fixed, config.graph, config.top_k, config.neighbour_share)
        self.gcn = ResidualGCN(adjacency, text.feature_dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(START_SCALE)))
        self.scale_shift: nn.Module = nn.Identity()
        if config.image_tuning == "full":
            image.requires_grad_(True)
            image.freeze(task.recipe.frozen_stages, batch_norm=task.recipe.batch_norm == "frozen")
        elif not add_adapters(image, config.adapter_width or adapter_width(len(task.class_names))):
            if config.adapter_width is not None:
                raise InputError(
                    f"adapter_width is {config.adapter_width}, but {task.recipe.backbone} has no transformer blocks; "
                    "leave it out: scale and shift are trained there"
                )
            self.scale_shift = ScaleShift(image.feature_dim)
        self.offset = PriorOffset(task.class_counts, task.num_images) if config.prior_offset else nn.Identity()
        self.loss = self._make_loss(task, config)

    @staticmethod
    def _make_loss(task: Task, config: CAPNETConfig) -> DistributionBalancedLoss:
        counts = task.class_counts, task.num_images
        if config.reweighting == "class":
            return ClassAwareDBLoss(*counts, config.neg_scale)
        return DistributionBalancedLoss(*counts, config.neg_scale, config.map_gamma)

    @classmethod
    def samplers(cls, config: CAPNETConfig) -> tuple[str, ...]:
        return (config.sampler,)

    def class_features(self) -> torch.Tensor:
        """f' [C, D], of length 1, float32."""
        with torch.autocast(self.log_scale.device.type, enabled=False):
            features = self.prompts(self.clip.text)
            return F.normalize(features + self.gcn(features), dim=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B, 3, S, S] -> logits [B, C].

        The class features are computed anew at each call: a few prompts cost little, and kept ones could be outdated.
        """
        features = self.scale_shift(self.clip.image(images)).float()
        classes = self.class_features()
        with torch.autocast(features.device.type, enabled=False):
            return self.offset(self.log_scale.exp() * F.normalize(features, dim=1) @ classes.T)

    def training_loss(self, batch: Batch) -> torch.Tensor:
        return self.loss(self(batch.images), batch.targets)

    def parameter_groups(self) -> list[ParameterGroup]:
        trained = [p for p in self.parameters() if p.requires_grad]
        graph = {id(p) for p in self.gcn.parameters()}
        others = [p for p in trained if id(p) not in graph]
        return [
            ParameterGroup([p for p in others if p.ndim >= 2], "backbone"),
            ParameterGroup([p for p in others if p.ndim < 2], "backbone", weight_decay=0.0),
            ParameterGroup(list(self.gcn.parameters()), "head"),
        ]
