"""How much room something takes, in words."""

from __future__ import annotations

from collections.abc import Iterable


def size(sizes: Iterable[int]) -> str:
    """Bytes in the largest unit that fits, such as 1.4 GB."""
    left = float(sum(sizes))
    for unit in ("B", "kB", "MB"):
        if left < 1000:
            return f"{left:.0f} {unit}" if unit == "B" or left >= 100 else f"{left:.1f} {unit}"
        left /= 1000
    return f"{left:.1f} GB"
