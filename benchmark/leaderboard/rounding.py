"""The precision of written numbers."""

from __future__ import annotations

import math

# For numbers from records: more digits than are meaningful, fewer than a float has.
DIGITS = 6
# For numbers from replicates, which are float32 and may differ in the last bits between processors.
REPLICATE_DIGITS = 3


def number(value: float | None, digits: int = DIGITS) -> float | None:
    """`value` rounded to that many digits after the point; None for None and for NaN."""
    if value is None or math.isnan(value):
        return None
    return round(float(value), digits) + 0.0  # + 0.0: no negative zero


def p_value(value: float) -> float | None:
    """A p-value rounded to three significant digits; None for NaN."""
    return None if math.isnan(value) else float(f"{value:.3g}")
