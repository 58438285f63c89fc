"""Thousands of odd inputs, the same at every call: each ends in one clear line or in a right result, never in a
traceback, a wait, or another number.

What is drawn: bytes that are flipped, cut, repeated or put elsewhere; values, keys and members that are replaced. A
right result is told by what cannot be edited: the scores that the stored logits give, the digest of the content.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import json
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit.bundles import members_of, pack
from kit.checkpoints import plan, resume, stopped, write  # noqa: F401 - fixtures
from kit.keys import write_key
from kit.paths import ROOT
from kit.stores import made, run_of  # noqa: F401 - fixtures
from kit.tiny import write_tiny_dataset
from PIL import Image
from safetensors.torch import save as save_safetensors

from benchmark.audit.bundles import export, import_bundle
from benchmark.audit.files import Files, FolderFiles
from benchmark.audit.judge import judge
from benchmark.data.dataset import DatasetFolder
from benchmark.data.sources import FileImages
from benchmark.errors import InputError, StoreError
from benchmark.leaderboard.board import load_board
from benchmark.leaderboard.formats import export_names, load_export
from benchmark.leaderboard.pages.markdown_page import markdown_page
from benchmark.models.backbones import BACKBONES
from benchmark.models.weights import resolve_weights
from benchmark.store.folder import RunFolder
from benchmark.store.records import Record
from benchmark.store.runs import Store
from benchmark.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

ODD = [
    None, True, False, 0, 1, -1, 2, 2**31, -(2**63), 2**64, 10**400, 0.5, -0.0, 1e308, 1e-320, "", " ", "0", "NaN",
    "x" * 5000, "\x00", "\x1b[31m", "\u202e", "\ud7ff", "é", "../../etc", "/dev/zero", "a\nb", "=1+1",
    "sha256:" + "0" * 64, "0" * 64, [], {}, [[]], [None], {"": None}, {"a": {"b": 1}}, [0] * 50,
]  # fmt: skip
MAGIC = [b"\0", b"\xff", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\n", b"\r", b"\t", b'"', b"{", b"PK"]


@pytest.fixture(autouse=True)
def _no_wait():
    """Ten seconds for an input that takes a hundredth of one: a wait is an error."""
    before = signal.signal(signal.SIGALRM, lambda *args: pytest.fail("it waits, or takes far too long"))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def inputs(kind: str, number: int) -> Iterator[random.Random]:
    """A source of chance for each input; a failure names it."""
    for index in range(number):
        signal.alarm(10)
        yield Draw(f"{kind} {index}")


class Draw(random.Random):
    """A source of chance with a name."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


def outcome_of(draw: Draw, call: Callable[[], Any]) -> Any:
    """What a call returns; None where it refuses in one line. Anything else is a failure that names the input."""
    try:
        return call()
    except (InputError, StoreError) as error:
        assert str(error).strip() and "\n" not in str(error), (draw.name, str(error))
        return None
    except Exception as error:
        raise AssertionError(f"{draw.name}: {type(error).__name__}: {error}") from error


def damaged(draw: Draw, content: bytes) -> bytes:
    """The content with one to three damages."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        at, length = draw.randrange(len(data) + 1), draw.choice((1, 2, 4, 16, 200))
        kind = draw.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = draw.randbytes(length)
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            data[at : at + 1] = draw.choice(MAGIC)
        else:
            del data[draw.choice((at, at // 2)) :]
    return bytes(data)


def edited(draw: Draw, data: Any, kept: Callable[[tuple], bool] = lambda path: False) -> Any:
    """A copy of nested data in which one to three values, wherever they stand, are replaced, removed or repeated.

    kept: of a path, whether it is left as it is.
    """
    data = copy.deepcopy(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = [place for place in _places(data, ()) if not kept(place[0])]
        if not places:
            break
        # As often high up as deep down, where most values are.
        depth = draw.choice(sorted({len(path) for path, _ in places}))
        path, holder = draw.choice([place for place in places if len(place[0]) == depth])
        kind = draw.randrange(5)
        if kind == 0:
            del holder[path[-1]]
        elif kind == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[path[-1]]))
        elif kind == 2:
            _, other = draw.choice(places)
            holder[path[-1]] = copy.deepcopy(draw.choice(list(other.values() if isinstance(other, dict) else other)))
        else:
            holder[path[-1]] = copy.deepcopy(draw.choice(ODD))
    return data


def _places(data: Any, path: tuple) -> Iterator[tuple[tuple, Any]]:
    """(path, what holds it) of every value."""
    for key in list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield (*path, key), data
        yield from _places(data[key], (*path, key))


# --- records -----------------------------------------------------------------------------------------------------


def check_scores(draw: Draw, record: Record, known: Record, files: Files) -> None:
    """What nothing is found in says of the logits what they give."""
    checked = outcome_of(draw, lambda: judge(record, files))
    if checked is not None and not checked.faults:
        for name, metrics in record.results.items():
            assert name in known.results, draw.name
            numbers = {key: value for key, value in metrics.numbers().items() if key.startswith("per_class.")}
            assert list(numbers.values()) == pytest.approx(
                [value for key, value in known.results[name].numbers().items() if key.startswith("per_class.")]
            ), draw.name
        assert record.declared in record.results and record.run_id == record.spec.run_id, draw.name


def test_records(made):
    folder = run_of(made)
    known, files = folder.record(), FolderFiles(folder.path)
    texts = [folder.record_path.read_bytes(), *(path.read_bytes() for path in (ROOT / "tests/records").glob("*.json"))]
    accepted = 0
    for draw in inputs("record", 1500):
        text = texts[0] if draw.random() < 0.8 else draw.choice(texts)
        if draw.random() < 0.3:
            content = damaged(draw, text)
        else:
            data = json.loads(text)
            value = edited(draw, data)
            if draw.random() < 0.5 and isinstance(value.get("spec"), dict):  # as somebody does who knows the format
                value["run_id"] = _run_id(value["spec"], value.get("run_id"))
            content = json.dumps(value).encode()
        record = outcome_of(draw, functools.partial(Record.from_bytes, content, "record.json"))
        if record is not None:
            accepted += 1
            again = Record.from_bytes(record.to_json().encode(), "record.json")
            assert again == record, draw.name
            if text is texts[0]:
                check_scores(draw, record, known, files)
    assert accepted > 50, "most odd records are refused; of the others there are enough to check"


def _run_id(spec: Any, usual: Any) -> Any:
    from benchmark.spec import RunSpec

    try:
        return RunSpec.model_validate_json(json.dumps(spec)).run_id
    except ValueError:
        return usual


def test_boards_of_odd_records(made, tmp_path):
    """Whatever a record that is accepted says, the pages and exports are made, with one line for what is left out."""
    for draw in inputs("board", 12):
        results = tmp_path / draw.name
        for folder in (RunFolder(path) for path in (made / "runs").iterdir()):
            data = edited(draw, json.loads(folder.record_path.read_bytes()), lambda path: path[0] == "logits")
            data["run_id"] = _run_id(data.get("spec"), data.get("run_id"))
            content = json.dumps(data).encode()
            try:
                name = Record.from_bytes(content, "").folder_name
            except StoreError:
                name = folder.path.name
            shutil.copytree(folder.path, results / "runs" / name, dirs_exist_ok=True)
            (results / "runs" / name / "record.json").write_bytes(content)
        problems: list[StoreError] = []
        board = outcome_of(draw, functools.partial(load_board, results, results, problems))
        assert all("\n" not in str(problem) for problem in problems), draw.name
        if board is not None:
            written = [load_export(name).write for name in export_names()]
            for make in (functools.partial(markdown_page, pictures={}), *written):
                assert outcome_of(draw, functools.partial(make, board)) is not None, draw.name


# --- lists -------------------------------------------------------------------------------------------------------


def test_lists(tmp_path):
    """What opens has each image once, below its root, with classes that there are and that have training images."""
    tiny = write_tiny_dataset(tmp_path / "tiny")
    texts = {path.name: path.read_bytes() for path in tiny.glob("*.txt")}
    card = b"title: Tiny\nprotocol: demo\nhead_from: 10\nmedium_from: 5\nnotes: of nothing\n"
    opened = 0
    for draw in inputs("list", 400):
        name = draw.choice(["classes.txt", "train.txt", "val.txt", "test.txt", "dataset.yaml"])
        (tiny / name).write_bytes(damaged(draw, texts.get(name, card)))
        dataset = outcome_of(draw, DatasetFolder("tiny", tiny).open)
        if dataset is not None:
            opened += 1
            check_lists(draw, dataset)
        (tiny / name).write_bytes(texts[name]) if name in texts else (tiny / name).unlink()
    assert opened > 50


def check_lists(draw: Draw, dataset: Any) -> None:
    assert len(set(dataset.classes)) == len(dataset.classes) == len(dataset.groups), draw.name
    seen: set[str] = set()
    for split in dataset.splits.values():
        assert len(split) == len(split.targets) > 0 and split.targets.shape[1] == len(dataset.classes), draw.name
        assert set(np.unique(split.targets)) <= {0, 1} and not seen & set(split.paths), draw.name
        seen |= set(split.paths)
        assert len(set(split.paths)) == len(split) and not any(".." in Path(p).parts for p in split.paths), draw.name
    assert (dataset.class_counts >= 1).all(), draw.name
    # Refused where an image is missing: the images are part of what a dataset of one's own is.
    fingerprint = outcome_of(draw, lambda: dataset.fingerprint)
    assert fingerprint is None or len(fingerprint) == 64, draw.name


# --- images ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning", "ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "AVIF", "BMP", "TIFF"])
def test_images(tmp_path, monkeypatch, kind):
    """What is decoded is an RGB image; the cache's key is the digest of the file, so it is never another's."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)  # a header may claim any size: no memory for it here
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    source, path = FileImages(tmp_path, "the test's"), tmp_path / f"image.{kind.lower()}"
    decoded = 0
    for draw in inputs(kind, 150):
        path.write_bytes(damaged(draw, buffer.getvalue()))
        image = outcome_of(draw, functools.partial(source.open, path.name))
        if image is not None:
            decoded += 1
            assert image.mode == "RGB" and image.width * image.height <= 200_000, draw.name
            assert np.asarray(image.resize((16, 16))).shape == (16, 16, 3), draw.name
        assert source.digest(path.name) == hashlib.sha256(path.read_bytes()).hexdigest(), draw.name
    assert 0 < decoded < 150


# --- weights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_weights(tmp_path, ending):
    """What loads fits the network, is finite, and goes into a run's id by its content."""
    network = BACKBONES.get("small_cnn").build(32, False)
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    card = {"architecture": "small_cnn", "mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"}
    path = tmp_path / f"own.{ending}"
    if ending == "pth":
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        (tmp_path / "own.pth.yaml").write_text("\n".join(f"{key}: {value}" for key, value in card.items()))
    else:
        content = save_safetensors(state, card)
    path.write_bytes(content)
    expected = resolve_weights("small_cnn", str(path), 32).load()
    assert expected is not None
    loaded = 0
    for draw in inputs(ending, 100):
        path = tmp_path / f"own{draw.name.split()[1]}.{ending}"
        # Most of the file are numbers, of which any will do: half of the damages are where names and shapes are.
        head = len(content) if draw.random() < 0.5 else 2000
        path.write_bytes(damaged(draw, content[:head]) + content[head:])
        if ending == "pth":
            shutil.copy(tmp_path / "own.pth.yaml", tmp_path / f"{path.name}.yaml")
        weights = outcome_of(draw, functools.partial(resolve_weights, "small_cnn", str(path), 32))
        found = None if weights is None else outcome_of(draw, weights.load)
        if found is not None:
            loaded += 1
            assert weights.ref.digest == hashlib.sha256(path.read_bytes()).hexdigest(), draw.name
            assert {key: value.shape for key, value in found.items()} == {k: v.shape for k, v in expected.items()}
            assert all(value.isfinite().all() for value in found.values() if value.is_floating_point()), draw.name
        path.unlink()
    assert loaded < 100


# --- checkpoints -------------------------------------------------------------------------------------------------

# Numbers of which any of the right type will do: nobody can tell them from others. So it is with what tensors hold, and
# with a parameter of which the optimiser has nothing yet.
TRUSTED = {"train_s", "epoch_loss", "loss", "lr", "steps", "sha256", "file"}


def is_trusted(path: tuple) -> bool:
    return path[-1] in TRUSTED or (path[0] == "rng" and len(path) > 1) or (path[0] == "optimizer" and len(path) == 3)


def test_checkpoints(plan, stopped, resume, tmp_path):
    """What is not as it was saved is refused, or trained anew; whoever can sign numbers can choose them."""
    results = shutil.copytree(stopped, tmp_path / "results")
    path = Store(results).folder(plan.spec).checkpoint_path
    content = path.read_bytes()
    state = load_checkpoint(path)
    refused = 0
    for draw in inputs("checkpoint", 80):
        if draw.random() < 0.4:
            body = damaged(draw, content[:-32])
            path.write_bytes(body + hashlib.sha256(body).digest())
            outcome_of(draw, functools.partial(load_checkpoint, path))
            continue
        changed = edited(draw, state, is_trusted)
        write(path, changed)
        got = outcome_of(draw, functools.partial(resume, results, train=False))
        refused += got is not True
        assert got is not True or not differences(changed, state), (draw.name, differences(changed, state))
    assert refused > 20
    path.write_bytes(content)
    assert resume(results, train=False) is True


def differences(first: Any, second: Any, path: str = "") -> list[str]:
    """Where two states differ in form, or in a value that is not in a tensor."""
    if type(first) is type(second):
        if isinstance(first, torch.Tensor):
            same = (first.shape, first.dtype) == (second.shape, second.dtype)
        elif isinstance(first, dict):
            if first.keys() == second.keys():
                return [text for key in first for text in differences(first[key], second[key], f"{path}.{key}")]
            same = False
        elif isinstance(first, (list, tuple)) and len(first) == len(second):
            pairs = enumerate(zip(first, second, strict=True))
            return [text for i, (a, b) in pairs for text in differences(a, b, f"{path}.{i}")]
        else:
            same = first == second
        if same:
            return []
    return [f"{path}: {str(first)[:60]}, not {str(second)[:60]}"]


# --- bundles -----------------------------------------------------------------------------------------------------


def test_bundles(made, tmp_path):
    """What arrives is a run as it was sent, or one that its logits bear out; of a signed one, the run that was
    signed."""
    folder = run_of(made, "asl")
    known = folder.record()
    key = write_key(tmp_path, "alice")
    plain, signed = export(folder, tmp_path / "plain.zip"), export(folder, tmp_path / "signed.zip", key)
    original, members = folder.record_path.read_bytes(), members_of(plain)
    arrived = 0
    for draw in inputs("bundle", 150):
        sent, target = tmp_path / "sent.zip", tmp_path / draw.name
        trusted = draw.random() < 0.3
        if trusted or draw.random() < 0.4:
            sent.write_bytes(damaged(draw, (signed if trusted else plain).read_bytes()))
        else:
            pack_odd(draw, sent, members)
        trust = tmp_path / "alice.pub" if trusted else None
        done = outcome_of(draw, functools.partial(import_bundle, sent, target, trust))
        if done is None:
            assert not target.exists() or not list(target.rglob("record.json")), draw.name
            continue
        arrived += 1
        [path] = target.glob("runs/*/record.json")
        if trusted:
            assert done.owner == "alice@lab" and path.read_bytes() == original, draw.name
        record = RunFolder(path.parent).record()
        check_scores(draw, record, known, FolderFiles(path.parent))
        shutil.rmtree(target)
    assert 0 < arrived < 150


def pack_odd(draw: Draw, path: Path, members: dict[str, bytes]) -> None:
    """A bundle of which a member or the manifest is another, with the sums that then follow."""
    members = dict(members)
    name = draw.choice(list(members))
    if name.endswith(".json") and draw.random() < 0.8:
        data = edited(draw, json.loads(members[name]))
        if name == "record.json":
            data["run_id"] = _run_id(data.get("spec"), data.get("run_id"))
        members[name] = json.dumps(data).encode()
    else:
        members[name] = damaged(draw, members[name])
    if name != "manifest.json":
        manifest = json.loads(members["manifest.json"])
        for member in manifest["files"]:
            digest = hashlib.sha256(members[member]).hexdigest()
            manifest["files"][member] = {"sha256": digest, "size": len(members[member])}
        members["manifest.json"] = json.dumps(manifest).encode()
    pack(path, members.items())
