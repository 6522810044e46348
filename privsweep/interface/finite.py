"""A number as a record has it."""

from __future__ import annotations

import math


def finite(value: float | None) -> float | None:
    """``value``; None where it is infinite or no number, for JSON knows neither."""
    return value if value is not None and math.isfinite(value) else None
