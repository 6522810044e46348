"""Histograms: how many victims have which number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from privsweep.report.figure.chart import chart, colour
from privsweep.table.figure_spec import Histogram, Panel, Series
from privsweep.table.fill import FilledTable

Array = np.ndarray[Any, Any]
HOW = "victims of all seeds"
_NARROWEST = 1e-6  # of a histogram, relative to its values: where all are the same


def histogram(filled: FilledTable, spec: Histogram) -> Figure:
    def draw(axes: Axes, panel: Panel) -> Mapping[str, Any]:
        drawn = [values_of(filled, spec.row_of(series), series, series.value or spec.value) for series in panel.series]
        there = [values for values in drawn if len(values)]
        if not there:
            return {}
        low, high = (float(f(np.concatenate(there))) for f in (np.min, np.max))
        slack = max(_NARROWEST * max(abs(low), abs(high)), (high - low) / 100, 1e-12)
        bins = np.linspace(low - slack, high + slack, spec.bins + 1)
        entries = {}
        for place, (series, values) in enumerate(zip(panel.series, drawn, strict=True)):
            if len(values):
                paint = colour(series, place)
                counts, _ = np.histogram(values, bins)
                entries[series.label] = axes.stairs(counts, bins, fill=True, facecolor=(paint, 0.45), edgecolor=paint)
        return entries

    return chart(filled, spec, HOW, draw)


def values_of(filled: FilledTable, row: str, series: Series, name: str) -> Array:
    """A column of every victim of every seed, as far as it is stored and finite."""
    column, found = str(series.columns[0]), [np.empty(0)]
    for seed in filled.table.seeds:
        folder = filled.folders.get((row, column, seed))
        if folder is None or not (folder / "victims.csv").is_file():
            continue
        frame = pd.read_csv(folder / "victims.csv")
        if series.only is not None:
            flag = series.only.removeprefix("not_")
            if flag not in frame:
                continue
            frame = frame[frame[flag].astype(bool) != series.only.startswith("not_")]
        if name in frame:
            found.append(frame[name].to_numpy(float))
    values = np.concatenate(found)
    return values[np.isfinite(values)]
