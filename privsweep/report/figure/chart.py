"""What kinds of figures with axes share: panels side by side, a legend, and the text around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import TextPath
from numpy import array_split

from privsweep.plot.style import HUES, INK, literal, plain_axes
from privsweep.report.figure.frame import Frame
from privsweep.table.figure_spec import Chart, Curves, Histogram, Panel, Series
from privsweep.table.fill import FilledTable

PRINTED = "as printed"  # the legend's word for marks of printed numbers
_SIZE = 8.0  # of the legend's letters, in points
_BESIDE = 5.0  # times that: what is beside a text, its mark and the space to the next
DrawPanel = Callable[[Axes, Panel], Mapping[str, Any]]  # returns the entries of the legend: label -> artist


def chart(filled: FilledTable, spec: Chart | Curves | Histogram, how: str, draw: DrawPanel) -> Figure:
    """A figure of as many axes as ``spec`` has panels; ``draw`` fills one of them.

    ``how``: what marks and whiskers mean, for the small print. Runs that are not stored are left out and counted
    there.
    """
    across = len(spec.panels)
    labels = dict.fromkeys(s.label for panel in spec.panels for s in panel.series)
    width = max(3.9 * across, 6.4)
    listed = [*labels, *([PRINTED] if filled.table.printed else [])]
    columns = _legend_columns(listed, width)
    frame = Frame(filled, width, how)
    below = frame.bottom + 0.12 + 0.19 * -(-len(listed) // columns)  # where the legend goes
    height = 2.9 + frame.top + below
    inside = (0, below / height, 1, 1 - (frame.top + below) / height)
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.05, rect=inside)
    figure = Figure(figsize=(width, height), dpi=160, facecolor="white", layout=layout)
    alike = all(panel.ylabel is None for panel in spec.panels)
    every = figure.subplots(1, across, sharey=alike, squeeze=False)[0]
    entries: dict[str, Any] = {}
    for axes, panel in zip(every, spec.panels, strict=True):
        plain_axes(axes)
        if across > 1 or panel.title:
            axes.set_title(literal(panel.title), fontsize=9, loc="left", color=INK)
        axes.set_xlabel(literal(spec.xlabel), fontsize=9)
        if panel.ylabel is not None:
            axes.set_ylabel(literal(panel.ylabel), fontsize=9)
        entries.update(draw(axes, panel))
    if spec.panels[0].ylabel is None:
        every[0].set_ylabel(literal(spec.ylabel), fontsize=9)
    if entries:
        figure.legend(
            entries.values(), map(literal, entries), loc="lower center", bbox_to_anchor=(0.5, frame.bottom / height),
            ncols=columns, frameon=False, fontsize=_SIZE,
        )  # fmt: skip
    frame.draw(figure)
    return figure


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """In as few rows as leave a legend of these entries within ``width``, in inches."""
    wide = [TextPath((0, 0), literal(label), size=_SIZE).get_extents().width for label in labels]  # type: ignore[arg-type]
    for rows in range(1, len(labels)):
        columns = -(-len(labels) // rows)
        texts = [max(column) for column in array_split(wide, columns)]  # as matplotlib fills them
        if sum(texts) + columns * _BESIDE * _SIZE <= 72 * width:
            return columns
    return 1


def colour(series: Series, place: int) -> str:
    """The series' own hue, or the one of its place in the panel."""
    return HUES[(place if series.hue is None else series.hue) % len(HUES)]
