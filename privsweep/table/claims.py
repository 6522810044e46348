"""A paper's claim as an expression over the cells of a table, evaluated without running anyone's code.

    v('final_mse', 'conv16') > v('final_mse', 'conv64') and none(v('iters', 'conv16'))

``v(row, column)`` is a cell, ``r(row)`` a row's list over the columns that the paper prints. A cell is a number,
None (N/A: known never to have been reached) or unknown (runs are missing). Logic is three-valued: a claim
that one missing cell cannot change is decided, everything else stays undecided.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from privsweep.interface.errors import UserError
from privsweep.table.number_format import UNKNOWN, Number

LENGTH, STEPS = 2000, 20_000  # characters of a check; nodes visited, comprehensions unrolled
IDS = 100  # characters of a row or column put together

_ORDER: dict[type, Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_ARITHMETIC: dict[type, Callable[[Any, Any], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


class _RefusedError(Exception):
    """Why an expression is not evaluated."""


def holds(
    name: str,
    check: str,
    cell: Callable[[str, str], Number],
    rows: Sequence[str],
    columns: Sequence[str],
    series: Sequence[str],
) -> bool | None:
    """Whether a claim holds over the cells; None where missing or N/A cells leave it undecided.

    ``rows`` and ``columns`` are the ids that ``v`` takes, ``series`` the columns that ``r`` runs over.

    Raises UserError, naming the finding, for an expression outside the small language above.
    """
    try:
        if len(check) > LENGTH:
            raise _RefusedError(f"is longer than {LENGTH} characters")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser's remarks on odd literals
            tree = ast.parse(check.strip(), mode="eval")
        verdict = _truth(_Evaluator(cell, rows, columns, series).value(tree.body))
    except _RefusedError as error:
        raise UserError(f"findings.{name}: {' '.join(str(error).split())[:300]}") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise UserError(f"findings.{name}: not an expression ({type(error).__name__}); see v, r") from None
    return None if verdict is UNKNOWN else verdict


def _truth(value: Any) -> Any:
    """A truth value of three."""
    if value is None or value is UNKNOWN:
        return UNKNOWN
    if isinstance(value, bool):
        return value
    raise _RefusedError(f"needs a comparison where {value!r} stands")


def _every(values: Sequence[Any]) -> Any:
    truths = [_truth(v) for v in values]
    if False in truths:
        return False
    return UNKNOWN if UNKNOWN in truths else True


def _some(values: Sequence[Any]) -> Any:
    return _negated(_every([_negated(v) for v in values]))


def _negated(value: Any) -> Any:
    truth = _truth(value)
    return truth if truth is UNKNOWN else not truth


def _numeric(function: Callable[..., Any], *values: Any) -> Any:
    """``function(*values)``, or UNKNOWN where a value is N/A or unknown, or the result is no number."""
    for value in values:
        if isinstance(value, str | list):
            raise _RefusedError(f"needs a number where {value!r} stands")
    if any(value is None or value is UNKNOWN for value in values):
        return UNKNOWN
    try:
        result = function(*values)
    except ZeroDivisionError:
        return UNKNOWN
    return UNKNOWN if isinstance(result, float) and math.isnan(result) else result


def _equal(a: Any, b: Any) -> Any:
    if a is UNKNOWN or b is UNKNOWN:
        return UNKNOWN
    if isinstance(a, list) and isinstance(b, list):
        return _every([_equal(x, y) for x, y in zip(a, b, strict=True)]) if len(a) == len(b) else False
    if isinstance(a, str) and isinstance(b, str):
        return a == b
    return _numeric(operator.eq, a, b)


def _listed(values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise _RefusedError(f"needs a list where {values!r} stands")
    return values


def _fold(function: Callable[..., Any]) -> Callable[..., Any]:
    def fold(*values: Any) -> Any:
        flat = values[0] if len(values) == 1 and isinstance(values[0], list) else values
        if not flat:
            raise _RefusedError("takes the extreme of nothing")
        return _numeric(lambda *n: function(n), *flat)

    return fold


def _monotone(order: Callable[[Any, Any], bool]) -> Callable[[Any], Any]:
    def monotone(values: Any) -> Any:
        pairs = zip(_listed(values), values[1:], strict=False)
        return _every([_numeric(order, a, b) for a, b in pairs])

    return monotone


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "none": lambda x: x is None,
    "inc": _monotone(operator.lt),  # strictly
    "dec": _monotone(operator.gt),
    "approx": lambda a, b, tolerance: _numeric(lambda x, y, t: abs(x - y) <= t, a, b, tolerance),
    "min": _fold(min),
    "max": _fold(max),
    "sum": lambda values: _numeric(lambda *n: float(sum(n)), *_listed(values)),
    "all": lambda values: _every(_listed(values)),
    "any": lambda values: _some(_listed(values)),
    "abs": lambda x: _numeric(abs, x),
    "len": lambda values: float(len(_listed(values))),
}


class _Evaluator:
    """Walks the tree and refuses whatever it does not know. Skips nothing, so that every error shows at once."""

    def __init__(
        self, cell: Callable[[str, str], Number], rows: Sequence[str], columns: Sequence[str], series: Sequence[str]
    ):
        self.cell, self.rows, self.columns, self.series = cell, rows, columns, series
        self.variables: dict[str, Any] = {}
        self.steps = 0

    def value(self, node: ast.AST) -> Any:
        self.steps += 1
        if self.steps > STEPS:
            raise _RefusedError(f"takes more than {STEPS} steps")
        match node:
            case ast.Constant(value=bool() | str() as constant):
                return constant
            case ast.Constant(value=int() | float() as constant):
                return float(constant)  # integers of any size would be a way to fill the memory
            case ast.Name(id=name) if name in self.variables:
                return self.variables[name]
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self.item(item) for item in items]
            case ast.BoolOp(op=op, values=values):
                return (_every if isinstance(op, ast.And) else _some)([self.value(v) for v in values])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return _negated(self.value(operand))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return _numeric(operator.neg, self.value(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                sides = self.value(left), self.value(right)
                if isinstance(op, ast.Add) and all(isinstance(s, str) for s in sides) and len("".join(sides)) <= IDS:
                    return "".join(sides)  # an id out of parts, as in v('ssim', model + '_baseline')
                return _numeric(_ARITHMETIC[type(op)], *sides)
            case ast.Compare(left=left, ops=ops, comparators=others):
                chain = [self.value(side) for side in (left, *others)]
                return _every([self.compare(op, *chain[i : i + 2]) for i, op in enumerate(ops)])
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self.call(name, [self.value(arg) for arg in args])
            case ast.ListComp(elt=element, generators=loops) | ast.GeneratorExp(elt=element, generators=loops):
                out: list[Any] = []
                return UNKNOWN if self.unroll(element, loops, out) is UNKNOWN else out
        raise _RefusedError(f"'{ast.unparse(node)[:60]}' is not allowed; use v, r, {', '.join(_FUNCTIONS)}")

    def item(self, node: ast.AST) -> Any:
        value = self.value(node)
        if isinstance(value, list):  # shared sublists could unfold to any size
            raise _RefusedError("a list holds no lists")
        return value

    def compare(self, op: ast.cmpop, a: Any, b: Any) -> Any:
        if isinstance(op, ast.Eq):
            return _equal(a, b)
        if isinstance(op, ast.NotEq):
            return _negated(_equal(a, b))
        if type(op) not in _ORDER:
            raise _RefusedError(f"the comparison '{type(op).__name__}' is not allowed; use < <= > >= == !=")
        return _numeric(_ORDER[type(op)], a, b)

    def call(self, name: str, arguments: list[Any]) -> Any:
        if name == "v" and len(arguments) == 2:
            return self.look_up(*arguments)
        if name == "r" and len(arguments) == 1:
            return [self.look_up(arguments[0], column) for column in self.series]
        if name not in _FUNCTIONS:
            allowed = f"v(row, column), r(row), {', '.join(_FUNCTIONS)}"
            raise _RefusedError(f"'{name}' with {len(arguments)} arguments is not allowed; use {allowed}")
        if UNKNOWN in arguments:
            return UNKNOWN
        try:
            return _FUNCTIONS[name](*arguments)
        except TypeError:
            raise _RefusedError(f"'{name}' does not take these {len(arguments)} arguments") from None

    def look_up(self, row: Any, column: Any) -> Number:
        if row not in self.rows:
            raise _RefusedError(f"no row {row!r}; there are {', '.join(self.rows)}")
        if column not in self.columns:
            raise _RefusedError(f"no column {column!r}; there are {', '.join(self.columns)}")
        return self.cell(row, column)

    def unroll(self, element: ast.AST, loops: list[ast.comprehension], out: list[Any]) -> Any:
        if not loops:
            out.append(self.item(element))
            return True
        loop, shadowed = loops[0], dict(self.variables)
        if not isinstance(loop.target, ast.Name):
            raise _RefusedError("a loop takes one plain variable")
        over = self.value(loop.iter)
        if over is UNKNOWN:
            return UNKNOWN
        for item in _listed(over):
            self.variables[loop.target.id] = item
            kept = _every([self.value(condition) for condition in loop.ifs])
            if kept is UNKNOWN or (kept and self.unroll(element, loops[1:], out) is UNKNOWN):
                self.variables = shadowed
                return UNKNOWN
        self.variables = shadowed
        return True
