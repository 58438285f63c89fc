"""`ltbench weights`: what is needed, fetched from a real server, checked; and runs that lack it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import time

import huggingface_hub.constants
import pytest
import torch
from kit.command import ltbench, refused
from kit.weights_server import Served, serving

from benchmark.models.backbones import BACKBONES, WeightsSource, build_network
from benchmark.models.networks.small_cnn import SmallCNN
from benchmark.models.weight_files import UrlFile
from benchmark.spec import WeightsRef

# Not a promise of speed: what never ends fails by then.
HANG_S = 30.0


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Empty folders of published weights, and a proxy for https at which nobody listens."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1:9")
    return tmp_path


@pytest.fixture
def server(caches, monkeypatch):
    """A server of a network's published weights, V1 and V2, which are fetched to the folder `served`."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    class ServedNetwork(SmallCNN):
        @classmethod
        def published(cls, backbone, weights):
            half = (0.5, 0.5, 0.5)
            ref = WeightsRef(
                name=weights, digest=weights, mean=half, std=half, interpolation="bilinear", batch_norm="normal"
            )
            place = caches / "served" / f"{weights}.pth"
            digest = hashlib.sha256(server.files[f"/{weights}"].content).hexdigest()
            return WeightsSource(ref, UrlFile(f"{server.url}/{weights}", place, digest[:8]))

    assert BACKBONES.get("small_cnn")
    monkeypatch.setattr(BACKBONES, "_entries", BACKBONES._entries | {"served": ServedNetwork})
    with serving() as server:
        for weights in ("V1", "V2"):
            buffer = io.BytesIO()
            torch.save(build_network("served", 32).state_dict(), buffer)
            server.files[f"/{weights}"] = Served(buffer.getvalue())
        yield server


@pytest.mark.slow
def test_the_list_says_place_address_and_digest(caches):
    done = ltbench("weights", "list", "--protocol", "controlled", "--json")
    assert done.returncode == 0, done.stderr
    found = {item["name"]: item for item in json.loads(done.stdout)}
    assert set(found) == {"resnet50/IMAGENET1K_V1", "clip_rn50/RN50:openai"}
    trunk = found["resnet50/IMAGENET1K_V1"]
    assert (trunk["here"], trunk["size"], trunk["sha256"]) == (False, None, "0676ba61")
    assert trunk["address"] == "https://download.pytorch.org/models/resnet50-0676ba61.pth"
    place = caches / "torch" / "checkpoints" / "resnet50-0676ba61.pth"
    assert trunk["path"] == str(place) and str(place) in trunk["remedy"]
    assert "erm" in trunk["used_by"]["controlled"] and "capnet" not in trunk["used_by"]["controlled"]
    assert found["clip_rn50/RN50:openai"]["used_by"] == {"controlled": ["cprfl"]}

    printed = ltbench("weights", "list", "--protocol", "controlled").stdout
    for part in ("resnet50/IMAGENET1K_V1  missing", str(place), trunk["address"], "0676ba61...", "2 missing"):
        assert part in printed

    place.parent.mkdir(parents=True)
    place.write_bytes(bytes(2_000_000))
    assert (
        "resnet50/IMAGENET1K_V1  here, 2.0 MB"
        in ltbench("weights", "list", "--method", "erm", "--protocol", "controlled").stdout
    )


def test_what_comes_with_the_package_and_random_weights_are_here(caches):
    done = ltbench("weights", "list", "--protocol", "demo", "--json")
    facts = [(item["name"], item["here"], item["remedy"]) for item in json.loads(done.stdout)]
    assert facts == [("clip_demo/demo:shapes", True, None), ("small_cnn/none", True, None)]
    printed = ltbench("weights", "list", "--protocol", "demo").stdout
    assert "missing" not in printed and re.search(r"^small_cnn/none +random$", printed, re.M)


def test_the_list_of_one_method(caches):
    done = ltbench("weights", "list", "--method", "capnet", "--protocol", "paper", "--json")
    assert [item["name"] for item in json.loads(done.stdout)] == ["clip_rn50/RN50:openai"]
    refused(ltbench("weights", "list", "--method", "capnet", "--protocol", "controlled"), "capnet", "CLIP")
    refused(ltbench("weights", "list", "--method", "capne"), "did you mean 'capnet'")
    refused(ltbench("weights", "list", "--protocol", "controled"), "did you mean 'controlled'")


def test_fetch_twice(server, caches):
    first = ltbench("weights", "fetch", "served/V1", "served/V2")
    assert first.returncode == 0, first.stderr
    for line, weights in zip(first.stdout.splitlines(), ("V1", "V2"), strict=True):
        content = server.files[f"/{weights}"].content
        assert line.startswith(f"served/{weights}: fetched, 1.") and hashlib.sha256(content).hexdigest() in line
        assert (caches / "served" / f"{weights}.pth").read_bytes() == content
    again = ltbench("weights", "fetch", "served/V1", "served/V2")
    assert again.returncode == 0 and again.stdout.count("here already") == 2
    assert server.asked == ["GET /V1", "GET /V2"]


def test_one_that_cannot_be_fetched_does_not_keep_the_others(server, caches):
    server.files["/V1"].cut = 1000
    done = ltbench("weights", "fetch", "served/V1", "served/V2", "small_cnn/none")
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for part in ("served/V1", "connection ended", f"{server.url}/V1", str(caches / "served" / "V1.pth"), "sha256"):
        assert part in line
    assert "served/V2: fetched" in done.stdout and "small_cnn/none: random" in done.stdout
    assert [path.name for path in (caches / "served").iterdir()] == ["V2.pth"]


def test_an_interrupted_fetch_leaves_nothing_and_goes_on(server, caches):
    server.files["/V1"].on_half = lambda: os.kill(os.getpid(), signal.SIGINT)
    server.files["/V1"].stall = 0.3
    done = ltbench("weights", "fetch", "served/V1")
    assert done.returncode == 130 and "interrupted" in done.stderr
    assert list((caches / "served").iterdir()) == []
    server.files["/V1"].on_half = lambda: None
    assert ltbench("weights", "fetch", "served/V1").returncode == 0


def test_without_a_network_each_is_named_at_once(caches):
    started = time.monotonic()
    done = ltbench("weights", "fetch", "--protocol", "controlled")
    assert time.monotonic() - started < HANG_S
    assert done.returncode == 2 and done.stdout == ""
    lines = done.stderr.splitlines()
    for line, name in zip(lines, ("clip_rn50/RN50:openai", "resnet50/IMAGENET1K_V1"), strict=True):
        assert line.startswith(f"error: weights {name} are not here and could not be fetched"), line


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ["--protocol"]),
        (["served/V1", "--protocol", "demo"], ["not both"]),
        (["IMAGENET1K_V1"], ["BACKBONE/WEIGHTS", "'IMAGENET1K_V1'"]),
        (["resnet5/IMAGENET1K_V1"], ["did you mean 'resnet50'"]),
        (["resnet50/IMAGENET1K_V3"], ["IMAGENET1K_V2"]),
    ],
)
def test_names_that_are_none(args, words):
    refused(ltbench("weights", "fetch", *args), *words)


def test_check_names_the_damaged(server, caches):
    ltbench("weights", "fetch", "served/V1")
    done = ltbench("weights", "check", "served/V1", "served/V2", "small_cnn/none")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "served/V1: whole",
        "served/V2: not here",
        "small_cnn/none: random, nothing to check",
        "2 usable, 0 damaged, 1 not here",
    ]
    path = caches / "served" / "V1.pth"
    path.write_bytes(path.read_bytes()[:-1])
    done = ltbench("weights", "check", "served/V1")
    assert done.returncode == 1 and "served/V1: damaged" in done.stdout and str(path) in done.stderr


def test_check_holds_weights_against_their_network(server, caches):
    """The published file is whole, and of another network."""
    torch.save({"weight": torch.zeros(2)}, caches / "other.pth")
    server.files["/V1"] = Served((caches / "other.pth").read_bytes())
    assert ltbench("weights", "fetch", "served/V1").returncode == 0
    done = ltbench("weights", "check", "served/V1")
    assert (
        done.returncode == 1 and "served/V1: damaged" in done.stdout and "does not fit backbone served" in done.stderr
    )


def test_check_of_what_the_package_brings():
    done = ltbench("weights", "check", "--protocol", "demo")
    assert done.returncode == 0 and done.stdout.endswith("2 usable, 0 damaged, 0 not here\n")


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["erm", "--backbone", "resnet18", "--weights", "IMAGENET1K_V1"], ["resnet18-f37072fd.pth", "f37072fd..."]),
        (["erm", "--backbone", "clip_rn50", "--weights", "RN50:openai"], ["resnet50_clip.openai", "snapshots/main"]),
        (["cprfl", "--set", "semantics=RN50:openai"], ["resnet50_clip.openai", "snapshots/main"]),
    ],
    ids=["torchvision", "CLIP", "text tower"],
)
def test_a_run_without_its_weights_ends_at_once(caches, tiny, args, parts):
    method, *options = args
    started = time.monotonic()
    size = ["--image-size", "224"] if "clip_rn50" in args else ["--image-size", "32"]
    done = ltbench(
        "run", "--method", method, "--dataset", tiny, "--protocol", "demo", *size, *options, "--results", caches / "r"
    )
    assert time.monotonic() - started < HANG_S
    refused(done, "cannot be reached", "ltbench weights fetch", "https://", *parts)
