"""The figure of an experiment, drawn from the stored runs behind its table."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from privsweep.plot.run_pictures import png, save
from privsweep.report.figure.chart import chart
from privsweep.report.figure.pictures import pictures
from privsweep.table.figure_spec import Pictures
from privsweep.table.fill import FilledTable


def write_figure(path: Path, filled: FilledTable) -> Path:
    """Draws the table's figure as a PNG; the table must have one."""
    return save(path, _draw(filled))


def figure_png(filled: FilledTable) -> bytes | None:
    """The same in memory, or None where the table has no figure."""
    if filled.table.figure is None:
        return None
    out = BytesIO()
    png(_draw(filled), out)
    return out.getvalue()


def _draw(filled: FilledTable) -> Figure:
    spec = filled.table.figure
    assert spec is not None
    return pictures(filled, spec) if isinstance(spec, Pictures) else chart(filled, spec)
