"""Boxes: the distribution over the victims of all seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from privsweep.plot.style import INK
from privsweep.report.figure.places import Array, chart_over_places
from privsweep.table.figure_spec import Chart, Series
from privsweep.table.fill import FilledTable
from privsweep.table.number_format import in_printed_unit

HOW = "victims of all seeds: quartiles, whiskers from the 5th to the 95th percentile; dots: means"


def boxes(filled: FilledTable, spec: Chart) -> Figure:
    def draw(axes: Axes, row: str, series: Series, at: Array, share: float, paint: str) -> Any:
        drawn = None
        for x, column in zip(at, series.columns, strict=True):
            values = np.empty(0) if column is None else values_of_victims(filled, row, column)
            if len(values):
                drawn = _box(axes, values, x, 0.62 * share, paint)
        return drawn

    return chart_over_places(filled, spec, HOW, draw)


def _box(axes: Axes, values: Array, x: float, width: float, paint: str) -> Any:
    low, bottom, middle, top, high = np.percentile(values, [5, 25, 50, 75, 95])
    box = {"whislo": low, "q1": bottom, "med": middle, "q3": top, "whishi": high, "mean": float(np.mean(values))}
    parts = axes.bxp(
        [box], positions=[x], widths=width, showfliers=False, showmeans=True, patch_artist=True,
        manage_ticks=False, boxprops={"facecolor": paint, "alpha": 0.75, "edgecolor": paint},
        medianprops={"color": INK, "linewidth": 1.3}, whiskerprops={"color": paint}, capprops={"color": paint},
        meanprops={"marker": "o", "markersize": 3.5, "markerfacecolor": INK, "markeredgecolor": "white"},
    )  # fmt: skip
    return parts["boxes"][0]


def values_of_victims(filled: FilledTable, row: str, column: str) -> Array:
    """A row's number for every victim of every seed, in the printed unit; what is not stored is left out."""
    form, name = filled.table.source(row, column).format, filled.table.metric(row, column)
    found: list[float] = []
    for seed in filled.table.seeds:
        folder = filled.folders.get((row, column, seed))
        if folder is None or not (folder / "victims.csv").is_file():
            continue
        frame = pd.read_csv(folder / "victims.csv")
        if name in frame:
            found.extend(in_printed_unit(float(v), form) for v in frame[name])
    values = np.array(found)
    return values[np.isfinite(values)]
