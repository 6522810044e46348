"""Numbers read from a run's ``training.csv``: how soon it learns, and how steadily."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from privsweep.table.number_format import UNKNOWN, Number
from privsweep.table.strict import Name, Strict

if TYPE_CHECKING:
    import pandas as pd

FILE = "training.csv"


class CurveNumber(Strict):
    """A number to read from ``training.csv``; exactly one of ``reach``, ``reach_share`` and ``spread_of_last``.

    ``reach``: rounds until a value is reached; ``reach_share``: until that share of the last value of the
    column's ``baseline`` is; N/A where it never is. ``spread_of_last``: sample standard deviation over so many
    last rounds, N/A below two.
    """

    value: Name  # a column of the file
    reach: float | None = None
    reach_share: float | None = None
    spread_of_last: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.reach, self.reach_share, self.spread_of_last).count(None) != 2:
            raise ValueError("give one of reach, reach_share and spread_of_last")
        return self


def curve(folder: Path, value: str) -> pd.Series | None:
    """A column of the file by round; None where there is no such file or column."""
    path = folder / FILE
    if not path.is_file():
        return None
    import pandas as pd  # here, for planning a table reads no curves

    frame = pd.read_csv(path)
    return frame.set_index("round")[value].dropna() if value in frame else None


def columns_of(folder: Path) -> list[str]:
    """The columns of the file; none where there is no file."""
    path = folder / FILE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as lines:
        return lines.readline().strip().split(",")


def curve_number(asked: CurveNumber, own: Path, baseline: Path | None) -> Number:
    """The number asked for; None where it is never reached, UNKNOWN where a file is missing or has no such column."""
    values = curve(own, asked.value)
    if values is None:
        return UNKNOWN
    if asked.spread_of_last is not None:
        late = values.tail(asked.spread_of_last).tolist()
        return statistics.stdev(late) if len(late) > 1 else None
    level = asked.reach
    if asked.reach_share is not None:
        other = None if baseline is None else curve(baseline, asked.value)
        if other is None:
            return UNKNOWN
        level = asked.reach_share * float(other.iloc[-1])
    reached = values.index[values >= level]
    return float(reached[0]) if len(reached) else None
