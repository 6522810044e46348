"""Lines: means over seeds, whiskers their standard deviation."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from privsweep.report.figure.places import Array, chart_over_places, means
from privsweep.table.figure_spec import Chart, Series
from privsweep.table.fill import FilledTable

HOW = "points: mean over seeds; whiskers: sample standard deviation"


def lines(filled: FilledTable, spec: Chart) -> Figure:
    def draw(axes: Axes, row: str, series: Series, at: Array, share: float, paint: str) -> Any:
        values, spread = means(filled, row, series)
        return axes.errorbar(at, values, spread, color=paint, marker="o", markersize=4, linewidth=1.4,
                             elinewidth=0.9, capsize=2, linestyle="--" if series.dashed else "-",
                             markerfacecolor="white" if series.dashed else paint)  # fmt: skip

    return chart_over_places(filled, spec, HOW, draw)
