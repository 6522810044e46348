"""One cell of a table: its numbers over seeds as mean or median, as text, and beside the printed number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from privsweep.table.number_format import NO, UNKNOWN, YES, Number, parse, show
from privsweep.table.parts import RowOrColumn
from privsweep.table.significance import Weakened, weakens
from privsweep.table.spec import Table

State = Literal["complete", "partial", "failed", "missing"]


@dataclass(frozen=True)
class Cell:
    """Values are in the printed unit (seconds, percentage points); None is N/A, a value like any other."""

    row: str
    column: str
    values: Mapping[int, float | None]  # seed -> value, for the seeds that are stored
    wanted: int  # seeds the table asks for
    failed: frozenset[int]  # seeds whose run failed
    state: State
    value: Number  # mean or median over all seeds; UNKNOWN unless complete
    std: float | None  # sample standard deviation; None below two seeds or beside N/A
    text: str
    printed: str | None  # as the paper prints it
    difference: float | None  # ours - printed where both are numbers
    difference_text: str


def cell_over_seeds(table: Table, row: str, column: str, values: Mapping[int, float | None], failed: set[int]) -> Cell:
    """A cell that reads a number from its runs. Without all its seeds it has no mean: they are shown and counted."""
    source, wanted = table.source(row, column), len(table.seeds)
    printed, theirs = _in_print(table, row, column)
    value: Number = UNKNOWN
    std = None
    state: State
    if len(values) == wanted:
        state = "complete"
        value, std = aggregate([*values.values()], source.aggregate)
        text = _text(value, std, [*values.values()], source)
    elif values:
        state = "partial"
        text = f"{', '.join(show(v, source.format) for v in values.values())} (only {len(values)} of {wanted})"
    else:
        state = "failed" if failed else "missing"
        text = f"failed ({len(failed)} of {wanted})" if failed else "missing"
    difference = value - theirs if isinstance(value, float) and isinstance(theirs, float) else None
    return Cell(
        row=row, column=column, values=values, wanted=wanted, failed=frozenset(failed),
        state=state, value=value, std=std, text=text,
        printed=printed, difference=difference,
        difference_text="" if difference is None else show(difference, source.format, signed=True),
    )  # fmt: skip


def cell_of_verdict(
    table: Table, row: str, column: str, weakened: Weakened, cells: Mapping[tuple[str, str], Cell], least: float
) -> Cell:
    """A cell that compares two others of its column: 1 where the attack is weakened, 0 where not, else UNKNOWN.

    ``least``: see ``weakens``.
    """
    base, adapted = cells[weakened.base, column], cells[weakened.adapted, column]
    value: Number = UNKNOWN
    text = "missing"
    state: State = "missing"
    if base.state == adapted.state == "complete":
        higher = table.rows[weakened.base].better == "higher"
        value, errors = weakens(base.values, adapted.values, higher, weakened.chance, least)
        state = "complete"
        text = "undecided" if value is UNKNOWN else YES if value else NO
        text += "" if errors is None else f" ({-errors:+.1f} SE)"
    printed, theirs = _in_print(table, row, column)
    both = isinstance(value, float) and isinstance(theirs, float)
    return Cell(
        row=row, column=column, values={}, wanted=0, failed=frozenset(),
        state=state, value=value, std=None, text=text,
        printed=printed, difference=None,
        difference_text="" if not both else "agrees" if value == theirs else "differs",
    )  # fmt: skip


def aggregate(values: Sequence[float | None], how: Literal["mean", "median"]) -> tuple[float | None, float | None]:
    """Mean or median, and the sample standard deviation, over seeds.

    N/A is infinity to a median, so a median may survive it; a mean never does.
    """
    numbers = [math.inf if v is None else float(v) for v in values]
    middle = statistics.median(numbers) if how == "median" else statistics.fmean(numbers)
    if None in values and math.isinf(middle):
        return None, None
    finite = len(numbers) > 1 and all(map(math.isfinite, numbers))
    return middle, statistics.stdev(numbers) if finite else None


def _in_print(table: Table, row: str, column: str) -> tuple[str | None, Number]:
    """What the paper prints, as text and as a number."""
    printed = table.printed.get(row, {}).get(column)
    return printed, UNKNOWN if printed is None else parse(printed)


def _text(value: Number, std: float | None, values: Sequence[float | None], source: RowOrColumn) -> str:
    """``31.2 ± 4.5 (3)``; a median shows its range, since a deviation from the mean would say little about it."""
    n, reached = len(values), sum(v is not None for v in values)
    if not isinstance(value, float):
        return f"N/A ({reached} of {n})"
    text = show(value, source.format)
    if source.aggregate == "median" and n > 1:
        low, high = (show(f(math.inf if v is None else v for v in values), source.format) for f in (min, max))
        return f"{text} [{low}, {high if reached == n else 'N/A'}] ({n})"
    return f"{text} ({n})" if std is None else f"{text} ± {show(std, source.format)} ({n})"
