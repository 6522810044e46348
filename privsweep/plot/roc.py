"""The ROC curve of a membership attack, on logarithmic axes: what counts are the members found at few false alarms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from privsweep.plot.style import BLUE, GREY, INK, literal, own_style, plain_axes, save


@own_style()
def draw_roc(path: Path, false: np.ndarray, true: np.ndarray, others: int, title: str) -> Path:
    """A PNG of true over false positive rates, both from 0 to 1.

    ``others``: how many candidates are no members; a rate below one in ``others`` cannot be measured.
    """
    figure = Figure(figsize=(4.4, 4.2), dpi=150, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    area = float(np.diff(false) @ (true[1:] + true[:-1])) / 2
    axes.plot(false, true, color=BLUE, linewidth=1.6, drawstyle="steps-post", label=f"attack (AUC = {area:.2f})")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="chance")
    floor = min(1 / others, 0.1)
    axes.set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1.05), aspect="auto")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())  # within few decades its labels would overlap
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    axes.set_title(literal(title), fontsize=8, color=INK, loc="left", wrap=True)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    plain_axes(axes)
    return save(path, figure)
