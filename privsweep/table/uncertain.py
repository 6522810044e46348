"""Numbers with a standard error: what a claim computes of them, and whether a difference is more than noise."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from privsweep.table.number_format import UNKNOWN, Unknown

NOT_KNOWN = -0.5  # standard errors that lie between numbers whose error nobody knows: fewer than between equal ones
ROUNDING = 1e-12  # of what is compared; an error below it is none

Place = tuple[str, str]  # row and column
Error = Callable[[Mapping[Place, float], bool], float | None]


@dataclass(frozen=True)
class Noise:
    """What all numbers of one judgement share."""

    error: Error  # standard error of a sum of cells, each with its factor, for a strict comparison; None: not known
    threshold: float  # standard errors that a difference must exceed to count; below zero: any counts
    met: list[float] = field(default_factory=list)  # of every comparison, how many standard errors lie between


@dataclass(frozen=True, eq=False)
class Uncertain:
    """A number and, to first order, how it follows from the cells that it is computed of."""

    value: float
    slopes: Mapping[Place, float]
    noise: Noise

    def __float__(self) -> float:
        return self.value

    def __add__(self, other: Any) -> Uncertain:
        return self._of(self.value + float(other), other, 1.0, 1.0)

    def __sub__(self, other: Any) -> Uncertain:
        return self._of(self.value - float(other), other, 1.0, -1.0)

    def __mul__(self, other: Any) -> Uncertain:
        return self._of(self.value * float(other), other, float(other), self.value)

    def __truediv__(self, other: Any) -> Uncertain:
        ratio = self.value / float(other)
        return self._of(ratio, other, 1 / float(other), -ratio / float(other))

    def __neg__(self) -> Uncertain:
        return self * -1.0

    def __abs__(self) -> Uncertain:
        return -self if self.value < 0 else self

    def __rsub__(self, other: float) -> Uncertain:
        return -self + other

    def __rtruediv__(self, other: float) -> Uncertain:
        ratio = other / self.value
        return self._of(ratio, 0.0, -ratio / self.value, 0.0)

    __radd__, __rmul__ = __add__, __mul__

    def _of(self, value: float, other: Any, mine: float, its: float) -> Uncertain:
        slopes = {place: mine * slope for place, slope in self.slopes.items()}
        for place, slope in other.slopes.items() if isinstance(other, Uncertain) else ():
            slopes[place] = slopes.get(place, 0.0) + its * slope
        return Uncertain(value, slopes, self.noise)


def ordered(order: Callable[[float, float], bool], a: Any, b: Any) -> bool | Unknown:
    """How two numbers compare; UNKNOWN where what is between them may be noise."""
    apart = a - b
    if isinstance(apart, Uncertain):
        slopes = {place: slope for place, slope in apart.slopes.items() if slope}
        error = apart.noise.error(slopes, order in (operator.lt, operator.gt))
        rounding = ROUNDING * (abs(float(a)) + abs(float(b)))
        errors = NOT_KNOWN if error is None else abs(apart.value) / error if error > rounding else math.inf
        apart.noise.met.append(errors)
        if errors <= apart.noise.threshold:
            return UNKNOWN
    return order(float(a), float(b))
