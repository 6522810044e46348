"""Curves: a number of the training, round by round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from privsweep.report.figure.chart import chart, colour
from privsweep.table.figure_spec import Curves, Panel
from privsweep.table.fill import FilledTable
from privsweep.table.learning_curve import curve

HOW = "lines: mean over seeds; shade: lowest to highest"


def curves(filled: FilledTable, spec: Curves) -> Figure:
    def draw(axes: Axes, panel: Panel) -> Mapping[str, Any]:
        entries = {}
        for place, series in enumerate(panel.series):
            column = str(series.columns[0])
            folders = [filled.folders.get((spec.row_of(series), column, seed)) for seed in filled.table.seeds]
            runs = [
                values
                for folder in folders
                if folder and (values := curve(folder, series.value or spec.value)) is not None
            ]
            if runs:
                seeds = pd.concat(runs, axis=1) * (100 if spec.percent else 1)
                entries[series.label] = _line(axes, seeds, colour(series, place), series.dashed)
        return entries

    return chart(filled, spec, HOW, draw)


def _line(axes: Axes, seeds: pd.DataFrame, paint: str, dashed: bool) -> Any:
    """``seeds``: a row for each round, a column for each seed."""
    mean, low, high = seeds.mean(axis=1), seeds.min(axis=1), seeds.max(axis=1)
    axes.fill_between(seeds.index, low, high, color=paint, alpha=0.18, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    marker = "o" if len(seeds) < 3 else None
    [line] = axes.plot(seeds.index, mean, color=paint, linewidth=1.4, marker=marker, markersize=4,
                       linestyle="--" if dashed else "-")  # fmt: skip
    return line
