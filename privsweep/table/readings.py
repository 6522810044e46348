"""What the cells of a table read of stored runs, and which of its keys ask for a number that no run has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from privsweep.interface.utility import with_finals
from privsweep.table.conditions import Behind
from privsweep.table.learning_curve import columns_of, curve_number
from privsweep.table.number_format import UNKNOWN, Number, in_printed_unit
from privsweep.table.parts import RECORD
from privsweep.table.spec import Table
from privsweep.table.uncertain import Place

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Readings:
    """Of the cells of a table."""

    values: Mapping[Place, Mapping[int, float | None]]  # by seed, in the printed unit; None: N/A
    failed: Mapping[Place, set[int]]
    problems: tuple[str, ...]  # runs that failed or lack a number that others have, one line each
    misnamed: tuple[str, ...]  # keys that ask for a number that no run has, one line each


@dataclass(frozen=True)
class _Reading:
    value: Number
    key: str  # of the table, that asks for it
    name: str
    there: Sequence[str]  # the names that there are


def read_cells(table: Table, records: Mapping[str, Record | None], folders: Mapping[Behind, Path]) -> Readings:
    """``records``: job id -> record, None where nothing is stored; ``folders``: those of the complete runs."""
    values: dict[Place, dict[int, float | None]] = {}
    failed: dict[Place, set[int]] = {}
    problems: dict[str, str | None] = {}  # a line, and the key of the table that it is about
    lacking: dict[str, _Reading] = {}
    known: set[str] = set()
    for job in table.jobs():
        record = records.get(job.id)
        if record is not None and record["status"] != "complete":
            problems[f"{job.id}: {record['status']}{_reason(record)}"] = None
        for row, column, seed in job.cells if record is not None else ():
            assert record is not None
            if record["status"] != "complete":
                failed.setdefault((row, column), set()).add(seed)
                continue
            read = _read(table, record, (row, column, seed), folders)
            if read.value is UNKNOWN:
                lacking.setdefault(read.key, read)
                lacks = f"{read.name}{_elsewhere(record, read.name)}"
                problems[f"{job.id}: the record {record.get('signature', '')} has no {lacks}"] = read.key
            else:
                format = table.source(row, column).format
                number = None if read.value is None else in_printed_unit(read.value, format)
                values.setdefault((row, column), {})[seed] = number
            if not read.there or read.name in read.there:
                known.add(read.key)
    wrong = {key: _misnamed(read) for key, read in lacking.items() if key not in known}
    told = tuple(line for line, key in problems.items() if key not in wrong)
    return Readings(values, failed, told, tuple(wrong.values()))


def _read(table: Table, record: Record, place: Behind, folders: Mapping[Behind, Path]) -> _Reading:
    row, column, seed = place
    source, rows = table.source(row, column), table.rows[row].readings
    axis = f"table.rows.{row}" if rows else f"table.columns.{column}"
    if source.learning is None:
        name = table.metric(row, column)
        return _Reading(look_up(record, name), f"{axis}.metric={source.metric}", name, _names(record))
    baseline = folders.get((row, str(table.columns[column].baseline), seed))
    value, asked = curve_number(source.learning, folders[place], baseline), source.learning.value
    there = columns_of(folders[place])
    return _Reading(
        value, f"{axis}.learning.value={asked}", f"curve of {source.label}", [] if asked in there else there
    )


def _misnamed(read: _Reading) -> str:
    asked = read.key.partition("=")[2] if ".learning." in read.key else read.name
    elsewhere = [name for name in read.there if name.endswith(f".{asked}")]
    near = elsewhere or get_close_matches(asked, read.there, 1)
    remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(read.there)}"
    answer = "" if read.key.endswith(f"={asked}") else f", {asked}"
    return f"{read.key}: none of its runs has such a number{answer}; {remedy}"


def _names(record: Record) -> list[str]:
    """Of the numbers of a record, as a table asks for them."""
    parts = {part: record.get(part, {}) for part in RECORD if part != "metrics"}
    parts["utility"] = with_finals(parts["utility"])
    return [*record.get("metrics", {}), *(name for part, node in parts.items() for name in _dotted(node, part))]


def _dotted(node: Any, path: str) -> list[str]:
    if isinstance(node, Mapping):
        return [name for key, inner in node.items() for name in _dotted(inner, f"{path}.{key}")]
    return [path] if node is None or isinstance(node, int | float) else []


def look_up(record: Record, metric: str) -> Number:
    """A number of a record; None for N/A (or NaN); UNKNOWN where the record has no such thing."""
    node: Any = record if "." in metric else record.get("metrics", {})
    if metric.startswith("utility."):
        node = {"utility": with_finals(record.get("utility", {}))}
    for depth, part in enumerate(metric.split(".")):
        if not isinstance(node, Mapping) or part not in node:
            guaranteed = metric.startswith("privacy.") and depth < 2  # without a defence's guarantee no epsilon
            return None if guaranteed else UNKNOWN
        node = node[part]
    if node is None or (isinstance(node, float) and math.isnan(node)):
        return None
    return float(node) if isinstance(node, int | float) else UNKNOWN


def _elsewhere(record: Record, name: str) -> str:
    """Where else the record has a number of that name, as a hint."""
    found = next((part for part in ("utility", "seconds", "sizes") if name in record.get(part, {})), None)
    return f"; write {found}.{name}" if found else ""


def _reason(record: Record) -> str:
    error = record.get("error")
    return f", {' '.join(str(error).split())[:200]}" if error else ""
