"""A filled table in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from privsweep.report.table_text import MOST, Band, Line, table_text
from privsweep.table.fill import FilledTable

_LEAST = 15  # characters that a column takes, for the words of its head
_GAP = 3  # between two columns
_STYLES = {True: "bold green", False: "bold red", None: "bold yellow"}


def table_terminal(filled: FilledTable, width: int) -> RenderableType:
    """For ``rich.print`` on a terminal ``width`` characters wide: the table, and below it the findings.

    In as many bands as it takes, so that no number is broken.
    """
    lines = [line for band in table_text(filled).bands for group in band.groups for line in group]
    column = max(_LEAST, _GAP + max(len(text) for line in lines for text in line.texts))
    names = _GAP + max(len(_name(line)) for line in lines)
    room = max(1, (width - min(names, width // 3)) // column)
    text = table_text(filled, min(room, MOST))
    parts: list[RenderableType] = [Text(text.title, style="italic")]
    if text.warning:
        parts.insert(0, Text(text.warning, style="bold yellow"))
    parts += map(_rows, text.bands)
    for verdict in text.verdicts:
        line = Text(f"{verdict.word:>9}", style=_STYLES[verdict.holds])
        line.append(f"  {verdict.claim} ", style="default")
        line.append(f"({'; '.join(part for part in (verdict.about, verdict.explained) if part)})", style="dim")
        parts.append(line)
    parts.extend(Text(problem, style="red") for problem in text.problems)
    parts.append(Text(f"{filled.complete} of {filled.jobs} runs complete", style="dim"))
    return Group(*parts)


def _rows(band: Band) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD)
    for i, text in enumerate(band.header):
        table.add_column(Text(text), justify="left" if i == 0 else "right", overflow="fold")
    for group in band.groups:
        for i, line in enumerate(group):
            dim = "" if line.kind == "ours" else "dim"
            name = Text(_name(line), style=dim)
            texts = [Text(t, style="yellow" if f else dim) for t, f in zip(line.texts, line.faint, strict=True)]
            table.add_row(name, *texts, end_section=i == len(group) - 1)
    return table


def _name(line: Line) -> str:
    return line.label if line.kind == "ours" else f"  {line.label}"
