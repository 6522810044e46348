"""Tables of two columns, records for them, and the tables filled."""

from __future__ import annotations

from typing import Any

from privsweep.table.fill import FilledTable, fill_table
from privsweep.table.spec import Table


def config(**changes: Any) -> dict[str, Any]:
    """Two metric rows over two columns."""
    return {
        "title": "DLG",
        "place": "section 5, Table 1",
        "rows": {
            "iterations": {"label": "Iterations", "metric": "iterations_to_zero", "aggregate": "median"},
            "time": {"label": "Time", "metric": "seconds.per_victim", "format": "m:ss"},
        },
        "columns": {
            "lenet": {"label": "LeNet", "overrides": ["model=lenet_dlg"]},
            "alexnet": {"label": "AlexNet", "overrides": ["model=alexnet", "model.init=uniform"]},
        },
        "seeds": [0, 1, 2],
        "printed": {"iterations": {"lenet": "31", "alexnet": "N/A"}, "time": {"lenet": "1:54"}},
        "findings": [
            {
                "id": "f1",
                "claim": "LeNet leaks",
                "check": "none(v('iterations', 'alexnet')) and v('iterations', 'lenet') < 300",
                "holds_in_print": True,
            }
        ],
        **changes,
    }


def record(iterations: float | None, seconds: float = 60.0, **changes: Any) -> dict[str, Any]:
    return {
        "signature": "0123456789ab",
        "status": "complete",
        "metrics": {"iterations_to_zero": iterations},
        "utility": {},
        "seconds": {"per_victim": seconds},
        "environment": {"device": "cpu", "date": "2025-01-02", "versions": {"torch": "2.5"}},
        **changes,
    }


def lay(lenet: list[Any], alexnet: list[Any], **changes: Any) -> FilledTable:
    records = {f"lenet-s{s}": r for s, r in enumerate(lenet)} | {f"alexnet-s{s}": r for s, r in enumerate(alexnet)}
    return fill_table(Table.from_config(config(**changes)), records, "paper")


# A verdict on two rows.
JUDGED = {
    "rows": {
        "verdict": {"label": "Weakened", "weakened": {"base": "base", "adapted": "adapted"}},
        "base": {"label": "Before", "metric": "ssim", "better": "higher", "overrides": ["attack=dlg"]},
        "adapted": {"label": "After", "metric": "ssim", "better": "higher", "overrides": ["attack=dlg"]},
    },
    "columns": {"batch": {"label": "Batch"}, "depth": {"label": "Depth"}},
    "cells": {"adapted": {"batch": ["fl_setting.capture.batch_size=8"], "depth": ["model.depth=5"]}},
    "seeds": [0, 1],
    "printed": {"verdict": {"batch": "Yes", "depth": "Yes2"}},
    "findings": [
        {"id": "f1", "claim": "Both help", "check": "all(x == 1 for x in r('verdict'))", "holds_in_print": True}
    ],
}
