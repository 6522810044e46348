"""The x-axis of bars, lines and boxes: places side by side or numbers at their values, with the printed numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from privsweep.plot.style import INK, literal
from privsweep.report.figure.chart import PRINTED, chart, colour
from privsweep.table.figure_spec import Chart, Panel, Series
from privsweep.table.fill import FilledTable
from privsweep.table.number_format import parse

Array = np.ndarray[Any, Any]
LETTER, LINE = 0.075, 0.13  # inches that a character of a label takes, and a line of them
TILTS = (30, 60)  # degrees
# Draws a series' numbers of a row at its places, in its share of the space between two of them and in its colour; what
# it returns goes into the legend, None where nothing is stored.
DrawSeries = Callable[[Axes, str, Series, Array, float, str], Any]


def chart_over_places(filled: FilledTable, spec: Chart, how: str, draw: DrawSeries) -> Figure:
    """A chart whose series each have a cell for every entry of ``spec.x``."""

    def panel_of(axes: Axes, panel: Panel) -> Mapping[str, Any]:
        count = len(panel.series)
        apart = _has_whiskers(filled, spec, panel)
        entries = {}
        for place, series in enumerate(panel.series):
            at = _beside(spec, place, count, apart)
            drawn = draw(axes, spec.row_of(series), series, at, 1 / count, colour(series, place))
            if drawn is not None:
                entries[series.label] = drawn
        labels = [f"{x:g}" if isinstance(x, float) else literal(str(x)) for x in spec.x]
        ticks = _ticks(spec)
        axes.set_xticks(ticks, labels, **_tilted(axes, ticks, labels))
        if spec.logarithmic and any((means(filled, spec.row_of(s), s)[0] > 0).any() for s in panel.series):
            axes.set_yscale("log")
        if spec.ylim is not None:
            axes.set_ylim(*spec.ylim)
        return {**entries, **_printed(axes, filled, spec, panel, apart)}

    return chart(filled, spec, how, panel_of)


def _tilted(axes: Axes, ticks: Array, labels: Sequence[str]) -> dict[str, Any]:
    """How labels are turned that would run into each other, as little as keeps them apart."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    usual = np.diff(ticks).mean() if len(ticks) > 1 else 1.0
    inches = figure.get_figwidth() / len(figure.axes) / (np.ptp(ticks) + usual)  # of a step of one
    rooms = np.diff(ticks) * inches
    if all((len(a) + len(b)) / 2 * LETTER <= room for (a, b), room in zip(pairwise(labels), rooms, strict=True)):
        return {}
    angle = next((a for a in TILTS if rooms.min() * math.sin(math.radians(a)) >= LINE), TILTS[-1])
    return {"rotation": angle, "ha": "right", "rotation_mode": "anchor"}


def means(filled: FilledTable, row: str, series: Series) -> tuple[Array, Array]:
    """Means over seeds and their sample standard deviations, one for each place; NaN where there is none."""
    cells = [None if column is None else filled.cells[row, column] for column in series.columns]
    values = [c.value if c is not None and isinstance(c.value, float) else np.nan for c in cells]
    spread = [np.nan if c is None or c.std is None else c.std for c in cells]
    return np.array(values), np.array(spread)


def _ticks(spec: Chart) -> Array:
    """Numbers stand at their values on the axis of ``lines``, words and groups of bars side by side."""
    numeric = spec.kind == "lines" and all(isinstance(x, float | int) for x in spec.x)
    return np.array(spec.x, float) if numeric else np.arange(len(spec.x), dtype=float)


def _has_whiskers(filled: FilledTable, spec: Chart, panel: Panel) -> bool:
    return any(np.isfinite(means(filled, spec.row_of(series), series)[1]).any() for series in panel.series)


def _beside(spec: Chart, place: int, count: int, apart: bool) -> Array:
    """Where a series stands: lines at the ticks, or a little ``apart`` so that whiskers do not hide each other."""
    at = _ticks(spec)
    step = 0.8 / count
    if spec.kind == "lines":
        step = 0.02 * float(at[-1] - at[0] if len(at) > 1 else 1) if apart else 0.0
    return at + (place - (count - 1) / 2) * step


def _printed(axes: Axes, filled: FilledTable, spec: Chart, panel: Panel, apart: bool) -> Mapping[str, Any]:
    """Marks at the numbers that the paper prints."""
    where, printed = [], []
    for place, series in enumerate(panel.series):
        for x, column in zip(_beside(spec, place, len(panel.series), apart), series.columns, strict=True):
            number = parse(filled.table.printed.get(spec.row_of(series), {}).get(column or "", ""))
            if isinstance(number, float):
                where.append(x)
                printed.append(number)
    if not where:
        return {}
    marks = axes.scatter(where, printed, marker="D", s=22, color="white", edgecolors=INK, linewidths=1.0, zorder=5)
    return {PRINTED: marks}
