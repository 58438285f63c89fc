"""A small CLIP for the rendered demo set: training and measuring its shipped weights.

In the papers a CLIP that has seen 400 million captioned images knows the concepts that are rare in a long-tailed
training list. On the demo set this network has that role. It is trained on rendered scenes of other image ids, with
captions, and with every class equally frequent.

**Captions.** Half of them name one object of the scene, the others all objects in random order, in one of `TEMPLATES`:
a prompt that names one class must match scenes with more classes.

**Losses.** (1) CLIP's, over open_clip's logits, with one difference: a caption may be true of several scenes of a
batch, namely of those with the classes that it names. The target of a row is uniform over the true pairs, as in UniCL
(Yang et al., CVPR 2022). With 20 classes CLIP's own identity target would call many true pairs false. (2) Where a scene
has one class, its patch tokens are classified by the classes' prompts, as regions are in RegionCLIP (Zhong et al., CVPR
2022). The patches of an object are those whose pixels change when the scene is rendered with another surface.

**Start.** A vision transformer that starts at random needs more scenes than a CPU can process in minutes, so
`initialise` starts this one as a network that compares neighbouring patches. The text tower is first trained on
captions alone, so that the image tower has distinct targets from the first step on.

Command line::

    python -m benchmark.tools.demo_clip train --out benchmark/models/demo_clip
    python -m benchmark.tools.demo_clip evaluate
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from benchmark.base.atomic import write_atomically
from benchmark.data.dataset import SPLITS_FOLDER, DatasetFolder
from benchmark.data.shapes import CLASS_NAMES, IMAGE_SIZE, RENDERER_VERSION, SHAPES, SURFACES, render
from benchmark.errors import InputError, LtbenchError
from benchmark.evaluation import score
from benchmark.models.prompts import PROMPT, prompts_for
from benchmark.store.records import Metrics
from benchmark.training.inference import Normalizer
from benchmark.ui.progress import Reporter

SHIPPED = Path(__file__).parents[1] / "models" / "demo_clip"
DEMO_SET = "shapes-lt"

WORDS = (
    *("a", "an", "and", "the", "of", "with", "in", "on", "is", "are", "there", "photo", "picture", "image", "scene"),
    *("drawing", "showing", "containing", "shape", "object"),
    *SURFACES,
    *SHAPES,
)
TEMPLATES = (
    "a photo of {}.",
    "a picture of {}.",
    "an image of {}.",
    "a drawing of {}.",
    "a photo showing {}.",
    "an image containing {}.",
    "a scene with {}.",
    "{} in a scene.",
    "there is {} in the image.",
    "{}.",
)
SCENE_SIZES = (0.5, 0.3, 0.15, 0.05)  # share of the scenes with 1, 2, 3 and 4 classes

PATCH = 8
_GRID = IMAGE_SIZE // PATCH
_BACKGROUND = len(CLASS_NAMES)  # label of a patch without an object
_UNKNOWN = -1
_COVERED = 0.12  # the object is in a patch if more than this share of its pixels changes with the surface
_LUMA_AND_OPPONENTS = ((0.299, 0.587, 0.114), (1.0, -1.0, 0.0), (0.5, 0.5, -1.0))  # the surfaces contrast in luma


def bpe_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges that make each of the words one token, in the order in which they apply.

    As in Sennrich et al. (ACL 2016), with a word counted once: the most frequent neighbours merge first (ties: in
    alphabetical order), until every word is whole.
    """
    split = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges = []
    while any(len(parts) > 1 for parts in split):
        pairs = Counter(pair for parts in split for pair in zip(parts, parts[1:], strict=False))
        merge = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(merge)
        for parts in split:
            for i in range(len(parts) - 1):
                if tuple(parts[i : i + 2]) == merge:
                    parts[i : i + 2] = ["".join(merge)]
    return merges


def merges_file() -> bytes:
    """`merges.txt.gz` for `open_clip.SimpleTokenizer`: a line that it skips, then the merges. The same bytes each time.

    The last line has no line break, which the tokenizer would read as an empty merge.
    """
    lines = ["#version: demo_clip", *(" ".join(merge) for merge in bpe_merges(WORDS))]
    return gzip.compress("\n".join(lines).encode(), mtime=0)


def config() -> dict[str, Any]:
    """`config.json`, in open_clip's format. Single bytes make 512 tokens, start and end of a text two."""
    return {
        "model_cfg": {
            "embed_dim": 64,
            "vision_cfg": {
                "image_size": IMAGE_SIZE,
                "patch_size": PATCH,
                "width": 96,
                "layers": 4,
                "head_width": 24,
                "mlp_ratio": 3.0,
            },
            "text_cfg": {
                "context_length": 24,
                "vocab_size": 512 + len(bpe_merges(WORDS)) + 2,
                "width": 64,
                "heads": 4,
                "layers": 2,
            },
        },
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"},
    }


def make_tokenizer() -> open_clip.SimpleTokenizer:
    """The tokenizer of `merges_file`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "merges.txt.gz")
        file.write_bytes(merges_file())
        return open_clip.SimpleTokenizer(str(file), context_length=config()["model_cfg"]["text_cfg"]["context_length"])


@dataclass(frozen=True)
class Scenes:
    """Training scenes.

    labels: class indices of each, ascending. pixels: uint8 [N, 64, 64, 3]. patches: int8 [N, 8, 8], the class under
    each patch, 20 for none, -1 where it is not known.
    """

    labels: tuple[tuple[int, ...], ...]
    pixels: np.ndarray
    patches: np.ndarray


def draw_labels(scenes: int, seed: int) -> list[tuple[int, ...]]:
    """Class indices of every scene, ascending. The numbers of classes follow `SCENE_SIZES`.

    Each scene has the classes that were used least so far (ties at random), so that the classes' numbers of scenes
    differ by at most one.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    borders = np.cumsum(SCENE_SIZES[:-1])
    used = np.zeros(len(CLASS_NAMES), dtype=np.int64)
    drawn = []
    for _ in range(scenes):
        size = 1 + int(np.searchsorted(borders, rng.random(), side="right"))
        chosen = np.lexsort((rng.random(len(used)), used))[:size]
        used[chosen] += 1
        drawn.append(tuple(sorted(chosen.tolist())))
    return drawn


def scene_id(index: int) -> str:
    """Image id of a training scene. The lists of the demo set use train/, val/ and test/."""
    return f"clip/{index:06d}.png"


def patch_labels(image_id: str, label: int, pixels: np.ndarray) -> np.ndarray:
    """The class under each patch of a scene of one class, int8 [8, 8]: 20 for none, -1 where it is not clear.

    For two classes of one shape, the renderer draws scenes that differ in the pixels of the second colour alone.
    """
    surface, shape = CLASS_NAMES[label].split()
    other = CLASS_NAMES.index(f"{'checkered' if surface == 'solid' else 'solid'} {shape}")
    changed = (render(image_id, [other]) != pixels).any(axis=2)
    share = changed.reshape(_GRID, PATCH, _GRID, PATCH).mean(axis=(1, 3))
    return np.where(share > _COVERED, label, np.where(share == 0, _BACKGROUND, _UNKNOWN)).astype(np.int8)


def render_scenes(scenes: int, seed: int, reporter: Reporter) -> Scenes:
    """Draw and render the training scenes."""
    labels = draw_labels(scenes, seed)
    pixels = np.empty((scenes, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    patches = np.full((scenes, _GRID, _GRID), _UNKNOWN, dtype=np.int8)
    with reporter.task("rendering scenes", scenes) as task:
        for i, present in enumerate(labels):
            pixels[i] = render(scene_id(i), present)
            if len(present) == 1:
                patches[i] = patch_labels(scene_id(i), present[0], pixels[i])
            task.update(i + 1)
    return Scenes(tuple(labels), pixels, patches)


def write_caption(classes: Sequence[int], rng: np.random.Generator) -> str:
    """A caption that names these classes, in random order and a random template."""
    objects = [f"a {CLASS_NAMES[k]}" for k in rng.permutation(classes)]
    phrase = " and ".join(filter(None, [", ".join(objects[:-1]), objects[-1]]))
    return TEMPLATES[int(rng.integers(len(TEMPLATES)))].format(phrase)


def draw_named(labels: Sequence[int], rng: np.random.Generator) -> list[int]:
    """The classes that a caption of a scene names: one of its classes, or all, with equal chance."""
    return [int(rng.choice(labels))] if rng.random() < 0.5 else list(labels)


def contrastive_loss(
    image_features: torch.Tensor, text_features: torch.Tensor, scale: torch.Tensor | float, true: torch.Tensor
) -> torch.Tensor:
    """Normalised features [B, D] twice, factor on the cosines, true [B, B] (scene i, caption j) -> scalar.

    The mean of both directions' cross-entropies; a target is uniform over the true pairs.
    """
    per_image, per_text = ClipLoss().get_logits(image_features, text_features, scale)
    true = true.to(per_image.dtype)
    image_loss = F.cross_entropy(per_image, true / true.sum(dim=1, keepdim=True))
    text_loss = F.cross_entropy(per_text, true.T / true.T.sum(dim=1, keepdim=True))
    return (image_loss + text_loss) / 2


def patch_loss(patch_features: torch.Tensor, prompt_features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Normalised patch features [B, P, D], normalised features of the classes' prompts and of the background's
    [C + 1, D], labels [B, P] as in `Scenes` -> scalar: cross-entropy over the patches whose label is known.

    Our choices: factor 20 on the cosines; the background, four fifths of the patches, weighs a quarter.
    """
    weight = torch.ones(len(prompt_features))
    weight[_BACKGROUND] = 0.25
    known = labels != _UNKNOWN
    if not known.any():
        return patch_features.sum() * 0
    return F.cross_entropy(20 * patch_features[known] @ prompt_features.T, labels[known], weight=weight)


def normalised(pixels: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, 3] -> the network's input, float32 [B, 3, H, W]."""
    facts = config()["preprocess_cfg"]
    normalize = Normalizer(facts["mean"], facts["std"], torch.device("cpu"))
    return normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)


@torch.no_grad()
def initialise(network: CLIP, pixels: np.ndarray) -> None:
    """Start the image tower as a network that finds frequencies in patches and compares neighbouring patches.

    Channels: the last `head_width` carry the position alone, all others content.
    Patch embedding: the lowest frequencies of the 8 x 8 cosine transform, four times as many of luma as of each of two
    opponent colours, over their spread in `pixels` (uint8 [N, 64, 64, 3]).
    Position: sines and cosines of row and column.
    Attention: query and key read the position, and the four heads of a layer look at the patch above, below, left and
    right (as attention can express convolution: Cordonnier et al., ICLR 2020). Training may change all of it.
    First MLP: pairs of units with opposite weights, so that it starts from the magnitudes of the frequencies: the
    look of a surface, independent of its phase and colours.
    """
    visual = network.visual
    width = visual.conv1.out_channels
    head = config()["model_cfg"]["vision_cfg"]["head_width"]
    content = width - head

    filters = _cosine_filters(content)
    spread = F.conv2d(normalised(pixels), filters, stride=PATCH).std(dim=(0, 2, 3))
    visual.conv1.weight.zero_()
    visual.conv1.weight[:content] = 0.5 * filters / (spread + 0.2).view(-1, 1, 1, 1)

    count = head // 4
    frequencies = 0.9 * math.pi * torch.arange(1, count + 1) / count
    angles = torch.arange(_GRID)[:, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = waves[:, None].expand(-1, _GRID, -1)
    columns = waves[None].expand(_GRID, -1, -1)
    visual.positional_embedding.mul_(0.1)
    visual.positional_embedding[:, content:] = 0
    visual.positional_embedding[1:, content:] = 1.4 * torch.cat([rows, columns], dim=2).flatten(0, 1)
    visual.class_embedding[content:] = 0

    for block in visual.transformer.resblocks:
        weight = block.attn.in_proj_weight
        weight[: 2 * width].mul_(0.1)
        gain = math.sqrt(math.sqrt(head) / 2)  # logits of about 12 at the neighbour, 6 in its row and column, else 0
        for i, (down, right) in enumerate([(-1, 0), (1, 0), (0, -1), (0, 1)]):
            here = slice(i * head, (i + 1) * head)
            rotation = torch.block_diag(_rotation(down * frequencies), _rotation(right * frequencies))
            weight[:width][here, content:] = gain * rotation
            weight[width : 2 * width][here, content:] = gain * torch.eye(head)
        block.attn.out_proj.weight[content:].mul_(0.1)
        block.mlp.c_proj.weight[content:].mul_(0.1)

    pairs = visual.transformer.resblocks[0].mlp.c_fc.weight
    pairs[: 2 * content].mul_(0.1)
    pairs[:content, :content] += 2 * torch.eye(content)
    pairs[content : 2 * content, :content] -= 2 * torch.eye(content)


def _cosine_filters(count: int) -> torch.Tensor:
    """[count, 3, 8, 8]: filters of the two-dimensional cosine transform, lowest frequencies first within a colour."""
    k = torch.arange(float(PATCH))
    waves = torch.cos(math.pi * (k[None] + 0.5) * k[:, None] / PATCH)
    waves /= waves.norm(dim=1, keepdim=True)
    planes = torch.einsum("ai,bj->abij", waves, waves).flatten(0, 1)
    planes = planes[(k[:, None] ** 2 + k[None] ** 2).flatten().argsort(stable=True)]
    colours = F.normalize(torch.tensor(_LUMA_AND_OPPONENTS), dim=1)
    opponents = count // 6
    counts = (count - 2 * opponents, opponents, opponents)
    return torch.cat(
        [torch.einsum("c,nij->ncij", colour, planes[:n]) for colour, n in zip(colours, counts, strict=True)]
    )


def _rotation(angles: torch.Tensor) -> torch.Tensor:
    """[2n, 2n]: maps (sin a, cos a) of n angles to those of a + angles."""
    cos, sin = torch.diag(angles.cos()), torch.diag(angles.sin())
    return torch.cat([torch.cat([cos, sin], dim=1), torch.cat([-sin, cos], dim=1)])


@dataclass(frozen=True)
class Settings:
    """Settings of training; the command sets the first three."""

    scenes: int
    epochs: int
    seed: int
    batch_size: int = 32
    lr: float = 1.5e-3
    weight_decay: float = 0.05  # of matrices; none on biases, norms and the scale
    warmup: float = 0.05  # share of the steps
    clip_norm: float = 1.0
    text_steps: int = 80
    text_batch_size: int = 64
    text_lr: float = 2e-3

    @property
    def steps(self) -> int:
        return self.epochs * (self.scenes // self.batch_size)

    def factor(self, step: int) -> float:
        """Of the learning rate: linear warm-up, then half a cosine to zero."""
        rising = self.warmup * self.steps
        if step < rising:
            return (step + 1) / (rising + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / (self.steps - rising)))


def train(scenes: Scenes, settings: Settings, reporter: Reporter) -> tuple[CLIP, list[float]]:
    """A trained network and the loss of every step. The same on every call, to the bit, on one thread."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = CLIP(**config()["model_cfg"])
    network.train()
    initialise(network, scenes.pixels[:300])
    tokenizer = make_tokenizer()
    rng = np.random.Generator(np.random.PCG64([settings.seed, 1]))
    _train_text(network, tokenizer, scenes, settings, rng)

    groups = [
        {"params": [p for p in network.parameters() if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, settings.factor)
    prompts = tokenizer([*prompts_for(CLASS_NAMES), PROMPT.format("scene")])
    losses: list[float] = []
    with reporter.task("training", settings.steps) as task:
        for step, (pixels, patches, captions, true) in enumerate(_batches(scenes, settings, rng), 1):
            image_features, patch_features = _image_features(network, pixels)
            text_features = network.encode_text(tokenizer(captions), normalize=True)
            prompt_features = network.encode_text(prompts, normalize=True)
            loss = contrastive_loss(image_features, text_features, network.logit_scale.exp(), true)
            loss = loss + patch_loss(patch_features, prompt_features, patches)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                network.logit_scale.clamp_(0, math.log(100))  # as CLIP does
            losses.append(loss.item())
            task.update(step, f"loss {np.mean(losses[-100:]):.3f}")
    return network.eval(), losses


def _train_text(
    network: CLIP,
    tokenizer: open_clip.SimpleTokenizer,
    scenes: Scenes,
    settings: Settings,
    rng: np.random.Generator,
) -> None:
    """Bring captions that name the same classes together and others apart. Factor on the cosines: CLIP's first, 14."""
    parameters = [p for name, p in network.named_parameters() if not name.startswith("visual.")]
    optimizer = torch.optim.AdamW(parameters, lr=settings.text_lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / settings.text_steps))
    )
    for _ in range(settings.text_steps):
        chosen = rng.integers(len(scenes.labels), size=settings.text_batch_size)
        named = [draw_named(scenes.labels[i], rng) for i in chosen]
        first, second = (
            network.encode_text(tokenizer([write_caption(classes, rng) for classes in named]), normalize=True)
            for _ in range(2)
        )
        same = torch.tensor([[a == b for b in named] for a in named])
        loss = contrastive_loss(first, second, 14.0, same)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _batches(
    scenes: Scenes, settings: Settings, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, torch.Tensor, list[str], torch.Tensor]]:
    """Of every step: pixels [B, 64, 64, 3], patch labels [B, 64], captions, true [B, B] (scene i, caption j).

    Half of the scenes are mirrored. Colours stay as they are: the surfaces are drawn to contrast in luma.
    """
    size = settings.batch_size
    present = np.zeros((len(scenes.labels), len(CLASS_NAMES)), dtype=bool)
    for row, labels in zip(present, scenes.labels, strict=True):
        row[list(labels)] = True
    for _ in range(settings.epochs):
        order = rng.permutation(len(scenes.labels))
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            pixels, patches = scenes.pixels[chosen], scenes.patches[chosen]
            mirrored = rng.random(size) < 0.5
            pixels[mirrored] = pixels[mirrored, :, ::-1]
            patches[mirrored] = patches[mirrored, :, ::-1]
            captions, named = [], np.zeros((size, len(CLASS_NAMES)), dtype=bool)
            for i, index in enumerate(chosen):
                classes = draw_named(scenes.labels[index], rng)
                captions.append(write_caption(classes, rng))
                named[i, classes] = True
            false = (named & ~present[chosen][:, None]).any(axis=2)  # the caption names an absent class
            yield pixels, torch.from_numpy(patches).flatten(1).long(), captions, torch.from_numpy(~false)


def _image_features(network: CLIP, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 [B, H, W, 3] -> normalised features of the images [B, D] and of their patches [B, P, D]."""
    found = network.visual.forward_intermediates(
        normalised(pixels), indices=1, normalize_intermediates=True, output_fmt="NLC"
    )
    patches = found["image_intermediates"][-1] @ network.visual.proj
    return F.normalize(found["image_features"], dim=-1), F.normalize(patches, dim=-1)


@torch.no_grad()
def zero_shot(network: CLIP, pixels: np.ndarray) -> np.ndarray:
    """Cosines [N, C] of images, uint8 [N, H, W, 3], with the classes' prompts."""
    text = network.encode_text(make_tokenizer()(prompts_for(CLASS_NAMES)), normalize=True)
    parts = [network.encode_image(normalised(pixels[i : i + 100]), normalize=True) for i in range(0, len(pixels), 100)]
    return (torch.cat(parts) @ text.T).numpy()


def evaluate(network: CLIP) -> tuple[Metrics, float]:
    """Zero-shot metrics on the demo set's validation list, and the mean prevalence of its classes, in percent."""
    dataset = DatasetFolder(DEMO_SET, SPLITS_FOLDER / DEMO_SET).open()
    val = dataset.splits["val"]
    scenes = zip(val.paths, val.targets, strict=True)
    pixels = np.stack([render(path, np.flatnonzero(row).tolist()) for path, row in scenes])
    return score(zero_shot(network, pixels), val.targets, dataset.groups), 100 * float(val.targets.mean())


def load(folder: Path) -> CLIP:
    """The network of a folder that `train` wrote, in evaluation mode. Raises InputError."""
    path = folder / "weights.safetensors"
    try:
        network = CLIP(**json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_cfg"])
        network.load_state_dict(load_file(path))
    except OSError as error:
        raise InputError(f"{folder}: not a folder that `train` wrote: {error.strerror or error}") from None
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: does not fit config.json beside it ({type(error).__name__}); train anew") from None
    return network.eval()


def weights_file(network: CLIP) -> bytes:
    """`weights.safetensors`: the state dict, with the metadata that `benchmark.models.weights` requires.

    The metadata are sorted, so that the same weights give the same bytes: the format leaves their order open.
    """
    facts = config()["preprocess_cfg"]
    card = {
        "architecture": "clip_demo",
        "mean": json.dumps(facts["mean"]),
        "std": json.dumps(facts["std"]),
        "interpolation": facts["interpolation"],
        "source": "benchmark/tools/demo_clip.py",
    }
    content = save({name: value.contiguous() for name, value in network.state_dict().items()}, card)
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    return content[:8] + json.dumps(header, separators=(",", ":")).encode().ljust(end - 8) + content[end:]


def make(out: Path, settings: Settings, reporter: Reporter) -> None:
    """Train, measure and write all files of `out`.

    Raises InputError when the settings make no step or `out` cannot be a folder, before anything is rendered;
    StoreError when a file cannot be written.
    """
    if settings.steps < 1:
        raise InputError(
            f"--scenes {settings.scenes} --epochs {settings.epochs}: not one step; a step takes "
            f"{settings.batch_size} scenes"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be made a folder ({error.strerror or error}); give another") from None
    started = time.monotonic()
    scenes = render_scenes(settings.scenes, settings.seed, reporter)
    rendered = time.monotonic()
    network, losses = train(scenes, settings, reporter)
    trained = time.monotonic()
    metrics, prevalence = evaluate(network)
    weights = weights_file(network)
    made = {
        "command": f"python -m benchmark.tools.demo_clip train --scenes {settings.scenes} --epochs {settings.epochs} "
        f"--seed {settings.seed}",
        "settings": asdict(settings),
        "steps": settings.steps,
        "final_loss": round(float(np.mean(losses[-100:])), 4),
        "renderer_version": RENDERER_VERSION,
        "versions": {name: version(name) for name in ("torch", "open_clip_torch", "numpy")},
        "threads": torch.get_num_threads(),
        "seconds": {"rendering": round(rendered - started), "training": round(trained - rendered)},
        "chosen_on": f"{DEMO_SET}/val.txt; test.txt was not scored",
        "val": {
            "zero_shot_map": _rounded(metrics.overall),
            "mean_prevalence": _rounded(prevalence),
            "head": _rounded(metrics.head),
            "medium": _rounded(metrics.medium),
            "tail": _rounded(metrics.tail),
            "per_class": {name: _rounded(value) for name, value in metrics.per_class.items()},
        },
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_atomically(out / "merges.txt.gz", merges_file())
    write_atomically(out / "config.json", _json(config()))
    write_atomically(out / "weights.safetensors", weights)
    write_atomically(out / "made.json", _json(made))
    reporter.line(f"{out}: zero-shot mAP {metrics.overall:.2f} on val, mean prevalence {prevalence:.2f}")


def _rounded(percent: float | None) -> float:
    assert percent is not None  # every class of the demo set has a positive
    return round(percent, 2)


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.tools.demo_clip",
        description=__doc__.partition("\n")[0],
        epilog="examples:\n"
        "  python -m benchmark.tools.demo_clip train --out benchmark/models/demo_clip\n"
        "  python -m benchmark.tools.demo_clip train --out /tmp/clip --scenes 2000 --epochs 1 --seed 1\n"
        "  python -m benchmark.tools.demo_clip evaluate --folder /tmp/clip\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="render scenes, train, measure on val and write the folder")
    training.add_argument("--out", type=Path, required=True, help="folder to write to")
    training.add_argument("--scenes", type=int, default=40000, help="scenes to render (default: %(default)s)")
    training.add_argument("--epochs", type=int, default=5, help="passes over them (default: %(default)s)")
    training.add_argument("--seed", type=int, default=0, help="of labels, captions and start (default: %(default)s)")
    measuring = commands.add_parser("evaluate", help="zero-shot average precision on the validation list")
    measuring.add_argument("--folder", type=Path, default=SHIPPED, help="that train wrote (default: the shipped one)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: a user's mistake is one line and exit code 2."""
    args = _parser().parse_args(argv)
    torch.set_num_threads(1)  # for the same bits on all machines of a kind; more threads would not be faster
    try:
        if args.command == "train":
            make(args.out, Settings(args.scenes, args.epochs, args.seed), Reporter(Console(stderr=True)))
            return
        metrics, prevalence = evaluate(load(args.folder))
    except LtbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for name, value in metrics.per_class.items():
        print(f"{name:<20} {value:6.2f}")
    print(f"zero-shot mAP {metrics.overall:.2f}, mean prevalence {prevalence:.2f}")


if __name__ == "__main__":
    main()
