"""Numbers with a standard error: what a claim computes of them, and whether a difference is more than noise."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from privsweep.table.number_format import UNKNOWN, Unknown

NOT_KNOWN = -0.5  # standard errors that lie between numbers whose error nobody knows: fewer than between equal ones
ROUNDING = 1e-12  # of what is compared; an error below it is none

Place = tuple[str, str]  # row and column


class Log(NamedTuple):
    """The common logarithm of a cell: the mean, or the median, over seeds of each one's."""

    cell: Place


Term = Place | Log


def cell_of(term: Term) -> Place:
    """Row and column of a cell, or of that behind a logarithm."""
    return term.cell if isinstance(term, Log) else term


class Errors(Protocol):
    """How uncertain the cells of a table are."""

    def error(self, slopes: Mapping[Term, float], strict: bool, apart: float) -> float | None:
        """Standard error of a sum of terms, each with its factor, for a strict comparison; None: not known.

        ``apart``: how far the sum is from what it is compared with.
        """

    def log(self, cell: Place) -> float | None:
        """The cell's logarithm; None where a seed's number has none."""


@dataclass(frozen=True)
class Noise:
    """What all numbers of one judgement share."""

    errors: Errors
    threshold: float  # standard errors that a difference must exceed to count; below zero: any counts
    met: list[float] = field(default_factory=list)  # of every comparison, how many standard errors lie between


@dataclass(frozen=True, eq=False)
class Uncertain:
    """A number and, to first order, how it follows from the cells that it is computed of."""

    value: float
    slopes: Mapping[Term, float]
    noise: Noise

    def __float__(self) -> float:
        return self.value

    def __add__(self, other: Any) -> Uncertain:
        return self._of(operator.add, other, lambda y: (1.0, 1.0))

    def __sub__(self, other: Any) -> Uncertain:
        return self._of(operator.sub, other, lambda y: (1.0, -1.0))

    def __mul__(self, other: Any) -> Uncertain:
        return self._of(operator.mul, other, lambda y: (y, self.value))

    def __truediv__(self, other: Any) -> Uncertain:
        return self._of(operator.truediv, other, lambda y: (1 / y, -self.value / y**2))

    def __neg__(self) -> Uncertain:
        return self * -1.0

    def __abs__(self) -> Uncertain:
        return -self if self.value < 0 else self

    def __rsub__(self, other: float) -> Uncertain:
        return -self + other

    def __rtruediv__(self, other: float) -> Uncertain:
        ratio = other / self.value
        return Uncertain(ratio, {cell: -ratio / self.value * slope for cell, slope in self.slopes.items()}, self.noise)

    __radd__, __rmul__ = __add__, __mul__

    def log10(self) -> Uncertain | Unknown:
        """Raises ValueError for anything but a cell as it stands."""
        cell = next(iter(self.slopes), None)
        if len(self.slopes) != 1 or not cell or isinstance(cell, Log) or self.slopes[cell] != 1:
            raise ValueError("log10 takes one cell as it stands; compare sums of logarithms")
        value = self.noise.errors.log(cell)
        return UNKNOWN if value is None else Uncertain(value, {Log(cell): 1.0}, self.noise)

    def _of(
        self, function: Callable[[float, float], float], other: Any, by: Callable[[float], tuple[float, float]]
    ) -> Uncertain:
        """Of itself and another number; ``by``: the other's value -> how much the result follows the two."""
        if not isinstance(other, int | float | Uncertain):
            return NotImplemented
        mine, its = by(float(other))
        slopes = {place: mine * slope for place, slope in self.slopes.items()}
        for place, slope in other.slopes.items() if isinstance(other, Uncertain) else ():
            slopes[place] = slopes.get(place, 0.0) + its * slope
        return Uncertain(function(self.value, float(other)), slopes, self.noise)


def ordered(order: Callable[[float, float], bool], a: Any, b: Any) -> bool | Unknown:
    """How two numbers compare; UNKNOWN where what is between them may be noise."""
    apart = a - b
    if isinstance(apart, Uncertain):
        slopes = {term: slope for term, slope in apart.slopes.items() if slope}
        strict = order in (operator.lt, operator.gt) or apart.value != 0  # "at most 5" says more of 0 than "at most 0"
        error = apart.noise.errors.error(slopes, strict, apart.value)
        rounding = ROUNDING * (abs(float(a)) + abs(float(b)))
        errors = NOT_KNOWN if error is None else abs(apart.value) / error if error > rounding else math.inf
        apart.noise.met.append(errors)
        if errors <= apart.noise.threshold:
            return UNKNOWN
    return order(float(a), float(b))
