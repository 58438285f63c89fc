"""Kinds of columns: how a value is written on a page, sorted, and exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from benchmark.leaderboard.cells import MISSING, VARIOUS, cell_text, difference_text, number_text, part_texts
from benchmark.leaderboard.rounding import DIGITS, REPLICATE_DIGITS, number, p_value
from benchmark.leaderboard.stats.statistics import Estimate
from benchmark.leaderboard.tables import Against
from benchmark.ui.progress import duration

# The value of the baseline's own difference.
BASELINE = "baseline"
# Types of a frame's columns: text, and whole numbers with missing ones.
_TEXT, _WHOLE = "object", "Int64"


class Field(NamedTuple):
    """A column of a frame: its name, how it is computed from a value, its type, and the digits that are exported."""

    name: str
    of: Callable[[Any], Any]
    dtype: str = "float64"
    digits: int = DIGITS


def _itself(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Kind:
    """How the values of a column are written; by default as text. The methods handle None, the functions never get it.

    write: text on a page. sort_by: the number that a table is sorted by; None where it is sorted by the text. hover:
    text that a page shows when one points at the cell. dump: in JSON types. fields: a column's name -> the columns of a
    frame that hold it. missing, nothing: text and JSON of None. left: left-aligned in Markdown although it is a number.
    split: the text up to its first space is the value, the rest is small print.
    """

    write: Callable[[Any], str] = str
    sort_by: Callable[[Any], float] | None = None
    hover: Callable[[Any], str] = lambda value: ""
    dump: Callable[[Any], Any] = _itself
    fields: Callable[[str], tuple[Field, ...]] = lambda name: (Field(name, _itself, _TEXT),)
    missing: str = MISSING
    nothing: Any = None
    left: bool = False
    split: bool = False

    @property
    def numeric(self) -> bool:
        """Whether the column is sorted by a number."""
        return self.sort_by is not None

    def text(self, value: Any) -> str:
        """A value as a page shows it."""
        return self.missing if value is None else self.write(value)

    def parts(self, text: str) -> tuple[str, str]:
        """The value of a text and its small print, empty where there is none."""
        lead, _, rest = text.partition(" ") if self.split else (text, "", "")
        return lead, rest

    def order(self, value: Any) -> float | None:
        """The number that a table is sorted by, None where there is none."""
        return None if value is None or self.sort_by is None else self.sort_by(value)

    def note(self, value: Any) -> str:
        """The text that a page shows when one points at the cell."""
        return "" if value is None else self.hover(value)

    def json(self, value: Any) -> Any:
        """A value in JSON types."""
        return self.nothing if value is None else self.dump(value)


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


def _score_note(score: Estimate) -> str:
    return "" if score.half_width is None else "seeds {}, test images {}".format(*part_texts(score))


def _score_fields(name: str) -> tuple[Field, ...]:
    return Field(name, lambda score: score.mean), Field(f"{name} ± seeds", lambda score: score.seeds)


def _metric_fields(name: str) -> tuple[Field, ...]:
    mean, seeds = _score_fields(name)
    both = Field(f"{name} ±", lambda score: score.half_width, digits=REPLICATE_DIGITS)
    return mean, both, Field(f"{name} ± images", lambda score: score.images, digits=REPLICATE_DIGITS), seeds


def _against_text(against: Against | str) -> str:
    if not isinstance(against, Against):
        return against
    star = "*" if against.is_apart else ""
    return f"{difference_text(against.difference)} ± {number_text(against.half_width)}{star}"


def _against_json(against: Against | str) -> dict[str, Any] | None:
    if not isinstance(against, Against):
        return None
    digits = {"p": p_value, "p_holm": p_value}
    return {name: digits.get(name, _rounded)(value) for name, value in asdict(against).items()}


def _rounded(value: float) -> float | None:
    return number(value, REPLICATE_DIGITS)


def _against_fields(name: str) -> tuple[Field, ...]:
    # The baseline has no such attributes.
    return (
        Field(name, lambda against: getattr(against, "difference", None)),
        Field(f"{name} ±", lambda against: getattr(against, "half_width", None), digits=REPLICATE_DIGITS),
        Field(f"{name} p (Holm)", lambda against: getattr(against, "p_holm", None), digits=REPLICATE_DIGITS),
    )


def _millions(count: int) -> str:
    millions = count / 1e6
    return f"{millions:.1f}" if millions >= 10 else f"{millions:.3f}"


TEXT = Kind()
WHOLE = Kind(sort_by=_itself, fields=lambda name: (Field(name, _itself, _WHOLE),))
DECIMAL = Kind(number_text, _itself, dump=number, fields=lambda name: (Field(name, _itself),))
# An Estimate in percent or points; the second may have a part over test images.
SCORE, METRIC = (
    Kind(cell_text, lambda score: score.mean, _score_note, estimate_json, fields, split=True)
    for fields in (_score_fields, _metric_fields)
)
# An Against, or BASELINE for the baseline itself.
DIFFERENCE = Kind(
    _against_text,
    lambda against: getattr(against, "difference", 0.0),
    lambda against: f"p {against.p_holm:.2g} (Holm)" if isinstance(against, Against) else "",
    _against_json,
    _against_fields,
    split=True,
)
# Wins, ties and losses, sorted by wins minus losses.
COUNTS = Kind(
    lambda counts: " / ".join(map(str, counts)),
    lambda counts: counts[0] - counts[2],
    dump=lambda counts: dict(zip(("wins", "ties", "losses"), counts, strict=True)),
    fields=lambda name: (
        Field("Wins", lambda counts: counts[0], _WHOLE),
        Field("Ties", lambda counts: counts[1], _WHOLE),
        Field("Losses", lambda counts: counts[2], _WHOLE),
    ),
)
# Parameters, in millions on a page; None where the seeds differ in them.
SIZES = Kind(
    lambda sizes: f"{_millions(sizes.trained)} / {_millions(sizes.all)}",
    lambda sizes: sizes.trained,
    dump=lambda sizes: {"all": sizes.all, "trained": sizes.trained},
    fields=lambda name: (
        Field(f"{name} trained", lambda sizes: sizes.trained, _WHOLE),
        Field(f"{name} all", lambda sizes: sizes.all, _WHOLE),
    ),
    missing=VARIOUS,
    nothing={"all": None, "trained": None},
)
# Seconds, and what they were measured on.
TIME = Kind(
    lambda time: f"{duration(time[0])} ({time[1]})",
    lambda time: time[0],
    fields=lambda name: (
        Field(f"{name} (s)", lambda time: time[0]),
        Field("Device", lambda time: time[1], _TEXT),
    ),
    left=True,
)


def _seeds_text(seeds: tuple[int, ...]) -> str:
    return ", ".join(map(str, seeds))


# Seeds, which pages link to their runs.
SEEDS = Kind(_seeds_text, len, fields=lambda name: (Field(name, _seeds_text, _TEXT),), left=True)
