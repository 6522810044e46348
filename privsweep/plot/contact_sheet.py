"""The reconstructions of several runs in one picture, a run to a line, below the originals that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from privsweep.plot.run_pictures import in_inches, show_image
from privsweep.plot.style import GREY, INK, literal, own_style, save

Array = np.ndarray[Any, Any]
SIDE, GAP, NAMES, NUMBERS = 0.72, 0.05, 2.2, 1.2  # inches: an image, between lines, text before and behind
_CHARACTERS = 32  # of the text before a line


@dataclass(frozen=True)
class Line:
    """A run: ``name`` before its images, ``number`` behind them.

    ``originals``, None where nobody has them, and ``guesses``: the first few, ``[n, C, H, W]`` in [0, 1].
    """

    name: str
    number: str
    originals: Array | None
    guesses: Array


@own_style()
def contact_sheet(path: Path, runs: Sequence[Line], left_out: int = 0) -> Path:
    """A PNG. Originals stand above the first line that has them, and again wherever others begin.

    ``left_out``: how many further runs there are, which is said below.
    """
    lines: list[tuple[str, str, Array, str]] = []
    before: Array | None = None
    for run in runs:
        if run.originals is not None and (before is None or not np.array_equal(run.originals, before)):
            lines.append(("original", "", run.originals, GREY))
        before = run.originals
        lines.append((run.name, run.number, run.guesses, INK))
    across = max(len(images) for _, _, images, _ in lines)
    width = NAMES + across * SIDE + NUMBERS
    height = len(lines) * (SIDE + GAP) + (0.3 if left_out else 0.1)
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    axes = in_inches(figure)
    for k, (name, number, images, colour) in enumerate(lines):
        bottom = height - 0.05 - (k + 1) * (SIDE + GAP) + GAP
        middle = (bottom + SIDE / 2) / height
        words: dict[str, Any] = {"fontsize": 8, "va": "center", "color": colour}
        figure.text((NAMES - 0.1) / width, middle, literal(name, _CHARACTERS), ha="right", **words)
        figure.text((NAMES + across * SIDE + 0.08) / width, middle, literal(number), **words)
        for n, image in enumerate(images):
            show_image(axes, image, (NAMES + n * SIDE, bottom, 0.97 * SIDE, 0.97 * SIDE))
    if left_out:
        figure.text(0.02, 0.08 / height, f"and {left_out} more", fontsize=8, color=GREY)
    return save(path, figure)
