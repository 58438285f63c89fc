"""Pretrained weights: published under a name, from a local file, or none; each with its normalisation."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from safetensors import SafetensorError, safe_open

from benchmark.base.download import DownloadError
from benchmark.base.files import file_digest, is_file, split_file
from benchmark.base.yamlio import load_yaml
from benchmark.errors import InputError
from benchmark.models.backbones import BACKBONES, WeightsSource, build_network
from benchmark.models.weight_files import LocalFile
from benchmark.registry import did_you_mean
from benchmark.spec import BackboneName, Strict, WeightsRef, parse
from benchmark.ui.progress import Reporter

NONE = "none"
SILENT = Reporter()
# Smallest and largest standard deviation: of a network for images in [0, 255], and of one for images in [0, 1].
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
    """The description of a weights file: safetensors metadata, or `<file>.yaml` beside it."""

    architecture: BackboneName
    mean: tuple[Mean, Mean, Mean] = Field(description="of RGB in [0, 1]")
    std: tuple[Std, Std, Std] = Field(description="of RGB in [0, 1]")
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    batch_norm: Literal["normal", "folded"] = "normal"
    quick_gelu: bool = Field(False, description="CLIP with QuickGELU, as OpenAI's")
    source: str = ""


def resolve_weights(backbone: str, weights: str, image_size: int) -> PretrainedWeights:
    """The weights that a user named.

    weights: `none`; a torchvision name such as `IMAGENET1K_V1`; for a CLIP backbone open_clip's
    `architecture:tag` such as `ViT-B-16:openai`; for timm's a tag such as `a1_in1k`, or the package that holds them; or
    the path of a .safetensors file or of a PyTorch state dict.
    Nothing is loaded or fetched yet; of a local file the digest and the card are read.

    Raises InputError for an unknown name, a missing file, or a file of another architecture.
    """
    architecture = BACKBONES.get(backbone)
    if weights == NONE:
        ref = WeightsRef(
            name=NONE, digest=None, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear", batch_norm="normal"
        )
        source: WeightsSource | None = WeightsSource(ref)
    elif split_file(weights):
        source = file_source(Path(weights), backbone)
    else:
        source = architecture.published(backbone, weights)
    if source is None:
        raise InputError(
            f"unknown weights {weights!r} for backbone {backbone}"
            f"{did_you_mean(weights, [*architecture.weight_names(), NONE])}; "
            "or give the path of a .safetensors or .pth file"
        )
    return PretrainedWeights(source, backbone, image_size)


def shipped_weights() -> dict[str, Path]:
    """The weights that come with this package, name -> file."""
    return {name: path for _, architecture in BACKBONES.items() for name, path in architecture.shipped.items()}


def file_source(path: Path, backbone: str) -> WeightsSource:
    """The weights in a file. Raises InputError when it is not there, or its card is missing, wrong or of another
    backbone."""
    card = read_card(path)
    if card.architecture != backbone:
        known = card.architecture in BACKBONES
        remedy = f"; use --backbone {card.architecture}" if known else did_you_mean(card.architecture, BACKBONES)
        raise InputError(
            f"{path}: these are weights of {card.architecture!r}, not of {backbone!r}{remedy}"
            + (" or other weights" if known else "")
        )
    if card.quick_gelu and not BACKBONES.get(backbone).has_quick_gelu:
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
    return WeightsSource(ref, LocalFile(path, digest))


def read_card(path: Path) -> WeightsCard:
    """The card of a weights file. Raises InputError when the file is missing or its card incomplete."""
    if not is_file(path):
        printed = str(path) if len(str(path)) <= 2 * _SHOWN else f"{str(path)[: 2 * _SHOWN]}..."
        raise InputError(f"{_printed(printed)}: no such weights file; give a file, a published name or none")
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
    """Resolved weights for a backbone at an image size.

    ref: their entry in a run's specification. name: `BACKBONE/WEIGHTS`, one name for one file. file: None for random
    initialisation.
    """

    def __init__(self, source: WeightsSource, backbone: str, image_size: int):
        self.ref = source.ref
        self.file = source.file
        self.name = f"{backbone}/{source.ref.name}"
        self._backbone = backbone
        self._image_size = image_size

    def is_here(self) -> bool:
        """Whether nothing has to be fetched."""
        return self.file is None or self.file.is_here()

    def fetch(self, reporter: Reporter = SILENT) -> Path | None:
        """The local file, downloaded where it is missing; None for random initialisation.

        Raises InputError, with file and remedy, when it cannot be fetched, or is not the published one: a file that was
        there before may be any.
        """
        if self.file is None:
            return None
        remedy = self.file.remedy(self.name)
        if not self.file.is_here():
            try:
                self.file.download(reporter)
            except DownloadError as error:
                raise InputError(
                    f"weights {self.name} are not here and could not be fetched ({error}): {remedy}"
                ) from None
        path, digits = self.file.path, self.file.sha256
        try:
            digest = file_digest(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
        if not digest.startswith(digits):
            raise InputError(
                f"{path}: not the published file, or cut short: its sha256 does not start with {digits}; remove it, "
                f"and {remedy}"
            )
        return path

    def load(self, reporter: Reporter = SILENT) -> dict[str, torch.Tensor] | None:
        """The state dict of the whole network without its class head, floating point as float32; None for random
        initialisation. reporter: shows a download, and a line where a wrapper's prefix is removed from the names.

        Raises InputError, naming file and tensors, when the weights cannot be fetched or do not fit: missing,
        unexpected or non-finite tensors, other shapes, other types than floating point.
        """
        file = self.fetch(reporter)
        return None if file is None else self._fitted(_read_state(file), str(file), reporter.line)

    def _fitted(
        self, state: dict[str, torch.Tensor], where: str, say: Callable[[str], None]
    ) -> dict[str, torch.Tensor]:
        architecture = BACKBONES.get(self._backbone)
        head = architecture.head
        with torch.device("meta"):
            network = build_network(self._backbone, self._image_size, self.ref.quick_gelu)
        expected = _trunk(network.state_dict(), head)
        state = _trunk(state, head)
        prefix, rest = _wrapper(state, expected)
        if prefix and not rest:
            say(f"{where}: left {prefix!r} out, with which the name of every tensor begins")
            state = _trunk({key.removeprefix(prefix): value for key, value in state.items()}, head)
        state = _as_float32(state, expected, where)
        state = architecture.fit(state, expected, self._image_size)
        # PyTorch counts batches for a momentum mode that is not used here: files may leave the counter out.
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
    """A name from a file as a message shows it: short, on one line."""
    return (text if text.isprintable() else repr(text)) if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]!r}..."


def _wrapper(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> tuple[str, str]:
    """A wrapper's prefix of the names (`module.`, `_orig_mod.backbone.`), and a name that lacks it; "" for none.

    A prefix is a wrapper's where some name without it is that of an expected tensor.
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


def _trunk(state: dict[str, torch.Tensor], head: tuple[str, ...]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if not (head and key.startswith(head))}


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error below gives the reason
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can end in almost any error
        kind = "it holds objects other than tensors" if "weights_only" in str(error) else type(error).__name__
        raise InputError(f"{path}: not a whole file of plain tensors ({kind}); fetch or convert it again") from None
    tensors = isinstance(state, dict) and all(isinstance(value, torch.Tensor) for value in state.values())
    if not tensors or not all(isinstance(key, str) for key in state):
        raise InputError(f"{path}: not a state dict (names to tensors); save model.state_dict() instead")
    return state
