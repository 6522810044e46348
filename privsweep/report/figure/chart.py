"""Charts of a table's cells: bars, lines and boxes over an axis, and training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from privsweep.plot.run_pictures import INK, OURS
from privsweep.report.figure.frame import Frame
from privsweep.table.figure_spec import Chart, Curves, Series
from privsweep.table.fill import FilledTable
from privsweep.table.learning_curve import curve
from privsweep.table.number_format import in_printed_unit, parse

HUES = (OURS, "#d1691c", "#2f8f5b", "#8a5fb3", "#b99411", "#c23b78", "#4aa5c9", "#6b6b6b")
SPREAD = {
    "bars": "bars: mean over seeds; whiskers: sample standard deviation",
    "lines": "points: mean over seeds; whiskers: sample standard deviation",
    "boxes": "victims of all seeds: quartiles, whiskers from the 5th to the 95th percentile; dots: means",
    "curves": "lines: mean over seeds; shade: lowest to highest",
}
PRINTED = "as printed"


def chart(filled: FilledTable, spec: Chart | Curves) -> Figure:
    """The figure of a filled table. What is not stored yet is left out and counted in the last line."""
    across = len(spec.panels)
    labels = dict.fromkeys(s.label for panel in spec.panels for s in panel.series)
    columns = len(labels) + 1 if len(labels) <= 5 else 2
    width = max(3.9 * across, 6.4)
    frame = Frame(filled, width, SPREAD[spec.kind])
    below = frame.bottom + 0.12 + 0.19 * -(-len(labels) // columns)  # the legend has its place there
    height = 2.9 + frame.top + below
    inside = (0, below / height, 1, 1 - (frame.top + below) / height)
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.05, rect=inside)
    figure = Figure(figsize=(width, height), dpi=160, facecolor="white", layout=layout)
    every = figure.subplots(1, across, sharey=True, squeeze=False)[0]
    entries: dict[str, Any] = {}
    for axes, panel in zip(every, spec.panels, strict=True):
        style(axes)
        if across > 1 or panel.title:
            axes.set_title(panel.title, fontsize=9, loc="left", color=INK)
        axes.set_xlabel(spec.xlabel, fontsize=9)
        for place, series in enumerate(panel.series):
            if isinstance(spec, Curves):
                drawn = _curves(axes, filled, spec, series, colour(series, place))
            else:
                drawn = _places(axes, filled, spec, series, place, len(panel.series))
            entries.update({series.label: drawn} if drawn is not None else {})
        if isinstance(spec, Chart):
            entries.update(_axis(axes, filled, spec, panel.series))
    every[0].set_ylabel(spec.ylabel, fontsize=9)
    if entries:
        figure.legend(
            entries.values(), entries.keys(), loc="lower center", bbox_to_anchor=(0.5, frame.bottom / height),
            ncols=columns, frameon=False, fontsize=8,
        )  # fmt: skip
    frame.draw(figure)
    return figure


def colour(series: Series, place: int) -> str:
    return HUES[(place if series.hue is None else series.hue) % len(HUES)]


def style(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def positions(spec: Chart) -> np.ndarray[Any, Any]:
    """Numbers stand at their values on the axis of ``lines``, words and groups of bars side by side."""
    numeric = spec.kind == "lines" and all(isinstance(x, float | int) for x in spec.x)
    return np.array(spec.x, float) if numeric else np.arange(len(spec.x), dtype=float)


def _axis(axes: Any, filled: FilledTable, spec: Chart, series: Sequence[Series]) -> Mapping[str, Any]:
    """Ticks and limits, and the numbers that the paper prints."""
    axes.set_xticks(positions(spec), [f"{x:g}" if isinstance(x, float) else str(x) for x in spec.x])
    if spec.ylim is not None:
        axes.set_ylim(*spec.ylim)
    where, printed = [], []
    for place, one in enumerate(series):
        for x, column in zip(_beside(spec, place, len(series)), one.columns, strict=True):
            number = parse(filled.table.printed.get(spec.row, {}).get(column or "", ""))
            if isinstance(number, float):
                where.append(x)
                printed.append(number)
    if not where:
        return {}
    marks = axes.scatter(where, printed, marker="D", s=22, color="white", edgecolors=INK, linewidths=1.0, zorder=5)
    return {PRINTED: marks}


def _beside(spec: Chart, place: int, count: int) -> np.ndarray[Any, Any]:
    """Where a series stands: lines on the ticks, a little apart so that whiskers do not hide each other."""
    at = positions(spec)
    step = 0.8 / count
    if spec.kind == "lines":
        step = 0.02 * float(at[-1] - at[0] if len(at) > 1 else 1)
    return at + (place - (count - 1) / 2) * step


def _places(axes: Any, filled: FilledTable, spec: Chart, series: Series, place: int, count: int) -> Any:
    paint = colour(series, place)
    at = _beside(spec, place, count)
    if spec.kind == "boxes":
        return _boxes(axes, filled, spec, series, at, 0.62 / count, paint)
    cells = [None if column is None else filled.cells[spec.row, column] for column in series.columns]
    values = np.array([c.value if c is not None and isinstance(c.value, float) else np.nan for c in cells])
    spread = np.array([np.nan if c is None or c.std is None else c.std for c in cells])
    if spec.kind == "bars":
        bars = axes.bar(at, np.nan_to_num(values), 0.72 / count, color=paint, yerr=spread,
                        error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2.5})  # fmt: skip
        return bars
    line = axes.errorbar(at, values, spread, color=paint, marker="o", markersize=4, linewidth=1.4, elinewidth=0.9,
                         capsize=2, linestyle="--" if series.dashed else "-",
                         markerfacecolor="white" if series.dashed else paint)  # fmt: skip
    return line


def _boxes(
    axes: Any, filled: FilledTable, spec: Chart, series: Series, at: np.ndarray[Any, Any], width: float, paint: str
) -> Any:
    drawn = None
    for x, column in zip(at, series.columns, strict=True):
        values = np.empty(0) if column is None else victims(filled, spec.row, column)
        if not len(values):
            continue
        low, bottom, middle, top, high = np.percentile(values, [5, 25, 50, 75, 95])
        box = {"whislo": low, "q1": bottom, "med": middle, "q3": top, "whishi": high, "mean": float(np.mean(values))}
        parts = axes.bxp(
            [box], positions=[x], widths=width, showfliers=False, showmeans=True, patch_artist=True,
            manage_ticks=False, boxprops={"facecolor": paint, "alpha": 0.75, "edgecolor": paint},
            medianprops={"color": INK, "linewidth": 1.3}, whiskerprops={"color": paint}, capprops={"color": paint},
            meanprops={"marker": "o", "markersize": 3.5, "markerfacecolor": INK, "markeredgecolor": "white"},
        )  # fmt: skip
        drawn = parts["boxes"][0]
    return drawn


def victims(filled: FilledTable, row: str, column: str) -> np.ndarray[Any, Any]:
    """A row's number for every victim of every seed, in the printed unit; what is not stored is left out."""
    axis = filled.table.source(row, column)
    found: list[float] = []
    for seed in filled.table.seeds:
        folder = filled.folders.get((row, column, seed))
        if folder is None or not (folder / "victims.csv").is_file():
            continue
        frame = pd.read_csv(folder / "victims.csv")
        if axis.metric in frame:
            found.extend(in_printed_unit(float(v), axis.format) for v in frame[axis.metric])
    values = np.array(found)
    return values[np.isfinite(values)]


def _curves(axes: Any, filled: FilledTable, spec: Curves, series: Series, paint: str) -> Any:
    column = str(series.columns[0])
    folders = [filled.folders.get((spec.row, column, seed)) for seed in filled.table.seeds]
    runs = [values for folder in folders if folder and (values := curve(folder, spec.value)) is not None]
    if not runs:
        return None
    frame = pd.concat(runs, axis=1) * (100 if spec.percent else 1)
    mean, low, high = frame.mean(axis=1), frame.min(axis=1), frame.max(axis=1)
    axes.fill_between(frame.index, low, high, color=paint, alpha=0.18, linewidth=0)
    marker = "o" if len(frame) < 3 else None
    [line] = axes.plot(frame.index, mean, color=paint, linewidth=1.4, marker=marker, markersize=4,
                       linestyle="--" if series.dashed else "-")  # fmt: skip
    return line
