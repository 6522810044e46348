"""A filled table as CSV for programs: one line for each number."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pandas as pd

from privsweep.interface.printable import printable
from privsweep.table.fill import FilledTable
from privsweep.table.number_format import UNKNOWN

COLUMNS = (
    "table",
    "scale",
    "row",
    "column",
    "kind",
    "seed",
    "run",
    "state",
    "value",
    "std",
    "n",
    "printed",
    "difference",
)
# What a spreadsheet takes for a formula, unless it is a number or a dash.
_FORMULA = re.compile(r"(?![-+]?[\d.,:]*([eE][-+]?\d+)?[KM%]?$)[=+\-@＝＋－＠]")


def table_csv(filled: FilledTable) -> str:
    """One line for each number: ``kind`` is ``seed`` for single runs, ``mean`` or ``median`` over all seeds.

    ``run`` is the signature of the complete run that the number is from. N/A (never reached) is written so; an empty
    value is not known yet.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for (row, column), cell in filled.cells.items():
        about = {"table": plain_cell(filled.table.experiment), "scale": filled.scale, "row": row, "column": column,
                 "printed": plain_cell(cell.printed or "")}  # fmt: skip
        for seed in filled.table.seeds if cell.wanted else ():
            known = seed in cell.values
            state = "complete" if known else "failed" if seed in cell.failed else "missing"
            folder = filled.folders.get((row, column, seed))
            run = "" if folder is None else plain_cell(folder.name)
            writer.writerow({**about, "kind": "seed", "seed": seed, "run": run, "state": state,
                             "value": _number(cell.values[seed]) if known else ""})  # fmt: skip
        writer.writerow({
            **about, "kind": filled.table.source(row, column).aggregate, "state": cell.state,
            "n": len(cell.values),
            "value": "" if cell.value is UNKNOWN else _number(cell.value),
            "std": "" if cell.std is None else _number(cell.std),
            "difference": "" if cell.difference is None else _number(cell.difference),
        })  # fmt: skip
    return out.getvalue()


def plain_cell(text: str) -> str:
    """Text for a cell, in one line; an apostrophe before it keeps spreadsheets from running it as a formula."""
    flat = printable(text)
    return f"'{flat}" if _FORMULA.match(flat) else flat


def frame_csv(frame: pd.DataFrame) -> str:
    """A frame whose texts no spreadsheet runs."""
    safe = frame.map(lambda value: plain_cell(value) if isinstance(value, str) else value)
    return safe.rename(columns=plain_cell).to_csv(index=False)


def _number(value: Any) -> str:
    return "N/A" if value is None else f"{value:.10g}"
