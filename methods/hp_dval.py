"""HP-DVAL: dual-view alignment of CLIP's image tower, then hierarchical prompts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from benchmark.errors import InputError
from benchmark.method import METHODS, Batch, LearningRate, Method, MethodConfig, ParameterGroup, Stage, Task
from benchmark.models.clip import ImageTower
from benchmark.models.local_global import top_mean
from benchmark.models.prior_offset import PriorOffset
from benchmark.models.prompts import SoftPrompts, prompts_for
from benchmark.spec import Fraction, Positive

from .db_focal import DBMethod, DistributionBalancedLoss
from .hp_dval_readings import READINGS, ClassWeightedDBLoss, LossName
from .hp_dval_student import ImageNetTower

ALIGNMENT, PROMPTS = "alignment", "prompts"
CONTEXT_LENGTH, CONTEXT_STD = 4, 0.02
STUDENT_BACKBONE = "clip_vit_b_16"  # of the same size as the ImageNet student


class HPDVALConfig(MethodConfig):
    """Configuration of `hp-dval`; the method's text explains the choices."""

    variant: Literal["paper", "released-code"] = Field("paper", description="the paper, or what its code does")
    student_init: Literal["clip", "imagenet"] = Field("clip", description="what the image tower starts from")
    loss: LossName | None = Field(
        None, description="classification loss; by default db-class-weight, and db-focal for released-code"
    )
    neg_scale: Positive = Field(2.0, description="lambda of the DB loss")
    map_gamma: Fraction = Field(0.2, description="mu of the DB loss")
    alpha: Fraction = Field(0.4, description="weight of the global score; of the local one for released-code")
    top_k: Annotated[int, Field(ge=1)] | None = Field(
        None, description="patches in the local score; by default 32, and 16 for released-code"
    )
    logit_scale: bool = Field(True, description="multiply the scores by a learned factor, CLIP's at first")
    prior_offset: bool | None = Field(
        None,
        description="logits start at the class priors, by a fixed offset; by default with the scale, not for "
        "released-code",
    )
    sampler: Literal["uniform", "class-aware"] = Field("uniform", description="how training images are drawn")
    prompt_share: Positive = Field(1.0, description="epochs of the prompt stage, where the first stage has 2")
    prompt_lr_scale: Positive = Field(0.5, description="learning rate of the prompt stage, as a factor")


@METHODS.register("hp-dval")
class HPDVAL(Method):
    """Dual-view alignment learning with hierarchical prompts (Huang et al., arXiv 2509.17747, IEEE TIP 2025).

    The image tower gives a global feature g (class token) and local features l_j (patch tokens), both projected.
    With text features P_G of the global and P_L of the local view,

        s_c = alpha cos(P_G,c, g) + (1 - alpha) mean of the k largest cos(P_L,c, l_j)        logit: scale * s_c

    Stage "alignment" trains the image tower, with the features P_H of "a photo of a {class}." in both terms:
        L = Lcls + |g - g_teacher|          teacher: CLIP's own image tower, fixed
    Stage "prompts" fixes the image tower and trains two contexts of 4 tokens, one for each view, shared by all classes:
        L = Lcls + |P_H - P_G|
    |.| is the L1 distance, averaged over the elements (released code). Lcls: `ClassWeightedDBLoss`, or DB, DB-Focal.

    Scores come from P_H until the prompt stage begins, then from the learned prompts; `tuned` in the state dict says
    which.
    lambda and mu of the DB loss are its paper's on VOC-LT and COCO-LT, elsewhere COCO-LT's. On the demo k is 10 of
    64 patches, the paper's fraction. The recipe's `neck` and `dropout` are ignored.

    The student starts from CLIP, as in the released code and unlike in the paper; the row's title says so.
    `student_init=imagenet` is the paper's ImageNet-1K ViT-B/16, with a new projection to CLIP's space and ImageNet's
    normalisation (it expects images with that of OpenAI's CLIP). The paper has two linear layers there (IV-A.3), and
    this student has one for both views.

    Our choices, where the paper is silent:
    - A learned scale on the scores, CLIP's at first, in both stages and without weight decay: cosines are small
      logits. `logit_scale=false` takes the scores as they are.
    - With it, `PriorOffset` on the logits: with the scale all would start large and positive.
    - Both L1 distances are between features that are not normalised, as the formulas read.
    - Uniform sampling; the DB loss was published with class-aware sampling, a switch.
    - The contexts learn at the head's rate, so does the scale in the prompt stage; all else at the backbone's.
    - Prompts are encoded in float32 also where training uses bfloat16.

    variant "released-code" follows the code where it differs: no distillation (there teacher and student are one
    object); scores are dot products, L2-normalised over the classes, for each image and for each patch; alpha
    multiplies the local term; k is 16 (on the demo 10 too); the consistency loss is on P_L; contexts start from "a
    photo of a"; the prompt stage starts from CLIP's image tower and scale, not from the aligned ones; DB-Focal without
    class weight, with one focal factor for each batch. The protocol decides the recipe, so the code's own is not
    followed: batches of 16, no normalisation of images, the epoch that is best on the test set.
    """

    title = "HP-DVAL"
    Config = HPDVALConfig
    requires = "clip"
    dataset_defaults = DBMethod.dataset_defaults | {"shapes-lt": {"top_k": 10}}
    image: ImageTower
    fixed_prompts: torch.Tensor
    tuned: torch.Tensor

    def __init__(self, task: Task, config: HPDVALConfig):
        super().__init__(task, config)
        self.config = config
        self.reading = READINGS[config.variant]
        clip = task.make_clip()
        self.top_k = self._checked_top_k(task, clip.image)
        if config.student_init == "clip":
            # CLIP's own tower: the teacher, and the start of the released code's prompt stage. It is in a list, so
            # that it is no submodule and is neither averaged nor saved.
            self._original = [copy.deepcopy(clip.image)]
            self.image = clip.image
        else:
            self._original = [clip.image]
            self.image = self._imagenet_student(task, clip.image.feature_dim)
        self.text = clip.text
        self.register_buffer("fixed_prompts", self.text.encode(prompts_for(task.class_names)))
        words = self.reading.context_words
        self.global_prompts, self.local_prompts = (
            SoftPrompts(self.text, task.class_names, CONTEXT_LENGTH, words, shared=True, noise_std=CONTEXT_STD)
            for _ in range(2)
        )
        self.initial_log_scale = math.log(clip.logit_scale)
        self.log_scale = nn.Parameter(torch.tensor(self.initial_log_scale)) if config.logit_scale else None
        self.register_buffer("tuned", torch.tensor(False))
        self.register_load_state_dict_post_hook(HPDVAL._read_tuned)
        shifted = config.prior_offset
        if shifted is None:
            shifted = config.logit_scale and self.reading.prior_offset
        self.offset = PriorOffset(task.class_counts, task.num_images) if shifted else nn.Identity()
        self.loss = self._make_loss(task)
        self.recipe = task.recipe
        self._begin_alignment()

    @classmethod
    def row_title(cls, config: HPDVALConfig) -> str:
        return f"{cls.title} (student from {'CLIP' if config.student_init == 'clip' else 'ImageNet'})"

    @classmethod
    def samplers(cls, config: HPDVALConfig) -> tuple[str, ...]:
        return (config.sampler,)

    @classmethod
    def stages(cls, config: HPDVALConfig) -> tuple[Stage, ...]:
        return (
            Stage(ALIGNMENT, share=2.0),
            Stage(PROMPTS, share=config.prompt_share, lr_scale=config.prompt_lr_scale),
        )

    def begin_stage(self, stage: Stage) -> None:
        if stage.name == PROMPTS:
            self._begin_prompts()
        else:
            self._begin_alignment()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        g, local = self._views(images)
        return self._logits(g, local, *self._prompts(self.scores_tuned))

    def training_loss(self, batch: Batch) -> torch.Tensor:
        g, local = self._views(batch.images)
        if self.stage == PROMPTS:
            global_text, local_text = self._prompts(tuned=True)
            extra = self.consistency(global_text, local_text)
        else:
            global_text, local_text = self._prompts(tuned=False)
            extra = self.distillation(batch.images, g)
        return self.loss(self._logits(g, local, global_text, local_text), batch.targets) + extra

    def distillation(self, images: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """The alignment stage's further loss, for images [B, 3, S, S] with global features g [B, D]."""
        return self.reading.distillation(self._original[0], images, g)

    def consistency(self, global_text: torch.Tensor, local_text: torch.Tensor) -> torch.Tensor:
        """The prompt stage's further loss, from text features [C, D] of the global and of the local view."""
        return self.reading.consistency(self.fixed_prompts, global_text, local_text)

    def parameter_groups(self) -> list[ParameterGroup]:
        rate: LearningRate = "head" if self.stage == PROMPTS else "backbone"
        modules = (self.image, self.global_prompts, self.local_prompts)
        trained = [[p for p in module.parameters() if p.requires_grad] for module in modules]
        scale = [self.log_scale] if self.log_scale is not None else []
        return [
            ParameterGroup(trained[0], "backbone"),
            ParameterGroup(trained[1] + trained[2], "head"),
            ParameterGroup(scale, rate, weight_decay=0.0),
        ]

    def _apply(self, fn: Callable, recurse: bool = True) -> HPDVAL:
        """Move to another device or type, with the tower that is no submodule."""
        for tower in self._original:
            tower._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def _begin_alignment(self) -> None:
        self.stage = ALIGNMENT
        self.image.requires_grad_(True)
        self.image.freeze(self.recipe.frozen_stages, batch_norm=self.recipe.batch_norm == "frozen")
        self._train_contexts(False)
        self._set_tuned(False)

    @torch.no_grad()
    def _begin_prompts(self) -> None:
        self.stage = PROMPTS
        if self.reading.restarts:
            self.image.load_state_dict(self._original[0].state_dict())
            if self.log_scale is not None:
                self.log_scale.fill_(self.initial_log_scale)
        self._original.clear()
        self.image.freeze_all()
        self._train_contexts(True)
        self._set_tuned(True)

    def _set_tuned(self, tuned: bool) -> None:
        self.tuned.fill_(tuned)
        self.scores_tuned = tuned

    def _read_tuned(self, incompatible_keys: Any) -> None:
        # Once, when a state is loaded: reading it for every scored batch would wait for the device.
        self.scores_tuned = bool(self.tuned)

    def _train_contexts(self, trained: bool) -> None:
        for prompts in (self.global_prompts, self.local_prompts):
            prompts.requires_grad_(trained)

    def _views(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised images [B, 3, S, S] -> g [B, D] and l [B, P, D]."""
        return self.image.project(self.image.stages(images))

    def _prompts(self, tuned: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Text features [C, D] of the global and of the local view."""
        if not tuned:
            return self.fixed_prompts, self.fixed_prompts
        with torch.autocast(self.fixed_prompts.device.type, enabled=False):
            return self.global_prompts(self.text), self.local_prompts(self.text)

    def _logits(
        self, g: torch.Tensor, local: torch.Tensor, global_text: torch.Tensor, local_text: torch.Tensor
    ) -> torch.Tensor:
        """Global features [B, D], local features [B, P, D] and the text features [C, D] of both -> logits [B, C]."""
        weight = self.reading.global_weight(self.config.alpha)
        with torch.autocast(g.device.type, enabled=False):
            global_scores = self.reading.scores(global_text, g.float())
            local_scores = top_mean(self.reading.scores(local_text, local.float()), self.top_k)
            scores = weight * global_scores + (1 - weight) * local_scores
            return self.offset(scores if self.log_scale is None else self.log_scale.exp() * scores)

    def _checked_top_k(self, task: Task, tower: ImageTower) -> int:
        recipe = task.recipe
        if tower.num_patches is None:
            raise InputError(f"hp-dval needs patch tokens; {recipe.backbone} has none: use {STUDENT_BACKBONE}")
        k = self.config.top_k or self.reading.top_k
        if k > tower.num_patches:
            raise InputError(
                f"hp-dval: top_k is {k}, but {recipe.backbone} has {tower.num_patches} patches of an image of "
                f"{recipe.image_size} pixels; set top_k to a part of them"
            )
        return k

    def _imagenet_student(self, task: Task, feature_dim: int) -> ImageNetTower:
        if "imagenet" not in self.reading.students:
            raise InputError(f"hp-dval: variant {self.config.variant} starts from CLIP; use student_init=clip with it")
        if task.recipe.backbone != STUDENT_BACKBONE:
            raise InputError(
                f"hp-dval: student_init=imagenet is for backbone {STUDENT_BACKBONE}, not {task.recipe.backbone}; "
                "use student_init=clip"
            )
        return ImageNetTower(task.make_other_backbone("vit_b_16", "IMAGENET1K_V1"), feature_dim)

    def _make_loss(self, task: Task) -> DistributionBalancedLoss:
        name = self.config.loss or self.reading.loss
        arguments = task.class_counts, task.num_images, self.config.neg_scale, self.config.map_gamma
        if name == "db-class-weight":
            return ClassWeightedDBLoss(*arguments)
        if name == "db-focal":
            return self.reading.focal_loss(*arguments, focal=True)
        return DistributionBalancedLoss(*arguments, focal=False)
