"""Numbers read off a run's ``training.csv``: how soon it learns, and how steadily."""

from __future__ import annotations

import statistics
from pathlib import Path

import pandas as pd

from privsweep.table.number_format import UNKNOWN, Number
from privsweep.table.spec import Learning

FILE = "training.csv"


def curve(folder: Path, value: str) -> pd.Series | None:
    """A column of the file by round; None where there is no such file or column."""
    path = folder / FILE
    if not path.is_file():
        return None
    frame = pd.read_csv(path)
    return frame.set_index("round")[value] if value in frame else None


def read(learning: Learning, own: Path, baseline: Path | None) -> Number:
    """The number asked for; None where it is never reached, UNKNOWN where a file is missing or has no such column."""
    values = curve(own, learning.value)
    if values is None:
        return UNKNOWN
    if learning.spread_of_last is not None:
        late = values.tail(learning.spread_of_last).tolist()
        return statistics.stdev(late) if len(late) > 1 else None
    level = learning.reach
    if learning.reach_share is not None:
        other = None if baseline is None else curve(baseline, learning.value)
        if other is None:
            return UNKNOWN
        level = learning.reach_share * float(other.iloc[-1])
    reached = values.index[values >= level]
    return float(reached[0]) if len(reached) else None
