"""Bars: means over seeds, whiskers their standard deviation."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from privsweep.plot.style import GREY, INK
from privsweep.report.figure.places import Array, chart_over_places, means
from privsweep.table.figure_spec import Chart, Series
from privsweep.table.fill import FilledTable

HOW = "bars: mean over seeds; whiskers: sample standard deviation; ×: no number"


def bars(filled: FilledTable, spec: Chart) -> Figure:
    def draw(axes: Axes, row: str, series: Series, at: Array, share: float, paint: str) -> Any:
        values, spread = means(filled, row, series)
        asked = np.array([column is not None for column in series.columns])
        for x in at[asked & np.isnan(values)]:  # else it would look like zero
            axes.text(x, 0, "×", transform=axes.get_xaxis_transform(), color=GREY, ha="center", va="bottom")
        return axes.bar(at, np.nan_to_num(values), 0.72 * share, color=paint, yerr=spread,
                        error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2.5})  # fmt: skip

    return chart_over_places(filled, spec, HOW, draw)
