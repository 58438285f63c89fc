"""CLIP zero-shot: no training at all."""

from __future__ import annotations

import torch
from pydantic import Field

from benchmark.method import METHODS, Batch, Method, MethodConfig, Stage, Task
from benchmark.models.embeddings import expect_width, load_embeddings
from benchmark.models.local_global import cosine_scores
from benchmark.models.prompts import prompts_for
from benchmark.spec import FileOrName


class ZeroShotConfig(MethodConfig):
    """Configuration of `clip-zero-shot`."""

    text_features: FileOrName | None = Field(
        None, description="a .npz file with this CLIP's text features of the classes; by default its text tower's"
    )


@METHODS.register("clip-zero-shot")
class ClipZeroShot(Method):
    """Cosine of the image's feature and that of "a photo of a {class}.", times CLIP's own scale (Radford et al.,
    ICML 2021). Nothing is trained, so every seed gives the same numbers."""

    title = "CLIP zero-shot"
    Config = ZeroShotConfig
    requires = "pretrained-clip"
    text: torch.Tensor

    def __init__(self, task: Task, config: ZeroShotConfig):
        super().__init__(task, config)
        clip = task.make_clip()
        self.image = clip.image
        self.scale = clip.logit_scale
        if config.text_features is None:
            text = clip.text.encode(prompts_for(task.class_names))
        else:
            text = load_embeddings(config.text_features, task.class_names)
            expect_width(text, clip.image.feature_dim, config.text_features)
        self.register_buffer("text", text)

    @classmethod
    def stages(cls, config: ZeroShotConfig) -> tuple[Stage, ...]:
        return ()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * cosine_scores(self.text, self.image(images))

    def training_loss(self, batch: Batch) -> torch.Tensor:
        raise NotImplementedError("clip-zero-shot has no stage of training")
