"""The specification of a run: recipe, protocol, `RunSpec`, and the run id that is computed from them.

The id is the sha256 of the canonical JSON of everything that decides a run's result, and of nothing else: no path, no
file name, no host, no worker count, no git commit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    ValidationError,
    model_validator,
)

from benchmark.base.files import file_digest, is_file, split_file
from benchmark.base.yamlio import load_yaml
from benchmark.errors import InputError, Unfit, shown
from benchmark.registry import NAME_PATTERN, Registry, did_you_mean

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
# `resnet50`, or another library's: `timm:resnet50`.
BackboneName = Annotated[str, Field(pattern=rf"^([a-z]+:)?{NAME_PATTERN.removeprefix('^')}")]


def _existing_file(reference: str) -> str:
    found = split_file(reference)
    if found and not is_file(found[0]):
        raise ValueError("no such file; give the path of one that is there")
    return reference


def _without_path(reference: str, info: SerializationInfo) -> str:
    found = split_file(reference)
    if not found:
        return reference
    path, key = found
    for_people = bool(info.context and info.context.get("for_people"))
    name = path.name if for_people else f"sha256:{file_digest(path)}"
    return f"{name}:{key}" if key else name


# A configuration's value that is a name or a local file. In JSON a file is `sha256:<digest>` of its content, followed
# by the key, so that no path enters a run's id; with the context {"for_people": True} it is the file's own name.
FileOrName = Annotated[str, AfterValidator(_existing_file), PlainSerializer(_without_path, when_used="json")]


# Serialisation context: files by their names, instead of the digests that enter a run's id.
FOR_PEOPLE = {"for_people": True}


class Strict(BaseModel):
    """Base of every validated type: immutable, no unknown keys, no coercion of one type into another."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )


Model = TypeVar("Model", bound=BaseModel)


def plain_value(value: Any) -> Any:
    """A substitute for a value that JSON lacks: numbers for NumPy's and PyTorch's scalars and arrays, else text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def parse(model: type[Model], data: Any, where: str) -> Model:
    """`data` (JSON types) as a `model`. Raises InputError, one line: source, key, value, allowed values."""
    try:
        return model.model_validate_json(json.dumps(data, default=plain_value))
    except ValidationError as error:
        raise InputError(f"{where}: {_explain(model, error)}") from None
    except ValueError as error:  # a YAML anchor that contains itself
        raise InputError(f"{where}: not plain data: {error}") from None


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    problems = []
    for item in error.errors(include_url=False)[:3]:
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = _fields_at(model, item["loc"][:-1])
            problems.append(f"unknown key {shown(key)!r}{did_you_mean(str(item['loc'][-1]), known)}")
        elif item["type"] == "missing":
            problems.append(f"key {key!r} is missing")
        else:
            found = "" if isinstance(item["input"], dict) else f" (found {shown(repr(item['input']))})"
            message = item["msg"].removeprefix("Value error, ")
            problems.append(f"{key + ': ' if key else ''}{message}{found}")
    return "; ".join(problems)


def _fields_at(model: type[BaseModel], location: tuple) -> list[str]:
    for part in location:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


class Optimizer(Strict):
    """The optimiser. Learning rates are per step; `head_lr_scale` multiplies `lr` outside the backbone."""

    name: Literal["sgd", "adam", "adamw"]
    lr: Positive
    head_lr_scale: Positive = 1.0
    momentum: Fraction = 0.0
    weight_decay: NonNegative = 0.0

    @model_validator(mode="after")
    def _momentum_is_sgds(self) -> Optimizer:
        if self.momentum and self.name != "sgd":
            raise ValueError(f"momentum is an option of sgd, not of {self.name}")
        return self


class Schedule(Strict):
    """Learning rate over the run, as a factor of the optimiser's `lr`; see `benchmark.training.optim.lr_factor`."""

    name: Literal["constant", "step", "cosine", "one-cycle"]
    milestones: list[Positive] = Field(default=[], description="step: epochs after which lr drops")
    gamma: Positive = Field(default=0.1, description="step: factor of each drop")
    peak: Annotated[float, Field(gt=0, lt=1)] = Field(0.3, description="one-cycle: fraction spent rising")
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    warmup_start: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="factor at the first step")

    @model_validator(mode="after")
    def _milestones_are_steps(self) -> Schedule:
        if (self.name == "step") != bool(self.milestones):
            raise ValueError("milestones belong to the schedule 'step', which needs them")
        if self.milestones != sorted(self.milestones):
            raise ValueError("milestones must rise")
        return self


class Augment(Strict):
    """Training augmentation; every parameter is drawn anew for every image. See `benchmark.data.augment`."""

    flip: Fraction = Field(0.0, description="probability of a horizontal flip")
    crop_min_side: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="height and width of the crop, each uniform in [this, 1] of the image"
    )
    photometric: Fraction = Field(0.0, description="probability of each photometric change below")
    brightness: NonNegative = Field(0.0, description="added, uniform in +-this (pixels in [0, 1])")
    contrast: Fraction = Field(0.0, description="multiplied, uniform in 1 +- this")
    saturation: Fraction = Field(0.0, description="multiplied in HSV, uniform in 1 +- this")
    hue: NonNegative = Field(0.0, description="added in HSV, degrees, uniform in +-this")
    channel_swap: bool = Field(False, description="permute the channels, as one of the photometric changes")
    rand_augment: Annotated[int, Field(ge=0)] = Field(0, description="operations of RandAugment, of magnitude 9")
    cutout: Fraction = Field(0.0, description="side of a square of one random colour, relative to the image's")


class TestTime(Strict):
    """The views on which a test or validation image is scored; their logits are averaged."""

    views: Literal["none", "flip", "five-crop"] = Field(
        "none", description="flip: the image and its mirror image; five-crop: corners and centre of a larger one"
    )
    margin: Annotated[int, Field(ge=1)] = Field(24, description="five-crop: pixels that the image is larger by")

    @model_validator(mode="after")
    def _margin_is_five_crops(self) -> TestTime:
        if self.views != "five-crop" and self.margin != 24:
            raise ValueError(f"margin is an option of five-crop, not of {self.views}")
        return self


class Recipe(Strict):
    """Everything about training and scoring that a protocol fixes and a method does not choose."""

    backbone: str
    weights: str = Field(description="pretrained weights: a published name, a file, or none")
    image_size: Annotated[int, Field(ge=16, le=2048)] = Field(description="pixels, square, aspect not kept")
    neck: Annotated[int, Field(ge=1)] | None = Field(
        None, description="width of a linear layer with batch norm, and no activation, before the classifier"
    )
    neck_width: Annotated[int, Field(ge=1)] | None = Field(
        None, description="of records made before `neck`: a linear layer and ReLU, which new runs cannot have"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="on the input of the classifier")
    frozen_stages: Annotated[int, Field(ge=0)] = Field(0, description="backbone stages kept fixed, stem first")
    batch_norm: Literal["train", "frozen"] = Field("train", description="frozen: statistics stay fixed")
    epochs: Annotated[int, Field(ge=1)]
    epoch_length: Literal["dataset", "sampler"] = Field(
        "dataset", description="draws an epoch: the number of training images, or the sampler's own length"
    )
    batch_size: Annotated[int, Field(ge=1)]
    optimizer: Optimizer
    schedule: Schedule
    clip_norm: Positive | None = Field(None, description="largest gradient norm")
    amp: bool = Field(True, description="bfloat16 autocast on CUDA; float32 on the CPU whatever this says")
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description="keep an EMA of the weights")
    report: Literal["raw", "ema"] = Field("raw", description="the weight set whose numbers count")
    selection: Literal["last", "best-val"] = Field("last", description="which epoch is scored on the test set")
    augment: Augment = Augment()
    test_time: TestTime = TestTime()

    @model_validator(mode="after")
    def _ema_is_kept(self) -> Recipe:
        if self.report == "ema" and self.ema_decay is None:
            raise ValueError("report: ema needs ema_decay")
        return self

    @model_validator(mode="after")
    def _batches_have_a_spread(self) -> Recipe:
        if self.neck is not None and self.batch_size == 1:
            raise ValueError("neck: its batch norm needs batches of 2 images or more, and batch_size is 1")
        return self


class Protocol(Strict):
    """A named, versioned recipe, with a method's own where methods differ."""

    name: Name
    version: Annotated[int, Field(ge=1)]
    title: str
    recipe: Recipe
    listed_methods_only: bool = Field(
        False, description="refuse a method without an entry in `methods`: there is no recipe to fall back on"
    )
    pretrained_only: bool = Field(False, description="refuse weights: none")
    methods: dict[str, dict[str, Any]] = Field(
        {}, description="method name -> recipe keys that differ for it (nested as in recipe)"
    )
    datasets: dict[str, dict[str, dict[str, Any]]] = Field(
        {}, description="dataset name -> method name -> recipe keys that differ there"
    )

    @classmethod
    def from_file(cls, path: Path) -> Protocol:
        """Read and validate one YAML file. Raises InputError."""
        protocol = parse(cls, load_yaml(path), str(path))
        if protocol.name != path.stem:
            raise InputError(f"{path}: name is {protocol.name!r}; it must be the file's name, {path.stem!r}")
        for method in protocol.methods:
            parse(Recipe, protocol._merged(method, ""), f"{path}: methods.{method}")
        for dataset, changes in protocol.datasets.items():
            for method in changes:
                parse(Recipe, protocol._merged(method, dataset), f"{path}: datasets.{dataset}.{method}")
        return protocol

    def _merged(self, method: str, dataset: str) -> dict[str, Any]:
        of_method = deep_merge(self.recipe.model_dump(mode="json"), self.methods.get(method, {}))
        return deep_merge(of_method, self.datasets.get(dataset, {}).get(method, {}))

    def recipe_for(self, method: str, dataset: str = "") -> Recipe:
        """The recipe of a method on a dataset, by name. Raises Unfit where the protocol lists methods and lacks it."""
        if self.listed_methods_only and method not in self.methods:
            raise Unfit(
                f"protocol {self.name!r} has no recipe for method {method!r} (it has: "
                f"{', '.join(sorted(self.methods))}); add one under `methods` in "
                f"benchmark/protocols/{self.name}.yaml or use another protocol"
            )
        return parse(Recipe, self._merged(method, dataset), f"protocol {self.name}, method {method}")


def deep_merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` updated by `changes`, with nested mappings merged key by key."""
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = deep_merge(merged[key], value) if nested else value
    return merged


def _load_protocols() -> None:
    for path in sorted((Path(__file__).parent / "protocols").glob("*.yaml")):
        protocol = Protocol.from_file(path)
        PROTOCOLS.register(protocol.name)(protocol)


PROTOCOLS: Registry[Protocol] = Registry("protocol", Protocol, _load_protocols)


class DatasetRef(Strict):
    """The dataset of a run: the fingerprint decides, the name is for people."""

    name: str
    fingerprint: Sha256


class WeightsRef(Strict):
    """Pretrained weights and how images must be prepared for them.

    digest: sha256 of a local file; for torchvision's weights the published file name, which carries a hash
    that is checked on loading; for open_clip's the published architecture and tag;
    for timm's the repository on the Hugging Face hub; None for random initialisation.
    mean, std: of RGB in [0, 1].
    """

    name: str
    digest: str | None
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]
    interpolation: Literal["bilinear", "bicubic"]
    batch_norm: Literal["normal", "folded"] = Field(
        description="folded: batch norm is merged into the convolutions, so its statistics must stay fixed"
    )
    quick_gelu: bool = Field(False, description="CLIP with QuickGELU, as OpenAI's")


class RunSpec(Strict):
    """One run, fully resolved. Two runs with one id give the same result on the same device."""

    method: Name
    method_version: Annotated[int, Field(ge=1)]
    config: dict[str, Any]
    dataset: DatasetRef
    protocol: Name
    protocol_version: int
    recipe: Recipe
    weights: WeightsRef
    overrides: dict[str, Any] = Field(
        description="what the user changed in the protocol's recipe, beyond backbone, weights and image size"
    )
    config_overrides: dict[str, Any] = Field(description="what the user changed in the method's configuration")
    seed: Annotated[int, Field(ge=0, lt=2**31)]

    @model_validator(mode="after")
    def _is_json(self) -> RunSpec:
        # Refuses NaN and infinity in values of any type.
        canonical_json(self.model_dump(mode="json", include={"config", "overrides", "config_overrides"}))
        return self

    def identity(self) -> dict[str, Any]:
        """The content of the id: the specification without names, paths and derived values.

        A field of the recipe or of the weights at its default is left out, so that a field added later, whose
        default means "as before", changes no id. Therefore a released default never changes.
        """
        data = self.model_dump(mode="json", exclude={"overrides", "config_overrides", "recipe", "weights"})
        data["weights"] = self.weights.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        del data["dataset"]["name"]
        data["recipe"] = self.recipe.model_dump(mode="json", exclude={"weights"}, exclude_defaults=True)
        return data

    @property
    def changed_settings(self) -> list[str]:
        """The settings of the method that the user changed, by their names in `config`."""
        # config_overrides has a key for each part of a setting that is itself a mapping.
        names = (key if key in self.config else key.partition(".")[0] for key in self.config_overrides)
        return list(dict.fromkeys(names))

    @property
    def run_id(self) -> str:
        """sha256 of the canonical JSON of `identity()`, 64 hexadecimal digits."""
        return hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()

    @property
    def folder_name(self) -> str:
        """Name of the run's folder: readable, and a function of the id's content alone."""
        return self.folder_of(self.run_id)

    def folder_of(self, run_id: str) -> str:
        """`folder_name` for an id that is already computed."""
        return f"{self.method}-s{self.seed}-{run_id[:12]}"


def canonical_json(data: Any) -> str:
    """JSON with one spelling: keys sorted, no spaces, ASCII, shortest round-trip floats. No NaN, no infinity."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with dotted keys as nested mappings; the opposite of `flatten`."""
    data: dict[str, Any] = {}
    for key, value in flat.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        data = deep_merge(data, value)
    return data
