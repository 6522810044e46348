"""The ROC curve of a membership attack, on logarithmic axes: what counts is few false alarms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from privsweep.store.atomic import whole_file

_INK, _GREY, _LINE = "#1c1c1c", "#777777", "#1f5fa8"


def draw_roc(path: Path, false: np.ndarray, true: np.ndarray, others: int, title: str) -> None:
    """A PNG of true over false positive rates; below one in ``others`` a rate cannot be measured."""
    floor = 1 / others
    figure = Figure(figsize=(4.4, 4.2), dpi=150, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1.05))
    axes.plot([floor, 1], [floor, 1], color=_GREY, lw=1, ls=":", label="chance")
    axes.step(np.maximum(false, floor), np.maximum(true, floor), where="post", color=_LINE, lw=1.6, label="attack")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.set_title(title, fontsize=8, color=_INK, loc="left", wrap=True)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure)
    with whole_file(path) as draft:
        figure.savefig(draft, format="png")
