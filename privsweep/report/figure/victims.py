"""What is stored of the victims of a table's first seed: their images and their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from privsweep.store.images import load_images
from privsweep.table.figure_spec import Which
from privsweep.table.fill import FilledTable
from privsweep.table.number_format import in_printed_unit, show

Array = np.ndarray[Any, Any]
Cell = tuple[str, str]  # row and column


def images_of_victims(filled: FilledTable, row: str, column: str) -> tuple[Array | None, Array] | None:
    """Originals, if there are any, and reconstructions, uint8 ``[V, N, C, H, W]``; None where they are not stored."""
    folder = filled.folders.get((row, column, filled.table.seeds[0]))
    return None if folder is None else load_images(folder, filled.table.answer(row, column))


def without_images(filled: FilledTable, cells: Iterable[Cell]) -> list[Cell]:
    """Those whose first run is stored without images, as it is after numbers alone were unpacked."""
    stored = [cell for cell in cells if (*cell, filled.table.seeds[0]) in filled.folders]
    return [cell for cell in stored if images_of_victims(filled, *cell) is None]


def chosen_victims(filled: FilledTable, cells: Sequence[Cell], which: Which, count: int) -> list[int]:
    """So many victims, in the order in which they are shown: by the MSE of the first cell that is stored.

    The easiest start with the least, the hardest with the greatest.
    """
    found = next((cell for cell in cells if images_of_victims(filled, *cell) is not None), None)
    if which == "first" or found is None:
        return list(range(count))
    row, column = found
    answer = filled.table.answer(row, column)
    frame = pd.read_csv(filled.folders[row, column, filled.table.seeds[0]] / "victims.csv")
    order = np.argsort(frame["mse" if answer is None else f"mse_{answer}"].to_numpy(), kind="stable").tolist()
    return (order if which == "easiest" else order[::-1])[:count]


def numbers_of_victims(filled: FilledTable, row: str, column: str) -> list[str]:
    """The row's number for every victim, as text; empty where there is none."""
    source = filled.table.source(row, column)
    frame = pd.read_csv(filled.folders[row, column, filled.table.seeds[0]] / "victims.csv")
    name = filled.table.metric(row, column)
    if name not in frame:
        return []
    return [show(in_printed_unit(float(v), source.format), source.format) for v in frame[name]]
