"""The small CLIP of the demo set. `benchmark.tools.demo_clip` trains it; its weights come with this package."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark.models.backbones import BACKBONES, WeightsSource
from benchmark.models.networks.clip import OpenClipArchitecture, unknown_tag
from benchmark.models.weights import file_source

_FOLDER = Path(__file__).parents[1] / "demo_clip"


@BACKBONES.register("clip_demo")
class ClipDemo(OpenClipArchitecture):
    """A CLIP for images of 64 pixels, 64 features. Weights of another training get another tag."""

    published_name = "demo"
    pretrained_size = 64
    size_step = 8  # the side of a patch
    shipped = {"demo:shapes": _FOLDER / "weights.safetensors"}

    @classmethod
    def config(cls) -> dict[str, Any]:
        return json.loads((_FOLDER / "config.json").read_text(encoding="utf-8"))["model_cfg"]

    @classmethod
    def tokenizer(cls) -> Any:
        return _tokenizer()

    @classmethod
    def tagged(cls, tag: str) -> WeightsSource:
        name = f"{cls.published_name}:{tag}"
        if name not in cls.shipped:
            raise unknown_tag(cls.published_name, tag, [known.partition(":")[2] for known in cls.shipped])
        found = file_source(cls.shipped[name], "clip_demo")
        return replace(found, ref=found.ref.model_copy(update={"name": name}))


@functools.cache
def _tokenizer() -> Any:
    import open_clip

    return open_clip.SimpleTokenizer(str(_FOLDER / "merges.txt.gz"))
