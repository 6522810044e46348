"""Stored records into the cells of a table: over seeds, beside the printed numbers, every claim judged."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from privsweep.table.learning_curve import read
from privsweep.table.number_format import NO, UNKNOWN, YES, Number, in_printed_unit, parse, show
from privsweep.table.significance import weakens
from privsweep.table.spec import Axis, Finding, Table

Record = Mapping[str, Any]
# Keys that say where and how, not what: a table is the same whatever they are.
WITHOUT_EFFECT = frozenset({"output_dir", "data_dir", "device", "threads", "force", "plan", "only"})
_SHOWN_ELSEWHERE = frozenset({"experiment", "scale", "cell"})
_OF_ONE_RUN = frozenset({"trained_from_cache"})
State = Literal["complete", "partial", "failed", "missing"]


@dataclass(frozen=True)
class Cell:
    """One cell. Values are in the printed unit (seconds, points); None is N/A, a value like any other."""

    row: str
    column: str
    values: Mapping[int, float | None]  # seed -> value, for the seeds that are there
    wanted: int  # seeds the table asks for
    failed: frozenset[int]  # seeds whose run failed
    state: State
    value: Number  # mean or median over all seeds; UNKNOWN unless complete
    std: float | None  # sample standard deviation; None below two seeds or beside N/A
    text: str
    printed: str | None  # the paper's string
    difference: float | None  # ours - printed where both are numbers
    difference_text: str


@dataclass(frozen=True)
class Verdict:
    finding: Finding
    holds: bool | None  # None: undecided
    in_print: bool | None


@dataclass(frozen=True)
class Laid:
    """A table with everything that its writers need."""

    table: Table
    scale: str
    overrides: tuple[str, ...]  # given on the command line besides, for every cell, that change numbers
    cells: Mapping[tuple[str, str], Cell]
    verdicts: tuple[Verdict, ...]
    problems: tuple[str, ...]  # runs that failed or lack a metric, a line each
    environment: Mapping[str, str]  # what the runs had in common, or every value of it
    complete: int
    jobs: int
    folders: Mapping[tuple[str, str, int], Path]  # of the complete run behind row, column and seed

    @property
    def command(self) -> str:
        """What fills the table, whoever's folders and devices it runs on."""
        scale = [] if self.scale == "paper" else [f"scale={self.scale}"]
        return " ".join(["privsweep", f"experiment={self.table.experiment}", *scale, *map(_quoted, self.overrides)])


def layout(
    table: Table,
    records: Mapping[str, Record | None],
    scale: str,
    overrides: Sequence[str] = (),
    folder: Callable[[str], Path] = Path,
) -> Laid:
    """Lay out what is stored: job id -> record, None where there is none; signature -> ``folder`` with its files.

    A cell with a seed missing or failed has no mean: its seeds are shown and counted, never averaged.
    """
    numbers_of: dict[tuple[str, str], dict[int, float | None]] = {}
    failed: dict[tuple[str, str], set[int]] = {}
    problems: list[str] = []
    jobs = table.jobs()
    folders = {
        cell: folder(str(record.get("signature")))
        for job in jobs
        if (record := records.get(job.id)) is not None and record["status"] == "complete"
        for cell in job.cells
    }
    for job in jobs:
        record = records.get(job.id)
        if record is not None and record["status"] != "complete":
            problems.append(f"{job.id}: {record['status']}{_reason(record)}")
        for row, column, seed in job.cells:
            if record is None:
                continue
            if record["status"] != "complete":
                failed.setdefault((row, column), set()).add(seed)
                continue
            axis = table.reads(row, column)
            if axis.learning is None:
                value, name = _look_up(record, str(axis.metric)), str(axis.metric)
            else:
                baseline = folders.get((row, str(table.columns[column].baseline), seed))
                value, name = read(axis.learning, folders[row, column, seed], baseline), f"curve of {axis.label}"
            if value is UNKNOWN:
                problems.append(f"{job.id}: the record {record.get('signature', '')} has no {name}")
            else:
                number = None if value is None else in_printed_unit(value, axis.format)
                numbers_of.setdefault((row, column), {})[seed] = number
    cells = {
        (r, c): _cell(table, r, c, numbers_of.get((r, c), {}), failed.get((r, c), set()))
        for r, row in table.rows.items()
        for c in table.columns
        if not row.weakened
    }
    cells |= {
        (r, c): _judged(table, r, c, cells) for r, row in table.rows.items() for c in table.columns if row.weakened
    }
    numbers = {key: cell.value for key, cell in cells.items()}
    present = [r for job in jobs if (r := records.get(job.id)) is not None and r["status"] == "complete"]
    return Laid(
        table=table,
        scale=scale,
        overrides=tuple(o for o in overrides if _matters(o)),
        cells=cells,
        verdicts=tuple(Verdict(f, table.holds(f, numbers), table.in_print(f)) for f in table.findings),
        problems=tuple(dict.fromkeys(problems)),
        environment=environment(present),
        complete=len(present),
        jobs=len(jobs),
        folders=folders,
    )


def _cell(table: Table, row: str, column: str, values: dict[int, float | None], failed: set[int]) -> Cell:
    axis, wanted = table.reads(row, column), len(table.seeds)
    printed = table.printed.get(row, {}).get(column)
    theirs = UNKNOWN if printed is None else parse(printed)
    value: Number = UNKNOWN
    std = None
    state: State
    if len(values) == wanted:
        state = "complete"
        value, std = aggregate([*values.values()], axis.aggregate)
        text = _complete(value, std, [*values.values()], axis)
    elif values:
        state = "partial"
        text = f"{', '.join(show(v, axis.format) for v in values.values())} (only {len(values)} of {wanted})"
    else:
        state = "failed" if failed else "missing"
        text = f"failed ({len(failed)} of {wanted})" if failed else "missing"
    difference = value - theirs if isinstance(value, float) and isinstance(theirs, float) else None
    return Cell(
        row=row, column=column, values=values, wanted=wanted, failed=frozenset(failed),
        state=state, value=value, std=std, text=text,
        printed=printed, difference=difference,
        difference_text="" if difference is None else show(difference, axis.format, signed=True),
    )  # fmt: skip


def _judged(table: Table, row: str, column: str, cells: Mapping[tuple[str, str], Cell]) -> Cell:
    """A verdict on two other cells of its column: 1 for yes, 0 for no."""
    judged = table.rows[row].weakened
    assert judged is not None
    base, adapted = cells[judged.base, column], cells[judged.adapted, column]
    value: Number = UNKNOWN
    text = "missing"
    if base.state == adapted.state == "complete":
        higher = table.rows[judged.base].better == "higher"
        value, errors = weakens([*base.values.values()], [*adapted.values.values()], higher)
        text = "undecided" if value is UNKNOWN else YES if value else NO
        text += "" if errors is None else f" ({-errors:+.1f} SE)"
    printed = table.printed.get(row, {}).get(column)
    theirs = UNKNOWN if printed is None else parse(printed)
    both = isinstance(value, float) and isinstance(theirs, float)
    return Cell(
        row=row, column=column, values={}, wanted=0, failed=frozenset(),
        state="complete" if value is not UNKNOWN else "missing", value=value, std=None, text=text,
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


def _complete(value: Number, std: float | None, values: Sequence[float | None], axis: Axis) -> str:
    """``31.2 ± 4.5 (3)``; a median shows its range, for a deviation about the mean would say little of it."""
    n, reached = len(values), sum(v is not None for v in values)
    if not isinstance(value, float):
        return f"N/A ({reached} of {n})"
    text = show(value, axis.format)
    if axis.aggregate == "median" and n > 1:
        low, high = (show(f(math.inf if v is None else v for v in values), axis.format) for f in (min, max))
        return f"{text} [{low}, {high if reached == n else 'N/A'}] ({n})"
    return f"{text} ({n})" if std is None else f"{text} ± {show(std, axis.format)} ({n})"


def _look_up(record: Record, metric: str) -> Number:
    """A number of a record; None for N/A (or NaN); UNKNOWN where the record has no such thing."""
    node: Any = record if "." in metric else record.get("metrics", {})
    for part in metric.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None if metric.startswith("privacy.") else UNKNOWN  # without a guarantee there is no epsilon
        node = node[part]
    if node is None or (isinstance(node, float) and math.isnan(node)):
        return None
    return float(node) if isinstance(node, int | float) else UNKNOWN


def environment(records: Sequence[Record]) -> dict[str, str]:
    """The environments of several runs: every value that occurs, once; dates as a range."""
    seen: dict[str, list[str]] = {}
    for record in records:
        for key, value in record.get("environment", {}).items():
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)
            if value is not None and text and key not in _OF_ONE_RUN and text not in seen.setdefault(key, []):
                seen[key].append(text)
    if len(dates := sorted(seen.get("date", []))) > 1:
        seen["date"] = [f"{dates[0]} to {dates[-1]}"]
    return {key: "; ".join(values) for key, values in seen.items()}


def _matters(override: str) -> bool:
    key = override.partition("=")[0].lstrip("+~")
    return key not in WITHOUT_EFFECT | _SHOWN_ELSEWHERE and not key.startswith("hydra")


def _reason(record: Record) -> str:
    error = record.get("error")
    return f", {' '.join(str(error).split())[:200]}" if error else ""


def _quoted(override: str) -> str:
    return f"'{override}'" if any(c in override for c in " []{}(),$*?&;|<>#") else override
