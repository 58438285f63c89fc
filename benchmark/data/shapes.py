"""Renderer and label lists of the demo set ``shapes-lt``.

``shapes-lt`` has the label rows of VOC-LT (Wu et al., 2020) on rendered images: class k of the demo set has
the training rows of class k of VOC-LT. So the long tail and the label co-occurrence are the published ones,
and no photograph has to be fetched. No image is stored: the label lists name image ids, and `render` makes
pixels from (id, labels).

**Class mapping.** A class is one of 5 shapes with one of 4 surfaces. Classes are ranked by VOC-LT's number
of training positives, most frequent first (ties: lower index first); the class of rank r is shape r mod 5
with surface r mod 4. As 4 and 5 are coprime, the 20 ranks give the 20 combinations once each, and any five
consecutive ranks hold every shape and every surface. So the 6 head classes (n >= 100) show every part
that a tail class (n < 20) is made of, and only the combination is rare. Colour carries no class information.

**Reproducibility.** Pixels come from uniform draws of PCG64 and float64 arithmetic in NumPy; Pillow is not used, as
its rasteriser changes between releases.

Command line::

    python -m benchmark.data.shapes lists --voc splits/voc-lt --out splits/shapes-lt
"""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

IMAGE_SIZE = 64
RENDERER_VERSION = 1  # bump when any pixel changes

SHAPES = ("circle", "triangle", "square", "star", "cross")
SURFACES = ("solid", "striped", "dotted", "checkered")

# Training positives per class index in VOC-LT; they fix the class mapping, and `write_lists` checks them.
VOC_LT_TRAIN_COUNTS = (6, 34, 8, 14, 154, 17, 249, 29, 479, 4, 240, 48, 11, 20, 775, 100, 5, 82, 7, 64)

_RANKED = sorted(range(len(VOC_LT_TRAIN_COUNTS)), key=lambda k: (-VOC_LT_TRAIN_COUNTS[k], k))
_PARTS = {k: (SHAPES[r % len(SHAPES)], SURFACES[r % len(SURFACES)]) for r, k in enumerate(_RANKED)}

CLASS_NAMES: tuple[str, ...] = tuple(f"{surface} {shape}" for _, (shape, surface) in sorted(_PARTS.items()))

_TRAIN_ROWS = 1142
_EVAL_ROWS = 1000
_EVAL_SEEDS = {"val": 1, "test": 2}
_MIN_POSITIVES = {"val": 5, "test": 10}

_OVERSAMPLING = 3  # samples per pixel and axis in a patch
_PAD = 32  # canvas margin in pixels, so that patches near the border need no clipping
_MAX_COVERED = 0.4  # largest fraction of an object that later objects may hide
_PLACEMENTS = 40  # positions tried for an object
_MAX_TILT = math.radians(25.0)  # of a shape; a surface has any angle
_LUMA = np.array([0.299, 0.587, 0.114])


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


@lru_cache(maxsize=64)
def _grid(size: int, oversampling: int) -> tuple[np.ndarray, np.ndarray]:
    """x [1, M] and y [M, 1], in pixels from the centre of a patch of size x size pixels."""
    axis = (np.arange(size * oversampling) + 0.5) / oversampling - size / 2
    return axis[None, :], axis[:, None]


def _rotated(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    c, s = math.cos(angle), math.sin(angle)
    return c * x + s * y, c * y - s * x


def _downsample(samples: np.ndarray) -> np.ndarray:
    """Coverage in [0, 1] per pixel, [n, n], from a boolean sample grid [n * k, n * k]."""
    k = _OVERSAMPLING
    values = samples.astype(np.float64)
    rows = sum((values[i::k] for i in range(k)), np.zeros(()))
    return sum((rows[:, i::k] for i in range(k)), np.zeros(())) / k**2


def _depth(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance to the nearest edge, positive inside; every shape is about 2 units across."""
    if shape == "circle":
        return 1.0 - np.sqrt(u * u + v * v)
    if shape == "square":
        return 0.88 - np.maximum(np.abs(u), np.abs(v))
    if shape == "triangle":
        slanted = math.sqrt(0.75) * np.abs(u) - 0.5 * v
        return 0.64 - np.maximum(slanted, v)
    if shape == "cross":
        u, v = np.abs(u), np.abs(v)
        return np.maximum(np.minimum(0.42 - u, 1.14 - v), np.minimum(0.42 - v, 1.14 - u))
    # Star: two mirror folds map the plane to the wedge of one half point, which a single edge bounds.
    c, s = math.cos(math.pi / 5), math.sin(math.pi / 5)
    u = np.abs(u)
    fold = 2 * np.maximum(c * u - s * v, 0.0)
    u, v = u - c * fold, v + s * fold
    fold = 2 * np.maximum(-c * u - s * v, 0.0)
    u, v = np.abs(u + c * fold), v + s * fold
    outer, inner = 1.32, 0.6
    edge_u, edge_v = inner * s, inner * c - outer
    return (edge_v * u - edge_u * (v - outer)) / math.hypot(edge_u, edge_v)


def _surface(rng: np.random.Generator, surface: str, x: np.ndarray, y: np.ndarray, across: float) -> np.ndarray:
    """Boolean samples, true where the second colour shows; `across` is the object's size in pixels."""
    u, v = _rotated(x, y, _uniform(rng, 0.0, math.pi))
    repeats = _uniform(rng, 2.6, 4.4)
    u, v = u + _uniform(rng, 0.0, 8.0), v + _uniform(rng, 0.0, 8.0)
    # The lower bounds keep each surface readable on the smallest object.
    if surface == "striped":
        period = max(4.4, across / repeats)
        return (u / period) % 1.0 < 0.5
    if surface == "dotted":
        pitch = max(5.4, across / repeats)
        du, dv = (u / pitch) % 1.0 - 0.5, (v / pitch) % 1.0 - 0.5
        return du * du + dv * dv < 0.3**2
    if surface == "checkered":
        cell = max(3.4, 0.6 * across / repeats)
        return (np.floor(u / cell) + np.floor(v / cell)) % 2 == 0
    return np.zeros(np.broadcast_shapes(u.shape, v.shape), dtype=bool)


def _colour(rng: np.random.Generator, ground: np.ndarray, luma_from: np.ndarray | None = None) -> np.ndarray:
    """A random RGB colour, [3] in 0..255, unlike `ground` and, in luma, unlike `luma_from`."""
    best, best_margin = np.zeros(3), -math.inf
    for _ in range(8):  # bounded: the best draw serves where none has full contrast
        colour = 255.0 * rng.random(3)
        margin = float(np.abs(colour - ground).sum()) - 150.0
        if luma_from is not None:
            margin = min(margin, abs(float(_LUMA @ (colour - luma_from))) - 75.0)
        if margin > best_margin:
            best, best_margin = colour, margin
        if margin >= 0.0:
            break
    return best


def _blend(canvas: np.ndarray, row: int, col: int, alpha: np.ndarray, premultiplied: np.ndarray) -> None:
    """Lays a patch, alpha [n, n] and premultiplied colour [n, n, 3], over canvas from (row, col) on."""
    n = alpha.shape[0]
    window = canvas[row : row + n, col : col + n]
    window *= 1.0 - alpha[..., None]
    window += premultiplied


def _corner(rng: np.random.Generator, size: int, margin: float) -> tuple[int, int]:
    """Random top left corner on the canvas of a patch whose centre is `margin` pixels off the border."""
    low, high = margin, IMAGE_SIZE - margin
    y, x = _uniform(rng, low, high), _uniform(rng, low, high)
    return int(y - size / 2) + _PAD, int(x - size / 2) + _PAD


def _object_patch(
    rng: np.random.Generator, shape: str, surface: str, across: float, ground: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Alpha [n, n] and premultiplied colour [n, n, 3] of one object of about `across` pixels."""
    size = 2 * math.ceil(0.67 * across) + 2
    x, y = _grid(size, _OVERSAMPLING)
    u, v = _rotated(x, y, _uniform(rng, -_MAX_TILT, _MAX_TILT))
    inside = _depth(shape, u * (2 / across), v * (2 / across)) > 0.0
    second = _surface(rng, surface, x, y, across) & inside
    # Luma contrast between the two colours keeps the surface visible; either may be the lighter one.
    first_colour = _colour(rng, ground)
    second_colour = _colour(rng, ground, first_colour)
    alpha, alpha_second = _downsample(inside), _downsample(second)
    premultiplied = (alpha - alpha_second)[..., None] * first_colour + alpha_second[..., None] * second_colour
    return alpha, premultiplied


def _draw_objects(rng: np.random.Generator, canvas: np.ndarray, labels: Sequence[int], ground: np.ndarray) -> None:
    """One instance of each label, sometimes two; later objects leave earlier ones mostly visible."""
    wanted = [labels[i] for i in np.argsort(rng.random(len(labels)), kind="stable")]
    extras = [label for label in wanted if rng.random() < 0.35][: max(0, 4 - len(wanted))]
    largest = 32.0 - 2.0 * max(0, len(wanted) + len(extras) - 1)
    drawn: list[list] = []  # [visible alpha on the canvas, total alpha]
    for position, label in enumerate([*wanted, *extras]):
        across = _uniform(rng, 14.0, max(17.0, largest))
        alpha, premultiplied = _object_patch(rng, *_PARTS[label], across, ground)
        n = alpha.shape[0]
        transparency = 1.0 - alpha
        best_corner, least_covered = (0, 0), math.inf
        for _ in range(_PLACEMENTS):
            row, col = _corner(rng, n, 0.46 * across)
            covered = 0.0
            for visible, total in drawn:
                window = visible[row : row + n, col : col + n]
                hidden = 1.0 - (visible.sum() - window.sum() + (window * transparency).sum()) / total
                covered = max(covered, float(hidden))
            if covered < least_covered:
                best_corner, least_covered = (row, col), covered
            if covered <= _MAX_COVERED:
                break
        if least_covered > _MAX_COVERED and position >= len(wanted):
            continue  # a second instance is optional
        row, col = best_corner
        for entry in drawn:
            entry[0][row : row + n, col : col + n] *= transparency
        _blend(canvas, row, col, alpha, premultiplied)
        visible = np.zeros(canvas.shape[:2])
        visible[row : row + n, col : col + n] = alpha
        drawn.append([visible, float(alpha.sum())])


def _draw_line(rng: np.random.Generator, canvas: np.ndarray, ground: np.ndarray) -> None:
    """A straight segment, 8..44 pixels long."""
    size = 48
    x, y = _grid(size, 1)
    u, v = _rotated(x, y, _uniform(rng, 0.0, math.pi))
    along = np.maximum(np.abs(u) - _uniform(rng, 4.0, 22.0), 0.0)
    distance = np.sqrt(along * along + v * v)
    alpha = np.clip(_uniform(rng, 0.5, 1.3) + 0.5 - distance, 0.0, 1.0)
    _blend(canvas, *_corner(rng, size, 0.0), alpha, alpha[..., None] * _colour(rng, ground))


def _draw_arc(rng: np.random.Generator, canvas: np.ndarray, ground: np.ndarray) -> None:
    """Less than half of a circle's outline."""
    size = 28
    x, y = _grid(size, 1)
    u, v = _rotated(x, y, _uniform(rng, 0.0, 2 * math.pi))
    radius = _uniform(rng, 5.0, 12.0)
    distance = np.abs(np.sqrt(u * u + v * v) - radius)
    alpha = np.clip(_uniform(rng, 0.6, 1.2) + 0.5 - distance, 0.0, 1.0)
    alpha *= np.clip(u - _uniform(rng, 0.1, 0.7) * radius + 0.5, 0.0, 1.0)
    _blend(canvas, *_corner(rng, size, 0.0), alpha, alpha[..., None] * _colour(rng, ground))


def _soft_window(rng: np.random.Generator, size: int) -> np.ndarray:
    """A soft elliptical bump in [0, 1], [size, size], without an edge that could pass for a shape's."""
    x, y = _grid(size, 1)
    u, v = _rotated(x, y, _uniform(rng, 0.0, math.pi))
    bump = 1.0 - (u * (2 / size)) ** 2 - (v * (2 / (size * _uniform(rng, 0.5, 1.0)))) ** 2
    bump = np.maximum(bump, 0.0)
    return bump * bump


def _draw_blob(rng: np.random.Generator, canvas: np.ndarray, ground: np.ndarray) -> None:
    size = int(_uniform(rng, 14.0, 40.0))
    alpha = _uniform(rng, 0.5, 0.9) * _soft_window(rng, size)
    _blend(canvas, *_corner(rng, size, 0.0), alpha, alpha[..., None] * _colour(rng, ground))


def _draw_texture(rng: np.random.Generator, canvas: np.ndarray, ground: np.ndarray) -> None:
    """A fragment of a surface that fades out instead of ending at a shape's edge."""
    size = int(_uniform(rng, 18.0, 34.0))
    x, y = _grid(size, _OVERSAMPLING)
    surface = SURFACES[int(rng.integers(1, len(SURFACES)))]
    second = _downsample(_surface(rng, surface, x, y, _uniform(rng, 13.0, 28.0)))[..., None]
    first_colour = _colour(rng, ground)
    colours = (1.0 - second) * first_colour + second * _colour(rng, ground, first_colour)
    alpha = _uniform(rng, 0.7, 1.0) * _soft_window(rng, size)
    _blend(canvas, *_corner(rng, size, 0.0), alpha, alpha[..., None] * colours)


def _draw_outline(rng: np.random.Generator, canvas: np.ndarray, ground: np.ndarray) -> None:
    """The unfilled outline of a shape, about 1.5 pixels wide."""
    shape = SHAPES[int(rng.integers(0, len(SHAPES)))]
    across = _uniform(rng, 14.0, 28.0)
    size = 2 * math.ceil(0.67 * across) + 2
    x, y = _grid(size, _OVERSAMPLING)
    u, v = _rotated(x, y, _uniform(rng, 0.0, 2 * math.pi))
    depth = _depth(shape, u * (2 / across), v * (2 / across)) * (across / 2)
    alpha = _downsample((depth > 0.0) & (depth < 1.5))
    _blend(canvas, *_corner(rng, size, 4.0), alpha, alpha[..., None] * _colour(rng, ground))


_CLUTTER = (_draw_line, _draw_arc, _draw_blob, _draw_texture, _draw_outline)


@lru_cache(maxsize=8)
def _upsampling(knots: int) -> np.ndarray:
    """Smooth interpolation weights [IMAGE_SIZE, knots] from `knots` equally spaced values."""
    position = np.arange(IMAGE_SIZE) * ((knots - 1) / (IMAGE_SIZE - 1))
    offset = np.clip(1.0 - np.abs(position[:, None] - np.arange(knots)), 0.0, 1.0)
    return offset * offset * (3.0 - 2.0 * offset)


def _field(rng: np.random.Generator, knots: int, channels: int) -> np.ndarray:
    """Low-frequency random field in [-1, 1], [IMAGE_SIZE, IMAGE_SIZE, channels]."""
    weights = _upsampling(knots)
    values = 2.0 * rng.random((channels, knots, knots)) - 1.0
    return (weights @ values @ weights.T).transpose(1, 2, 0)


def _background(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """Colour gradient plus low-frequency texture around the colour `ground`, [IMAGE_SIZE, IMAGE_SIZE, 3]."""
    x, y = _grid(IMAGE_SIZE, 1)
    u, _ = _rotated(x, y, _uniform(rng, 0.0, 2 * math.pi))
    slope = (2.0 * rng.random(3) - 1.0) * (50.0 / IMAGE_SIZE)
    background = ground + u[..., None] * slope
    background += _uniform(rng, 6.0, 20.0) * _field(rng, 5, 3)
    background += _uniform(rng, 4.0, 14.0) * _field(rng, 14, 1)
    return background


def _blurred(image: np.ndarray) -> np.ndarray:
    """Binomial 3 x 3 blur with replicated borders."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = 0.25 * (padded[:-2] + padded[2:]) + 0.5 * padded[1:-1]
    return 0.25 * (rows[:, :-2] + rows[:, 2:]) + 0.5 * rows[:, 1:-1]


def render(image_id: str, labels: Sequence[int]) -> np.ndarray:
    """The image of one row of a label list.

    Args:
        image_id: the row's id, such as ``train/0001.png``; it seeds every draw.
        labels: class indices in 0..19; order and repetitions do not matter, and none gives clutter only.

    Returns:
        uint8 array [64, 64, 3], RGB, decided by (RENDERER_VERSION, image_id, labels) alone.

    Raises:
        ValueError: for a label out of range.
    """
    labels = sorted({int(label) for label in labels})
    for label in labels:
        if not 0 <= label < len(CLASS_NAMES):
            raise ValueError(f"label {label} of {image_id} is not in 0..{len(CLASS_NAMES) - 1}")
    digest = hashlib.sha256(f"shapes-lt/{RENDERER_VERSION}/{image_id}".encode()).digest()
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))

    ground = 30.0 + 195.0 * rng.random(3)
    canvas = np.zeros((IMAGE_SIZE + 2 * _PAD, IMAGE_SIZE + 2 * _PAD, 3))
    inner = canvas[_PAD:-_PAD, _PAD:-_PAD]
    inner[...] = _background(rng, ground)
    for _ in range(int(rng.integers(1, 5))):
        _CLUTTER[int(rng.integers(0, len(_CLUTTER)))](rng, canvas, ground)
    _draw_objects(rng, canvas, labels, ground)
    if rng.random() < 0.5:
        _draw_line(rng, canvas, ground)

    image = inner * (_uniform(rng, 0.75, 1.1) + 0.2 * _field(rng, 3, 1))
    if rng.random() < 0.25:
        image = _blurred(image)
    # Sum of four uniforms (variance 1/3): normal enough, and its stream is stable over NumPy versions.
    noise = rng.random((4, IMAGE_SIZE, IMAGE_SIZE, 3)).sum(axis=0) - 2.0
    sigma = 8.0 + 17.0 * float(rng.random()) ** 2
    image = image + sigma * math.sqrt(3.0) * noise
    return np.floor(np.clip(image, 0.0, 255.0) + 0.5).astype(np.uint8)


def _read_rows(path: Path) -> list[tuple[str, list[int]]]:
    """(image id, class indices) of each line of a label list."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        image_id, *labels = line.split()
        rows.append((image_id, [int(label) for label in labels]))
    return rows


def _positives(rows: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(sum(k in labels for labels in rows) for k in range(len(CLASS_NAMES)))


def write_lists(voc_dir: Path, out_dir: Path) -> None:
    """Writes classes.txt, train.txt (1,142 rows), val.txt and test.txt (1,000 rows each) to `out_dir`.

    Training rows are VOC-LT's in their order. Val and test rows are drawn without replacement from VOC-LT's
    by a fixed seed and keep the list's order. A line is ``train/0001.png 4 14 19``: id, then class indices.

    Args:
        voc_dir: folder with VOC-LT's train.txt, val.txt and test.txt.
        out_dir: folder to write to; made if missing.

    Raises:
        ValueError: if `voc_dir` does not hold VOC-LT's rows, or a class has fewer than 5 positives in the
            drawn val rows or 10 in the drawn test rows.
    """
    splits = {"train": [labels for _, labels in _read_rows(voc_dir / "train.txt")]}
    if len(splits["train"]) != _TRAIN_ROWS or _positives(splits["train"]) != VOC_LT_TRAIN_COUNTS:
        raise ValueError(f"{voc_dir / 'train.txt'} does not have VOC-LT's training rows")
    for split, seed in _EVAL_SEEDS.items():
        rows = [labels for _, labels in _read_rows(voc_dir / f"{split}.txt")]
        if len(rows) < _EVAL_ROWS:
            raise ValueError(f"{voc_dir / f'{split}.txt'} has {len(rows)} rows, fewer than {_EVAL_ROWS}")
        keys = np.random.Generator(np.random.PCG64(seed)).random(len(rows))
        chosen = np.sort(np.argsort(keys, kind="stable")[:_EVAL_ROWS])
        splits[split] = [rows[i] for i in chosen]
        fewest = min(_positives(splits[split]))
        if fewest < _MIN_POSITIVES[split]:
            raise ValueError(f"a class has {fewest} positives in {split}, fewer than {_MIN_POSITIVES[split]}")

    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "classes.txt").write_text("".join(f"{name}\n" for name in CLASS_NAMES), encoding="utf-8")
    for split, rows in splits.items():
        lines = (" ".join([f"{split}/{i:04d}.png", *map(str, row)]) for i, row in enumerate(rows, start=1))
        (out_dir / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: ``lists`` writes the label lists."""
    summary = __doc__.partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmark.data.shapes", description=summary)
    commands = parser.add_subparsers(dest="command", required=True)
    lists = commands.add_parser("lists", help="write the label lists of shapes-lt")
    lists.add_argument("--voc", type=Path, required=True, help="folder with VOC-LT's lists")
    lists.add_argument("--out", type=Path, required=True, help="folder to write to")
    args = parser.parse_args(argv)
    write_lists(args.voc, args.out)


if __name__ == "__main__":
    main()
