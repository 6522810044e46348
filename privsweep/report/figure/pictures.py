"""Pictures: originals and, series by series, what an attack reconstructs of them."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from privsweep.plot.run_pictures import in_inches, show_image
from privsweep.plot.style import AMBER, GREY, INK, literal
from privsweep.report.figure.frame import Frame
from privsweep.report.figure.victims import Array, chosen_victims, images_of_victims, numbers_of_victims, without_images
from privsweep.table.figure_spec import Heatmap, PicturePanel, Pictures, Series
from privsweep.table.fill import FilledTable

SIDE, GAP, LEFT = 0.78, 0.17, 1.2  # inches: an image, the number below it, the names
CHARACTER = 0.085  # inches, the width of a letter in a title


def pictures(filled: FilledTable, spec: Pictures) -> Figure:
    """The figure of a filled table: a block of pictures for each panel, side by side."""
    shown = min(spec.victims, max((_count(filled, spec, panel) for panel in spec.panels), default=0)) or spec.victims
    down = 1 + max(len(panel.series) for panel in spec.panels)
    block = LEFT + shown * SIDE + 0.15
    width = block * len(spec.panels) + 0.1
    labels = "; ".join(dict.fromkeys(filled.table.rows[row].label for row, _ in spec.cells()))
    first = all(panel.which == "first" for panel in spec.panels)
    who = f"the first {shown} victims" if first else f"{shown} victims, chosen by their MSE"
    frame = Frame(filled, width, f"below every reconstruction: {labels}; seed {filled.table.seeds[0]}, {who}")
    titles = [literal(panel.title, max(8, int(shown * SIDE / CHARACTER))) for panel in spec.panels]
    top = frame.top + 0.3 + 0.16 * max(title.count("\n") for title in titles)
    height = top + down * (SIDE + GAP) + frame.bottom
    figure = Figure(figsize=(width, height), dpi=160, facecolor="white")
    frame.draw(figure)
    axes = in_inches(figure)
    for p, (panel, title) in enumerate(zip(spec.panels, titles, strict=True)):
        left = p * block
        figure.text(
            (left + LEFT) / width, (height - top + 0.06) / height, title,
            fontsize=9, color=INK, va="bottom", fontweight="bold",
        )  # fmt: skip
        _block(axes, filled, spec, panel, left, height - top, shown)
    return figure


def lacks_pictures(filled: FilledTable) -> bool:
    """Whether its figure shows pictures, and runs behind it are stored without theirs."""
    spec = filled.table.figure
    shows = isinstance(spec, Pictures) or (isinstance(spec, Heatmap) and spec.victim is not None)
    return spec is not None and shows and bool(without_images(filled, spec.cells()))


def _count(filled: FilledTable, spec: Pictures, panel: PicturePanel) -> int:
    stored = [images_of_victims(filled, *_cell(spec, series)) for series in panel.series]
    return max((len(images[1]) for images in stored if images), default=0)


def _cell(spec: Pictures, series: Series) -> tuple[str, str]:
    return spec.row_of(series), str(series.columns[0])


def _block(
    axes: Axes, filled: FilledTable, spec: Pictures, panel: PicturePanel, left: float, top: float, shown: int
) -> None:
    def text(x: float, y: float, content: str, **how: Any) -> None:
        axes.text(x, y, content, **{"fontsize": 8, "color": INK, **how})

    victims = chosen_victims(filled, [_cell(spec, series) for series in panel.series], panel.which, shown)

    def images(y: float, batch: Array, numbers: list[str]) -> None:
        for place, v in enumerate(v for v in victims if v < len(batch)):
            x = left + LEFT + place * SIDE
            show_image(axes, batch[v, 0] / 255, (x, y - SIDE, 0.94 * SIDE, 0.94 * SIDE))
            if v < len(numbers):
                text(x + 0.47 * SIDE, y - SIDE - 0.02, numbers[v], fontsize=6.5, ha="center", va="top", color=GREY)

    originals = False
    for line, series in enumerate(panel.series, 1):
        y = top - line * (SIDE + GAP) + GAP
        text(left + LEFT - 0.08, y - SIDE / 2, literal(series.label, 14), ha="right", va="center")
        cell = _cell(spec, series)
        stored = images_of_victims(filled, *cell)
        if stored is None:
            why = "stored without pictures" if without_images(filled, [cell]) else "not stored yet"
            text(left + LEFT, y - SIDE / 2, why, va="center", color=AMBER)
            continue
        if not originals and stored[0] is not None:
            text(left + LEFT - 0.08, top - SIDE / 2, "original", ha="right", va="center", color=GREY)
            images(top, stored[0], [])
            originals = True
        images(y, stored[1], numbers_of_victims(filled, *cell))
