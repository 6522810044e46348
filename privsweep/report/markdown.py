"""A table as Markdown that is as readable raw in a terminal as rendered."""

from __future__ import annotations

import re
from collections.abc import Sequence

from privsweep.interface.printable import in_markdown
from privsweep.report.table_text import VerdictText, table_text
from privsweep.table.fill import FilledTable

_MARKS = {True: "[x]", False: "[ ]", None: "[?]"}


def markdown(filled: FilledTable) -> str:
    text = table_text(filled)
    parts = [f"# {in_markdown(text.title)}", ""]
    if text.warning:
        parts += [f"**{in_markdown(text.warning)}**", ""]
    for band in text.bands:
        lines = [line for group in band.groups for line in group]
        rows = [[line.label if line.kind == "ours" else f"– {line.label}", *line.texts] for line in lines]
        parts += [pipe_table(band.header, rows), ""]
    parts += [text.legend, ""]
    if text.verdicts:
        parts += ["## Findings", "", *(line for verdict in text.verdicts for line in _verdict(verdict)), ""]
    parts += _section("Missing or failed", text.problems)
    parts += _section("Notes", text.notes)
    parts += _section("Conditions", [f"{name}: {value}" for name, value in text.conditions])
    return "\n".join(parts).rstrip() + "\n"


def pipe_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table with aligned columns, the first to the left, the others to the right."""
    # By hand: tabulate pads every column by two characters more and escapes nothing, for seven lines saved here.
    cells = [[in_markdown(text) for text in row] for row in (head, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]
    drawn = []
    for row in cells:
        first, *others = [t.rjust(w) if i else t.ljust(w) for i, (t, w) in enumerate(zip(row, widths, strict=True))]
        drawn.append(f"| {' | '.join([first, *others])} |")
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([drawn[0], rule, *drawn[1:]])


def _verdict(verdict: VerdictText) -> list[str]:
    lines = [
        f"- {_MARKS[verdict.holds]} **{verdict.word}** {verdict.id}: {in_markdown(verdict.claim)}",
        f"  ({verdict.about}) {_code(verdict.check)}",
    ]
    if verdict.explained:
        lines.append(f"  {in_markdown(verdict.explained)} {_code(verdict.shown_by)}")
    return [*lines, f"  {in_markdown(verdict.note)}"] if verdict.note else lines


def _code(text: str) -> str:
    """A code span; backticks inside it need a longer fence around it."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if len(fence) > 1 else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _section(title: str, items: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {in_markdown(item)}" for item in items), ""] if items else []
