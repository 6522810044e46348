"""The kinds of figures that an experiment can ask for, and how they are drawn.

One more kind: its fields in ``table/figure_spec.py``, a file here that draws it, and its entry in ``KINDS``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from privsweep.plot.style import own_style, save
from privsweep.report.figure.bars import bars
from privsweep.report.figure.boxes import boxes
from privsweep.report.figure.curves import curves
from privsweep.report.figure.heatmap import heatmap
from privsweep.report.figure.histogram import histogram
from privsweep.report.figure.lines import lines
from privsweep.report.figure.pictures import pictures
from privsweep.table.fill import FilledTable

# ``figure.kind`` -> what draws it from the table and the figure's fields.
KINDS: dict[str, Callable[[FilledTable, Any], Figure]] = {
    "bars": bars,
    "lines": lines,
    "boxes": boxes,
    "curves": curves,
    "histogram": histogram,
    "pictures": pictures,
    "heatmap": heatmap,
}


@own_style()
def write_figure(path: Path, filled: FilledTable) -> Path:
    """Draws the table's figure as a PNG; the table must have one."""
    return save(path, _draw(filled))


def _draw(filled: FilledTable) -> Figure:
    spec = filled.table.figure
    assert spec is not None
    return KINDS[spec.kind](filled, spec)
