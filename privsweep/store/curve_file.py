"""The curve of an attack that is stored with its run: a row an iteration and victim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd


def mean_curve(path: Path) -> pd.DataFrame:
    """Means over all victims by iteration; one whose attack diverged stays at its last finite value.

    NaN where a victim has not had any.
    """
    rows = pd.read_csv(path).replace([np.inf, -np.inf], np.nan).sort_values("iteration", kind="stable")
    values = [name for name in rows.columns if name not in ("iteration", "victim")]
    rows[values] = rows.groupby("victim")[values].ffill()
    return rows.groupby("iteration")[values].agg(lambda column: column.mean(skipna=False))
