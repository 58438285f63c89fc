"""Images: what is checked and decoded, and the cache of decoded pixels."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from kit.paths import ROOT
from PIL import Image

import benchmark.data.images
from benchmark.base.cache import cache_folder
from benchmark.data.dataset import find_dataset
from benchmark.data.images import bad_images, cache_split
from benchmark.data.lists import Split
from benchmark.data.pixels import PixelFile
from benchmark.data.sources import FileImages
from benchmark.errors import InputError, StoreError

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class CountingImages(FileImages):
    """Counts how many images are decoded."""

    def __init__(self, root):
        super().__init__(root, "hint")
        self.decoded = []

    def opened(self, path):
        self.decoded.append(path)
        return super().opened(path)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("LTBENCH_CACHE", str(folder))
    return folder


@pytest.fixture
def images(tmp_path):
    """A folder with five images, not square, and two formats."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(5):
        noise(i).save(folder / (f"{i}.jpg" if i % 2 else f"{i}.png"))
    return folder


def noise(seed, width=23, height=17):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def split_of(*paths):
    return Split("train", tuple(paths), np.ones((len(paths), 1), dtype=np.uint8))


def split_in(folder):
    return split_of(*sorted(path.name for path in folder.iterdir()))


def build(folder, size=8, interpolation="bilinear"):
    """(cached images, names of the images that were decoded for it)"""
    source = CountingImages(folder)
    return cache_split(split_in(folder), source, size, interpolation), sorted(source.decoded)


@pytest.mark.parametrize(("count", "verb"), [(1, "image is missing"), (2, "images are"), (5, "images are")])
def test_check_says_what_is_missing_how_many_and_where(images, count, verb):
    missing = [f"sub/missing{i}.jpg" for i in range(count)]
    with pytest.raises(InputError) as caught:
        FileImages(images, "set by --data-root").check([split_in(images), split_of(*missing)])
    message = str(caught.value)
    assert message.startswith(f"{count} {verb}") and str(images) in message and "set by --data-root" in message
    assert [name for name in missing[:3] if name not in message] == []
    assert ("..." in message) == (count > 3)


def test_check_accepts_a_whole_folder(images):
    FileImages(images, "").check([split_in(images)])


@pytest.mark.parametrize("damage", ["truncated jpeg", "truncated png", "text", "empty", "folder"])
def test_file_that_is_no_image_is_named(images, damage):
    broken = images / "broken.jpg"
    if damage.startswith("truncated"):
        noise(0, 200, 200).save(broken, format=damage.split()[1])
        broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    elif damage == "folder":
        broken.mkdir()
    else:
        broken.write_text("this is not an image" if damage == "text" else "")
    with pytest.raises(InputError, match="cannot be") as caught:
        build(images)
    assert str(broken) in str(caught.value) and "\n" not in str(caught.value)


def test_image_that_disappeared_is_named(images):
    with pytest.raises(InputError, match="gone.jpg: cannot be read"):
        cache_split(split_of("gone.jpg"), FileImages(images, ""), 8, "bilinear")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_decodes_to_rgb(mode, tmp_path):
    image = Image.new("I;16", (6, 4), 200) if mode == "I;16" else noise(0).convert(mode)
    image.save(tmp_path / ("x.jpg" if mode == "CMYK" else "x.png"))
    decoded = FileImages(tmp_path, "").open("x.jpg" if mode == "CMYK" else "x.png")
    assert decoded.mode == "RGB" and decoded.size == image.size


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
def test_decoded_colours_are_those_of_the_file(mode, tmp_path):
    image = Image.new("RGB", (4, 4), (200, 200, 200) if mode == "L" else (255, 128, 0)).convert(mode)
    image.save(tmp_path / "x.png")
    expected = image.convert("RGB").getpixel((0, 0))
    assert FileImages(tmp_path, "").open("x.png").getpixel((0, 0)) == expected


def test_pillow_warnings_are_not_shown(tmp_path):
    folder = tmp_path / "palette"
    folder.mkdir()
    noise(0).convert("P").save(folder / "x.png", transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(folder)


def test_decoding_in_a_thread_leaves_the_warning_filters_alone(images, monkeypatch):
    inside, go_on, original = threading.Event(), threading.Event(), Image.open

    def slow(*args):
        inside.set()
        go_on.wait(20)
        return original(*args)

    monkeypatch.setattr(Image, "open", slow)
    before = list(warnings.filters)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(FileImages(images, "").open, "0.png")
        assert inside.wait(20)
        during = list(warnings.filters)
        go_on.set()
        assert result.result().mode == "RGB"
    assert during == before


def test_cache_folder_is_the_variable_or_below_the_users_cache(cache, tmp_path, monkeypatch):
    assert cache_folder() == cache
    monkeypatch.delenv("LTBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "ltbench"


@pytest.mark.parametrize("interpolation", FILTERS)
def test_cached_pixels_are_pillows(images, cache, interpolation):
    cached, _ = build(images, 8, interpolation)
    pixels = cached.load()[:]
    assert pixels.shape == (5, 8, 8, 3) and pixels.dtype == np.uint8 and cached.path.parent == cache
    for name, found in zip(split_in(images).paths, pixels, strict=True):
        expected = Image.open(images / name).convert("RGB").resize((8, 8), FILTERS[interpolation])
        np.testing.assert_array_equal(found, np.asarray(expected))


def test_digest_is_the_sha256_of_the_pixels(images):
    cached, _ = build(images)
    again, _ = build(images)
    assert cached.digest == again.digest == hashlib.sha256(cached.load()[:].tobytes()).hexdigest()


def test_changing_loaded_pixels_does_not_change_the_cache(images):
    cached, _ = build(images)
    cached.load()[:][...] = 0
    assert cached.load()[:].any()


def test_images_are_decoded_once(images):
    first, decoded = build(images)
    second, decoded_again = build(images)
    assert decoded == list(split_in(images).paths) and decoded_again == []
    assert first == second


def test_renamed_folder_and_files_are_not_decoded_anew(images):
    first, _ = build(images)
    renamed = images.rename(images.with_name("renamed"))
    for path in list(renamed.iterdir()):
        path.rename(path.with_name("x" + path.name))
    second, decoded = build(renamed)
    assert second == first and decoded == []


def test_changed_image_is_decoded_anew(images):
    first, _ = build(images)
    noise(99).save(images / "0.png")
    second, decoded = build(images)
    assert decoded and second.path != first.path and second.digest != first.digest


def edit(array: np.ndarray) -> None:
    array[0, 0, 0] ^= 255


def test_pixels_that_were_edited_in_the_cache_are_decoded_anew(images):
    first, _ = build(images)
    expected, before = first.load()[:].copy(), first.path.stat()
    array = np.load(first.path, mmap_mode="r+")
    edit(array)
    array.flush()
    os.utime(first.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    second, decoded = build(images)
    assert decoded and second.digest == first.digest
    np.testing.assert_array_equal(second.load()[:], expected)


def test_a_cache_that_nobody_touched_is_compared_once(images, monkeypatch):
    first, _ = build(images)
    monkeypatch.setattr(PixelFile, "digest", lambda file: pytest.fail("the pixels were read again"))
    assert build(images) == (first, [])


def test_facts_that_vouch_for_edited_pixels_are_found_out_when_asked_thoroughly(images):
    first, _ = build(images)
    pixels = first.load()[:].copy()
    edit(pixels)
    np.save(first.path, pixels)
    facts = first.path.with_suffix(".json")
    state = first.path.stat()
    checked = [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
    facts.write_text(json.dumps({"digest": first.digest, "checked": checked}))
    again = cache_split(split_in(images), FileImages(images, ""), 8, "bilinear", thorough=True)
    assert again.digest == first.digest and hashlib.sha256(again.load()[:]).hexdigest() == first.digest


@pytest.mark.parametrize("facts", ["", "[]", "{", '{"digest": "x"}', '{"digest": 3}', '{"digest": null}', '"digest"'])
def test_facts_that_are_none_cost_a_decoding(images, facts):
    first, _ = build(images)
    first.path.with_suffix(".json").write_text(facts)
    second, decoded = build(images)
    assert decoded and second.digest == first.digest


def test_other_order_is_another_cache(images):
    paths = split_in(images).paths
    first = cache_split(split_of(*paths), FileImages(images, ""), 8, "bilinear")
    second = cache_split(split_of(*reversed(paths)), FileImages(images, ""), 8, "bilinear")
    np.testing.assert_array_equal(first.load()[:][::-1], second.load()[:])


@pytest.mark.parametrize(("size", "interpolation"), [(9, "bilinear"), (8, "bicubic")])
def test_other_size_or_interpolation_is_another_cache(images, size, interpolation):
    first, _ = build(images)
    second, decoded = build(images, size, interpolation)
    assert second.path != first.path and len(decoded) == 5
    assert build(images)[0] == first


@pytest.mark.parametrize("part", ["pixels", "facts"])
@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"not what it should be", "cut", "one byte less", None])
def test_damaged_cache_is_rebuilt(images, part, content):
    whole, _ = build(images)
    file = whole.path if part == "pixels" else whole.path.with_suffix(".json")
    data = file.read_bytes()
    if content is None:
        file.unlink()
    else:
        file.write_bytes({"cut": data[:30], "one byte less": data[:-1]}.get(content, content))
    rebuilt, decoded = build(images)
    assert len(decoded) == 5 and rebuilt == whole
    assert hashlib.sha256(rebuilt.load()[:].tobytes()).hexdigest() == whole.digest
    assert build(images)[1] == []


def files(cache):
    """What the cache holds of pixels: beside the locks of its builders, and the digests of image files that are older
    than two seconds, as they are where a process starts slowly."""
    return [path for path in cache.iterdir() if path.suffix != ".lock" and path.name != "files"]


def test_full_disk_names_cache_folder_and_variable(images, cache, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left on device") as caught:
            build(images)
    assert str(cache) in str(caught.value) and "LTBENCH_CACHE" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files(cache) == []
    assert len(build(images)[1]) == 5


def test_cache_folder_that_cannot_be_made_is_named(images, cache):
    cache.write_text("a file, no folder")
    with pytest.raises(StoreError, match="LTBENCH_CACHE") as caught:
        build(images)
    assert str(cache) in str(caught.value)


def test_failed_build_leaves_no_temporary_file(images, cache):
    (images / "zz.jpg").write_text("this is not an image")
    with pytest.raises(InputError):
        build(images)
    assert files(cache) == []


def test_progress_counts_every_image(images):
    calls = []
    for _ in range(2):
        cache_split(split_in(images), FileImages(images, ""), 8, "bilinear", advance=lambda *call: calls.append(call))
    assert calls == [(i, 5) for i in range(1, 6)]


def test_builders_at_the_same_time_decode_once(images, cache):
    together = threading.Barrier(3)
    decoded = []

    class Counting(FileImages):
        def opened(self, path):
            decoded.append(path)
            return super().opened(path)

    def build_one(_):
        together.wait(20)
        return cache_split(split_in(images), Counting(images, ""), 8, "bilinear")

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(build_one, range(3)))
    assert results[0] == results[1] == results[2] and len(decoded) == len(set(decoded)) == 5
    assert hashlib.sha256(results[0].load()[:].tobytes()).hexdigest() == results[0].digest
    assert {path.suffix for path in files(cache)} == {".npy", ".json"} and len(files(cache)) == 2


def test_what_a_killed_builder_left_is_removed_by_the_next(images, cache):
    first, _ = build(images)
    first.path.rename(left := first.path.with_name(f".{first.path.name}.0123abcd.tmp"))
    os.utime(left, (0, 0))
    (growing := first.path.with_name(f".{first.path.name}.4567abcd.tmp")).write_bytes(b"x")
    assert build(images)[0] == first
    assert growing.exists() and not left.exists()


def test_processes_at_the_same_time_end_with_one_whole_file(images, cache):
    program = """
import sys
from pathlib import Path
import numpy as np
from benchmark.data.lists import Split
from benchmark.data.pixels import PixelFile
from benchmark.data.images import cache_split
from benchmark.data.sources import FileImages
folder = Path(sys.argv[1])
paths = tuple(sorted(path.name for path in folder.iterdir())) * 40
split = Split("train", paths, np.ones((len(paths), 1), dtype=np.uint8))
print("ready", flush=True)
sys.stdin.readline()
print(cache_split(split, FileImages(folder, ""), 64, "bilinear").digest)
"""
    builders = [
        subprocess.Popen(
            [sys.executable, "-c", program, images], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for builder in builders:
        assert builder.stdout.readline() == "ready\n"
    for builder in builders:
        builder.stdin.write("go\n")
        builder.stdin.flush()
    digests = {builder.communicate(timeout=60)[0] for builder in builders}
    (pixels,) = cache.glob("*.npy")
    assert digests == {hashlib.sha256(np.load(pixels).tobytes()).hexdigest() + "\n"}
    assert len(files(cache)) == 2


def test_pixels_of_an_earlier_rule_are_not_served(images, monkeypatch):
    """Other pixels come from the same files when rules of decoding change: 1 was without orientation and 16 bits."""
    assert benchmark.data.images.CACHE_VERSION > 1
    monkeypatch.setattr("benchmark.data.images.CACHE_VERSION", 1)
    first, _ = build(images)
    monkeypatch.undo()
    second, decoded = build(images)
    assert len(decoded) == 5 and second.path != first.path and second.digest == first.digest


def test_rendered_pixels_are_those_of_the_stored_records(cache):
    """The digest of the demo's validation images, which all published runs of the demo have."""
    dataset = find_dataset("shapes-lt").open()
    records = [json.loads(path.read_text()) for path in sorted((ROOT / "results" / "runs").glob("erm-*/record.json"))]
    [digest] = {record["data_digests"]["val"] for record in records}
    assert {record["spec"]["dataset"]["name"] for record in records} == {"shapes-lt"}
    assert {record["spec"]["recipe"]["image_size"] for record in records} == {64}
    assert cache_split(dataset.splits["val"], dataset.source, 64, "bilinear").digest == digest


def test_bad_images_are_all_named_in_the_order_of_the_lists(images):
    (images / "1.jpg").write_text("this is not an image")
    os.mkfifo(images / "pipe.png")
    split = split_of("3.jpg", "pipe.png", "gone.png", "0.png", "1.jpg")
    done = []
    faults = bad_images([split, split_of("2.png")], FileImages(images, ""), done.append)
    assert [fault.partition(":")[0] for fault in faults] == [str(images / n) for n in ("pipe.png", "gone.png", "1.jpg")]
    assert ["not a regular file" in faults[0], "No such file" in faults[1], "decoded" in faults[2]] == [True] * 3
    assert done == [1, 2, 3, 4, 5, 6]
    assert bad_images([split_of("0.png")], FileImages(images, "")) == []


def test_deleted_cache_is_decoded_anew(images, cache):
    first, _ = build(images)
    shutil.rmtree(cache)
    second, decoded = build(images)
    assert first == second and len(decoded) == 5
