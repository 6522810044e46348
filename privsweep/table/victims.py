"""What a run measured of each victim or candidate."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def victims_in(folder: Path) -> pd.DataFrame:
    """The table of a run's victims or candidates; empty where there is none."""
    path = folder / "victims.csv"
    return _frame(path, path.stat().st_mtime_ns) if path.is_file() else pd.DataFrame()


@cache
def _frame(path: Path, changed: int) -> pd.DataFrame:
    return pd.read_csv(path)


def column_of(folder: Path, name: str) -> tuple[tuple[Any, ...], np.ndarray] | None:
    """Victims' indices and their numbers; None where a run has none of that name."""
    frame = victims_in(folder)
    if not {"index", name} <= set(frame) or frame[name].isna().any():
        return None
    return tuple(frame["index"]), frame[name].to_numpy(dtype=float)


def measured_once(numbers: np.ndarray) -> bool:
    """Whether it is no number of each victim: all share it, and it is no count."""
    return len(numbers) < 2 or bool((numbers == numbers[0]).all() and not float(numbers[0]).is_integer())


def decisions(folder: Path) -> tuple[tuple[Any, ...], np.ndarray] | None:
    """Candidates, and whether an attack decided rightly on each; None where a run has no candidates."""
    frame = victims_in(folder)
    if not {"index", "member", "decision"} <= set(frame):
        return None
    who = tuple(zip(frame["index"], frame["member"], strict=True))
    return who, (frame["decision"] == frame["member"]).to_numpy(dtype=float)
