"""A filled table as lines of text: what Markdown, LaTeX, PNG, terminal and HTML have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from privsweep.table.fill import FilledTable
from privsweep.table.significance import RULE
from privsweep.table.spec import RowOrColumn

MOST = 10  # columns that stand side by side in a file
VERDICTS = {True: "held", False: "not held", None: "undecided"}
IN_PRINT = {True: "held", False: "not held", None: "no number"}
LEGEND = (
    "Ours: mean ± sample standard deviation (number of seeds), or median [lowest, highest] (number of "
    "seeds). N/A (k of n): k of n seeds got there. A cell with missing runs has no mean. "
    "–: the paper prints no number."
)


@dataclass(frozen=True)
class Line:
    """One line of the table's body: ours, the paper's, or the difference between them."""

    kind: Literal["ours", "printed", "difference"]
    label: str
    texts: tuple[str, ...]  # a column each
    faint: tuple[bool, ...]  # incomplete or N/A


@dataclass(frozen=True)
class Band:
    """Columns that stand side by side."""

    header: list[str]  # empty above the labels of the lines
    groups: list[list[Line]]  # a group a row


def bands(filled: FilledTable, most: int = MOST) -> list[Band]:
    """The whole table, in as many bands as it takes with ``most`` columns in each."""
    columns = list(filled.table.columns)
    parts = [columns[i : i + most] for i in range(0, len(columns), most)]
    return [Band(["", *(filled.table.columns[c].label for c in part)], _body(filled, part)) for part in parts]


def _body(filled: FilledTable, columns: list[str]) -> list[list[Line]]:
    """A group of lines for each row: ours, and where the paper prints it its numbers and the differences."""
    groups = []
    for r, row in filled.table.rows.items():
        cells = [filled.cells[r, c] for c in columns]
        incomplete = tuple(cell.state != "complete" for cell in cells)
        group = [Line("ours", label(row), tuple(cell.text for cell in cells), incomplete)]
        if any(cell.printed is not None for cell in cells):
            printed = tuple(cell.printed or "–" for cell in cells)
            group.append(Line("printed", "printed", printed, (False,) * len(cells)))
            differences = tuple(cell.difference_text for cell in cells)
            group.append(Line("difference", "difference", differences, (False,) * len(cells)))
        groups.append(group)
    return groups


def label(axis: RowOrColumn) -> str:
    arrow = {"lower": " ↓", "higher": " ↑", None: ""}[axis.better]
    median = ", median" if axis.aggregate == "median" else ""
    return f"{axis.label}{median}{arrow}"


def warning(filled: FilledTable) -> str | None:
    """What a reader must know before looking at a number."""
    if filled.scale == "paper":
        return None
    return f"scale={filled.scale}: amounts of work reduced; these are not the paper's conditions"


def conditions(filled: FilledTable) -> list[tuple[str, str]]:
    """Where the numbers come from: name and value."""
    found = [
        ("printed in", filled.table.place),
        ("command", filled.command),
        ("scale", filled.scale),
        ("seeds", ", ".join(map(str, filled.table.seeds))),
        ("runs", f"{filled.complete} of {filled.jobs} complete"),
    ]
    return found + list(filled.environment.items())


def notes(filled: FilledTable) -> list[str]:
    """The table's notes and those of its rows and columns."""
    axes = [*filled.table.rows.values(), *filled.table.columns.values()]
    rule = [RULE] if any(row.weakened for row in filled.table.rows.values()) else []
    return [*rule, *filled.table.notes, *(f"{axis.label}: {axis.note}" for axis in axes if axis.note)]
