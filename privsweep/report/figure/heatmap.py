"""Heat maps: a row's numbers over two axes, and beside them what becomes of one victim over the same two."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from privsweep.plot.run_pictures import show_image
from privsweep.plot.style import AMBER, GREY, INK, RULE, literal
from privsweep.report.figure.frame import Frame
from privsweep.report.figure.victims import images_of_victims, numbers_of_victims
from privsweep.table.cells import Cell
from privsweep.table.figure_spec import Heatmap, Panel
from privsweep.table.fill import FilledTable
from privsweep.table.number_format import show

COLOURS = colormaps["cividis"]  # grows lighter throughout, and looks alike to most kinds of colour blindness
SIDE, TALL = 0.82, 0.95  # inches: a cell's width and height; a picture leaves room for the number below it
BELOW = 0.5  # inches for the labels below a grid of cells
LETTER = 0.07  # inches, the width of one in a label
BAR = 0.8  # inches for the bar of colours with its numbers and its label


def heatmap(filled: FilledTable, spec: Heatmap) -> Figure:
    """The figure of a filled table: its maps side by side, the bar of colours, then its grids of pictures."""
    across, down = spec.places(), max(len(panel.series) for panel in spec.panels)
    names = [_wrapped(series.label, 14) for panel in spec.panels for series in panel.series]
    names_wide = 0.4 + LETTER * max(len(line) for name in names for line in name.split("\n"))
    labels = [_wrapped(f"{x:g}" if isinstance(x, float) else str(x), int(SIDE / LETTER)) for x in spec.x]
    titles = [literal(panel.title, int(across * SIDE / 0.085)) for panel in spec.panels]
    block = names_wide + across * SIDE
    with_original = block + 0.15 + SIDE
    pictured = spec.victim is not None
    width = max(4.5, len(titles) * (block + pictured * with_original) + BAR + 0.25)
    frame = Frame(filled, width, _how(filled, spec))
    top = frame.top + 0.08 + max(0.2 + 0.15 * title.count("\n") if title else 0 for title in titles)
    below = BELOW + 0.13 * max(label.count("\n") for label in labels) + frame.bottom
    height = top + down * TALL + below
    figure = Figure(figsize=(width, height), dpi=160, facecolor="white")
    frame.draw(figure)

    def grid(left: float, place: int) -> Axes:
        """Axes in which every cell is one wide and one high."""
        panel, own = spec.panels[place], len(spec.panels[place].series)
        box = (left + names_wide, height - top - own * TALL, across * SIDE, own * TALL)
        axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        axes.set(xlim=(0, across), ylim=(0, own))
        axes.set_xticks([x + 0.5 for x in range(across)], labels)
        axes.set_yticks([own - y - 0.5 for y in range(own)], [_wrapped(s.label, 14) for s in panel.series])
        axes.tick_params(length=0, labelsize=8)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(literal(spec.xlabel), fontsize=9)
        axes.set_ylabel(literal(spec.ylabel), fontsize=9)
        axes.set_title(titles[place], fontsize=9, loc="left", color=INK)
        return axes

    norm = _scale(filled, spec)
    for place, panel in enumerate(spec.panels):
        _map(grid(place * block, place), filled, spec, panel, norm)
    left = len(titles) * block
    bottom = (height - top - down * TALL) / height
    bar = figure.add_axes(((left + 0.12) / width, bottom, 0.13 / width, down * TALL / height))
    label = literal(filled.table.rows[spec.row].label, int(down * TALL / LETTER))
    figure.colorbar(ScalarMappable(norm, COLOURS), bar).set_label(label, fontsize=9)
    bar.tick_params(labelsize=8)
    if spec.victim is not None:
        for place, panel in enumerate(spec.panels):
            axes = grid(left + BAR + place * with_original, place)
            _pictures(axes, filled, spec.row, panel, spec.victim)
    return figure


def _how(filled: FilledTable, spec: Heatmap) -> str:
    middles = {filled.table.source(spec.row, column).aggregate for column in spec.columns()}
    how = f"numbers: {' or '.join(sorted(middles))} over seeds"
    if "mean" in middles and len(filled.table.seeds) > 1:
        how += ", below it the sample standard deviation"
    if spec.victim is not None:
        label = filled.table.rows[spec.row].label
        how += f"; pictures: victim {spec.victim} of seed {filled.table.seeds[0]}, below each its {label}"
    return how


def _wrapped(text: str, columns: int) -> str:
    return literal(text, columns) or " "


def _cells(panel: Panel) -> Iterator[tuple[int, int, str]]:
    """Left and lower edge of a cell, and its column of the table; what is left out is passed over."""
    for above, series in enumerate(panel.series, 1):
        for x, column in enumerate(series.columns):
            if column is not None:
                yield x, len(panel.series) - above, column


def _scale(filled: FilledTable, spec: Heatmap) -> Normalize:
    """One for all panels: from the lowest to the highest number, or as ``spec`` says."""
    if spec.limits is not None:
        return Normalize(*spec.limits, clip=True)
    every = [filled.cells[spec.row, column].value for panel in spec.panels for _, _, column in _cells(panel)]
    numbers = [value for value in every if isinstance(value, float) and isfinite(value)] or [0.0, 1.0]
    low, high = min(numbers), max(numbers)
    beyond = 0 if high > low else 0.1 * abs(low) or 0.1  # a scale has a length
    return Normalize(low - beyond, high + beyond, clip=True)


def _map(axes: Axes, filled: FilledTable, spec: Heatmap, panel: Panel, norm: Normalize) -> None:
    for x, y, column in _cells(panel):
        cell, source = filled.cells[spec.row, column], filled.table.source(spec.row, column)
        if isinstance(cell.value, float) and isfinite(cell.value):
            paint = COLOURS(float(norm(cell.value)))
            ink = readable_on(paint)
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=paint, edgecolor="white", linewidth=1.2))
        else:
            ink = INK if cell.state == "complete" else AMBER
            axes.add_patch(
                Rectangle((x + 0.03, y + 0.03), 0.94, 0.94, facecolor="white", edgecolor=RULE, linestyle="--")
            )
        spread = cell.std if source.aggregate == "mean" else None
        middle = y + (0.5 if spread is None else 0.58)
        axes.text(x + 0.5, middle, _text(cell, source.format), fontsize=8.5, color=ink, ha="center", va="center")
        if spread is not None:
            below = f"± {show(spread, source.format)}"
            axes.text(x + 0.5, y + 0.32, below, fontsize=6.5, color=ink, ha="center", va="center")


def _text(cell: Cell, form: str | None) -> str:
    """Its number, or what keeps it from having one."""
    if cell.state == "complete":
        return show(cell.value, form) if isinstance(cell.value, float) else "N/A"
    return f"{len(cell.values)} of {cell.wanted}" if cell.state == "partial" else cell.state


def readable_on(paint: tuple[float, float, float, float]) -> str:
    """Black or white, whichever differs more from ``paint`` (RGBA) in the contrast of WCAG 2: always 4.5 or more."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in paint[:3]]
    luminance = sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


def _pictures(axes: Axes, filled: FilledTable, row: str, panel: Panel, victim: int) -> None:
    """A reconstruction of one victim in every cell, the original beside the first line."""
    tall, edge = SIDE / TALL, 0.03

    def picture(x: float, y: float, image: Any, caption: str) -> None:
        box = (x + edge, y + 1 - tall + edge, 1 - 2 * edge, tall - 2 * edge)
        show_image(axes, image / 255, box)
        axes.text(x + 0.5, y + 1 - tall, literal(caption), fontsize=6.5, color=GREY, ha="center", va="top")

    original = None
    for x, y, column in _cells(panel):
        stored = images_of_victims(filled, row, column)
        if stored is None or victim >= len(stored[1]):
            what = "missing" if stored is None else f"no victim {victim}"
            axes.text(x + 0.5, y + 0.57, what, fontsize=8, color=AMBER, ha="center", va="center")
            continue
        original = None if stored[0] is None else stored[0][victim, 0]
        picture(x, y, stored[1][victim, 0], "".join(numbers_of_victims(filled, row, column)[victim : victim + 1]))
    if original is not None:
        picture(axes.get_xlim()[1] + 0.15, len(panel.series) - 1, original, "original")
