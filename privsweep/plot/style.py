"""What all pictures share: colours, text, axes and how they are saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from privsweep.interface.printable import printable
from privsweep.store.atomic import whole_file

INK, GREY, RULE, BLUE, AMBER = "#1c1c1c", "#777777", "#b5b5b5", "#1f5fa8", "#9a6b00"
# Of series, in order; no two look alike to a reader who does not see red or green.
HUES = (BLUE, "#d1691c", "#2f8f5b", "#5fb8de", "#5e1431", "#d9b800", "#a0a0a0", "#00005a")

_MARKS = (",", "_=/")  # behind which a long word is broken, the best first


@contextmanager
def own_style() -> Iterator[None]:
    """Around whatever draws a picture, up to where it is saved: nothing of a user's matplotlibrc is in it."""
    with style.context("default"):
        yield


def literal(text: str, columns: int | None = None) -> str:
    """Text that a picture shows as it is: to matplotlib, a pair of dollar signs encloses a formula.

    With ``columns``, ``broken``.
    """
    flat = printable(text)
    return (flat if columns is None else broken(flat, columns)).replace("$", r"\$")


def broken(text: str, columns: int) -> str:
    """In lines of at most so many characters: a word that is longer, as names are, ends one at a mark if it has any."""
    lines = []
    while text := text.strip():
        line = wrap(text, columns, break_long_words=False)[0]
        if len(line) > columns:
            ends = (max(line.rfind(mark, 0, columns) for mark in marks) + 1 for marks in _MARKS)
            line = line[: next(filter(None, ends), columns)]
        lines.append(line)
        text = text[len(line) :]
    return "\n".join(lines)


def plain_axes(axes: Any) -> None:
    """Open above and to the right, with faint lines across."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", labelsize=8)  # both: a logarithmic axis may have minor labels alone


def save(path: Path, figure: Figure) -> Path:
    """A PNG, whole or not at all."""
    FigureCanvasAgg(figure)  # draws without a display
    with whole_file(path) as draft:
        figure.savefig(draft, format="png")
    return path
