"""Tables as CSV."""

from __future__ import annotations

import io

import pandas as pd
from report_world import lay, record, table

from privsweep.report.table_csv import table_csv
from privsweep.table.fill import fill_table


def test_csv_holds_every_seed_and_the_mean() -> None:
    frame = pd.read_csv(io.StringIO(table_csv(lay())), keep_default_na=False)
    one = frame[frame["column"] == "one"]
    assert list(one["kind"]) == ["seed", "seed", "mean"]
    assert list(one["value"]) == ["0.69", "0.71", "0.7"]
    two = frame[frame["column"] == "two"]
    assert list(two["state"]) == ["complete", "missing", "partial"]
    assert two["value"].iloc[-1] == ""
    never = fill_table(table(), {"one-s0": record(0, None), "one-s1": record(1, 0.2)}, "paper")
    assert table_csv(never).splitlines()[1].split(",")[8] == "N/A"
