"""How exactly numbers are written."""

from __future__ import annotations

import math

# Of numbers that follow from records: beyond the last digit that means anything, short of the float's own.
DIGITS = 6
# Of numbers that follow from replicates, which are float32 and may differ in the last bits from one processor to
# another.
REPLICATE_DIGITS = 3


def number(value: float | None, digits: int = DIGITS) -> float | None:
    """`value` with that many digits after the point; None where there is none, NaN included."""
    if value is None or math.isnan(value):
        return None
    return round(float(value), digits) + 0.0  # + 0.0: no negative zero


def p_value(value: float) -> float | None:
    """A p-value with three digits that count, however small it is; None for NaN."""
    return None if math.isnan(value) else float(f"{value:.3g}")
