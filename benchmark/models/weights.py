"""Pretrained weights: by torchvision's name, from a local file, or none; always with their normalisation."""

from __future__ import annotations

import functools
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal
from urllib.error import URLError

import torch
import torchvision
from pydantic import AfterValidator, Field
from safetensors import SafetensorError, safe_open

from benchmark.base.files import file_digest, is_file, split_file
from benchmark.base.yamlio import load_yaml
from benchmark.errors import InputError
from benchmark.models.backbones import BACKBONES
from benchmark.registry import did_you_mean
from benchmark.spec import Name, Strict, WeightsRef, parse

NONE = "none"
# Of standard deviations: the network sees [0, 255] at the one end, [0, 1] at the other.
_STD = (1 / 256, 1.0)
# Characters of a tensor's name that a message shows.
_SHOWN = 80


def _mean_of_rgb(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError("mean is of RGB in [0, 1]; divide one of RGB in [0, 255] by 255")
    return value


def _std_of_rgb(value: float) -> float:
    if not _STD[0] <= value <= _STD[1]:
        raise ValueError("std is of RGB in [0, 1], from 1/256 to 1; divide one of RGB in [0, 255] by 255")
    return value


Mean = Annotated[float, AfterValidator(_mean_of_rgb)]
Std = Annotated[float, AfterValidator(_std_of_rgb)]


class WeightsCard(Strict):
    """What a weights file says of itself: safetensors metadata, or `<file>.yaml` beside it."""

    architecture: Name
    mean: tuple[Mean, Mean, Mean] = Field(description="of RGB in [0, 1]")
    std: tuple[Std, Std, Std] = Field(description="of RGB in [0, 1]")
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    batch_norm: Literal["normal", "folded"] = "normal"
    quick_gelu: bool = Field(False, description="CLIP with QuickGELU, as OpenAI's")
    source: str = ""


def resolve_weights(backbone: str, weights: str, image_size: int) -> PretrainedWeights:
    """The weights that a user named.

    weights: `none`; a torchvision name such as `IMAGENET1K_V1`; for a CLIP backbone open_clip's
    `architecture:tag` such as `ViT-B-16:openai`; or the path of a .safetensors file or of a PyTorch state dict.
    Nothing is loaded or fetched yet, but a local file is read for its digest and card.

    Raises InputError for an unknown name, a missing file, or a file of another architecture.
    """
    entry = BACKBONES.get(backbone)
    if weights == NONE:
        ref = WeightsRef(
            name=NONE, digest=None, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear", batch_norm="normal"
        )
        return PretrainedWeights(ref, backbone, image_size)
    if split_file(weights):
        return _from_file(Path(weights), backbone, image_size)
    if entry.clip_name is not None:
        return _from_tag(weights, backbone, entry.clip_name, image_size)
    known = [] if entry.torchvision_name is None else torchvision.models.get_model_weights(entry.torchvision_name)
    by_name = {item.name: item for item in known}
    if weights not in by_name:
        raise InputError(
            f"unknown weights {weights!r} for backbone {backbone}{did_you_mean(weights, [*by_name, NONE])}; "
            "or give the path of a .safetensors or .pth file"
        )
    item = by_name[weights]
    preparation = item.transforms()
    ref = WeightsRef(
        name=weights,
        digest=f"torchvision/{item.url.rpartition('/')[2]}",
        mean=tuple(preparation.mean),
        std=tuple(preparation.std),
        interpolation=preparation.interpolation.value,
        batch_norm="normal",
    )
    here = _torchvision_file(item).exists
    return PretrainedWeights(ref, backbone, image_size, lambda: _fetch_torchvision(item), here)


def clip_backbone_of(weights: str) -> str:
    """The CLIP backbone whose weights these are: `architecture:tag`, or a file with a card. Raises InputError."""
    if split_file(weights):
        path = Path(weights)
        name = _card(_existing(path)).architecture
        if name not in BACKBONES or BACKBONES.get(name).clip_name is None:
            raise InputError(f"{path}: these are weights of {name!r}, which is not a CLIP")
        return name
    by_architecture = {entry.clip_name: name for name, entry in BACKBONES.items() if entry.clip_name is not None}
    architecture, colon, _ = weights.partition(":")
    if not colon or architecture not in by_architecture:
        known = [f"{name}:" for name in sorted(by_architecture)]
        raise InputError(
            f"unknown CLIP weights {weights!r}{did_you_mean(weights, known)}: write architecture:tag, such as "
            "ViT-B-16:openai, or the path of a file"
        )
    return by_architecture[architecture]


def _from_tag(weights: str, backbone: str, architecture: str, image_size: int) -> PretrainedWeights:
    from benchmark.models import clip

    name, _, tag = weights.partition(":")
    if name != architecture:
        others = [known for known, entry in BACKBONES.items() if entry.clip_name == name]
        raise InputError(
            f"weights {weights!r} are not of backbone {backbone}, which is open_clip's {architecture}; write "
            + (f"--backbone {others[0]}, or " if others else "")
            + f"--weights {architecture}:TAG, the path of a file, or none"
        )
    shipped = clip.SHIPPED.get(weights)
    if shipped is not None:
        found = _from_file(shipped, backbone, image_size)
        found.ref = found.ref.model_copy(update={"name": weights})
        return found
    facts = clip.published(architecture, tag)
    ref = WeightsRef(
        name=weights,
        digest=f"open_clip/{weights}",
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        interpolation=facts["interpolation"],
        batch_norm="normal",
        quick_gelu=facts.get("quick_gelu", False),
    )
    here = functools.partial(clip.is_cached, architecture, tag)
    return PretrainedWeights(ref, backbone, image_size, lambda: clip.fetch(architecture, tag), here)


def _existing(path: Path) -> Path:
    if not is_file(path):
        shown = str(path) if len(str(path)) <= 2 * _SHOWN else f"{str(path)[: 2 * _SHOWN]}..."
        raise InputError(f"{_printed(shown)}: no such weights file; give a file, a published name or none")
    return path


def _from_file(path: Path, backbone: str, image_size: int) -> PretrainedWeights:
    card = _card(_existing(path))
    if card.architecture != backbone:
        known = card.architecture in BACKBONES
        remedy = f"; use --backbone {card.architecture}" if known else did_you_mean(card.architecture, BACKBONES)
        raise InputError(
            f"{path}: these are weights of {card.architecture!r}, not of {backbone!r}{remedy}"
            + (" or other weights" if known else "")
        )
    if card.quick_gelu and BACKBONES.get(backbone).clip_name is None:
        raise InputError(f"{path}: quick_gelu is of CLIP's networks, and {backbone} is none; leave it out")
    try:
        digest = file_digest(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    ref = WeightsRef(
        name=path.stem,
        digest=digest,
        mean=card.mean,
        std=card.std,
        interpolation=card.interpolation,
        batch_norm=card.batch_norm,
        quick_gelu=card.quick_gelu,
    )
    return PretrainedWeights(ref, backbone, image_size, fetch=lambda: path)


def _card(path: Path) -> WeightsCard:
    beside = path.with_name(path.name + ".yaml")
    if beside.exists():
        return parse(WeightsCard, load_yaml(beside), str(beside))
    facts: dict[str, object] = {}
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                facts = dict(file.metadata() or {})
        except (SafetensorError, OSError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: not a whole safetensors file ({reason}); fetch it again") from None
        for key in ("mean", "std", "quick_gelu"):
            try:
                facts[key] = json.loads(str(facts.get(key)))
            except (ValueError, RecursionError):
                facts.pop(key, None)
    facts = {key: value for key, value in facts.items() if key in WeightsCard.model_fields}
    lacking = [key for key in ("architecture", "mean", "std") if key not in facts]
    if lacking:
        raise InputError(
            f"{path}: the file does not say its {', '.join(lacking)}; write them into {beside.name} beside it "
            "(architecture: a backbone's name, mean: [r, g, b], std: [r, g, b] of RGB in [0, 1]; for OpenAI's CLIP "
            "also interpolation: bicubic, quick_gelu: true)"
        )
    return parse(WeightsCard, facts, f"{path}: metadata")


class PretrainedWeights:
    """Weights that have been resolved; `ref` is what a run's specification holds of them.

    fetch: gives the local file, fetching it where it must; None for random initialisation. is_here: whether it need not
    be fetched.
    """

    def __init__(
        self,
        ref: WeightsRef,
        backbone: str,
        image_size: int,
        fetch: Callable[[], Path] | None = None,
        is_here: Callable[[], bool] = lambda: True,
    ):
        self.ref = ref
        self.is_here = is_here
        self._backbone = backbone
        self._image_size = image_size
        self._fetch = fetch

    def load(self, say: Callable[[str], None] = lambda line: None) -> dict[str, torch.Tensor] | None:
        """The state dict of the whole network less its class head, floating point as float32; None for random
        initialisation. say: told in a line when a wrapper's prefix is left out of the names.

        Raises InputError, naming file and tensors, when the weights cannot be fetched or do not fit: missing,
        unexpected or non-finite tensors, other shapes, other types than floating point.
        """
        if self._fetch is None:
            return None
        file = self._fetch()
        return self._fitted(_read_state(file), str(file), say)

    def _fitted(
        self, state: dict[str, torch.Tensor], where: str, say: Callable[[str], None]
    ) -> dict[str, torch.Tensor]:
        entry = BACKBONES.get(self._backbone)
        with torch.device("meta"):
            expected = _trunk(entry.build(self._image_size, self.ref.quick_gelu).state_dict(), entry.head)
        state = _trunk(state, entry.head)
        prefix, rest = _wrapper(state, expected)
        if prefix and not rest:
            say(f"{where}: left {prefix!r} out, with which the name of every tensor begins")
            state = _trunk({key.removeprefix(prefix): value for key, value in state.items()}, entry.head)
        state = _as_float32(state, expected, where)
        if self._backbone == "vit_b_16":
            state = _fit_positions(state, self._image_size)
        elif entry.clip_name is not None:
            from benchmark.models import clip

            state = clip.fit(state, expected)
        # PyTorch counts batches for a momentum mode nobody here uses: files may leave the counter out.
        missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
        unexpected = [key for key in state if key not in expected]
        shapes = [
            f"{key} is {list(state[key].shape)}, not {list(expected[key].shape)}"
            for key in expected
            if key in state and state[key].shape != expected[key].shape
        ]
        for problem, keys in [("lacks", missing), ("has the unknown", unexpected), ("has other shapes:", shapes)]:
            if keys:
                more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
                remedy = "give weights of this architecture"
                if rest:
                    remedy = f"names begin with {prefix!r}, but {_printed(rest)} does not: save that part alone"
                raise InputError(
                    f"{where}: does not fit backbone {self._backbone}: it {problem} "
                    f"{', '.join(map(_printed, keys[:3]))}{more}; {remedy}"
                )
        broken = [key for key, value in state.items() if not value.isfinite().all()]
        if broken:
            raise InputError(f"{where}: {broken[0]} has values that are not finite; the file is damaged, replace it")
        return state


def _printed(text: str) -> str:
    """A name from a file as a message may show it: short, on one line."""
    return (text if text.isprintable() else repr(text)) if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]!r}..."


def _wrapper(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> tuple[str, str]:
    """What a wrapper put before names (`module.`, `_orig_mod.backbone.`), and one name without it; "" for none.

    It is a wrapper's where some name is that of an expected tensor but for the prefix.
    """
    if any(key in expected for key in state):
        return "", ""
    for key in state:
        parts = key.split(".", 8)
        for cut in range(1, len(parts)):
            if ".".join(parts[cut:]) in expected:
                prefix = ".".join(parts[:cut]) + "."
                return prefix, next((other for other in state if not other.startswith(prefix)), "")
    return "", ""


def _as_float32(
    state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], where: str
) -> dict[str, torch.Tensor]:
    """Floating-point tensors as float32, as the network has them. Raises InputError for tensors of another kind."""
    fitted = {}
    for key, value in state.items():
        plain = value.layout is torch.strided and not value.is_nested and not value.is_meta
        kind = str(value.dtype).removeprefix("torch.") if plain else "sparse or without values"
        floating = key in expected and expected[key].is_floating_point()
        if not plain or (floating and not value.is_floating_point()):
            raise InputError(
                f"{where}: {_printed(key)} is {kind}, not floating point; "
                "give the weights as they were trained, as float32, float16 or bfloat16"
            )
        fitted[key] = value.float() if value.is_floating_point() else value
    return fitted


def _torchvision_file(item: torchvision.models.WeightsEnum) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / item.url.rpartition("/")[2]


def _fetch_torchvision(item: torchvision.models.WeightsEnum) -> Path:
    file = _torchvision_file(item)
    digits = file.stem.rpartition("-")[2]  # published names end in the first digits of the sha256
    if not file.exists():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(item.url, str(file), digits, progress=False)
        except (URLError, OSError, RuntimeError) as error:
            raise InputError(
                f"weights {item} are not in {file.parent} and could not be fetched ({error}): put "
                f"{file.name} (from {item.url}) there, or give a file with --weights PATH"
            ) from None
    # A file that was already there may be another one.
    if not file_digest(file).startswith(digits):
        raise InputError(
            f"{file}: not the published file, or cut short: its sha256 does not start with {digits}; "
            f"replace it by {item.url}"
        )
    return file


def _trunk(state: dict[str, torch.Tensor], head: tuple[str, ...]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if not (head and key.startswith(head))}


def _fit_positions(state: dict[str, torch.Tensor], image_size: int) -> dict[str, torch.Tensor]:
    """Interpolate a ViT's position embedding to the image size, as torchvision does for fine-tuning."""
    key = "encoder.pos_embedding"
    shape = state[key].shape if key in state else ()
    if len(shape) != 3 or shape[0] != 1 or shape[1] < 2 or shape[1] == (image_size // 16) ** 2 + 1:
        return state
    if math.isqrt(shape[1] - 1) ** 2 != shape[1] - 1:
        return state  # not a square grid: reported as a wrong shape
    return torchvision.models.vision_transformer.interpolate_embeddings(image_size, 16, state, "bicubic")


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd files; what is wrong with them is told below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can end in almost any error
        kind = "it holds objects other than tensors" if "weights_only" in str(error) else type(error).__name__
        raise InputError(f"{path}: not a whole file of plain tensors ({kind}); fetch or convert it again") from None
    tensors = isinstance(state, dict) and all(isinstance(value, torch.Tensor) for value in state.values())
    if not tensors or not all(isinstance(key, str) for key in state):
        raise InputError(f"{path}: not a state dict (names to tensors); save model.state_dict() instead")
    return state
