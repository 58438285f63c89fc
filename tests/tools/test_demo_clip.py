"""The demo's small CLIP: its files, its training scenes and captions, its losses and start, what was shipped."""

from __future__ import annotations

import gzip
import hashlib
import json
import math

import numpy as np
import open_clip
import pytest
import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from safetensors.torch import load_file

from benchmark.data.dataset import SPLITS_FOLDER, DatasetFolder
from benchmark.data.shapes import CLASS_NAMES, SHAPES, SURFACES, render
from benchmark.models.clip import make_clip
from benchmark.models.prompts import prompts_for
from benchmark.models.weights import resolve_weights
from benchmark.tools import demo_clip
from benchmark.ui.progress import Reporter

FOLDER = demo_clip.SHIPPED
LIMIT = 5_000_000


@pytest.fixture(scope="module")
def made() -> dict:
    return json.loads((FOLDER / "made.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer(str(FOLDER / "merges.txt.gz"), context_length=24)


@pytest.fixture(scope="module")
def few_scenes() -> demo_clip.Scenes:
    return demo_clip.render_scenes(64, 0, Reporter())


def test_merges_by_hand():
    # Three pairs occur once each; the alphabet decides, and "ab" inside "abc" is not "ab" at a word's end.
    assert demo_clip.bpe_merges(["ab", "abc"]) == [("a", "b"), ("a", "b</w>"), ("ab", "c</w>")]
    # (a, n) occurs twice, so it is first.
    merges = [("a", "n"), ("an", "a</w>"), ("an", "ana</w>"), ("b", "anana</w>")]
    assert demo_clip.bpe_merges(["banana"]) == merges


def test_words_are_single_tokens(tokenizer):
    for word in [*SURFACES, *SHAPES, "a", "an", "and", "of", "with", "photo", "picture", "image", "scene"]:
        assert len(tokenizer.encode(word)) == 1, word
    assert len(tokenizer.encode("a photo of a")) == 4
    for prompt in prompts_for(CLASS_NAMES):
        assert len(tokenizer.encode(prompt)) == 7  # a photo of a, surface, shape, full stop


def test_any_text_tokenises(tokenizer):
    for text in ["zebra 7", "stripedsquare", "größe", "?!"]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids).strip() == text
        assert max(ids) < tokenizer.sot_token_id


def test_start_and_end_are_the_highest_tokens(tokenizer):
    size = json.loads((FOLDER / "config.json").read_text())["model_cfg"]["text_cfg"]["vocab_size"]
    merges = gzip.decompress((FOLDER / "merges.txt.gz").read_bytes()).decode().split("\n")[1:]
    assert size == tokenizer.vocab_size == 512 + len(merges) + 2
    assert (tokenizer.sot_token_id, tokenizer.eot_token_id) == (size - 2, size - 1)


def test_longest_caption_fits(tokenizer):
    rng = np.random.default_rng(0)
    lengths = [len(tokenizer.encode(demo_clip.write_caption([0, 1, 2, 3], rng))) for _ in range(200)]
    assert max(lengths) + 2 <= 24
    assert max(lengths) == 21  # "there is a .. , a .. , a .. and a .. in the image.": 6 + 4 * 3 + 3


def test_shipped_files_are_what_the_command_writes():
    assert json.loads((FOLDER / "config.json").read_text()) == demo_clip.config()
    written = demo_clip.merges_file()
    assert written[4:8] == bytes(4)  # gzip's time stamp
    assert written == demo_clip.merges_file()
    # Another zlib may compress otherwise; the content counts.
    assert gzip.decompress((FOLDER / "merges.txt.gz").read_bytes()) == gzip.decompress(written)


def test_shipped_weights_are_small_and_whole(made):
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= LIMIT
    weights = FOLDER / "weights.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == made["weights_sha256"]
    state = load_file(weights)
    assert {value.dtype for value in state.values()} == {torch.float32}
    network = CLIP(**json.loads((FOLDER / "config.json").read_text())["model_cfg"])
    network.load_state_dict(state, strict=True)
    assert all(value.isfinite().all() for value in state.values())


@pytest.mark.slow
def test_zero_shot_is_well_above_chance(made):
    metrics, prevalence = demo_clip.evaluate(demo_clip.load(FOLDER))
    val = (SPLITS_FOLDER / "shapes-lt" / "val.txt").read_text().splitlines()
    positives = sum(len(line.split()) - 1 for line in val)
    assert prevalence == pytest.approx(100 * positives / (len(val) * 20))
    assert metrics.overall >= 3 * prevalence
    assert metrics.overall == pytest.approx(made["val"]["zero_shot_map"], abs=0.1)
    assert made["val"]["mean_prevalence"] == pytest.approx(prevalence, abs=0.01)
    frequency = dict.fromkeys(range(20), 0)
    for line in val:
        for label in line.split()[1:]:
            frequency[int(label)] += 100 / len(val)
    for k, (name, value) in enumerate(metrics.per_class.items()):
        assert value == pytest.approx(made["val"]["per_class"][name], abs=0.5)
        assert value > 1.5 * frequency[k], name


def test_harness_reads_the_shipped_weights():
    pretrained = resolve_weights("clip_demo", str(FOLDER / "weights.safetensors"), 64)
    assert pretrained.ref.mean == pretrained.ref.std == (0.5, 0.5, 0.5)
    assert pretrained.ref.interpolation == "bicubic"
    clip = make_clip("clip_demo", 64, pretrained.load(), False).eval()
    pixels = np.stack([render(f"val/{i}.png", [i]) for i in range(4)])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        image, text = clip.image(images), clip.text.encode(prompts_for(CLASS_NAMES))
    cosines = torch.nn.functional.cosine_similarity(image[:, None], text[None], dim=2)
    np.testing.assert_allclose(demo_clip.zero_shot(demo_clip.load(FOLDER), pixels), cosines, atol=1e-5)


def test_training_ids_are_in_no_list():
    lists = DatasetFolder("shapes-lt", SPLITS_FOLDER / "shapes-lt").open().splits.values()
    listed = {path for split in lists for path in split.paths}
    ids = {demo_clip.scene_id(i) for i in range(40000)}
    assert len(ids) == 40000 and len(listed) == 3142
    assert not ids & listed


def test_labels_are_balanced():
    drawn = demo_clip.draw_labels(2000, seed=3)
    counts = [sum(k in labels for labels in drawn) for k in range(20)]
    assert max(counts) - min(counts) <= 1
    assert all(list(labels) == sorted(set(labels)) for labels in drawn)
    sizes = [sum(len(labels) == n for labels in drawn) / 2000 for n in range(5)]
    assert sizes == pytest.approx([0, 0.5, 0.3, 0.15, 0.05], abs=0.04)
    assert drawn == demo_clip.draw_labels(2000, seed=3) != demo_clip.draw_labels(2000, seed=4)


def test_captions():
    rng = np.random.default_rng(0)
    named = [demo_clip.draw_named((2, 5, 7), rng) for _ in range(400)]
    single = [classes for classes in named if len(classes) == 1]
    assert 0.42 < len(single) / 400 < 0.58
    assert {classes[0] for classes in single} == {2, 5, 7}
    assert all(sorted(classes) == [2, 5, 7] for classes in named if len(classes) != 1)
    texts = {demo_clip.write_caption([0, 6], rng) for _ in range(300)}
    assert len(texts) == 20  # ten templates, two orders
    assert "a photo of a striped square and a dotted square." in texts
    assert "a scene with a dotted square and a striped square." in texts
    three = {demo_clip.write_caption([0, 6, 4], rng) for _ in range(900)}
    assert "a dotted square, a solid cross and a striped square." in three
    # The prompt of the evaluation is a caption.
    assert prompts_for(["striped square"])[0] in {demo_clip.write_caption([0], rng) for _ in range(300)}


def test_patch_labels_find_the_object():
    circle = [CLASS_NAMES.index(f"{surface} circle") for surface in SURFACES]
    for i in range(5):
        maps = [demo_clip.patch_labels(f"x/{i}.png", k, render(f"x/{i}.png", [k])) for k in circle]
        covered = [patches == k for k, patches in zip(circle, maps, strict=True)]
        for k, patches, mask in zip(circle, maps, covered, strict=True):
            assert set(np.unique(patches)) <= {-1, k, 20}
            assert 1 <= mask.sum() <= 40 and (patches == 20).sum() >= 16
        # The four surfaces are drawn on one object: its middle is found whatever the surface.
        assert (covered[0] & covered[1] & covered[2] & covered[3]).any()


def test_patch_labels_follow_the_pixels():
    # An 8 x 8 patch counts as covered from 12 % of its pixels on: 8 of 64 are, 7 are not but are no background.
    k = CLASS_NAMES.index("striped star")
    other = render("x/1.png", [CLASS_NAMES.index("solid star")])
    for changed, label in [(0, 20), (7, -1), (8, k)]:
        pixels = other.copy()
        rows, columns = np.divmod(np.arange(changed), 8)
        pixels[16 + rows, 40 + columns] ^= 255
        patches = demo_clip.patch_labels("x/1.png", k, pixels)
        assert patches[2, 5] == label
        assert (np.delete(patches.reshape(-1), 2 * 8 + 5) == 20).all()


def test_contrastive_loss_by_hand():
    # Cosines 1 and 0 and factor ln 3 give probabilities 3/4 and 1/4.
    eye, scale = torch.eye(2), math.log(3)
    only_pairs = demo_clip.contrastive_loss(eye, eye, scale, torch.tensor([[True, False], [False, True]]))
    assert only_pairs.item() == pytest.approx(-math.log(3 / 4))
    assert only_pairs.item() == pytest.approx(ClipLoss()(eye, eye, scale).item())
    # Caption 1 is true of scene 0 too: its row is half and half.
    both = -(math.log(3 / 4) + math.log(1 / 4)) / 2
    shared = demo_clip.contrastive_loss(eye, eye, scale, torch.tensor([[True, True], [False, True]]))
    assert shared.item() == pytest.approx((both - math.log(3 / 4)) / 2)


def test_patch_loss_by_hand():
    prompts = torch.eye(21)
    patches = torch.stack([torch.eye(21)[0], torch.eye(21)[0], torch.eye(21)[3]])[None]
    right = math.log(math.exp(20) + 20) - 20
    wrong = math.log(math.exp(20) + 20)
    # A patch of class 0 (weight 1), one of the background that looks like class 0 (weight 1/4), one unknown.
    loss = demo_clip.patch_loss(patches, prompts, torch.tensor([[0, 20, -1]]))
    assert loss.item() == pytest.approx((right + wrong / 4) / 1.25)
    assert demo_clip.patch_loss(patches, prompts, torch.tensor([[-1, -1, -1]])).item() == 0


def test_start_looks_at_the_neighbours(few_scenes):
    torch.manual_seed(0)
    network = CLIP(**demo_clip.config()["model_cfg"]).eval()
    demo_clip.initialise(network, few_scenes.pixels)
    block = network.visual.transformer.resblocks[0]
    seen = []
    block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network.encode_image(demo_clip.normalised(few_scenes.pixels[:8]))
        x = block.ln_1(seen[0])
        attention = block.attn(x, x, x, need_weights=True, average_attn_weights=False)[1]
    here = 1 + 3 * 8 + 4  # row 3, column 4, after the class token
    for head, neighbour in enumerate([here - 8, here + 8, here - 1, here + 1]):
        assert attention[:, head, here, neighbour].min() > 0.5


def test_start_sees_frequencies():
    torch.manual_seed(0)
    network = CLIP(**demo_clip.config()["model_cfg"])
    rng = np.random.default_rng(0)
    demo_clip.initialise(network, rng.integers(0, 256, (20, 64, 64, 3), dtype=np.uint8))
    weight = network.visual.conv1.weight.detach()
    assert torch.count_nonzero(weight[72:]) == 0  # the last head_width channels are the position's
    flat = weight[:72].flatten(1)
    flat = flat / flat.norm(dim=1, keepdim=True)
    assert torch.allclose(flat[:48] @ flat[:48].T, torch.eye(48), atol=1e-5)
    # A grey image excites the mean of luma alone.
    assert weight[0].sum() > 1 and weight[1:72].sum(dim=(1, 2, 3)).abs().max() < 1e-4


@pytest.mark.slow
def test_tiny_training_learns_and_repeats(few_scenes):
    settings = demo_clip.Settings(scenes=64, epochs=8, seed=5, batch_size=16, text_steps=4)
    before = torch.get_rng_state()
    network, losses = demo_clip.train(few_scenes, settings, Reporter())
    assert torch.equal(before, torch.get_rng_state())
    assert len(losses) == settings.steps == 32
    assert np.mean(losses[-4:]) < 0.95 * np.mean(losses[:4])
    again, repeated = demo_clip.train(few_scenes, settings, Reporter())
    assert losses == repeated
    assert demo_clip.weights_file(network) == demo_clip.weights_file(again)


def test_learning_rate_schedule():
    settings = demo_clip.Settings(scenes=320, epochs=10, seed=0)  # 100 steps, 5 of them rising
    assert [settings.factor(step) for step in (0, 4, 5)] == pytest.approx([1 / 6, 5 / 6, 1])
    assert settings.factor(5 + 95 // 2) == pytest.approx(0.5, abs=0.01)
    assert settings.factor(99) < 0.001


def _refused(capsys, *args: str) -> str:
    with pytest.raises(SystemExit) as caught:
        demo_clip.main(args)
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_mistakes_are_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "--out" in _refused(capsys, "train", "--out", str(tmp_path / "file"))
    assert "--out" in _refused(capsys, "train", "--out", str(tmp_path / "file" / "below"))
    assert "31" in _refused(capsys, "train", "--out", str(tmp_path / "new"), "--scenes", "31")
    assert not (tmp_path / "new").exists()
    assert str(tmp_path) in _refused(capsys, "evaluate", "--folder", str(tmp_path))
    (tmp_path / "config.json").write_bytes((FOLDER / "config.json").read_bytes())
    (tmp_path / "weights.safetensors").write_bytes(bytes(1000))
    assert "weights.safetensors" in _refused(capsys, "evaluate", "--folder", str(tmp_path))


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as caught:
        demo_clip.main(["--help"])
    assert caught.value.code == 0
    assert "python -m benchmark.tools.demo_clip train --out" in capsys.readouterr().out


@pytest.mark.slow
def test_command_writes_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_clip, "evaluate", _quick_evaluate)
    demo_clip.main(["train", "--out", str(tmp_path / "clip"), "--scenes", "32", "--epochs", "1"])
    names = {file.name for file in (tmp_path / "clip").iterdir()}
    assert names == {"config.json", "merges.txt.gz", "weights.safetensors", "made.json"}
    made = json.loads((tmp_path / "clip" / "made.json").read_text())
    assert made["steps"] == 1 and made["settings"]["scenes"] == 32
    assert made["command"] == "python -m benchmark.tools.demo_clip train --scenes 32 --epochs 1 --seed 0"
    written = (tmp_path / "clip" / "weights.safetensors").read_bytes()
    assert made["weights_sha256"] == hashlib.sha256(written).hexdigest()
    assert demo_clip.load(tmp_path / "clip").logit_scale.exp() > 1


def _quick_evaluate(network: CLIP):
    labels = np.arange(40) % 20
    pixels = np.stack([render(f"x/{i}.png", [k]) for i, k in enumerate(labels)])
    groups = {name: ("head", "medium", "tail")[k % 3] for k, name in enumerate(CLASS_NAMES)}
    return demo_clip.score(demo_clip.zero_shot(network, pixels), np.eye(20)[labels], groups), 5.0
