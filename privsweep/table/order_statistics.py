"""How far the median over one run's victims, or over seeds, may be from that of all, whatever their distribution is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from privsweep.table.significance import MOST_BY_CHANCE

_OUTSIDE = statistics.NormalDist().cdf(-MOST_BY_CHANCE)  # how seldom the median may be beyond an end


def error_of_median(numbers: Sequence[float], scale: Callable[[float], float]) -> float | None:
    """Half of how far the farther end of its 95% interval is from it, both on ``scale``.

    The ends are victims' own numbers: beyond the k-th of n the median is as seldom as a coin falls on one side fewer
    than k times. None: not known, with fewer than six victims or where an end is not finite.
    """
    if not _outside(len(numbers)):
        return None
    ranked = sorted(numbers)
    try:
        error = half_of_farther_end([scale(number) for number in ranked], scale(statistics.median(ranked)))
    except ValueError:  # no logarithm
        return None
    return error if math.isfinite(error) else None


def half_of_farther_end(numbers: Sequence[float], value: float) -> float:
    """Of their interval, from ``value``: of fewer than six numbers the ends are the least and the greatest."""
    outside, ranked = max(1, _outside(len(numbers))), sorted(numbers)
    return max(ranked[-outside] - value, value - ranked[outside - 1]) / MOST_BY_CHANCE


def _outside(count: int) -> int:
    """The greatest k with which the interval from the k-th to the k-th last is wide enough; 0 where none is."""
    fewer, k = 1, 0  # of 2**count sequences of tosses, those with at most k heads
    while fewer / 2**count <= _OUTSIDE:
        k += 1
        fewer += math.comb(count, k)
    return k
