"""A filled table as text: what Markdown, LaTeX, PNG, HTML and the terminal have in common.

Every string here is printable; what a format itself gives a meaning to, its writer escapes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from privsweep.interface.printable import printable
from privsweep.table.conditions import SUBSET
from privsweep.table.fill import FilledTable
from privsweep.table.parts import RowOrColumn
from privsweep.table.significance import RULE
from privsweep.table.verdicts import BY_ONE_SEED, Verdict
from privsweep.table.verdicts import RULE as CLAIMS

MOST = 10  # columns that stand side by side in a file
VERDICTS = {True: "held", False: "not held", None: "undecided"}
EXPLAINED = {True: "explained by runs here", False: "not because", None: "open whether because"}
IN_PRINT = {True: "held", False: "not held", None: "no number"}
CHANGED = "not only an amount: "  # before what is not as at the paper's scale
LEGEND = (
    "Ours: mean ± sample standard deviation (number of seeds), or median [lowest, highest] (number of "
    "seeds). N/A (k of n): k of n seeds reached it. A cell with missing runs has no mean."
)
OF_PRINTED = " –: the paper prints no number. Differences of percentages are in points."  # where there are any


@dataclass(frozen=True)
class Line:
    """One line of the table's body: ours, the paper's, or the difference between them."""

    kind: Literal["ours", "printed", "difference"]
    label: str
    texts: tuple[str, ...]  # one for each column
    faint: tuple[bool, ...]  # incomplete or N/A


@dataclass(frozen=True)
class Band:
    """Columns that stand side by side."""

    header: list[str]  # empty above the labels of the lines
    groups: list[list[Line]]  # one for each row


@dataclass(frozen=True)
class VerdictText:
    """A claim and whether it holds."""

    id: str
    holds: bool | None
    word: str  # one of VERDICTS
    claim: str
    margin: str  # by how much; empty where there is nothing to say
    more: str  # what it would take to decide it; empty where there is nothing to say
    in_print: str  # one of IN_PRINT
    check: str
    explained: str  # of a claim that does not hold, why, and whether that is shown; empty where nothing is said
    shown_by: str  # the check of that; empty where nothing is said
    note: str  # empty where there is none

    @property
    def asides(self) -> list[str]:
        """Sentences beside the claim."""
        return [text for text in (self.explained, self.note) if text]

    @property
    def about(self) -> str:
        """By how much, what would decide it, and what the printed numbers say."""
        return "; ".join(part for part in (self.margin, self.more, f"in print: {self.in_print}") if part)


@dataclass(frozen=True)
class TableText:
    """The whole table in strings."""

    title: str
    warning: str | None  # what a reader must know before looking at a number
    bands: list[Band]
    verdicts: list[VerdictText]
    problems: list[str]
    notes: list[str]  # of the table, then of its rows and columns
    conditions: list[tuple[str, str]]  # where the numbers come from: name and value
    command: str
    legend: str


def table_text(filled: FilledTable, most: int = MOST) -> TableText:
    """The table in as many bands as it takes with ``most`` columns in each."""
    columns = list(filled.table.columns)
    parts = [columns[i : i + most] for i in range(0, len(columns), most)]
    return TableText(
        title=printable(filled.table.title),
        warning=_warning(filled),
        bands=[_band(filled, part) for part in parts],
        verdicts=[_verdict(verdict) for verdict in filled.verdicts],
        problems=_printable(filled.problems),
        notes=_printable(_notes(filled)),
        conditions=[(printable(name), printable(value)) for name, value in _conditions(filled)],
        command=printable(filled.command),
        legend=LEGEND + OF_PRINTED * any(cell.printed is not None for cell in filled.cells.values()),
    )


def _printable(texts: Iterable[str]) -> list[str]:
    return [printable(text) for text in texts]


def _band(filled: FilledTable, columns: list[str]) -> Band:
    """A group of lines for each row: ours, and where the paper prints it its numbers and the differences."""
    groups = []
    for r, row in filled.table.rows.items():
        cells = [filled.cells[r, c] for c in columns]
        incomplete = tuple(cell.state != "complete" for cell in cells)
        group = [Line("ours", _label(row), tuple(cell.text for cell in cells), incomplete)]
        if any(cell.printed is not None for cell in cells):
            printed = tuple(_printable(cell.printed or "–" for cell in cells))
            group.append(Line("printed", "printed", printed, (False,) * len(cells)))
            differences = tuple(cell.difference_text for cell in cells)
            group.append(Line("difference", "difference", differences, (False,) * len(cells)))
        groups.append(group)
    return Band(["", *_printable(filled.table.columns[c].label for c in columns)], groups)


def _label(row: RowOrColumn) -> str:
    arrow = {"lower": " ↓", "higher": " ↑", None: ""}[row.better]
    median = ", median" if row.aggregate == "median" else ""
    return f"{printable(row.label)}{median}{arrow}"


def _warning(filled: FilledTable) -> str | None:
    said = []
    if filled.scale != "paper":
        more = f", and {', '.join(name for name, _ in filled.changes)} changed" if filled.changes else ""
        printed = "" if filled.table.place.startswith("ours") else "; these are not the paper's conditions"
        said.append(f"scale={filled.scale}: amounts of work reduced{more}{printed}")
    if subset := dict(filled.amounts).get(SUBSET):
        said.append(f"dataset: {subset}")
    if unclean := [commit for commit in filled.environment.get("commit", "").split("; ") if commit.endswith("+")]:
        said.append(f"made with uncommitted changes to {', '.join(unclean)}")
    return printable(". ".join(said)) or None


def _verdict(verdict: Verdict) -> VerdictText:
    finding = verdict.finding
    return VerdictText(
        id=finding.id,
        holds=verdict.holds,
        word=VERDICTS[verdict.holds],
        claim=printable(finding.claim),
        margin=verdict.margin_text,
        more=printable(verdict.more),
        in_print=IN_PRINT[verdict.in_print],
        check=printable(finding.check),
        explained=printable(_explained(verdict)),
        shown_by=printable(finding.explained.check) if finding.explained and verdict.holds is False else "",
        note=printable(finding.note or ""),
    )


def _explained(verdict: Verdict) -> str:
    reason = verdict.finding.explained
    if verdict.holds is not False or reason is None:
        return ""
    return f"{EXPLAINED[verdict.explained]}: {reason.because}"


def _conditions(filled: FilledTable) -> list[tuple[str, str]]:
    return [
        ("printed in", filled.table.place),
        ("command", filled.command),
        ("scale", filled.scale),
        ("seeds", ", ".join(map(str, filled.table.seeds))),
        ("runs", f"{filled.complete} of {filled.jobs} complete"),
        *filled.amounts,
        *((f"{CHANGED}{name}", value) for name, value in filled.changes),
        *filled.environment.items(),
    ]


def _notes(filled: FilledTable) -> list[str]:
    both = [*filled.table.rows.values(), *filled.table.columns.values()]
    rules = [CLAIMS] if filled.table.findings else []
    rules += [BY_ONE_SEED] if filled.by_one_seed else []
    rules += [RULE] if any(row.weakened for row in filled.table.rows.values()) else []
    return [*rules, *filled.table.notes_at(filled.scale), *(f"{one.label}: {one.note}" for one in both if one.note)]
