"""The pictures of a run: reconstructions below their originals, and curves over the attack's iterations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from privsweep.plot.style import BLUE, GREY, INK, RULE, literal, own_style, plain_axes, save

Array = np.ndarray[Any, Any]
MOST, MOST_OF_EACH = 16, 4  # victims in one picture, and images of each
WIDE, HIGH = 6.4, 3.8  # inches, a picture of curves
LEFT, BOTTOM = 0.9, 0.5  # inches for the labels of its axes


@own_style()
def reconstructions(
    path: Path, originals: Array | None, guesses: Array, captions: Sequence[str] = (), title: str = ""
) -> Path:
    """A PNG with every victim's original images, if there are any, above their reconstructions; the first sixteen.

    ``originals``, ``guesses``: ``[V, N, C, H, W]`` in [0, 1] (values outside are clipped), ``C`` 1 or 3; of
    ``N`` images at most four are shown, those that came nearest; what is left out is said above. ``captions``: a text
    for each victim, such as its SSIM.
    """
    if originals is not None and originals.shape != guesses.shape:
        raise ValueError(f"originals {originals.shape} and reconstructions {guesses.shape} differ in shape")
    rows = [("original", originals)] if originals is not None else []
    rows.append(("recon-\nstruction", guesses))
    victims, images = min(MOST, len(guesses)), min(MOST_OF_EACH, guesses.shape[1])
    across = max(1, min(victims, 8 // images))
    down = -(-victims // across)
    side = 1.15  # inches per image
    tall = len(rows) * side + 0.42  # a victim's images and its caption
    width = max(across * (images * side + 0.15) + 0.85, 4.5)
    told = [title] if title else []
    if victims < len(guesses):
        told.append(f"the first {victims} of {len(guesses)} victims")
    if images < guesses.shape[1]:
        which = "first" if originals is None else "nearest"
        told.append(f"of each the {which} {images} of {guesses.shape[1]} images")
    heading = literal("; ".join(told), int(width * 13))
    top = 0.2 + 0.17 * heading.count("\n") + (0.22 if heading else 0)
    height = down * tall + top
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    axes = in_inches(figure)
    if heading:
        figure.text(0.01, 1 - 0.08 / height, heading, fontsize=9, va="top", color=INK)
    for victim in range(victims):
        shown = _nearest(originals[victim], guesses[victim]) if originals is not None else range(images)
        row, column = divmod(victim, across)
        left = 0.8 + column * (images * side + 0.15)
        under = height - top - row * tall
        for n, image in enumerate(shown[:images]):
            for i, (label, batch) in enumerate(rows):
                low = under - (i + 1) * side
                show_image(axes, batch[victim, image], (left + n * side, low, 0.96 * side, 0.96 * side))
                if column == 0 and n == 0:
                    axes.text(left - 0.06, low + 0.48 * side, label, fontsize=8, ha="right", va="center", color=GREY)
        if victim < len(captions):
            x, y = left + images * side / 2, under - len(rows) * side - 0.06
            figure.text(x / width, y / height, literal(captions[victim]), fontsize=8, ha="center", va="top", color=INK)
    return save(path, figure)


def _nearest(originals: Array, guesses: Array) -> list[int]:
    """All images, by their squared distance if a few are to be shown of many."""
    order = np.square(np.nan_to_num(guesses) - originals).sum((1, 2, 3)).argsort(kind="stable")
    return [int(n) for n in (order if len(order) > MOST_OF_EACH else range(len(order)))]


def in_inches(figure: Figure) -> Axes:
    """Axes over the whole figure, in inches from its lower left corner, that show nothing of themselves.

    Images share them: axes take longer to draw than what is in them.
    """
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return axes


def show_image(axes: Axes, image: Array, box: tuple[float, float, float, float]) -> None:
    """An image ``[C, H, W]`` in [0, 1], its pixels sharp, as large as ``box`` allows, and in its middle.

    ``box``: left, bottom, width and height in the data units of ``axes``, where they make a square on paper.
    """
    pixels = np.clip(np.nan_to_num(np.moveaxis(image, 0, -1)), 0, 1)
    if pixels.shape[-1] == 1:
        pixels = pixels.repeat(3, axis=-1)
    left, bottom, width, height = box
    tall, wide = (length / max(pixels.shape[:2]) for length in pixels.shape[:2])
    left, bottom = left + (1 - wide) / 2 * width, bottom + (1 - tall) / 2 * height
    width, height = wide * width, tall * height
    shown = axes.imshow(
        pixels, interpolation="nearest", aspect="auto", extent=(left, left + width, bottom, bottom + height)
    )
    shown.set_clip_on(False)  # it may stand beside the axes
    axes.add_patch(Rectangle((left, bottom), width, height, fill=False, edgecolor=RULE, linewidth=0.5, clip_on=False))


@own_style()
def curves(path: Path, frame: pd.DataFrame, title: str = "", value: str | None = None) -> Path:
    """A PNG of ``value`` against the iteration: a thin line per victim, and the median over victims.

    ``frame`` has the columns ``victim``, ``iteration`` and ``value`` (by default its next column). A victim
    whose values are not finite ends its line and counts as infinite in the median; where none is, the picture says so.
    """
    value = value or next(str(c) for c in frame.columns if c not in ("victim", "iteration"))
    wide = frame.pivot_table(index="iteration", columns="victim", values=value, aggfunc="last", dropna=False)
    wide = wide.astype(float).sort_index()
    numbers = wide.to_numpy()
    heading = literal(title, int(WIDE * 14)) if title else ""
    top = 0.25 + 0.155 * len(heading.splitlines())  # of numbers far from 1 their power stands there, too
    box = (LEFT / WIDE, BOTTOM / HIGH, 1 - (LEFT + 0.12) / WIDE, 1 - (BOTTOM + top) / HIGH)
    figure = Figure(figsize=(WIDE, HIGH), dpi=150, facecolor="white")
    axes = figure.add_axes(box)
    finite = np.where(np.isfinite(numbers), numbers, np.nan)
    alone = "." if len(wide) == 1 else ""  # no line goes through a single point
    axes.plot(wide.index, finite, color=BLUE, alpha=0.3, linewidth=0.8, marker=alone)
    median = np.median(np.where(np.isfinite(numbers), numbers, np.inf), axis=1) if wide.shape[1] else numbers
    axes.plot(
        wide.index,
        np.where(np.isfinite(median), median, np.nan),
        color=INK,
        linewidth=1.8,
        marker=alone,
        label="median",
    )
    axes.plot(
        [], [], color=BLUE, alpha=0.5, linewidth=0.8, label=f"{wide.shape[1]} victim{'' if wide.shape[1] == 1 else 's'}"
    )
    if np.nansum(finite > 0) and not np.nansum(finite < 0):
        axes.set_yscale("log", nonpositive="mask")
    none = not np.isfinite(numbers).any()
    if none:
        axes.text(0.5, 0.5, "no value is finite", transform=axes.transAxes, ha="center", color=INK)
        axes.set_yticks([])
    if none or alone:
        axes.set_xlim(wide.index.min() - 1, wide.index.max() + 1)
    axes.set_xlabel("iteration")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set_ylabel(literal(value.replace("_", " ")))
    plain_axes(axes)
    axes.legend(frameon=False, fontsize=8)
    figure.text(0.01, 1 - 0.06 / HIGH, heading, fontsize=9, va="top", color=INK)
    return save(path, figure)
