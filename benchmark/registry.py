"""A generic registry, by which methods, datasets, protocols and backbones are found by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from benchmark.base.modules import file_of
from benchmark.errors import InputError

T = TypeVar("T")
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'asl'?` for a near miss, then every known name: the end of an error message."""
    known = sorted(known)
    lower = {item.lower(): item for item in known}
    near = [lower[item] for item in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    hint = f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return f"{hint} (known: {', '.join(known) if known else 'none'})"


class UnknownName(InputError):
    """Nothing is registered under a name."""


class NameTaken(InputError, ValueError):
    """Two objects are registered under one name; the message names both, with their files."""


class Registry(Generic[T]):
    """Named objects of one kind; a family of objects, such as another library's, is found by `prefix:NAME`.

    kind: what the objects are, for messages ("method").
    base: every object must be an instance of it, or a subclass where classes are registered.
    load: fills the registry; called once, at the first look-up, so that importing this module stays cheap.
    """

    def __init__(self, kind: str, base: type, load: Callable[[], None] | None = None):
        self.kind = kind
        self._base = base
        self._load = load
        self._entries: dict[str, T] = {}
        self._families: dict[str, Callable[[str], T]] = {}
        self._error: Exception | None = None

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that registers an object under `name`.

        Raises NameTaken for a name that is taken, ValueError for an invalid name and TypeError for an object of another
        kind: each is a mistake in the file that registers it.
        """
        if not re.fullmatch(NAME_PATTERN, name):
            raise ValueError(f"{self.kind} {name!r}: a name is letters, digits, dots, dashes and underscores")

        def decorate(entry: T) -> T:
            right = issubclass(entry, self._base) if isinstance(entry, type) else isinstance(entry, self._base)
            if not right:
                raise TypeError(f"{self.kind} {name!r}: {entry!r} is not a {self._base.__name__}")
            if name in self._entries:
                raise NameTaken(
                    f"{self.kind} {name!r} is registered twice, by {_described(self._entries[name])} and by "
                    f"{_described(entry)}; rename one of them"
                )
            self._entries[name] = entry
            return entry

        return decorate

    def register_family(self, prefix: str) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
        """Decorator that registers a function for the objects named `prefix:NAME`, which are not listed.

        The function gets NAME, and raises UnknownName, with the near names, for an unknown one.
        """

        def decorate(find: Callable[[str], T]) -> Callable[[str], T]:
            self._families[prefix] = find
            return find

        return decorate

    def _fill(self) -> dict[str, T]:
        if self._load is not None:
            load, self._load = self._load, None
            try:
                load()
            except Exception as error:
                self._error = error
        if self._error is not None:
            # Raised at every look-up: a half-filled registry would report a name as unknown.
            raise self._error
        return self._entries

    def get(self, name: str) -> T:
        """The object registered under `name`, or a family's. Raises UnknownName, with the near names, for none."""
        entries = self._fill()
        if name in entries:
            return entries[name]
        prefix, _, inner = name.partition(":")
        if prefix in self._families:
            return self._families[prefix](inner)
        known = [*entries, *(f"{family}:NAME" for family in self._families)]
        raise UnknownName(f"unknown {self.kind} {name!r}{did_you_mean(name, known)}")

    def __contains__(self, name: object) -> bool:
        """Whether `get` finds an object."""
        try:
            found = isinstance(name, str) and self.get(name) is not None
        except UnknownName:
            return False
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._fill()))

    def items(self) -> list[tuple[str, T]]:
        """(name, object) pairs, sorted by name."""
        return sorted(self._fill().items())


def _described(entry: object) -> str:
    """`ERM of /path/methods/erm.py`, for a class or an instance of one."""
    owner = entry if hasattr(entry, "__qualname__") else type(entry)
    return f"{owner.__qualname__} of {file_of(owner.__module__) or owner.__module__}"
