"""The greatest or least of uncertain numbers, any of which may be it, and how numbers compare with it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from privsweep.table.number_format import UNKNOWN, Unknown
from privsweep.table.uncertain import ordered

_TURNED = {
    operator.lt: operator.gt, operator.gt: operator.lt, operator.le: operator.ge, operator.ge: operator.le,
    operator.eq: operator.eq,
}  # fmt: skip
_BELOW = (operator.lt, operator.le)


@dataclass(frozen=True, eq=False)
class Extreme:
    """Of numbers, uncertain ones or extremes the greatest or the least. What is computed of it is of each of them."""

    greatest: bool
    of: tuple[Any, ...]

    def __float__(self) -> float:
        return (max if self.greatest else min)(map(float, self.of))

    def __add__(self, other: Any) -> Extreme:
        return self.each(lambda x: x + other)

    def __sub__(self, other: Any) -> Extreme:
        return self.each(lambda x: x - other)

    def __mul__(self, other: Any) -> Extreme:
        return self.each(lambda x: x * other, turned=float(other) < 0)

    def __truediv__(self, other: Any) -> Extreme:
        return self.each(lambda x: x / other, turned=float(other) < 0)

    def __neg__(self) -> Extreme:
        return self * -1.0

    def __abs__(self) -> Extreme:
        return Extreme(True, (self, -self))

    def __rsub__(self, other: Any) -> Extreme:
        return -self + other

    def __rtruediv__(self, other: Any) -> Extreme:
        """Right for numbers on one side of zero."""
        return self.each(lambda x: other / x, turned=float(other) > 0)

    __radd__, __rmul__ = __add__, __mul__

    def each(self, function: Callable[[Any], Any], turned: bool = False) -> Extreme:
        """Of the values of a function that rises, or where ``turned`` falls."""
        return Extreme(self.greatest != turned, tuple(function(x) for x in self.of))


def compared(order: Callable[[Any, Any], bool], a: Any, b: Any) -> bool | Unknown:
    """How two numbers compare; UNKNOWN where what is between them may be noise.

    The greatest is below a bound where each is, and above it where one is: with each one's own error.
    """
    if not isinstance(a, Extreme):
        return compared(_TURNED[order], b, a) if isinstance(b, Extreme) else ordered(order, a, b)
    if order is operator.eq:
        bound = compared(operator.le if a.greatest else operator.ge, a, b)
        return _decided([bound, _decided([compared(order, x, b) for x in a.of], by=True)], by=False)
    return _decided([compared(order, x, b) for x in a.of], by=(order in _BELOW) != a.greatest)


def _decided(answers: Sequence[bool | Unknown], by: bool) -> bool | Unknown:
    """``by``: the answer of which one is enough."""
    if by in answers:
        return by
    return UNKNOWN if UNKNOWN in answers else not by
