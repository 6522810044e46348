"""A table as a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from privsweep.plot.style import AMBER, GREY, INK, broken, own_style, save
from privsweep.report.table_text import Band, TableText, table_text
from privsweep.table.fill import FilledTable

_STEP = 0.235  # inches between the lines of a table
_COLOURS = {True: "#1b7a3d", False: "#b3261e", None: AMBER}


@own_style()
def table_png(path: Path, filled: FilledTable) -> Path:
    """A PNG of a table: ours in black, printed numbers and differences below in grey, then findings and notes."""
    shown = table_text(filled)
    drawn = [_Drawn(band) for band in shown.bands]
    width = max(*(sum(band.widths) + 0.4 for band in drawn), 8.0)
    title = broken(shown.title, int((width - 0.4) / 0.1))
    warning = broken(shown.warning or "", int((width - 0.4) / 0.085))
    below = [(_COLOURS[v.holds], line) for v, line in zip(shown.verdicts, _findings(shown), strict=True)]
    below += [(GREY, shown.legend), *((GREY, f"Note: {note}") for note in shown.notes), (GREY, _source(shown))]
    below = [(colour, broken(content, int(width / 0.066))) for colour, content in below]
    height = (
        (title.count("\n") + warning.count("\n") + 2.4) * _STEP
        + sum(band.height for band in drawn)
        + sum(0.18 * (t.count("\n") + 1) + 0.06 for _, t in below)
    )
    figure = Figure(figsize=(width, height), dpi=160, facecolor="white")

    def text(x: float, y: float, content: str, **style: Any) -> None:
        style = {"fontsize": 9, "color": INK, **style}
        figure.text(x / width, y / height, content, va="top", parse_math=False, **style)

    def rule(y: float, weight: float) -> None:
        line = Line2D([0.2 / width, 1 - 0.2 / width], [y / height] * 2, color=INK, linewidth=weight)
        figure.add_artist(line)

    y = height - 0.12
    text(0.2, y, title, fontsize=11, fontweight="bold")
    y -= 0.3 + 0.2 * title.count("\n")
    if warning:
        text(0.2, y, warning, color=_COLOURS[None], fontweight="bold")
        y -= _STEP * (warning.count("\n") + 1)
    for band in drawn:
        y = band.draw(y, width, text, rule)
    for colour, content in below:
        text(0.2, y, content, color=colour, fontsize=8, linespacing=1.25)
        y -= 0.18 * (content.count("\n") + 1) + 0.06
    return save(path, figure)


class _Drawn:
    """One band of a table: its size in inches, and the places of its texts."""

    def __init__(self, band: Band):
        self.head = [broken(text, 16) for text in band.header]
        self.rows = [(line, "    " if line.kind != "ours" else "") for group in band.groups for line in group]
        # A character at 9 points is about 0.07 inches wide.
        columns = zip(self.head, *([indent + line.label, *line.texts] for line, indent in self.rows), strict=True)
        self.widths = [
            0.3 + 0.07 * max(len(part) for text in column for part in text.split("\n")) for column in columns
        ]
        self.tall = max(text.count("\n") + 1 for text in self.head)
        self.height = (len(self.rows) + 1 + 0.7 * self.tall) * _STEP + 0.08 * len(band.groups) + 0.2

    def draw(self, y: float, width: float, text: Callable[..., None], rule: Callable[[float, float], None]) -> float:
        """Downwards from ``y``; returns where it ends."""
        spare = (width - 0.4 - sum(self.widths)) / max(1, len(self.widths) - 1)
        edges = 0.2 + np.cumsum([self.widths[0], *(w + spare for w in self.widths[1:])])
        rule(y, 1.2)
        y -= 0.07
        for edge, label in zip(edges[1:], self.head[1:], strict=True):
            lines = label.count("\n") + 1
            text(edge, y - 0.165 * (self.tall - lines), label, ha="right", fontweight="bold")
        y -= _STEP + 0.165 * (self.tall - 1)
        rule(y, 0.6)
        y -= 0.07
        for i, (line, indent) in enumerate(self.rows):
            if i and line.kind == "ours":
                y -= 0.08
            colour = INK if line.kind == "ours" else GREY
            text(0.2, y, indent + line.label, color=colour)
            for edge, content, faint in zip(edges[1:], line.texts, line.faint, strict=True):
                text(edge, y, content, ha="right", color=_COLOURS[None] if faint else colour)
            y -= _STEP
        rule(y, 1.2)
        return y - 0.12


def _findings(shown: TableText) -> list[str]:
    return [
        " ".join([f"{v.word}: {v.claim} ({v.about})", *(f"({aside})" for aside in v.asides)]) for v in shown.verdicts
    ]


def _source(shown: TableText) -> str:
    about = dict(shown.conditions)
    parts = [shown.command, f"seeds {about['seeds']}", about.get("device", ""), about.get("date", "")]
    return "; ".join(part for part in parts if part)
