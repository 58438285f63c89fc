"""Scales: where a value stands in a picture, and the ticks that say so."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

ZERO_ROOM = 16.0  # points that a logarithmic scale leaves for the place of 0
LOG_SPAN = 10.0  # from this ratio of the largest to the smallest value on, a scale is logarithmic


class Box(NamedTuple):
    """A panel in points, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def corners(self) -> list[tuple[float, float]]:
        """As a polygon."""
        return [
            (self.left, self.top), (self.right, self.top), (self.right, self.bottom), (self.left, self.bottom)
        ]  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` between the places `start` and `end`, in points; with_zero: a logarithmic scale has
    a place of its own for 0, at its start."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    with_zero: bool = False

    def __call__(self, value: float) -> float:
        if not self.log:
            return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)
        first = self.first
        if value <= 0:
            return self.start
        return first + (self.end - first) * math.log(value / self.low) / math.log(self.high / self.low)

    @property
    def first(self) -> float:
        """Where the values from `low` on begin: behind the place of 0, if there is one."""
        return self.start + math.copysign(ZERO_ROOM, self.end - self.start) if self.with_zero else self.start

    def ticks(self, room: float = 34.0) -> list[float]:
        """Round values with at least about `room` points between two."""
        most = max(2, int(abs(self.end - self.first) / room) + 1)
        if not self.log:
            return _linear_ticks(self.low, self.high, most)
        return (
            [0.0, *_log_ticks(self.low, self.high, most)] if self.with_zero else _log_ticks(self.low, self.high, most)
        )


def linear(values: Iterable[float], start: float, end: float, *, zero: bool = False, most: float = math.inf) -> Scale:
    """A linear scale around the values, a little wider; zero: from 0. most: what no value exceeds, such as 100 %."""
    known = list(values)
    least, greatest = (0.0 if zero else min(known)), max(known)
    margin = 0.06 * (greatest - least) or 0.1 * abs(greatest) or 1.0
    low = least - margin
    if least >= 0:
        low = 0.0 if zero else max(low, 0.0)
    return Scale(low, min(greatest + margin, max(most, greatest)), start, end)


def spanning(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale for values of 0 and more: logarithmic where they span a lot, linear from 0 otherwise."""
    positive = [value for value in values if value > 0]
    if not positive or max(positive) < LOG_SPAN * min(positive):
        return linear(values, start, end, zero=True)
    return logarithmic(values, start, end)


def logarithmic(values: Sequence[float], start: float, end: float) -> Scale:
    """A logarithmic scale for values of 0 and more, a little wider than they are."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive), max(positive)
    factor = max((high / low) ** 0.04, 1.15)
    return Scale(low / factor, high * factor, start, end, log=True, with_zero=len(positive) < len(values))


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The ascending `places`, moved as little as needed to be `gap` apart, between `low` and `high` where they fit."""
    # Least squares under the order of places[i] - i * gap: pool neighbours that are too close, and take their mean.
    pools: list[tuple[float, int]] = []
    for index, place in enumerate(places):
        mean, size = place - index * gap, 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    highest = high - (len(places) - 1) * gap
    free = [min(max(mean, low), max(highest, low)) for mean, size in pools for _ in range(size)]
    return [place + index * gap for index, place in enumerate(free)]


def whisker(mean: float, half_width: float) -> tuple[float, float, list[float]]:
    """Both ends of an interval of percentages, and those of them where it was not cut at 0 or 100."""
    low, high = mean - half_width, mean + half_width
    return max(low, 0.0), min(high, 100.0), [end for end in (low, high) if 0 <= end <= 100]


def number(value: float) -> str:
    """A tick's label: a short text for a round value."""
    if 1e4 <= abs(value) < 1e9:
        return f"{value / 1e6:.6g}M" if abs(value) >= 1e6 else f"{value / 1e3:.6g}k"
    return f"{value:.6g}"


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    exponent = math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 2.5, 5, 10, 20):
        step = factor * 10.0**exponent
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [float(f"{index * step:.9g}") for index in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{factor * 10.0**decade:.9g}") for decade in decades for factor in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            return ticks or _linear_ticks(low, high, most)  # none between 14 and 18
    return ticks[:: math.ceil(len(ticks) / most)]
