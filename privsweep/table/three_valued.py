"""Three-valued logic and arithmetic for claims: true, false, or unknown because a cell is missing or N/A."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from privsweep.table.extremes import Extreme, compared
from privsweep.table.number_format import UNKNOWN
from privsweep.table.uncertain import Uncertain


class RefusedError(Exception):
    """Why an expression is not evaluated."""


def truth(value: Any) -> Any:
    """True, False or UNKNOWN. Raises RefusedError for anything but a truth value."""
    if value is None or value is UNKNOWN:
        return UNKNOWN
    if isinstance(value, bool):
        return value
    raise RefusedError(f"needs a comparison where {value!r} stands")


def every(values: Sequence[Any]) -> Any:
    """False as soon as one value is, whatever the others are."""
    truths = [truth(v) for v in values]
    if False in truths:
        return False
    return UNKNOWN if UNKNOWN in truths else True


def some(values: Sequence[Any]) -> Any:
    """True as soon as one value is, whatever the others are."""
    return negated(every([negated(v) for v in values]))


def negated(value: Any) -> Any:
    """Unknown stays unknown."""
    known = truth(value)
    return known if known is UNKNOWN else not known


def numeric(function: Callable[..., Any], *values: Any) -> Any:
    """``function(*values)``, or UNKNOWN where a value is N/A or unknown, or the result is not a number."""
    for value in values:
        if isinstance(value, str | list):
            raise RefusedError(f"needs a number where {value!r} stands")
    if any(value is None or value is UNKNOWN for value in values):
        return UNKNOWN
    try:
        result = function(*values)
    except ZeroDivisionError:
        return UNKNOWN
    return UNKNOWN if isinstance(result, float) and math.isnan(result) else result


def equal(a: Any, b: Any) -> Any:
    """Whether two numbers, ids or lists are equal."""
    if a is UNKNOWN or b is UNKNOWN:
        return UNKNOWN
    if isinstance(a, list) and isinstance(b, list):
        return every([equal(x, y) for x, y in zip(a, b, strict=True)]) if len(a) == len(b) else False
    if isinstance(a, str) and isinstance(b, str):
        return a == b
    return numeric(partial(compared, operator.eq), a, b)


def listed(values: Any) -> list[Any]:
    """The list itself. Raises RefusedError where there is none."""
    if not isinstance(values, list):
        raise RefusedError(f"needs a list where {values!r} stands")
    return values


def _fold(function: Callable[..., Any]) -> Callable[..., Any]:
    def fold(*values: Any) -> Any:
        flat = values[0] if len(values) == 1 and isinstance(values[0], list) else values
        if not flat:
            raise RefusedError("takes the extreme of nothing")
        certain = all(isinstance(n, float) for n in flat)
        return numeric(lambda *n: function(n) if certain else Extreme(function is max, n), *flat)

    return fold


def _monotone(order: Callable[[Any, Any], bool]) -> Callable[[Any], Any]:
    def monotone(values: Any) -> Any:
        pairs = zip(listed(values), values[1:], strict=False)
        return every([numeric(partial(compared, order), a, b) for a, b in pairs])

    return monotone


def _log10(x: Any) -> Any:
    if float(x) <= 0:
        return UNKNOWN
    if isinstance(x, Extreme):
        return numeric(lambda *logs: Extreme(x.greatest, logs), *map(_log10, x.of))
    try:
        return x.log10() if isinstance(x, Uncertain) else math.log10(x)
    except ValueError as error:
        raise RefusedError(str(error)) from None


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "none": lambda x: x is None,
    "inc": _monotone(operator.lt),  # strictly
    "dec": _monotone(operator.gt),
    "approx": lambda a, b, tolerance: numeric(lambda x, y, t: compared(operator.le, abs(x - y), t), a, b, tolerance),
    "min": _fold(min),
    "max": _fold(max),
    "sum": lambda values: numeric(lambda *n: sum(n, 0.0), *listed(values)),
    "all": lambda values: every(listed(values)),
    "any": lambda values: some(listed(values)),
    "abs": lambda x: numeric(abs, x),
    "log10": lambda x: numeric(_log10, x),
    "len": lambda values: float(len(listed(values))),
}
