"""A paper's claim as an expression over the cells of a table, evaluated without running code.

    v('final_mse', 'conv16') > v('final_mse', 'conv64') and none(v('iters', 'conv16'))

``v(row, column)`` is a cell, ``r(row)`` a row's list over the columns that the paper prints. A cell is a number,
None (N/A: known never to have been reached) or unknown (runs are missing). Logic is three-valued: a claim
that one missing cell cannot change is decided, everything else stays undecided. Numbers may be uncertain: then so is
a comparison of two that differ by less than their noise.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from privsweep.interface.errors import UserError
from privsweep.table.extremes import compared
from privsweep.table.number_format import UNKNOWN, Number
from privsweep.table.three_valued import FUNCTIONS, RefusedError, equal, every, listed, negated, numeric, some, truth
from privsweep.table.uncertain import Uncertain

LENGTH, STEPS = 2000, 20_000  # characters in a check; nodes visited, with comprehensions unrolled
ID_LENGTH = 100  # characters in an id put together from parts

_ORDER: dict[type, Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


def holds(
    name: str,
    check: str,
    cell: Callable[[str, str], Number | Uncertain],
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
            raise RefusedError(f"is longer than {LENGTH} characters")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser's remarks on odd literals
            tree = ast.parse(check.strip(), mode="eval")
        verdict = truth(_Evaluator(cell, rows, columns, series).value(tree.body))
    except RefusedError as error:
        raise UserError(f"findings.{name}: {' '.join(str(error).split())[:300]}") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise UserError(f"findings.{name}: not an expression ({type(error).__name__}); see v, r") from None
    return None if verdict is UNKNOWN else verdict


class _Evaluator:
    """Walks the tree and refuses whatever it does not know. Skips nothing, so that every error shows at once."""

    def __init__(
        self,
        cell: Callable[[str, str], Number | Uncertain],
        rows: Sequence[str],
        columns: Sequence[str],
        series: Sequence[str],
    ):
        self.cell, self.rows, self.columns, self.series = cell, rows, columns, series
        self.variables: dict[str, Any] = {}
        self.steps = 0

    def value(self, node: ast.AST) -> Any:
        self.steps += 1
        if self.steps > STEPS:
            raise RefusedError(f"takes more than {STEPS} steps")
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
                return (every if isinstance(op, ast.And) else some)([self.value(v) for v in values])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return negated(self.value(operand))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return numeric(operator.neg, self.value(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                sides = self.value(left), self.value(right)
                if isinstance(op, ast.Add) and all(isinstance(s, str) for s in sides):
                    return self.joined("".join(sides))
                return numeric(_ARITHMETIC[type(op)], *sides)
            case ast.Compare(left=left, ops=ops, comparators=others):
                chain = [self.value(side) for side in (left, *others)]
                return every([self.compare(op, *chain[i : i + 2]) for i, op in enumerate(ops)])
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self.call(name, [self.value(arg) for arg in args])
            case ast.ListComp(elt=element, generators=loops) | ast.GeneratorExp(elt=element, generators=loops):
                out: list[Any] = []
                return UNKNOWN if self.unroll(element, loops, out) is UNKNOWN else out
        raise RefusedError(f"'{ast.unparse(node)[:60]}' is not allowed; use v, r, {', '.join(FUNCTIONS)}")

    def joined(self, text: str) -> str:
        """An id put together from parts, as in ``v('ssim', model + '_baseline')``."""
        if len(text) > ID_LENGTH:
            raise RefusedError(f"puts together an id of more than {ID_LENGTH} characters")
        return text

    def item(self, node: ast.AST) -> Any:
        value = self.value(node)
        if isinstance(value, list):  # shared sublists could unfold to any size
            raise RefusedError("a list holds no lists")
        return value

    def compare(self, op: ast.cmpop, a: Any, b: Any) -> Any:
        if isinstance(op, ast.Eq):
            return equal(a, b)
        if isinstance(op, ast.NotEq):
            return negated(equal(a, b))
        if type(op) not in _ORDER:
            raise RefusedError(f"the comparison '{type(op).__name__}' is not allowed; use < <= > >= == !=")
        return numeric(partial(compared, _ORDER[type(op)]), a, b)

    def call(self, name: str, arguments: list[Any]) -> Any:
        if name == "v" and len(arguments) == 2:
            return self.look_up(*arguments)
        if name == "r" and len(arguments) == 1:
            return [self.look_up(arguments[0], column) for column in self.series]
        if name not in FUNCTIONS:
            allowed = f"v(row, column), r(row), {', '.join(FUNCTIONS)}"
            raise RefusedError(f"'{name}' with {len(arguments)} arguments is not allowed; use {allowed}")
        if UNKNOWN in arguments:
            return UNKNOWN
        try:
            return FUNCTIONS[name](*arguments)
        except TypeError:
            raise RefusedError(f"'{name}' does not take these {len(arguments)} arguments") from None

    def look_up(self, row: Any, column: Any) -> Number | Uncertain:
        if row not in self.rows:
            raise RefusedError(f"no row {row!r}; there are {', '.join(self.rows)}")
        if column not in self.columns:
            raise RefusedError(f"no column {column!r}; there are {', '.join(self.columns)}")
        return self.cell(row, column)

    def unroll(self, element: ast.AST, loops: list[ast.comprehension], out: list[Any]) -> Any:
        if not loops:
            out.append(self.item(element))
            return True
        loop, shadowed = loops[0], dict(self.variables)
        if not isinstance(loop.target, ast.Name):
            raise RefusedError("a loop takes one plain variable")
        over = self.value(loop.iter)
        if over is UNKNOWN:
            return UNKNOWN
        for item in listed(over):
            self.variables[loop.target.id] = item
            kept = every([self.value(condition) for condition in loop.ifs])
            if kept is UNKNOWN or (kept and self.unroll(element, loops[1:], out) is UNKNOWN):
                self.variables = shadowed
                return UNKNOWN
        self.variables = shadowed
        return True
