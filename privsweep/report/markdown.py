"""A table as Markdown that is as readable raw in a terminal as rendered."""

from __future__ import annotations

from collections.abc import Sequence

from privsweep.report.table_text import IN_PRINT, LEGEND, VERDICTS, bands, conditions, notes, warning
from privsweep.table.fill import FilledTable

_MARKS = {True: "[x]", False: "[ ]", None: "[?]"}


def markdown(filled: FilledTable) -> str:
    parts = [f"# {_flat(filled.table.title)}", ""]
    if text := warning(filled):
        parts += [f"**{text}**", ""]
    for band in bands(filled):
        lines = [line for group in band.groups for line in group]
        rows = [[line.label if line.kind == "ours" else f"– {line.label}", *line.texts] for line in lines]
        parts += [pipe_table(band.header, rows), ""]
    parts += [LEGEND, ""]
    if filled.verdicts:
        parts += ["## Findings", ""]
        for verdict in filled.verdicts:
            finding, word = verdict.finding, VERDICTS[verdict.holds]
            parts.append(f"- {_MARKS[verdict.holds]} **{word}** {finding.id}: {_flat(finding.claim)}")
            parts.append(f"  (in print: {IN_PRINT[verdict.in_print]}) `{_flat(finding.check)}`")
            if finding.note:
                parts.append(f"  {_flat(finding.note)}")
        parts.append("")
    parts += _section("Missing or failed", filled.problems)
    parts += _section("Notes", notes(filled))
    parts += _section("Conditions", [f"{name}: {value}" for name, value in conditions(filled)])
    return "\n".join(parts).rstrip() + "\n"


def pipe_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table with aligned columns, the first to the left, the others to the right."""
    cells = [[_flat(text).replace("|", "\\|") for text in row] for row in (head, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]
    drawn = []
    for row in cells:
        first, *others = [t.rjust(w) if i else t.ljust(w) for i, (t, w) in enumerate(zip(row, widths, strict=True))]
        drawn.append(f"| {' | '.join([first, *others])} |")
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([drawn[0], rule, *drawn[1:]])


def _section(title: str, items: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {_flat(item)}" for item in items), ""] if items else []


def _flat(text: str) -> str:
    return " ".join(text.split())
