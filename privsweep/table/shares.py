"""Shares of a run's victims: how uncertain they are, and whether some victim is among them at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from privsweep.table.uncertain import ROUNDING

_OF_VICTIMS = ("recovered", "zero_share")  # shares that a table of victims has no column of


class Share(NamedTuple):
    yes: float
    of: int
    surely: bool  # whether each victim is known to be in or out: a number between 0 and 1 may be no share


def share_of(victims: pd.DataFrame, name: str, value: float) -> Share | None:
    """How many of them make the share ``value`` (0 to 1) of that name; None for what can be no share of them."""
    if victims.empty:
        return None
    told = name in victims
    each = bool(victims[name].isin((0, 1)).all()) if told else 0 <= value <= 1
    yes = value * len(victims)
    whole = abs(yes - round(yes)) <= ROUNDING * len(victims)
    return Share(yes, len(victims), told or name in _OF_VICTIMS) if each and whole else None


def errors_above_none(shares: Sequence[Share]) -> float:
    """How many standard errors the share of victims is above none, in the seed that shows it best.

    No seed's can be below none, so that one is enough.
    """
    return max(one.yes / one.of / math.sqrt(_variance(one)) for one in shares)


def least_of(victims: np.ndarray) -> float:
    """The variance of their share, at least; nothing where they are not all zero or one."""
    return least_variance(float(victims.sum()), len(victims)) if np.isin(victims, (0.0, 1.0)).all() else 0.0


def least_variance(yes: float, of: int) -> float:
    """Of a share out of few, which may come out as none or all of them by chance (Agresti and Coull, 1998)."""
    p = (yes + 2) / (of + 4)
    return p * (1 - p) / (of + 4)


def _variance(one: Share) -> float:
    p = one.yes / one.of
    return p * (1 - p) / one.of if 0 < p < 1 else least_variance(one.yes, one.of)
