"""What all pictures share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context
from report_world import lay

from privsweep.plot.roc import draw_roc
from privsweep.plot.run_pictures import curves, reconstructions
from privsweep.report.table_png import table_png

IMAGES = np.random.default_rng(0).random((2, 1, 1, 8, 8))
FRAME = pd.DataFrame({"victim": [0, 0], "iteration": [1, 2], "distance": [1.0, 0.5]})
THEIRS = {"text.usetex": True, "font.size": 30, "figure.facecolor": "red", "savefig.bbox": "tight", "axes.grid": True}


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: draw_roc(path, np.array([0, 0.5, 1]), np.array([0, 0.9, 1]), 20, "title"),
        lambda path: reconstructions(path, IMAGES, IMAGES, ["one", "two"], "title"),
        lambda path: curves(path, FRAME, "title"),
        lambda path: table_png(path, lay()),
    ],
    ids=["roc", "reconstructions", "curves", "table"],
)
def test_a_users_matplotlibrc_changes_no_picture(draw: Callable[[Path], Path], tmp_path: Path) -> None:
    ours = draw(tmp_path / "ours.png").read_bytes()
    with rc_context(THEIRS):
        assert draw(tmp_path / "theirs.png").read_bytes() == ours
