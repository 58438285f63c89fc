"""Kinds of columns: how a value is written on a page, what a table is sorted by, and what programs get of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmark.leaderboard.cells import (
    MISSING,
    VARIOUS,
    cell_text,
    difference_text,
    number_text,
    part_texts,
)
from benchmark.leaderboard.rounding import DIGITS, REPLICATE_DIGITS, number, p_value
from benchmark.leaderboard.stats.statistics import Estimate
from benchmark.leaderboard.tables import Against
from benchmark.store.records import Parameters
from benchmark.ui.progress import duration

# In the place of the baseline's difference to itself.
BASELINE = "baseline"
# Of a frame: text; numbers; whole numbers, some of which may be missing.
_TEXT, _FLOAT, _WHOLE = "object", "float64", "Int64"


class Field(NamedTuple):
    """A column of a frame: its name, what it takes of a value, its type, and the digits that are exported."""

    name: str
    of: Callable[[Any], Any]
    dtype: str = _FLOAT
    digits: int = DIGITS


def _itself(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Kind:
    """Text that is its own value. Other kinds of values are subclasses.

    numeric: sorted by number, not by text. left: in Markdown nevertheless set to the left. split: the text up to its
    first space stands out from the rest. missing: the text of None.
    """

    numeric: bool = False
    left: bool = False
    split: bool = False
    missing: str = MISSING

    def text(self, value: Any) -> str:
        """The value as a page shows it."""
        return self.missing if value is None else self._text(value)

    def parts(self, text: str) -> tuple[str, str]:
        """The part of a text that stands out, and the rest, empty where there is none."""
        lead, _, rest = text.partition(" ") if self.split else (text, "", "")
        return lead, rest

    def order(self, value: Any) -> float | None:
        """The number that a table is sorted by; None where it is missing."""
        return None if value is None or not self.numeric else self._order(value)

    def note(self, value: Any) -> str:
        """What a page shows when one points at the cell."""
        return "" if value is None else self._note(value)

    def json(self, value: Any) -> Any:
        """The value in JSON types."""
        return value

    def fields(self, name: str) -> tuple[Field, ...]:
        """The columns of a frame that hold it; `of` never gets None."""
        return (Field(name, _itself, _TEXT),)

    def _text(self, value: Any) -> str:
        return str(value)

    def _order(self, value: Any) -> float:
        return value

    def _note(self, value: Any) -> str:
        return ""


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number."""

    numeric: bool = True

    def fields(self, name: str) -> tuple[Field, ...]:
        return (Field(name, _itself, _WHOLE),)


@dataclass(frozen=True)
class Decimal(Kind):
    """A number with two digits."""

    numeric: bool = True

    def json(self, value: float | None) -> float | None:
        return number(value)

    def fields(self, name: str) -> tuple[Field, ...]:
        return (Field(name, _itself),)

    def _text(self, value: float) -> str:
        return number_text(value)


@dataclass(frozen=True)
class Score(Kind):
    """An Estimate in percent or points. images: it may have a part over test images."""

    numeric: bool = True
    split: bool = True
    images: bool = False

    def json(self, value: Estimate | None) -> dict[str, Any] | None:
        return estimate_json(value)

    def fields(self, name: str) -> tuple[Field, ...]:
        both = (
            Field(f"{name} ±", lambda score: score.half_width, digits=REPLICATE_DIGITS),
            Field(f"{name} ± images", lambda score: score.images, digits=REPLICATE_DIGITS),
        )
        mean = Field(name, lambda score: score.mean)
        return (mean, *(both if self.images else ()), Field(f"{name} ± seeds", lambda score: score.seeds))

    def _text(self, value: Estimate) -> str:
        return cell_text(value)

    def _order(self, value: Estimate) -> float:
        return value.mean

    def _note(self, value: Estimate) -> str:
        return "" if value.half_width is None else "seeds {}, test images {}".format(*part_texts(value))


@dataclass(frozen=True)
class Difference(Kind):
    """An Against, or BASELINE for the baseline itself."""

    numeric: bool = True
    split: bool = True

    def json(self, value: Against | str | None) -> dict[str, Any] | None:
        if not isinstance(value, Against):
            return None
        return {
            "difference": number(value.difference, REPLICATE_DIGITS),
            "half_width": number(value.half_width, REPLICATE_DIGITS),
            "p": p_value(value.p),
            "p_holm": p_value(value.p_holm),
        }

    def fields(self, name: str) -> tuple[Field, ...]:
        def of(part: str) -> Callable[[Against | str], float | None]:
            return lambda value: getattr(value, part) if isinstance(value, Against) else None

        return (
            Field(name, of("difference")),
            Field(f"{name} ±", of("half_width"), digits=REPLICATE_DIGITS),
            Field(f"{name} p (Holm)", of("p_holm"), digits=REPLICATE_DIGITS),
        )

    def _text(self, value: Against | str) -> str:
        if not isinstance(value, Against):
            return value
        star = "*" if value.is_apart else ""
        return f"{difference_text(value.difference)} ± {number_text(value.half_width)}{star}"

    def _order(self, value: Against | str) -> float:
        return value.difference if isinstance(value, Against) else 0.0

    def _note(self, value: Against | str) -> str:
        return f"p {value.p_holm:.2g} (Holm)" if isinstance(value, Against) else ""


@dataclass(frozen=True)
class Counts(Kind):
    """Wins, ties and losses, sorted by wins minus losses."""

    numeric: bool = True

    def json(self, value: tuple[int, int, int] | None) -> dict[str, int] | None:
        return None if value is None else dict(zip(("wins", "ties", "losses"), value, strict=True))

    def fields(self, name: str) -> tuple[Field, ...]:
        names = ("Wins", "Ties", "Losses")
        return tuple(Field(one, lambda counts, i=i: counts[i], _WHOLE) for i, one in enumerate(names))

    def _text(self, value: tuple[int, int, int]) -> str:
        return " / ".join(map(str, value))

    def _order(self, value: tuple[int, int, int]) -> float:
        return value[0] - value[2]


@dataclass(frozen=True)
class Sizes(Kind):
    """Numbers of parameters, in millions on a page; None where the seeds differ in them."""

    numeric: bool = True
    missing: str = VARIOUS

    def json(self, value: Parameters | None) -> dict[str, int | None]:
        return {"all": value and value.all, "trained": value and value.trained}

    def fields(self, name: str) -> tuple[Field, ...]:
        return (
            Field(f"{name} trained", lambda sizes: sizes.trained, _WHOLE),
            Field(f"{name} all", lambda sizes: sizes.all, _WHOLE),
        )

    def _text(self, value: Parameters) -> str:
        return f"{_millions(value.trained)} / {_millions(value.all)}"

    def _order(self, value: Parameters) -> float:
        return value.trained


@dataclass(frozen=True)
class Time(Kind):
    """Seconds and what they were measured on."""

    numeric: bool = True
    left: bool = True

    def fields(self, name: str) -> tuple[Field, ...]:
        return Field(f"{name} (s)", lambda value: value[0]), Field("Device", lambda value: value[1], _TEXT)

    def _text(self, value: tuple[float, str]) -> str:
        return f"{duration(value[0])} ({value[1]})"

    def _order(self, value: tuple[float, str]) -> float:
        return value[0]


@dataclass(frozen=True)
class Seeds(Kind):
    """Seeds, which pages link to their runs."""

    numeric: bool = True
    left: bool = True

    def fields(self, name: str) -> tuple[Field, ...]:
        return (Field(name, self._text, _TEXT),)

    def _text(self, value: tuple[int, ...]) -> str:
        return ", ".join(map(str, value))

    def _order(self, value: tuple[int, ...]) -> float:
        return len(value)


def estimate_json(score: Estimate | None) -> dict[str, Any] | None:
    """An estimate in JSON types."""
    if score is None:
        return None
    return {
        "mean": number(score.mean),
        "half_width": number(score.half_width, DIGITS if score.images is None else REPLICATE_DIGITS),
        "n": score.n,
        "seeds": number(score.seeds),
        "images": number(score.images, REPLICATE_DIGITS),
    }


def _millions(count: int) -> str:
    millions = count / 1e6
    return f"{millions:.1f}" if millions >= 10 else f"{millions:.3f}"
