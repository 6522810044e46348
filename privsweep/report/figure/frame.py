"""The text around every figure of an experiment: its title, a warning, and where it comes from in small print."""

from __future__ import annotations

from matplotlib.figure import Figure

from privsweep.plot.style import AMBER, GREY, INK, literal
from privsweep.report.table_text import table_text
from privsweep.table.fill import FilledTable

MARGIN = 0.1  # inches


class Frame:
    """Heights, in inches, of the text above and below a figure ``width`` inches wide."""

    def __init__(self, filled: FilledTable, width: float, how: str):
        text = table_text(filled)
        seeds = ", ".join(map(str, filled.table.seeds))
        source = f"{how}. {filled.complete} of {filled.jobs} runs, seeds {seeds}; {text.command}"
        self.title = literal(text.title, int(width * 11.5))
        self.warning = literal(text.warning or "", int(width * 14))
        self.source = literal(source, int(width * 18.5))
        self.top = MARGIN + 0.19 * _lines(self.title) + 0.16 * _lines(self.warning) + 0.05
        self.bottom = MARGIN + 0.12 * _lines(self.source)

    def draw(self, figure: Figure) -> None:
        width, height = figure.get_size_inches()
        left, y = MARGIN / width, 1 - MARGIN / height
        figure.text(left, y, self.title, fontsize=10, va="top", color=INK)
        y -= 0.19 * _lines(self.title) / height
        figure.text(left, y, self.warning, fontsize=8, va="top", color=AMBER)
        figure.text(left, 0.6 * MARGIN / height, self.source, fontsize=6.5, va="bottom", color=GREY)


def _lines(text: str) -> int:
    return text.count("\n") + 1 if text else 0
