"""The registry: what may be registered, what a look-up says, when it is filled."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from kit.paths import ROOT

from benchmark.errors import InputError
from benchmark.registry import Registry, UnknownName, did_you_mean


class Animal:
    pass


class Dog(Animal):
    pass


class Stone:
    pass


@pytest.fixture
def animals() -> Registry:
    return Registry("animal", Animal)


def test_registered_objects_are_found_by_name(animals):
    dog = animals.register("dog")(Dog())
    assert animals.register("class")(Dog) is Dog
    assert animals.get("dog") is dog
    assert "dog" in animals and "cat" not in animals
    assert list(animals) == ["class", "dog"]
    assert animals.items() == [("class", Dog), ("dog", dog)]


def test_a_name_is_given_once(animals):
    first = animals.register("dog")(Dog())
    with pytest.raises(ValueError, match="animal 'dog' is registered twice") as error:
        animals.register("dog")(Dog())
    assert str(error.value).count(f"Dog of {__file__}") == 2 and str(error.value).endswith("; rename one of them")
    assert animals.get("dog") is first


def test_a_family_is_found_by_its_prefix_and_not_listed(animals):
    @animals.register_family("toy")
    def find(name):
        if name != "dog":
            raise UnknownName(f"unknown toy {name!r}")
        return Dog()

    animals.register("dog")(Dog)
    assert isinstance(animals.get("toy:dog"), Dog) and animals.get("dog") is Dog
    assert "toy:dog" in animals and "toy:cat" not in animals and "cat:dog" not in animals and None not in animals
    assert list(animals) == ["dog"]
    with pytest.raises(InputError, match="unknown toy 'cat'"):
        animals.get("toy:cat")
    with pytest.raises(InputError, match=r"unknown animal 'cat:dog'.*\(known: dog, toy:NAME\)"):
        animals.get("cat:dog")


@pytest.mark.parametrize(
    "wrong", [Stone, Stone(), "dog", None, lambda: Dog()], ids=["class", "object", "text", "none", "function"]
)
def test_objects_of_another_kind_are_refused(animals, wrong):
    with pytest.raises(TypeError, match="animal 'x': .* is not a Animal"):
        animals.register("x")(wrong)
    assert "x" not in animals


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("db-focl", "did you mean 'db-focal'"),
        ("DB-FOCAL", "did you mean 'db-focal'"),
        ("focale", "did you mean 'focal' or 'db-focal'"),
    ],
)
def test_unknown_name_suggests_near_ones_and_lists_all(animals, asked, hint):
    for name in ("db-focal", "focal", "erm"):
        animals.register(name)(Dog)
    with pytest.raises(InputError) as error:
        animals.get(asked)
    assert f"unknown animal {asked!r}; {hint}" in str(error.value)
    assert str(error.value).endswith("(known: db-focal, erm, focal)")


def test_nothing_near_gives_no_hint(animals):
    assert did_you_mean("zzz", ["erm"]) == " (known: erm)"
    with pytest.raises(InputError, match=r"^unknown animal 'zzz' \(known: none\)$"):
        animals.get("zzz")


LOOK_UPS = {
    "get": lambda r: r.get("dog"),
    "in": lambda r: "dog" in r,
    "iter": list,
    "items": lambda r: r.items(),
}


@pytest.mark.parametrize("look_up", LOOK_UPS.values(), ids=LOOK_UPS)
def test_registry_is_filled_once_at_the_first_look_up(look_up):
    loads = []

    def load() -> None:
        loads.append(1)
        registry.register("dog")(Dog)
        assert "dog" in registry  # a look-up while loading does not load again

    registry = Registry("animal", Animal, load)
    registry.register("cat")(Dog)
    assert loads == []
    assert look_up(registry)
    assert look_up(registry)
    assert loads == [1] and list(registry) == ["cat", "dog"]


def test_importing_the_protocols_reads_no_file():
    code = (
        "import pathlib\n"
        "def refuse(*args, **kwargs): raise AssertionError('a file was read')\n"
        "from benchmark import spec\n"
        "kept, pathlib.Path.read_text = pathlib.Path.read_text, refuse\n"
        "import importlib; importlib.reload(spec)\n"
        "pathlib.Path.read_text = kept\n"
        "print(list(spec.PROTOCOLS))"
    )
    root = ROOT
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert set(ast.literal_eval(done.stdout)) >= {"controlled", "controlled-clip", "demo", "demo-clip", "paper"}


def test_near_name_in_capitals_is_suggested_as_it_is_written():
    assert did_you_mean("imagenet1k_v3", ["IMAGENET1K_V1", "none"]).startswith("; did you mean 'IMAGENET1K_V1'?")
