"""What all pictures share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context
from matplotlib.colors import to_rgb
from report_world import lay

from privsweep.plot.roc import draw_roc
from privsweep.plot.run_pictures import curves, reconstructions
from privsweep.plot.style import HUES, literal
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


# What a reader sees, of linear RGB: Machado, Oliveira and Fernandes (2009), severity 1.
EYES = {
    "usual": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


@pytest.mark.parametrize("eyes", EYES)
def test_no_two_series_look_alike(eyes: str) -> None:
    """By their distance in CIE L*a*b*, where 2 can just be told apart side by side."""
    rgb = np.array([to_rgb(hue) for hue in HUES])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(EYES[eyes]).T, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(seen @ to_xyz.T / to_xyz.sum(1)).T  # L*a*b*, without its straight part near black
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)
    assert min(np.linalg.norm(a - b) for a, b in combinations(lab, 2)) > 20


def test_a_long_name_is_broken_behind_a_mark_and_other_text_at_its_spaces() -> None:
    name = "defense=[noisy_gradients,gradient_pruning,gradient_quantization], fl_setting.capture.mode=eval"
    assert literal(name, 32).split("\n") == [
        "defense=[noisy_gradients,",
        "gradient_pruning,",
        "gradient_quantization],",
        "fl_setting.capture.mode=eval",
    ]
    assert literal("mean of all_shadow_models", 16).split("\n") == ["mean of", "all_shadow_", "models"]
    assert literal("x" * 20, 16).split("\n") == ["x" * 16, "x" * 4]
    assert literal("seen from the server", 14) == "seen from the\nserver"
